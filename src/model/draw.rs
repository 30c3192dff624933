//! Drawing one case: its tiles cut out, judged in batches, and put where they lie, in stages.
//!
//! Tiles of consecutive slices go through the network in batches, without a graph. The tile without signal goes through
//! once and stands for all of its kind. What lies beyond a slice's edge is counted nowhere. Sums are taken in f64 of
//! the probabilities themselves; the margin map's bytes are for looking at.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use candle_core::Tensor;

use super::ModelError;
use super::data::{Case, Field};
use super::drawn::{Drawn, Spot};
use super::judge::{Judged, Judging, judge};
use super::network::Net;
use super::place::placed;
use super::stages::in_stages;
use super::tiling::Window;

/// Draws one case, `batch` tiles at a time; `None` when `tick`, asked after each batch, says so.
pub fn draw(
    net: &Net,
    case: &Case,
    batch: usize,
    tick: &mut (dyn FnMut() -> ControlFlow<()> + Send),
) -> Result<Option<Drawn>, ModelError> {
    let mut drawn = Drawn::of(case, net)?;
    let field = net.field();
    let mut blank = HashMap::new();
    in_stages(
        |take| cut(field, case, batch * field.depth, take),
        |Batch { inputs, at, blanks }| {
            let mut said = Said::default();
            if !at.is_empty() {
                said.judging = Some((begin(net, inputs, &at)?, at));
            }
            for spots in blanks {
                let judged = match blank.entry(sizes(&spots)) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        // By itself, so that a GPU does not take it for a batch that comes again.
                        let logits = net.forward(&images(net, vec![0.0; field.seen()], &spots)?)?;
                        let judged = judge(&logits, new.key())?;
                        new.insert(Arc::new(judged))
                    }
                };
                said.blanks.push((judged.clone(), spots));
            }
            Ok(said)
        },
        move |said| {
            for said in said {
                said.place(&mut drawn, case)?;
            }
            Ok(drawn)
        },
        tick,
    )
}

/// Tiles that go through the network together, and those without signal that came between.
#[derive(Default)]
struct Batch {
    inputs: Vec<f32>,
    at: Vec<Spot>,
    /// Of each stack.
    blanks: Vec<Vec<Spot>>,
}

/// Cuts a case into batches of `size` tiles, for as long as `take` takes them.
fn cut(field: Field, case: &Case, size: usize, take: &dyn Fn(Batch) -> bool) {
    let mut batch = Batch::default();
    for ((slices, asked), window) in places(field, case) {
        let spots = Spot::all(slices.start, field.depth, &asked, &window);
        let Batch { inputs, at, blanks } = &mut batch;
        if inputs.capacity() == 0 {
            inputs.reserve_exact(size / field.depth * field.seen());
        }
        let before = inputs.len();
        inputs.resize(before + field.seen(), 0.0);
        if case.cut(field, slices, &window, &mut inputs[before..]) {
            at.extend(spots);
        } else {
            inputs.truncate(before);
            blanks.push(spots);
        }
        if batch.at.len() == size && !take(std::mem::take(&mut batch)) {
            return;
        }
    }
    if !batch.at.is_empty() || !batch.blanks.is_empty() {
        take(batch);
    }
}

/// What is said of a batch.
#[derive(Default)]
struct Said {
    judging: Option<(Judging, Vec<Spot>)>,
    blanks: Vec<(Arc<Judged>, Vec<Spot>)>,
}

impl Said {
    /// Waits for it, and puts it where it lies.
    fn place(self, drawn: &mut Drawn, case: &Case) -> candle_core::Result<()> {
        let mut place = |judged: &Judged, spots: Vec<Spot>| {
            for (tile, at) in spots.into_iter().enumerate() {
                drawn.place(case, at, judged, tile);
            }
        };
        for (judged, spots) in self.blanks {
            place(&judged, spots);
        }
        if let Some((judging, spots)) = self.judging {
            place(&judging.end()?, spots);
        }
        Ok(())
    }
}

/// Slices that are seen, and of them those that are asked for, with every tile of theirs.
fn places(field: Field, case: &Case) -> impl Iterator<Item = ((Range<usize>, Range<usize>), Window)> {
    let (all, tiling) = (0..case.slices(), case.tiling());
    field.stacks(all.clone(), all).flat_map(move |stack| {
        let windows = (0..tiling.tiles()).map(move |tile| tiling.window(tile));
        windows.map(move |window| (stack.clone(), window))
    })
}

fn begin(net: &Net, inputs: Vec<f32>, at: &[Spot]) -> candle_core::Result<Judging> {
    Judging::begin(net, &images(net, inputs, at)?, &sizes(at))
}

/// What the network sees of tiles.
fn images(net: &Net, inputs: Vec<f32>, at: &[Spot]) -> candle_core::Result<Tensor> {
    let field = net.field();
    placed(inputs, field.shape(at.len() / field.depth), net.device())
}

fn sizes(at: &[Spot]) -> Vec<[usize; 2]> {
    at.iter().map(|at| at.size).collect()
}

#[cfg(test)]
pub mod tests {
    use candle_core::Device;

    use super::*;
    use crate::imaging::{Grid, LabelMap, Plane, Rng, Volume};
    use crate::records::{Architecture, CaseId};
    use crate::settings::{Intensity, Network, Networks};

    pub const SHAPE: Architecture = Architecture {
        networks: Networks::one(Network::UNet),
        channels: 1,
        classes: 3,
        base_channels: 2,
        slices: 1,
        deep_supervision: false,
    };

    /// 70 x 66 pixels a slice (four tiles, three of them padded), the first slice and one more tile without signal.
    pub fn volume() -> Volume {
        let grid = Grid::new([70, 3, 66], [1.0; 3]);
        let mut rng = Rng::new(3);
        let voxels = (0..grid.len()).map(|at| {
            let (i, j) = (at % 70, at / 70 % 3);
            if j == 0 || (j == 1 && i >= 64) {
                0.0
            } else {
                rng.range(1.0, 2.0) as f32
            }
        });
        Volume {
            grid,
            voxels: voxels.collect(),
        }
    }

    pub fn case() -> Case {
        let id = CaseId::new("ibsr_01").unwrap();
        Case::new(id, vec![volume()], None, Plane(1), Intensity::None, 3).unwrap()
    }

    #[test]
    fn padding_is_counted_nowhere() {
        let net = Net::drawn(SHAPE, &Rng::new(1), &Device::Cpu).unwrap();
        let drawn = draw(&net, &case(), 4, &mut || ControlFlow::Continue(()))
            .unwrap()
            .unwrap();
        assert_eq!(
            drawn.slices.iter().map(|s| s.pixels).collect::<Vec<_>>(),
            [70 * 66; 3]
        );
        let foreground = drawn.labels.voxels.iter().filter(|&&class| class > 0).count() as u64;
        assert_eq!(
            drawn.slices.iter().map(|s| s.foreground_pixels).sum::<u64>(),
            foreground
        );
        let bytes: f64 = drawn.margins.iter().map(|&m| f64::from(m) / 255.0).sum();
        let sums: f64 = drawn.slices.iter().map(|s| s.margin).sum();
        assert!((bytes - sums).abs() <= drawn.margins.len() as f64 * 0.5 / 255.0);
        let entropy: f64 = drawn.slices.iter().map(|slice| slice.entropy).sum();
        let foreground: f64 = drawn.slices.iter().map(|slice| slice.foreground_entropy).sum();
        assert!((drawn.class_entropies.iter().sum::<f64>() - entropy).abs() < 1e-6);
        assert!((drawn.class_entropies[1..].iter().sum::<f64>() - foreground).abs() < 1e-6);
    }

    /// Every tile by itself, without signal or not, through a network that sees one tile at a time.
    #[test]
    fn the_blank_tile_computed_once_gives_the_sums_of_each_computed() {
        let net = Net::drawn(SHAPE, &Rng::new(1), &Device::Cpu).unwrap().frozen(16);
        let case = case();
        let mut each = Drawn {
            labels: LabelMap::empty(*case.grid()),
            margins: vec![0; case.grid().len()],
            slices: vec![crate::records::SliceSums::default(); 3],
            members: Vec::new(),
            class_entropies: vec![0.0; 3],
        };
        let mut blanks = 0;
        for (slice, tile) in (0..3).flat_map(|slice| (0..4).map(move |tile| (slice, tile))) {
            let mut input = vec![0.0; Field::TILE.seen()];
            let window = case.tiling().window(tile);
            blanks += usize::from(!case.cut(Field::TILE, slice..slice + 1, &window, &mut input));
            let at = Spot::of(slice, &window);
            each.place(&case, at, &begin(&net, input, &[at]).unwrap().end().unwrap(), 0);
        }
        assert_eq!(blanks, 4 + 2);
        for batch in [1, 3, 16] {
            let drawn = draw(&net, &case, batch, &mut || ControlFlow::Continue(()))
                .unwrap()
                .unwrap();
            assert_eq!((&drawn.labels, &drawn.margins), (&each.labels, &each.margins));
            for (a, b) in drawn.slices.iter().zip(&each.slices) {
                // Tiles are added in another order where blank ones do not wait for a batch.
                assert!((a.margin - b.margin).abs() < 1e-9 && (a.entropy - b.entropy).abs() < 1e-9);
            }
        }
    }

    /// Twenty slices, the first seven of them and a corner of the others without signal, through networks that see slices and
    /// surroundings: as if each tile were asked about by itself.
    #[test]
    fn blank_stacks_and_surroundings_change_nothing_for_a_committee() {
        let shape = Architecture {
            networks: vec![Network::VoxResNet, Network::MultiScale].try_into().unwrap(),
            base_channels: 4,
            ..SHAPE
        };
        let net = Net::drawn(shape, &Rng::new(1), &Device::Cpu).unwrap();
        let grid = Grid::new([140, 66, 20], [1.0; 3]);
        let mut rng = Rng::new(3);
        let voxels = (0..grid.len()).map(|at| {
            let has_signal = at / 140 / 66 >= 7 && at % 140 >= 100;
            if has_signal {
                rng.range(1.0, 2.0) as f32
            } else {
                0.0
            }
        });
        let volume = Volume {
            grid,
            voxels: voxels.collect(),
        };
        let id = CaseId::new("a").unwrap();
        let case = Case::new(id, vec![volume], None, Plane(2), Intensity::None, 3).unwrap();
        let mut each = Drawn::of(&case, &net).unwrap();
        let mut blanks = 0;
        for ((slices, asked), window) in places(net.field(), &case) {
            let mut input = vec![0.0; net.field().seen()];
            blanks += usize::from(!case.cut(net.field(), slices.clone(), &window, &mut input));
            let spots = Spot::all(slices.start, net.field().depth, &asked, &window);
            let judged = begin(&net, input, &spots).unwrap().end().unwrap();
            for (n, at) in spots.into_iter().enumerate() {
                each.place(&case, at, &judged, n);
            }
        }
        // The left column's tiles, whose surroundings end before 98: two of them in each of two stacks.
        assert_eq!(blanks, 4);
        let drawn = draw(&net, &case, 2, &mut || ControlFlow::Continue(()))
            .unwrap()
            .unwrap();
        assert_eq!((&drawn.labels, &drawn.margins), (&each.labels, &each.margins));
        assert_eq!(drawn.members.len(), 2);
        for (a, b) in drawn.class_entropies.iter().zip(&each.class_entropies) {
            assert!(*b > 0.0 && (a - b).abs() < 1e-6 * b, "{a} {b}");
        }
        for (a, b) in drawn.members.iter().zip(&each.members) {
            assert_eq!(a.pixels as usize, grid.len(), "every pixel once");
            assert!((a.margin - b.margin).abs() < 1e-6 * b.margin);
        }
    }

    /// Many batches of one tile, so that every stage has something under way when it is told to stop.
    #[test]
    fn a_break_ends_every_stage_of_drawing() {
        let net = Net::drawn(SHAPE, &Rng::new(1), &Device::Cpu).unwrap();
        let mut batches = 0;
        for last in 1..4 {
            let mut left = last;
            let drawn = draw(&net, &case(), 1, &mut || {
                (left, batches) = (left - 1, batches + 1);
                match left {
                    0 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            });
            assert!(drawn.unwrap().is_none());
        }
        assert_eq!(batches, 1 + 2 + 3);
    }

    /// A network whose layers the CPU does not have, while tiles are cut out.
    #[test]
    fn a_network_that_fails_ends_every_stage_of_drawing() {
        let shape = Architecture { channels: 2, ..SHAPE };
        let mut wrong = case();
        wrong.channels.push(wrong.channels[0].clone());
        let net = Net::drawn(shape, &Rng::new(1), &Device::Cpu).unwrap();
        let net = net.narrowed().unwrap();
        let error = draw(&net, &wrong, 1, &mut || ControlFlow::Continue(())).unwrap_err();
        assert!(error.to_string().contains("BF16"), "{error}");
    }
}
