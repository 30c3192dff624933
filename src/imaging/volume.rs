//! Voxel arrays on a grid.

use serde::{Deserialize, Serialize};

use super::{Grid, Plane, Slice};

/// An image: one intensity a voxel, i fastest, already scaled by the file's slope and intercept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Shape and place.
    pub grid: Grid,
    /// `grid.len()` intensities.
    pub voxels: Vec<f32>,
}

/// A segmentation: one class a voxel, i fastest; 0 is background.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelMap {
    /// Shape and place.
    pub grid: Grid,
    /// `grid.len()` classes.
    pub voxels: Vec<u8>,
}

impl Volume {
    /// One slice.
    pub fn slice(&self, plane: Plane, index: usize) -> Slice<f32> {
        Slice::cut(&self.voxels, &self.grid, plane, index)
    }
}

impl LabelMap {
    /// A map that is all background.
    pub fn empty(grid: Grid) -> LabelMap {
        LabelMap {
            grid,
            voxels: vec![0; grid.len()],
        }
    }

    /// One slice.
    pub fn slice(&self, plane: Plane, index: usize) -> Slice<u8> {
        Slice::cut(&self.voxels, &self.grid, plane, index)
    }

    /// The map mirrored along a voxel axis, on the same grid.
    pub fn flipped(&self, axis: usize) -> LabelMap {
        let [nx, ny, nz] = self.grid.shape;
        let mut voxels = Vec::with_capacity(self.voxels.len());
        for z in 0..nz {
            for y in 0..ny {
                for x in 0..nx {
                    let mut at = [x, y, z];
                    at[axis] = self.grid.shape[axis] - 1 - at[axis];
                    voxels.push(self.voxels[(at[2] * ny + at[1]) * nx + at[0]]);
                }
            }
        }
        LabelMap {
            grid: self.grid,
            voxels,
        }
    }

    /// How many voxels each of the first `classes` classes has.
    pub fn class_voxels(&self, classes: usize) -> Vec<u64> {
        let mut counts = [0u64; 256];
        for &label in &self.voxels {
            counts[label as usize] += 1;
        }
        counts[..classes].to_vec()
    }
}
