//! What the recipe "strong" learns from: tiles around any pixel, turned, stretched, mirrored, brighter or darker, noisy or
//! blurred, and more of them where classes are rare.
//!
//! How often and how much is nnU-Net's (Isensee et al., Nature Methods 2021, supplement). Background stays exact zero. A
//! tile's sample depends on the epoch and the tile alone, not on the batch that it is dealt into.

use std::ops::Range;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::tiles::{Place, Tiles};
use crate::imaging::Rng;
use crate::model::data::{Case, Field};
use crate::model::place::placed;
use crate::model::tiling::{TILE, TILE_PIXELS};
use crate::settings::{Part, Training};

/// Middle of a tile, in pixels.
const MIDDLE: f64 = (TILE as f64 - 1.0) / 2.0;
/// Share of the tiles that lie around a pixel of a class drawn at random.
const FOREGROUND: f64 = 1.0 / 3.0;

/// Draws samples of the cases' tiles.
pub struct Sampler<'a> {
    field: Field,
    cases: &'a [Case],
    places: &'a [Place],
    /// Of every class above background that there is, the tiles that hold it.
    holders: Vec<(u8, Vec<usize>)>,
    foreground: bool,
    augmentation: bool,
    mirroring: bool,
}

impl<'a> Sampler<'a> {
    /// Of the tiles of `among` to learn from; `None` where a recipe takes them as they lie.
    pub fn new(
        training: &Training,
        cases: &'a [Case],
        tiles: &'a Tiles,
        among: &[usize],
    ) -> Option<Sampler<'a>> {
        let foreground = training.has(Part::Foreground);
        let augmentation = training.has(Part::Augmentation);
        let mirroring = training.has(Part::Mirroring);
        (foreground || augmentation || mirroring).then(|| Sampler {
            field: tiles.field(),
            cases,
            places: tiles.places(),
            holders: tiles.holders(among),
            foreground,
            augmentation,
            mirroring,
        })
    }

    /// Samples of some tiles: inputs (tiles x depth, edge, edge, channels) and classes (tiles x depth, TILE, TILE).
    ///
    /// * `epoch`: what is drawn in it depends on this
    ///
    /// # Errors
    /// None on the CPU.
    pub fn batch(
        &self,
        batch: &[usize],
        epoch: &Rng,
        device: &Device,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let (seen, pixels) = (self.field.seen(), self.field.pixels());
        let mut inputs = vec![0.0; batch.len() * seen];
        let mut classes = vec![0; batch.len() * pixels];
        inputs
            .par_chunks_mut(seen)
            .zip(classes.par_chunks_mut(pixels))
            .zip(batch)
            .for_each(|((input, classes), &tile)| {
                self.sample(tile, &mut epoch.fork(&tile.to_string()), input, classes);
            });
        Ok((
            placed(inputs, self.field.shape(batch.len()), device)?,
            placed(classes, (batch.len() * self.field.depth, TILE, TILE), device)?,
        ))
    }

    fn sample(&self, tile: usize, rng: &mut Rng, input: &mut [f32], classes: &mut [u8]) {
        let mut place = &self.places[tile];
        let (mut middle, lattice) = (place.middle(), place.middle());
        if self.foreground && !self.holders.is_empty() && rng.uniform() < FOREGROUND {
            let (class, holders) = &self.holders[rng.below(self.holders.len())];
            place = &self.places[holders[rng.below(holders.len())]];
            self.cases[place.case].cut_mask(place.slices.clone(), &place.window, classes);
            let of_class = |at: &usize| classes[*at] == *class;
            let pixels: Vec<usize> = (0..classes.len()).filter(of_class).collect();
            let pixel = pixels[rng.below(pixels.len())] % TILE_PIXELS;
            let first = place.middle().map(|middle| middle - MIDDLE);
            middle = [first[0] + (pixel / TILE) as f64, first[1] + (pixel % TILE) as f64];
        } else if self.augmentation {
            middle = middle.map(|middle| middle + rng.below(TILE) as f64 - (TILE / 2) as f64);
        }
        let case = &self.cases[place.case];
        let tiling = case.tiling();
        if middle != lattice {
            for (middle, size) in middle.iter_mut().zip([tiling.height, tiling.width]) {
                // Not further beyond the slice's edge than has to be, and at whole pixels, so that a tile may be the image's own.
                let first = (*middle - MIDDLE).round();
                *middle = first.clamp(0.0, size.saturating_sub(TILE) as f64) + MIDDLE;
            }
        }
        let turn = Turn::draw(rng, self.augmentation, self.mirroring);
        turn.cut(case, (self.field, place.slices.clone()), middle, input, classes);
        if self.augmentation {
            for image in 0..self.field.images {
                let colours = Colours::draw(rng);
                for nth in 0..self.field.slices() {
                    let channel = (nth * self.field.images + image, self.field.channels());
                    colours.apply(input, self.field.edge(), channel, rng);
                }
            }
        }
    }
}

/// How a tile lies in its slice: from a pixel's offset to the middle (rows, columns) to that in the slice.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Turn([[f64; 2]; 2]);

impl Turn {
    #[cfg(test)]
    const NONE: Turn = Turn([[1.0, 0.0], [0.0, 1.0]]);

    fn draw(rng: &mut Rng, augmentation: bool, mirroring: bool) -> Turn {
        let angle = match augmentation && rng.uniform() < 0.2 {
            true => rng.range(-30.0, 30.0).to_radians(),
            false => 0.0,
        };
        let scale = match augmentation && rng.uniform() < 0.2 {
            true => rng.range(0.7, 1.4),
            false => 1.0,
        };
        let mut mirror = || {
            if mirroring && rng.uniform() < 0.5 {
                -1.0
            } else {
                1.0
            }
        };
        let (down, across) = (mirror(), mirror());
        let (sin, cos) = angle.sin_cos();
        Turn([
            [scale * cos * down, -scale * sin * across],
            [scale * sin * down, scale * cos * across],
        ])
    }

    /// Images by linear interpolation, zero beyond the slice; classes those of the nearest pixel.
    fn cut(
        &self,
        case: &Case,
        (field, slices): (Field, Range<usize>),
        middle: [f64; 2],
        input: &mut [f32],
        classes: &mut [u8],
    ) {
        input.fill(0.0);
        classes.fill(0);
        let (edge, count) = (field.edge(), field.channels());
        let inputs = input.chunks_exact_mut(edge * edge * count);
        for ((slice, input), classes) in slices.zip(inputs).zip(classes.chunks_exact_mut(TILE_PIXELS)) {
            self.cut_slice(case, slice, (middle, field), input, classes);
        }
    }

    fn cut_slice(
        &self,
        case: &Case,
        slice: usize,
        (middle, field): ([f64; 2], Field),
        input: &mut [f32],
        classes: &mut [u8],
    ) {
        let tiling = case.tiling();
        let (height, width) = (tiling.height as isize, tiling.width as isize);
        let strides = |slice| case.plane.strides(case.grid().shape, slice);
        let (mask_first, [along, down]) = strides(slice);
        let voxel = |first: usize, y: isize, x: isize| {
            let is_inside = (0..height).contains(&y) && (0..width).contains(&x);
            is_inside.then(|| first + x as usize * along + y as usize * down)
        };
        let (count, edge, context) = (field.channels(), field.edge(), field.context);
        let half = MIDDLE + context as f64;
        let beside: Vec<(usize, usize)> = case
            .beside(field, slice)
            .map(|(nth, slice)| (nth, strides(slice).0))
            .collect();
        for at in 0..edge * edge {
            let offset = [(at / edge) as f64 - half, (at % edge) as f64 - half];
            let to = |axis: usize| middle[axis] + self.0[axis][0] * offset[0] + self.0[axis][1] * offset[1];
            let (y, x) = (to(0), to(1));
            let inner = [at / edge, at % edge].map(|at| at.checked_sub(context).filter(|at| *at < TILE));
            if let [Some(row), Some(column)] = inner {
                let nearest = voxel(mask_first, y.round() as isize, x.round() as isize);
                let mask = case.mask.as_ref();
                classes[row * TILE + column] =
                    nearest.zip(mask).map_or(0, |(voxel, mask)| mask.voxels[voxel]);
            }
            let (top, left) = (y.floor(), x.floor());
            let (below, right) = ((y - top) as f32, (x - left) as f32);
            let corners = [
                (0, 0, (1.0 - below) * (1.0 - right)),
                (0, 1, (1.0 - below) * right),
                (1, 0, below * (1.0 - right)),
                (1, 1, below * right),
            ];
            for (nth, first) in &beside {
                let corners = corners
                    .map(|(dy, dx, share)| (voxel(*first, top as isize + dy, left as isize + dx), share));
                for (c, channel) in case.channels.iter().enumerate() {
                    let of = |(voxel, share): &(Option<usize>, f32)| match voxel {
                        Some(voxel) if *share != 0.0 => share * channel.voxels[*voxel],
                        _ => 0.0,
                    };
                    input[at * count + nth * field.images + c] = corners.iter().map(of).sum();
                }
            }
        }
    }
}

/// Another brightness, contrast and gamma, noise and blur, where there is signal; the same of every slice that is seen.
struct Colours {
    /// In deviations of the signal.
    noise: Option<f32>,
    /// The share of the pixels beside.
    blur: Option<f32>,
    brightness: Option<f32>,
    contrast: Option<f32>,
    gamma: Option<f32>,
}

impl Colours {
    fn draw(rng: &mut Rng) -> Colours {
        let mut chance = |share: f64, low: f64, high: f64| {
            let drawn = rng.range(low, high);
            (rng.uniform() < share).then_some(drawn as f32)
        };
        Colours {
            noise: chance(0.1, 0.0, 0.3),
            blur: chance(0.2, 0.05, 0.25),
            brightness: chance(0.15, 0.75, 1.25),
            contrast: chance(0.15, 0.75, 1.25),
            gamma: chance(0.3, 0.7, 1.5),
        }
    }

    fn apply(&self, input: &mut [f32], edge: usize, (channel, channels): (usize, usize), rng: &mut Rng) {
        let mut values: Vec<f32> = input.iter().skip(channel).step_by(channels).copied().collect();
        let signal: Vec<usize> = (0..values.len()).filter(|&at| values[at] != 0.0).collect();
        if signal.is_empty() {
            return;
        }
        let mean_of = |values: &[f32]| signal.iter().map(|&at| values[at]).sum::<f32>() / signal.len() as f32;
        if let Some(spread) = self.noise {
            let mean = mean_of(&values);
            let squares = signal.iter().map(|&at| (values[at] - mean).powi(2)).sum::<f32>();
            let deviation = (squares / signal.len() as f32).sqrt();
            for &at in &signal {
                values[at] += spread * deviation * rng.normal() as f32;
            }
        }
        if let Some(share) = self.blur {
            values = blurred(&values, edge, share);
        }
        if let Some(factor) = self.brightness {
            signal.iter().for_each(|&at| values[at] *= factor);
        }
        if let Some(factor) = self.contrast {
            let mean = mean_of(&values);
            signal
                .iter()
                .for_each(|&at| values[at] = mean + factor * (values[at] - mean));
        }
        if let Some(gamma) = self.gamma {
            let (low, high) = signal.iter().fold((f32::MAX, f32::MIN), |(low, high), &at| {
                (low.min(values[at]), high.max(values[at]))
            });
            if high > low {
                for &at in &signal {
                    values[at] = low + (high - low) * ((values[at] - low) / (high - low)).powf(gamma);
                }
            }
        }
        for &at in &signal {
            input[at * channels + channel] = values[at];
        }
    }
}

/// Three pixels along each axis of slices `edge` wide and high, those beside the middle one with `share` each.
fn blurred(values: &[f32], edge: usize, share: f32) -> Vec<f32> {
    let along = |values: &[f32], step: usize| -> Vec<f32> {
        let at = |n: usize| (n / step) % edge;
        (0..values.len())
            .map(|n| {
                let before = values[if at(n) > 0 { n - step } else { n }];
                let after = values[if at(n) + 1 < edge { n + step } else { n }];
                share * (before + after) + (1.0 - 2.0 * share) * values[n]
            })
            .collect()
    };
    along(&along(values, 1), edge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::{Grid, LabelMap, Volume};
    use crate::model::train::tests::discs_and_squares;
    use crate::model::train::tiles::split;
    use crate::settings::Recipe;

    fn strong(without: &[Part]) -> Training {
        Training {
            recipe: Recipe::Strong,
            without: without.iter().copied().filter(|part| part.is_strong()).collect(),
            with: [Part::Augmentation, Part::Mirroring]
                .into_iter()
                .filter(|part| !without.contains(part))
                .collect(),
            ..Training::default()
        }
    }

    fn all(tiles: &Tiles) -> Vec<usize> {
        (0..tiles.len()).collect()
    }

    fn values(sampler: &Sampler, tile: usize, seed: u64) -> (Vec<f32>, Vec<u8>) {
        let (inputs, classes) = sampler.batch(&[tile], &Rng::new(seed), &Device::Cpu).unwrap();
        (
            inputs.flatten_all().unwrap().to_vec1().unwrap(),
            classes.flatten_all().unwrap().to_vec1().unwrap(),
        )
    }

    #[test]
    fn the_paper_s_recipe_has_no_samples_and_neither_part_alone_changes_a_tile_as_it_lies() {
        let cases: Vec<Case> = (0..2).map(|n| discs_and_squares("a", 10, n)).collect();
        let (learn, _) = split(&cases, Field::TILE, &mut Rng::new(1));
        assert!(Sampler::new(&Training::default(), &cases, &learn, &all(&learn)).is_none());
        assert!(
            Sampler::new(
                &strong(&[Part::Foreground, Part::Augmentation, Part::Mirroring]),
                &cases,
                &learn,
                &all(&learn)
            )
            .is_none()
        );
        // Two thirds of the tiles are the lattice's own.
        let sampler = Sampler::new(
            &strong(&[Part::Augmentation, Part::Mirroring]),
            &cases,
            &learn,
            &all(&learn),
        )
        .unwrap();
        let same = (0..90).filter(|&seed| {
            let (inputs, classes) = learn.batch(&[3], &Device::Cpu).unwrap();
            let (inputs, classes): (Vec<f32>, Vec<u8>) = (
                inputs.flatten_all().unwrap().to_vec1().unwrap(),
                classes.flatten_all().unwrap().to_vec1().unwrap(),
            );
            values(&sampler, 3, seed) == (inputs, classes)
        });
        let same = same.count();
        assert!((45..80).contains(&same), "{same} of 90");
    }

    /// Discs are brighter than squares: what is turned, stretched and mirrored still has its own classes.
    #[test]
    fn a_sample_s_classes_lie_where_its_image_says() {
        let cases: Vec<Case> = (0..2).map(|n| discs_and_squares("a", 10, n)).collect();
        let (learn, _) = split(&cases, Field::TILE, &mut Rng::new(1));
        let sampler = Sampler::new(&strong(&[]), &cases, &learn, &all(&learn)).unwrap();
        let (mut right, mut all, mut kinds) = (0, 0, std::collections::BTreeSet::new());
        for seed in 0..40 {
            let (inputs, classes) = values(&sampler, seed as usize % learn.len(), seed);
            kinds.insert(classes.clone());
            for (value, class) in inputs.iter().zip(&classes) {
                all += 1;
                right += usize::from((*value != 0.0) == (*class != 0));
            }
        }
        assert!(kinds.len() > 30, "{} kinds of 40", kinds.len());
        assert!(right * 100 > all * 98, "{right} of {all}");
    }

    #[test]
    fn a_turn_by_nothing_is_the_slice_itself_and_a_mirror_is_its_own_inverse() {
        let case = discs_and_squares("a", 3, 5);
        let cut = |turn: Turn| {
            let (mut input, mut classes) = (vec![0.0; TILE_PIXELS], vec![0; TILE_PIXELS]);
            turn.cut(&case, (Field::TILE, 1..2), [MIDDLE; 2], &mut input, &mut classes);
            (input, classes)
        };
        let (mut input, mut classes) = (vec![0.0; TILE_PIXELS], vec![0; TILE_PIXELS]);
        let window = case.tiling().window(0);
        case.cut(Field::TILE, 1..2, &window, &mut input);
        case.cut_mask(1..2, &window, &mut classes);
        assert_eq!(cut(Turn::NONE), (input.clone(), classes.clone()));
        let (mirrored, mirrored_classes) = cut(Turn([[1.0, 0.0], [0.0, -1.0]]));
        for at in 0..TILE_PIXELS {
            let other = at / TILE * TILE + TILE - 1 - at % TILE;
            assert_eq!(
                (mirrored[at], mirrored_classes[at]),
                (input[other], classes[other])
            );
        }
    }

    /// Two slices, five pixels around them and a slice beside each, beyond the last one too.
    #[test]
    fn a_turn_by_nothing_is_the_lattice_s_tile_whatever_the_network_sees() {
        let case = discs_and_squares("a", 3, 5);
        let field = Field {
            depth: 2,
            context: 5,
            beside: 1,
            images: 1,
        };
        let blank = || (vec![9.0; field.seen()], vec![9; field.pixels()]);
        let ((mut input, mut classes), (mut sampled, mut drawn)) = (blank(), blank());
        let window = case.tiling().window(0);
        case.cut(field, 1..3, &window, &mut input);
        case.cut_mask(1..3, &window, &mut classes);
        Turn::NONE.cut(&case, (field, 1..3), [MIDDLE; 2], &mut sampled, &mut drawn);
        assert!(sampled == input && drawn == classes);
        assert!(input.iter().any(|value| *value != 0.0));
    }

    /// 70 x 100 pixels: six tiles, most of them beyond an edge; those that are not moved are the lattice's own.
    #[test]
    fn tiles_beyond_the_edge_are_taken_as_they_lie_and_small_slices_are_sampled() {
        for [width, height] in [[70, 100], [40, 40]] {
            let whole = discs_and_squares("a", 4, 3);
            let grid = Grid::new([width, height, 4], [1.0; 3]);
            let from =
                |at: usize| (at / (width * height) * 64 + at / width % height % 64) * 64 + at % width % 64;
            let voxels = (0..grid.len())
                .map(|at| whole.channels[0].voxels[from(at)])
                .collect();
            let classes = (0..grid.len())
                .map(|at| whole.mask.as_ref().unwrap().voxels[from(at)])
                .collect();
            let cases = [Case {
                channels: vec![Volume { grid, voxels }],
                mask: Some(LabelMap {
                    grid,
                    voxels: classes,
                }),
                ..whole
            }];
            let (learn, _) = split(&cases, Field::TILE, &mut Rng::new(1));
            let plain = Sampler::new(
                &strong(&[Part::Augmentation, Part::Mirroring]),
                &cases,
                &learn,
                &all(&learn),
            )
            .unwrap();
            let all = Sampler::new(&strong(&[]), &cases, &learn, &all(&learn)).unwrap();
            for tile in 0..learn.len() {
                let (inputs, _) = learn.batch(&[tile], &Device::Cpu).unwrap();
                let inputs: Vec<f32> = inputs.flatten_all().unwrap().to_vec1().unwrap();
                let same = (0..30)
                    .filter(|&seed| values(&plain, tile, seed).0 == inputs)
                    .count();
                assert!(same > 10, "tile {tile} of {width} x {height}: {same} of 30");
                values(&all, tile, 1);
            }
        }
    }

    #[test]
    fn blur_keeps_the_mean_and_lowers_the_spread() {
        let mut rng = Rng::new(2);
        let values: Vec<f32> = (0..TILE_PIXELS).map(|_| rng.normal() as f32).collect();
        let after = blurred(&values, TILE, 0.25);
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
        let squares = |values: &[f32]| values.iter().map(|v| v * v).sum::<f32>();
        assert!((mean(&values) - mean(&after)).abs() < 1e-3);
        assert!(squares(&after) < 0.3 * squares(&values));
    }
}
