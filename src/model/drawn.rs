//! A case as it is drawn: its label map, its margins, and the sums of its slices, put together tile by tile.

use std::ops::Range;

use super::ModelError;
use super::data::Case;
use super::judge::Judged;
use super::network::Net;
use super::tiling::{TILE, TILE_PIXELS, Window};
use crate::imaging::LabelMap;
use crate::records::SliceSums;

/// A case's label map, its margins and the sums of its slices.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    pub labels: LabelMap,
    pub margins: Vec<u8>,
    pub slices: Vec<SliceSums>,
    /// What each member of a committee says by itself, over the volume.
    pub members: Vec<SliceSums>,
    /// The sum of the entropies of each class's pixels.
    pub class_entropies: Vec<f64>,
}

/// Where a tile lies in its case.
#[derive(Debug, Clone, Copy)]
pub struct Spot {
    slice: usize,
    /// First row and first column.
    pub first: [usize; 2],
    /// Rows and columns that lie in the slice.
    pub size: [usize; 2],
}

impl Spot {
    /// Of a tile in a slice.
    pub fn of(slice: usize, window: &Window) -> Spot {
        Spot {
            slice,
            first: [window.top, window.left],
            size: [window.bottom - window.top, window.right - window.left],
        }
    }

    /// Of a tile as deep as that, in the slices from `first` on: nothing lies in those that were not asked for.
    pub fn all(first: usize, depth: usize, asked: &Range<usize>, window: &Window) -> Vec<Spot> {
        let spot = |slice| match asked.contains(&slice) {
            true => Spot::of(slice, window),
            false => Spot {
                size: [0; 2],
                ..Spot::of(slice, window)
            },
        };
        (first..first + depth).map(spot).collect()
    }
}

impl Drawn {
    /// Nothing yet, of a case that the network can draw.
    pub fn of(case: &Case, net: &Net) -> Result<Drawn, ModelError> {
        case.check_channels(net.shape().channels)?;
        let grid = *case.grid();
        Ok(Drawn {
            labels: LabelMap::empty(grid),
            margins: vec![0; grid.len()],
            slices: vec![SliceSums::default(); case.slices()],
            members: Vec::new(),
            class_entropies: vec![0.0; net.shape().classes],
        })
    }

    /// Puts what was judged of a tile where it lies.
    pub fn place(&mut self, case: &Case, at: Spot, judged: &Judged, tile: usize) {
        if at.size == [0; 2] {
            return;
        }
        let (first, [along, down]) = case.plane.strides(case.grid().shape, at.slice);
        for y in 0..at.size[0] {
            let pixel = tile * TILE_PIXELS + y * TILE;
            let voxel = first + at.first[1] * along + (at.first[0] + y) * down;
            let maps = [
                (&mut self.labels.voxels, &judged.classes),
                (&mut self.margins, &judged.margins),
            ];
            for (map, judged) in maps {
                let row = &judged[pixel..pixel + at.size[1]];
                match along {
                    1 => map[voxel..voxel + row.len()].copy_from_slice(row),
                    _ => {
                        let voxels = map[voxel..].iter_mut().step_by(along);
                        voxels.zip(row).for_each(|(voxel, judged)| *voxel = *judged);
                    }
                }
            }
        }
        self.slices[at.slice] += judged.sums[tile];
        let entropies = self.class_entropies.iter_mut().zip(&judged.class_entropies[tile]);
        entropies.for_each(|(sum, entropy)| *sum += entropy);
        let own = judged.members.get(tile).map_or(&[][..], |own| own);
        self.members.resize(own.len(), SliceSums::default());
        self.members
            .iter_mut()
            .zip(own)
            .for_each(|(sums, own)| *sums += *own);
    }
}
