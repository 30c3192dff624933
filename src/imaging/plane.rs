//! How a volume is cut into slices.

use serde::{Deserialize, Serialize};

use super::Grid;

/// The voxel axis that slices are stacked along: `Plane(1)` cuts a volume of i x j x k into j slices of i x k.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plane(pub usize);

impl Plane {
    /// The three ways to cut a volume.
    pub const ALL: [Plane; 3] = [Plane(0), Plane(1), Plane(2)];

    /// The plane's anatomical name, by the world axis its normal lies nearest to.
    pub fn name(self, grid: &Grid) -> &'static str {
        let names = ["sagittal", "coronal", "axial"];
        (0..3)
            .find(|&world| grid.affine.voxel_axis_along(world) == self.0)
            .map_or("oblique", |world| names[world])
    }

    /// The plane of an anatomical name on `grid`: `sagittal`, `coronal` or `axial`.
    pub fn named(name: &str, grid: &Grid) -> Option<Plane> {
        Plane::ALL.into_iter().find(|plane| plane.name(grid) == name)
    }

    /// The in-plane axes: along a row of the slice, and from row to row.
    pub fn in_plane(self) -> [usize; 2] {
        match self.0 {
            0 => [1, 2],
            1 => [0, 2],
            _ => [0, 1],
        }
    }

    /// How many slices `grid` has in this plane.
    pub fn slices(self, grid: &Grid) -> usize {
        grid.shape[self.0]
    }

    /// Width and height of a slice in pixels.
    pub fn size(self, grid: &Grid) -> [usize; 2] {
        self.in_plane().map(|axis| grid.shape[axis])
    }

    /// Width and height of a pixel in mm.
    pub fn pixel_mm(self, grid: &Grid) -> [f64; 2] {
        self.in_plane().map(|axis| grid.spacing_mm()[axis])
    }

    /// Where slice `index` lies in the voxel array (i fastest): its first voxel, and the steps along a row
    /// and from row to row.
    pub fn strides(self, shape: [usize; 3], index: usize) -> (usize, [usize; 2]) {
        let step = [1, shape[0], shape[0] * shape[1]];
        (index * step[self.0], self.in_plane().map(|axis| step[axis]))
    }
}

/// One slice of a volume, row after row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice<T> {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height` values.
    pub pixels: Vec<T>,
}

impl<T: Copy> Slice<T> {
    /// Cuts slice `index` out of a volume's voxels (i fastest).
    pub fn cut(voxels: &[T], grid: &Grid, plane: Plane, index: usize) -> Slice<T> {
        let [width, height] = plane.size(grid);
        let (first, [along, down]) = plane.strides(grid.shape, index);
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            let row = &voxels[first + y * down..];
            match along {
                1 => pixels.extend_from_slice(&row[..width]),
                _ => pixels.extend(row.iter().step_by(along).take(width)),
            }
        }
        Slice {
            width,
            height,
            pixels,
        }
    }

    /// Puts the slice back where [`Slice::cut`] took it from.
    pub fn paste(&self, voxels: &mut [T], grid: &Grid, plane: Plane, index: usize) {
        let (first, [along, down]) = plane.strides(grid.shape, index);
        for y in 0..self.height {
            for x in 0..self.width {
                voxels[first + x * along + y * down] = self.pixels[y * self.width + x];
            }
        }
    }

    /// The pixel in column `x` of row `y`; `None` outside the slice.
    pub fn get(&self, x: isize, y: isize) -> Option<T> {
        let inside = (0..self.width as isize).contains(&x) && (0..self.height as isize).contains(&y);
        inside.then(|| self.pixels[y as usize * self.width + x as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Affine;

    #[test]
    fn a_cut_slice_pastes_back_in_every_plane() {
        let grid = Grid::new([2, 3, 4], [1.0; 3]);
        let voxels: Vec<u32> = (0..24).collect();
        for plane in Plane::ALL {
            let mut copy = vec![0; 24];
            for index in 0..plane.slices(&grid) {
                Slice::cut(&voxels, &grid, plane, index).paste(&mut copy, &grid, plane, index);
            }
            assert_eq!(copy, voxels);
        }
        let middle = Slice::cut(&voxels, &grid, Plane(1), 1);
        assert_eq!((middle.width, middle.height), (2, 4));
        assert_eq!(middle.pixels, [2, 3, 8, 9, 14, 15, 20, 21]);
        assert_eq!(
            (middle.get(1, 3), middle.get(2, 0), middle.get(0, -1)),
            (Some(21), None, None)
        );
    }

    #[test]
    fn planes_are_named_by_the_world_axis_they_face() {
        let straight = Grid::new([2, 2, 2], [1.0; 3]);
        assert_eq!(
            Plane::ALL.map(|plane| plane.name(&straight)),
            ["sagittal", "coronal", "axial"]
        );
        let turned = Grid {
            shape: [2, 2, 2],
            affine: Affine([[0.0, 0.0, -1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]),
        };
        assert_eq!(Plane::named("axial", &turned), Some(Plane(1)));
        assert_eq!(Plane::named("diagonal", &turned), None);
    }
}
