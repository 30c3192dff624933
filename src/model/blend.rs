//! Drawing by tiles that overlap, or as they are and mirrored: a pixel's probabilities are the mean of all that were said of it.
//!
//! After nnU-Net (Isensee et al., Nature Methods 2021): windows half a tile apart, weighed by a Gaussian of an eighth of
//! a tile, so that what a tile's edge lacks in surroundings counts little; mirrored along the rows, the columns, and both.
//! The mean is judged as the probabilities of one tile would be.

use std::ops::{ControlFlow, Range};
use std::sync::mpsc::Receiver;

use candle_core::{Device, Tensor};
use rayon::ThreadPoolBuilder;

use super::ModelError;
use super::data::Case;
use super::drawn::{Drawn, Spot};
use super::judge::judge;
use super::loss::probabilities;
use super::network::Net;
use super::place::placed;
use super::stages::in_stages;
use super::tiling::{TILE, TILE_PIXELS, Tiling, Window};
use crate::settings::Drawing;

/// The least probability whose logarithm is taken.
const LEAST: f32 = 1e-30;

/// Windows of a batch, for each with signal that it has room for, at most.
const MOST: usize = 16;

/// Draws one case, `batch` windows at a time; `None` when `tick`, asked after each batch, says so.
///
/// Batches go over slices.
///
/// # Errors
/// Those of [`super::draw::draw`].
pub(super) fn draw_blended(
    net: &Net,
    case: &Case,
    batch: usize,
    drawing: Drawing,
    tick: &mut (dyn FnMut() -> ControlFlow<()> + Send),
) -> Result<Option<Drawn>, ModelError> {
    let drawn = Drawn::of(case, net)?;
    let blender = &Blender::new(net, case, drawing)?;
    // What the blending thread judges would else be shared by every core, whatever threads were asked for.
    let threads = 1;
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|source| ModelError::Threads { threads, source })?;
    in_stages(
        |take| blender.cut(batch, take),
        |Batch { inputs, asked }| {
            let p = match inputs.len() / net.field().seen() {
                0 => None,
                tiles => Some(say(net, inputs, tiles)?),
            };
            Ok(Said { p, asked })
        },
        |said| pool.install(|| blender.blend(drawn, said)),
        tick,
    )
}

/// A window over a slab as it is or mirrored: whether the rows, and the columns, run backwards.
struct Asked {
    slab: usize,
    window: Window,
    mirror: [bool; 2],
    has_signal: bool,
}

/// Windows in their order, and what the network is to see of those with signal.
#[derive(Default)]
struct Batch {
    inputs: Vec<f32>,
    asked: Vec<Asked>,
}

/// What is said of a batch.
struct Said {
    /// Of every pixel of the windows with signal, one after the other.
    p: Option<Tensor>,
    asked: Vec<Asked>,
}

/// What was said of some slices.
struct Slab {
    /// Which of all slabs.
    nth: usize,
    slices: Range<usize>,
    /// Those of them that are drawn.
    asked: Range<usize>,
    /// Of every pixel, slice by slice, the sum of the classes' probabilities by each member.
    sums: Vec<f32>,
    /// And that of the weights.
    weights: Vec<f32>,
}

struct Blender<'a> {
    net: &'a Net,
    case: &'a Case,
    members: usize,
    overlap: bool,
    /// Whether the rows, and the columns, run backwards.
    mirrors: &'static [[bool; 2]],
    weights: Vec<f32>,
    /// What the network says of a tile without signal.
    blank: Vec<f32>,
}

impl<'a> Blender<'a> {
    fn new(net: &'a Net, case: &'a Case, drawing: Drawing) -> Result<Blender<'a>, ModelError> {
        let bell = |at: usize| {
            let off = (at as f32 - (TILE as f32 - 1.0) / 2.0) / (TILE as f32 / 8.0);
            (-0.5 * off * off).exp()
        };
        let weight = |at: usize| match drawing.overlap {
            true => bell(at / TILE) * bell(at % TILE),
            false => 1.0,
        };
        let mirrors: &[[bool; 2]] = match drawing.mirroring {
            true => &[[false, false], [false, true], [true, false], [true, true]],
            false => &[[false, false]],
        };
        let blank = say(net, vec![0.0; net.field().seen()], 1)?.to_vec1()?;
        Ok(Blender {
            net,
            case,
            members: net.shape().networks.members().count(),
            overlap: drawing.overlap,
            mirrors,
            weights: (0..TILE_PIXELS).map(weight).collect(),
            blank,
        })
    }

    /// Slices that are seen together, and of them those that are asked for.
    fn slabs(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let all = 0..self.case.slices();
        self.net.field().stacks(all.clone(), all)
    }

    /// Cuts the case into batches of `size` windows with signal, for as long as `take` takes them.
    fn cut(&self, size: usize, take: &dyn Fn(Batch) -> bool) {
        let (tiling, field) = (self.case.tiling(), self.net.field());
        let (tops, lefts) = (
            firsts(tiling.height, self.overlap),
            firsts(tiling.width, self.overlap),
        );
        let mut input = vec![0.0; field.seen()];
        let mut batch = Batch::default();
        for (slab, (slices, _)) in self.slabs().enumerate() {
            for (top, left) in tops
                .iter()
                .flat_map(|top| lefts.iter().map(move |left| (*top, *left)))
            {
                let window = Window {
                    left,
                    top,
                    right: tiling.width.min(left + TILE),
                    bottom: tiling.height.min(top + TILE),
                };
                let has_signal = self.case.cut(field, slices.clone(), &window, &mut input);
                for &mirror in self.mirrors {
                    batch.asked.push(Asked {
                        slab,
                        window,
                        mirror,
                        has_signal,
                    });
                    if has_signal {
                        mirrored(&input, (field.depth, field.edge()), mirror, &mut batch.inputs);
                    }
                    let is_full =
                        batch.inputs.len() == size * field.seen() || batch.asked.len() == MOST * size;
                    if is_full && !take(std::mem::take(&mut batch)) {
                        return;
                    }
                }
            }
        }
        if !batch.asked.is_empty() {
            take(batch);
        }
    }

    /// Blends what comes, in the order it was cut, and places a slab when all was said of it.
    fn blend(&self, mut drawn: Drawn, said: Receiver<Said>) -> candle_core::Result<Drawn> {
        let mut slabs = self.slabs().enumerate();
        let mut under_way: Option<Slab> = None;
        for Said { p, asked } in said {
            let p: Vec<f32> = p.map_or(Ok(Vec::new()), |p| p.to_vec1())?;
            let mut tiles = p.chunks_exact(self.blank.len());
            for asked in &asked {
                if let Some(slab) = under_way.take_if(|slab| slab.nth < asked.slab) {
                    self.place(&mut drawn, &slab)?;
                }
                let slab = under_way.get_or_insert_with(|| {
                    let (nth, slices) = slabs.next().expect("windows come slab by slab");
                    self.slab(nth, slices)
                });
                let p = match asked.has_signal {
                    true => tiles.next().expect("every window with signal was computed"),
                    false => &self.blank,
                };
                self.add(slab, p, asked);
            }
        }
        if let Some(slab) = under_way {
            self.place(&mut drawn, &slab)?;
        }
        Ok(drawn)
    }

    /// Nothing said yet of these slices.
    fn slab(&self, nth: usize, (slices, asked): (Range<usize>, Range<usize>)) -> Slab {
        let Tiling { width, height } = self.case.tiling();
        let pixels = slices.len() * width * height;
        Slab {
            nth,
            slices,
            asked,
            sums: vec![0.0; pixels * self.values()],
            weights: vec![0.0; pixels],
        }
    }

    /// Judges the slices of a slab that are asked for, and puts them where they lie.
    fn place(&self, drawn: &mut Drawn, slab: &Slab) -> candle_core::Result<()> {
        let tiling = self.case.tiling();
        let slices = slab.slices.clone().enumerate();
        for (nth, slice) in slices.filter(|(_, slice)| slab.asked.contains(slice)) {
            for window in (0..tiling.tiles()).map(|tile| tiling.window(tile)) {
                let at = Spot::of(slice, &window);
                let members = (0..self.members).map(|member| {
                    let logits = self.logits(slab, (nth, member), at.first, at.size);
                    Tensor::from_vec(logits, (1, TILE, TILE, self.net.shape().classes), &Device::Cpu)
                });
                let members = members.collect::<candle_core::Result<Vec<_>>>()?;
                drawn.place(self.case, at, &judge(&members, &[at.size])?, 0);
            }
        }
        Ok(())
    }

    /// Values of a pixel: what each member says of each class.
    fn values(&self) -> usize {
        self.members * self.net.shape().classes
    }

    /// Adds what was said of a window, where it lies.
    fn add(&self, slab: &mut Slab, p: &[f32], asked: &Asked) {
        let (
            m,
            Window {
                left,
                top,
                right,
                bottom,
            },
        ) = (self.values(), asked.window);
        let Tiling { width, height } = self.case.tiling();
        let slices = slab.weights.chunks_exact_mut(width * height);
        let slices = slices.zip(slab.sums.chunks_exact_mut(width * height * m));
        let [down, across] = asked.mirror;
        for ((weights, sums), p) in slices.zip(p.chunks_exact(TILE_PIXELS * m)) {
            for y in 0..bottom - top {
                let (first, row) = ((top + y) * width + left, turned(down, y, TILE) * TILE);
                let weights = weights[first..][..right - left].iter_mut();
                let sums = sums[first * m..].chunks_exact_mut(m);
                for (x, (weight, sums)) in weights.zip(sums).enumerate() {
                    let own = self.weights[y * TILE + x];
                    *weight += own;
                    let p = &p[(row + turned(across, x, TILE)) * m..][..m];
                    sums.iter_mut().zip(p).for_each(|(sum, p)| *sum += own * p);
                }
            }
        }
    }

    /// Logits of a tile in the `nth` slice whose softmax is the mean of what a member said of its pixels; none beyond the slice's
    /// edge.
    fn logits(
        &self,
        slab: &Slab,
        (nth, member): (usize, usize),
        first: [usize; 2],
        size: [usize; 2],
    ) -> Vec<f32> {
        let m = self.net.shape().classes;
        let Tiling { width, height } = self.case.tiling();
        let mut logits = vec![0.0; TILE_PIXELS * m];
        for y in 0..size[0] {
            for x in 0..size[1] {
                let pixel = (nth * height + first[0] + y) * width + first[1] + x;
                let out = &mut logits[(y * TILE + x) * m..][..m];
                let sums = &slab.sums[pixel * self.values() + member * m..][..m];
                out.iter_mut()
                    .zip(sums)
                    .for_each(|(out, sum)| *out = (sum / slab.weights[pixel]).max(LEAST).ln());
            }
        }
        logits
    }
}

/// Of every pixel of some tiles, one after the other, the probabilities that each member gives the classes. They are fetched by
/// another thread while the next ones are computed: nothing here may be recorded to be replayed.
fn say(net: &Net, inputs: Vec<f32>, tiles: usize) -> candle_core::Result<Tensor> {
    let shape = net.field().shape(tiles);
    let logits = net.forward(&placed(inputs, shape, net.device())?)?;
    let members = logits
        .iter()
        .map(probabilities)
        .collect::<candle_core::Result<Vec<_>>>()?;
    match &members[..] {
        [one] => one.flatten_all(),
        several => Tensor::cat(several, 3)?.flatten_all(),
    }
}

/// Where a row or a column of `edge` lies where they are backwards.
fn turned(is: bool, at: usize, edge: usize) -> usize {
    if is { edge - 1 - at } else { at }
}

/// Adds to `out` what the network sees of slices, `edge` wide and high, their rows and their columns backwards where they are to be.
fn mirrored(tile: &[f32], (depth, edge): (usize, usize), [down, across]: [bool; 2], out: &mut Vec<f32>) {
    let values = tile.len() / (depth * edge * edge);
    for row in 0..depth * edge {
        let row = row / edge * edge + turned(down, row % edge, edge);
        let pixels = &tile[row * edge * values..][..edge * values];
        match across {
            false => out.extend_from_slice(pixels),
            true => out.extend(pixels.chunks_exact(values).rev().flatten()),
        }
    }
}

/// Where windows begin so that they cover `size` pixels: tiles side by side, the last beyond the end; or half a tile apart at
/// most, and none beyond the end without need.
fn firsts(size: usize, overlap: bool) -> Vec<usize> {
    if !overlap {
        return (0..size).step_by(TILE).collect();
    }
    let beyond = size.saturating_sub(TILE);
    let count = beyond.div_ceil(TILE / 2);
    (0..=count).map(|n| n * beyond / count.max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::{Grid, Plane, Rng, Volume};
    use crate::model::draw::draw;
    use crate::model::network::parameters;
    use crate::model::train::tests::discs_and_squares;
    use crate::records::{Architecture, CaseId};
    use crate::settings::{Intensity, Networks};

    fn net() -> Net {
        let shape = Architecture {
            networks: Networks::default(),
            channels: 1,
            classes: 3,
            base_channels: 2,
            slices: 1,
            deep_supervision: false,
        };
        let rng = Rng::new(4);
        let weights = parameters(&shape).into_iter().map(|parameter| {
            // One that is sure: a new network's logits differ by less than what rounding takes.
            let sure = if parameter.name == "head.weight" { 1e4 } else { 1.0 };
            let drawn = parameter
                .drawn(&rng)
                .into_iter()
                .map(|value| sure * value)
                .collect();
            let values = Tensor::from_vec::<_, f32>(drawn, parameter.shape(), &Device::Cpu);
            (parameter.name, values.unwrap())
        });
        Net::new(shape, weights.collect()).unwrap()
    }

    fn blended(case: &Case, drawing: Drawing, batch: usize) -> Drawn {
        let drawn = draw_blended(&net(), case, batch, drawing, &mut || ControlFlow::Continue(()));
        drawn.unwrap().unwrap()
    }

    const PLAIN: Drawing = Drawing {
        overlap: false,
        mirroring: false,
    };
    const BOTH: Drawing = Drawing {
        overlap: true,
        mirroring: true,
    };

    #[test]
    fn windows_cover_a_slice_and_stay_in_it() {
        assert_eq!(firsts(40, true), [0]);
        assert_eq!(firsts(64, true), [0]);
        assert_eq!(firsts(70, true), [0, 6]);
        assert_eq!(firsts(128, true), [0, 32, 64]);
        assert_eq!(firsts(100, false), [0, 64]);
    }

    /// One window of a slice, once: the mean is what was said.
    #[test]
    fn of_one_opinion_the_mean_is_that_opinion() {
        let case = discs_and_squares("a", 3, 2);
        let once = draw(&net(), &case, 4, &mut || ControlFlow::Continue(()));
        let once = once.unwrap().unwrap();
        let drawn = blended(&case, PLAIN, 4);
        // Rounding decides where two classes are as good as one another.
        let same = drawn
            .labels
            .voxels
            .iter()
            .zip(&once.labels.voxels)
            .filter(|(a, b)| a == b);
        assert!(same.count() * 1000 >= once.labels.voxels.len() * 999);
        let off = |(a, b): (&u8, &u8)| a.abs_diff(*b);
        assert!(drawn.margins.iter().zip(&once.margins).map(off).max() <= Some(1));
        for (blended, once) in drawn.slices.iter().zip(&once.slices) {
            assert_eq!(blended.pixels, once.pixels);
            assert!((blended.margin - once.margin).abs() < 1e-3 * once.margin);
        }
    }

    /// A network that is mirrored drawing and all says of a mirrored image what it says of the image, mirrored.
    #[test]
    fn a_mirrored_case_is_drawn_mirrored_whatever_the_batch() {
        let case = discs_and_squares("a", 2, 3);
        let mut other = case.clone();
        for channel in &mut other.channels {
            let rows = channel.voxels.chunks_exact_mut(64);
            rows.for_each(<[f32]>::reverse);
        }
        let (drawn, mirrored) = (blended(&case, BOTH, 3), blended(&other, BOTH, 8));
        let mut back = mirrored.labels.clone();
        back.voxels.chunks_exact_mut(64).for_each(<[u8]>::reverse);
        let same = drawn
            .labels
            .voxels
            .iter()
            .zip(&back.voxels)
            .filter(|(a, b)| a == b);
        assert!(same.count() * 1000 >= back.voxels.len() * 999);
        // Without mirroring it does not.
        let plain = (blended(&case, PLAIN, 3), blended(&other, PLAIN, 3));
        let mut back = plain.1.labels;
        back.voxels.chunks_exact_mut(64).for_each(<[u8]>::reverse);
        assert!(plain.0.labels != back, "it is symmetric without");
    }

    /// Batches end in the middle of slices, and of a window's mirrors.
    #[test]
    fn any_batch_gives_the_same_bits() {
        let (net, case) = (net().frozen(4), discs_and_squares("a", 3, 5));
        let drawn = |batch| {
            let drawn = draw_blended(&net, &case, batch, BOTH, &mut || ControlFlow::Continue(()));
            drawn.unwrap().unwrap()
        };
        let one = drawn(1);
        assert!(one.labels.voxels.iter().any(|&class| class > 0));
        assert!([3, 5, 100].into_iter().all(|batch| drawn(batch) == one));
    }

    /// Every window says the same, those without signal too: so does the mean, at every place, of two channels.
    #[test]
    fn one_opinion_everywhere_stays_it_whatever_overlaps() {
        let shape = Architecture {
            networks: Networks::default(),
            channels: 2,
            classes: 3,
            base_channels: 2,
            slices: 1,
            deep_supervision: false,
        };
        let weights = parameters(&shape).into_iter().map(|parameter| {
            let count = parameter.shape().iter().product();
            let values: Vec<f32> = match parameter.name.as_str() {
                "head.bias" => vec![0.0, 2.0, 1.0],
                _ => vec![0.0; count],
            };
            let values = Tensor::from_vec(values, parameter.shape(), &Device::Cpu);
            (parameter.name, values.unwrap())
        });
        let net = Net::new(shape, weights.collect()).unwrap();
        let grid = Grid::new([150, 100, 2], [1.0; 3]);
        // Signal in one corner alone.
        let voxels = (0..grid.len()).map(|at| f32::from(u8::from(at % 150 < 40 && at / 150 % 100 < 30)));
        let volume = Volume {
            grid,
            voxels: voxels.collect(),
        };
        let id = CaseId::new("a").unwrap();
        let case = Case::new(
            id,
            vec![volume.clone(), volume],
            None,
            Plane(2),
            Intensity::None,
            3,
        )
        .unwrap();
        let p = [0.0f64, 2.0, 1.0].map(f64::exp);
        let margin = (p[1] - p[2]) / p.iter().sum::<f64>();
        for drawing in [PLAIN, BOTH] {
            let drawn = draw_blended(&net, &case, 5, drawing, &mut || ControlFlow::Continue(()));
            let drawn = drawn.unwrap().unwrap();
            assert!(drawn.labels.voxels.iter().all(|&class| class == 1));
            assert!(
                drawn
                    .margins
                    .iter()
                    .all(|&is| (f64::from(is) - 255.0 * margin).abs() < 1.0)
            );
            assert!((drawn.slices[1].margin / drawn.slices[1].pixels as f64 - margin).abs() < 1e-5);
            let entropy: f64 = drawn.slices.iter().map(|slice| slice.entropy).sum();
            assert!((drawn.class_entropies[1] - entropy).abs() < 1e-3 && drawn.class_entropies[0] == 0.0);
        }
        let stopped = draw_blended(&net, &case, 5, BOTH, &mut || ControlFlow::Break(()));
        assert!(stopped.unwrap().is_none());
    }
}
