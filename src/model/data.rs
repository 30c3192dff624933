//! From a case's files to what the network takes: volumes on one grid, normalised, cut into tiles.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::imaging::{Grid, LabelMap, MAX_VOLUME_BYTES, Plane, Volume, read_scan};
use crate::records::CaseId;
use crate::settings::Intensity;

use super::ModelError;
use super::tiling::{TILE, TILE_PIXELS, Tiling, Window};

/// What a network sees at a time: a tile, `depth` slices deep, in the slices `context` pixels around it, and at every pixel
/// those `beside` it in slices before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Slices.
    pub depth: usize,
    /// Pixels on every side, of which it says nothing.
    pub context: usize,
    /// Slices before each, and as many after, that are further channels.
    pub beside: usize,
    /// Images of a case.
    pub images: usize,
}

impl Field {
    /// One slice of a tile of one image, and nothing around it.
    #[cfg(test)]
    pub const TILE: Field = Field {
        depth: 1,
        context: 0,
        beside: 0,
        images: 1,
    };

    /// Edge of what it sees in a slice.
    pub fn edge(self) -> usize {
        TILE + 2 * self.context
    }

    /// Slices that are seen at every pixel.
    pub fn slices(self) -> usize {
        2 * self.beside + 1
    }

    /// Channels of a pixel: every image, of every slice that is seen there.
    pub fn channels(self) -> usize {
        self.slices() * self.images
    }

    /// Values that it sees.
    pub fn seen(self) -> usize {
        self.depth * self.edge() * self.edge() * self.channels()
    }

    /// Pixels that it says something of.
    pub fn pixels(self) -> usize {
        self.depth * TILE_PIXELS
    }

    /// How many tiles of its depth stand for so many of one slice to learn from. Slices that lie one behind the other tell
    /// less than tiles from anywhere: a deep one counts as four. And there are two at least, so that a rare class is not missing
    /// from every other batch.
    pub fn tiles(self, batch: usize) -> usize {
        match self.depth {
            1 => batch,
            _ => (batch / 4).max(2),
        }
    }

    /// How many tiles of its depth are as much to draw as so many of one slice; at least one.
    pub fn drawn(self, batch: usize) -> usize {
        (batch / self.depth).max(1)
    }

    /// Which slices are seen together, to say something of those in `asked`: all that are seen, and those that are asked for.
    ///
    /// * `there`: the slices that may be seen; where they are fewer than its depth, nothing lies beyond them
    pub fn stacks(
        self,
        asked: Range<usize>,
        there: Range<usize>,
    ) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let latest = there.end.saturating_sub(self.depth).max(there.start);
        asked.clone().step_by(self.depth).map(move |first| {
            let begin = first.min(latest);
            let seen = begin..there.end.min(begin + self.depth);
            (seen, first..asked.end.min(first + self.depth))
        })
    }

    /// The shape of the input of so many tiles, for candle.
    pub fn shape(self, tiles: usize) -> (usize, usize, usize, usize) {
        (tiles * self.depth, self.edge(), self.edge(), self.channels())
    }
}

/// A case in memory: its channels normalised, all on one grid.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub id: CaseId,
    /// Images.
    pub channels: Vec<Volume>,
    /// Classes, where they are known.
    pub mask: Option<LabelMap>,
    /// The cut.
    pub plane: Plane,
}

impl Case {
    /// Normalises the images and holds everything against each other.
    ///
    /// # Errors
    /// [`ModelError::Case`]: no image, grids that differ, or a class that is not below `classes`.
    pub fn new(
        id: CaseId,
        mut channels: Vec<Volume>,
        mask: Option<LabelMap>,
        plane: Plane,
        intensity: Intensity,
        classes: usize,
    ) -> Result<Case, ModelError> {
        let problem = |problem: String| {
            Err(ModelError::Case {
                case: id.clone(),
                problem,
            })
        };
        let Some(first) = channels.first() else {
            return problem("it has no image".to_string());
        };
        let grid = first.grid;
        let odd_one = |other: &Grid| (!grid.matches(other)).then_some(other.shape);
        if let Some(shape) = channels.iter().find_map(|channel| odd_one(&channel.grid)) {
            return problem(format!(
                "its images do not lie on one grid ({:?}, {shape:?}); resample them",
                grid.shape
            ));
        }
        if let Some(mask) = &mask {
            if let Some(shape) = odd_one(&mask.grid) {
                return problem(format!(
                    "its mask ({shape:?}) is not on its image's grid ({:?})",
                    grid.shape
                ));
            }
            if let Some(class) = mask.voxels.iter().find(|&&class| class as usize >= classes) {
                return problem(format!(
                    "its mask has class {class}, but there are only 0 to {}",
                    classes - 1
                ));
            }
        }
        for channel in &mut channels {
            normalise(&mut channel.voxels, intensity);
        }
        Ok(Case {
            id,
            channels,
            mask,
            plane,
        })
    }

    /// Reads a case's files.
    ///
    /// # Errors
    /// [`ModelError::Image`] and those of [`Case::new`].
    pub fn read(
        id: &CaseId,
        images: &[PathBuf],
        mask: Option<&Path>,
        plane: Plane,
        intensity: Intensity,
        classes: usize,
    ) -> Result<Case, ModelError> {
        let channels = images
            .iter()
            .map(|path| read_volume(id, path))
            .collect::<Result<_, _>>()?;
        let mask = mask.map(|path| read_mask(id, path)).transpose()?;
        Case::new(id.clone(), channels, mask, plane, intensity, classes)
    }

    /// Whether a network of so many channels can read it.
    ///
    /// # Errors
    /// [`ModelError::Case`] where it has another number of images.
    pub fn check_channels(&self, channels: usize) -> Result<(), ModelError> {
        match self.channels.len() {
            count if count == channels => Ok(()),
            count => Err(ModelError::Case {
                case: self.id.clone(),
                problem: format!("it has {count} images, but the network takes {channels}"),
            }),
        }
    }

    /// The grid of all its volumes.
    pub fn grid(&self) -> &Grid {
        &self.channels[0].grid
    }

    /// How its slices are cut.
    pub fn tiling(&self) -> Tiling {
        let [width, height] = self.plane.size(self.grid());
        Tiling { width, height }
    }

    /// Number of slices.
    pub fn slices(&self) -> usize {
        self.plane.slices(self.grid())
    }

    /// Whether any of a window over some slices is signal, whatever lies around it.
    pub fn has_signal(&self, slices: Range<usize>, window: &Window) -> bool {
        let mut slices = slices;
        slices.any(|slice| {
            let (first, [along, down]) = self.plane.strides(self.grid().shape, slice);
            let mut voxels = (window.top..window.bottom).flat_map(|row| {
                (window.left..window.right).map(move |column| first + column * along + row * down)
            });
            voxels.any(|voxel| self.channels.iter().any(|channel| channel.voxels[voxel] != 0.0))
        })
    }

    /// Fills the input of a window of a tile's size over some slices (slice by slice, row by row, channels fastest), 0 where there
    /// is no image; whether any of it is signal.
    pub fn cut(&self, field: Field, slices: Range<usize>, window: &Window, input: &mut [f32]) -> bool {
        let (count, edge) = (field.channels(), field.edge());
        let Tiling { width, height } = self.tiling();
        // The window may end at the slice's edge before its size.
        let seen = |first: usize, size: usize| {
            first.saturating_sub(field.context)..(first + TILE + field.context).min(size)
        };
        input.fill(0.0);
        let mut signal = false;
        for (slice, input) in slices.zip(input.chunks_exact_mut(edge * edge * count)) {
            for (nth, slice) in self.beside(field, slice) {
                let (first, [along, down]) = self.plane.strides(self.grid().shape, slice);
                for row in seen(window.top, height) {
                    let y = row + field.context - window.top;
                    let columns = seen(window.left, width);
                    if let ([channel], 1, 1) = (&self.channels[..], along, count) {
                        let from = first + columns.start + row * down;
                        let to = y * edge + columns.start + field.context - window.left;
                        let values = &channel.voxels[from..from + columns.len()];
                        signal |= values.iter().any(|value| *value != 0.0);
                        input[to..to + values.len()].copy_from_slice(values);
                        continue;
                    }
                    for column in columns {
                        let x = column + field.context - window.left;
                        let voxel = first + column * along + row * down;
                        for (c, channel) in self.channels.iter().enumerate() {
                            let value = channel.voxels[voxel];
                            signal |= value != 0.0;
                            input[(y * edge + x) * count + nth * field.images + c] = value;
                        }
                    }
                }
            }
        }
        signal
    }

    /// The slices that are seen at a slice's pixels, each with its place among them; there is nothing beyond the last.
    pub fn beside(&self, field: Field, slice: usize) -> impl Iterator<Item = (usize, usize)> {
        let slices = self.slices();
        let place = move |nth: usize| Some((nth, (slice + nth).checked_sub(field.beside)?));
        (0..field.slices())
            .filter_map(place)
            .filter(move |(_, slice)| *slice < slices)
    }

    /// Fills a tile's classes over some slices, background beyond the edge and where there is no mask.
    pub fn cut_mask(&self, slices: Range<usize>, window: &Window, classes: &mut [u8]) {
        classes.fill(0);
        let Some(mask) = &self.mask else { return };
        for (slice, classes) in slices.zip(classes.chunks_exact_mut(TILE_PIXELS)) {
            let (first, [along, down]) = self.plane.strides(self.grid().shape, slice);
            for (y, row) in (window.top..window.bottom).enumerate() {
                for (x, column) in (window.left..window.right).enumerate() {
                    classes[y * TILE + x] = mask.voxels[first + column * along + row * down];
                }
            }
        }
    }
}

fn read_volume(case: &CaseId, path: &Path) -> Result<Volume, ModelError> {
    let scan = read_scan(path, MAX_VOLUME_BYTES).map_err(|source| ModelError::Image {
        case: case.clone(),
        path: path.to_path_buf(),
        source,
    })?;
    Ok(scan.volume)
}

fn read_mask(case: &CaseId, path: &Path) -> Result<LabelMap, ModelError> {
    let volume = read_volume(case, path)?;
    match volume.voxels.iter().find(|&&v| v != f32::from(v as u8)) {
        Some(value) => Err(ModelError::Case {
            case: case.clone(),
            problem: format!("{} has the value {value}, which is no class", path.display()),
        }),
        None => Ok(LabelMap {
            grid: volume.grid,
            voxels: volume.voxels.iter().map(|&v| v as u8).collect(),
        }),
    }
}

/// Turns intensities into input; a voxel of exact 0 is background and stays 0, as does one that is no number.
///
/// * z-score: (4 + z) / 4 with z in deviations from the mean of the non-zero voxels, held to -3 ..= 5, so that tissue
///   lies in 0.25 ..= 2.25 and never meets the background
/// * percentile: divided by the 99th percentile (nearest rank) of the non-zero voxels' sizes
/// * CT: Hounsfield units by straight lines through (-1000, 0), (-200, 0.5), (300, 2), (2000, 2.5), held to the upper end;
///   air, up to -950 with its noise, becomes background; organs, which differ by some ten units, are told apart
pub fn normalise(voxels: &mut [f32], intensity: Intensity) {
    let nothing = if intensity == Intensity::Ct { AIR } else { 0.0 };
    for voxel in voxels.iter_mut().filter(|voxel| !voxel.is_finite()) {
        *voxel = nothing;
    }
    if intensity == Intensity::Ct {
        voxels.iter_mut().for_each(|voxel| *voxel = of_hounsfield(*voxel));
        return;
    }
    let known = || voxels.iter().filter(|&&v| v != 0.0);
    let n = known().count();
    if n == 0 {
        return;
    }
    match intensity {
        Intensity::None | Intensity::Ct => {}
        Intensity::Zscore => {
            let mean = known().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
            let variance = known().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n as f64;
            let deviation = if variance > 0.0 { variance.sqrt() } else { 1.0 };
            for voxel in voxels.iter_mut().filter(|voxel| **voxel != 0.0) {
                let z = ((f64::from(*voxel) - mean) / deviation).clamp(-3.0, 5.0);
                *voxel = ((4.0 + z) / 4.0) as f32;
            }
        }
        Intensity::Percentile => {
            let mut sizes: Vec<f32> = known().map(|v| v.abs()).collect();
            let rank = (n * 99).div_ceil(100) - 1;
            let (_, &mut top, _) = sizes.select_nth_unstable_by(rank, f32::total_cmp);
            for voxel in voxels {
                *voxel /= top;
            }
        }
    }
}

/// Air, in Hounsfield units.
const AIR: f32 = -1000.0;

fn of_hounsfield(units: f32) -> f32 {
    match units.min(2000.0) {
        units if units <= -950.0 => 0.0,
        units if units < -200.0 => (units - AIR) / 1600.0,
        units if units < 300.0 => 0.5 + (units + 200.0) / 500.0 * 1.5,
        units => 2.0 + (units - 300.0) / 3400.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn air_is_background_and_water_is_not() {
        let mut voxels = vec![
            -1024.0,
            -960.0,
            -600.0,
            -200.0,
            0.0,
            50.0,
            300.0,
            2000.0,
            9000.0,
            f32::NAN,
        ];
        normalise(&mut voxels, Intensity::Ct);
        let expected = [0.0, 0.0, 0.25, 0.5, 1.1, 1.25, 2.0, 2.5, 2.5, 0.0];
        for (value, expected) in voxels.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{voxels:?}");
        }
    }

    #[test]
    fn stacks_are_full_where_there_are_slices_enough() {
        let field = Field {
            depth: 16,
            ..Field::TILE
        };
        let stacks = |asked, there| field.stacks(asked, there).collect::<Vec<_>>();
        assert_eq!(
            stacks(0..40, 0..40),
            [(0..16, 0..16), (16..32, 16..32), (24..40, 32..40)]
        );
        // Slices that are held out see those beside them; those beside them do not see what is held out.
        assert_eq!(stacks(10..12, 0..24), [(8..24, 10..12)]);
        assert_eq!(stacks(0..10, 0..10), [(0..10, 0..10)]);
        assert_eq!(stacks(12..29, 12..29), [(12..28, 12..28), (13..29, 28..29)]);
        assert_eq!(stacks(3..3, 0..24), []);
    }

    #[test]
    fn background_stays_at_exact_zero_and_tissue_above_it() {
        let mut voxels = vec![0.0, 10.0, 30.0, f32::NAN];
        normalise(&mut voxels, Intensity::Zscore);
        // Mean 20, deviation 10: z of -1 and 1.
        assert_eq!(voxels, [0.0, 0.75, 1.25, 0.0]);
        let mut outlier: Vec<f32> = vec![1.0; 1000];
        outlier[0] = -1e6;
        normalise(&mut outlier, Intensity::Zscore);
        assert_eq!(outlier[0], 0.25);
        let mut same = vec![0.0, 7.0, 7.0];
        normalise(&mut same, Intensity::Zscore);
        assert_eq!(same, [0.0, 1.0, 1.0]);
        let mut empty = vec![0.0; 3];
        normalise(&mut empty, Intensity::Percentile);
        assert_eq!(empty, [0.0; 3]);
    }

    /// Of 1 to 200 the 99th percentile is the 198th value.
    #[test]
    fn the_99th_percentile_becomes_1() {
        let mut voxels: Vec<f32> = (0..=200).map(|v| v as f32).collect();
        normalise(&mut voxels, Intensity::Percentile);
        assert_eq!((voxels[0], voxels[198], voxels[200]), (0.0, 1.0, 200.0 / 198.0));
    }

    #[test]
    fn a_slice_of_70_x_64_is_two_tiles_and_the_second_is_padded() {
        let tiling = Tiling {
            width: 70,
            height: 64,
        };
        assert_eq!(tiling.tiles(), 2);
        assert_eq!(
            tiling.window(1),
            Window {
                left: 64,
                top: 0,
                right: 70,
                bottom: 64
            }
        );
        let grid = Grid::new([70, 64, 2], [1.0; 3]);
        let mut voxels = vec![0.0; grid.len()];
        voxels[70 * 64 + 2 * 70 + 65] = 5.0;
        let mask = LabelMap {
            grid,
            voxels: voxels.iter().map(|&v| u8::from(v > 0.0)).collect(),
        };
        let id = CaseId::new("a").unwrap();
        let volume = Volume { grid, voxels };
        let case = Case::new(
            id,
            vec![volume.clone(), volume],
            Some(mask),
            Plane(2),
            Intensity::None,
            2,
        )
        .unwrap();
        let (mut input, mut classes) = (vec![9.0; 2 * TILE_PIXELS], vec![9; TILE_PIXELS]);
        let cut = |slice: usize, tile, input: &mut [f32]| {
            case.cut(
                Field {
                    images: 2,
                    ..Field::TILE
                },
                slice..slice + 1,
                &case.tiling().window(tile),
                input,
            )
        };
        assert!(
            !cut(0, 1, &mut input) && !cut(1, 0, &mut input),
            "no signal in these"
        );
        assert!(cut(1, 1, &mut input));
        case.cut_mask(1..2, &case.tiling().window(1), &mut classes);
        let at = 2 * TILE + 1;
        assert_eq!(
            (&input[2 * at..2 * at + 2], input.iter().sum::<f32>()),
            (&[5.0, 5.0][..], 10.0)
        );
        assert_eq!(
            (classes[at], classes.iter().map(|&c| c as usize).sum::<usize>()),
            (1, 1)
        );
        // Two slices, and two pixels around: the first tile sees the voxel beyond its edge, the second where it lies.
        let wide = Field {
            depth: 2,
            context: 2,
            images: 2,
            ..Field::TILE
        };
        let mut input = vec![9.0; wide.seen()];
        for (tile, column) in [(0, 67), (1, 3)] {
            assert!(case.cut(wide, 0..2, &case.tiling().window(tile), &mut input));
            let at = 2 * ((68 + 4) * 68 + column);
            assert_eq!(
                (&input[at..at + 2], input.iter().sum::<f32>()),
                (&[5.0, 5.0][..], 10.0)
            );
        }
        let window = |tile| case.tiling().window(tile);
        assert!(case.has_signal(0..2, &window(1)) && !case.has_signal(0..2, &window(0)));
        assert!(!case.has_signal(0..1, &window(1)));
        // Seen from the slice before it, it lies among those after; from its own, in the middle.
        let beside = Field {
            beside: 1,
            images: 2,
            ..Field::TILE
        };
        let mut input = vec![9.0; beside.seen()];
        for (slice, nth) in [(0, 2), (1, 1)] {
            assert!(case.cut(beside, slice..slice + 1, &case.tiling().window(1), &mut input));
            let at = (2 * TILE + 1) * 6 + 2 * nth;
            assert_eq!(
                (&input[at..at + 2], input.iter().sum::<f32>()),
                (&[5.0, 5.0][..], 10.0)
            );
        }
    }

    #[test]
    fn a_case_that_does_not_fit_together_is_refused_by_name() {
        let volume = |shape| {
            let grid = Grid::new(shape, [1.0; 3]);
            Volume {
                grid,
                voxels: vec![1.0; grid.len()],
            }
        };
        let new = |channels: Vec<Volume>, mask: Option<LabelMap>| {
            let id = CaseId::new("ibsr_01").unwrap();
            Case::new(id, channels, mask, Plane(0), Intensity::None, 2)
                .unwrap_err()
                .to_string()
        };
        assert!(new(vec![], None).starts_with("case ibsr_01: it has no image"));
        assert!(new(vec![volume([2, 2, 2]), volume([2, 2, 3])], None).contains("one grid"));
        let mask = LabelMap {
            grid: Grid::new([2, 2, 2], [1.0; 3]),
            voxels: vec![2; 8],
        };
        assert!(new(vec![volume([2, 2, 2])], Some(mask.clone())).contains("class 2"));
        assert!(new(vec![volume([2, 2, 3])], Some(mask)).contains("its mask"));
    }
}
