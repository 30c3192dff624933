//! Where a voxel lies: the affine from voxel indices to millimetres, and the grid of a volume.

use serde::{Deserialize, Serialize};

/// Voxel indices (i, j, k) to world millimetres in NIfTI's RAS+ frame: the upper three rows of the 4x4 matrix.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Affine(pub [[f64; 4]; 3]);

impl Affine {
    /// Axes along the world's, `spacing_mm` apart, voxel (0, 0, 0) at the origin.
    pub fn from_spacing(spacing_mm: [f64; 3]) -> Self {
        let [x, y, z] = spacing_mm;
        Affine([[x, 0.0, 0.0, 0.0], [0.0, y, 0.0, 0.0], [0.0, 0.0, z, 0.0]])
    }

    /// World position in mm of a voxel centre; indices may be fractional.
    pub fn world_mm(&self, voxel: [f64; 3]) -> [f64; 3] {
        self.0
            .map(|row| row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3])
    }

    /// Length in mm of one step along each voxel axis.
    pub fn spacing_mm(&self) -> [f64; 3] {
        std::array::from_fn(|axis| self.0.iter().map(|row| row[axis] * row[axis]).sum::<f64>().sqrt())
    }

    /// Determinant of the 3x3 part: the signed volume of a voxel in mm^3, 0 when the axes do not span space.
    pub fn determinant(&self) -> f64 {
        let m = &self.0;
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
            + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    }

    /// Whether every number is finite and the three axes span space.
    pub fn is_sound(&self) -> bool {
        let [x, y, z] = self.spacing_mm();
        self.0.iter().flatten().all(|v| v.is_finite())
            && x * y * z > 0.0
            && (self.determinant() / (x * y * z)).abs() > 1e-6
    }

    /// From world mm back to voxel indices, of an affine that is sound.
    pub fn inverse(&self) -> Affine {
        let m = &self.0;
        let det = self.determinant();
        // The transposed cofactors, over the determinant.
        let cofactor = |row: usize, column: usize| {
            let [a, b] = [(row + 1) % 3, (row + 2) % 3];
            let [c, d] = [(column + 1) % 3, (column + 2) % 3];
            m[a][c] * m[b][d] - m[a][d] * m[b][c]
        };
        Affine(std::array::from_fn(|row| {
            let [x, y, z] = std::array::from_fn(|column| cofactor(column, row) / det);
            [x, y, z, -(x * m[0][3] + y * m[1][3] + z * m[2][3])]
        }))
    }

    /// The 3x3 part is the identity and the origin is zero: what a tool writes that dropped the header.
    pub fn is_identity(&self) -> bool {
        *self == Affine::from_spacing([1.0; 3])
    }

    /// The voxel axis that runs most nearly along world axis `world` (0 right, 1 anterior, 2 superior).
    pub fn voxel_axis_along(&self, world: usize) -> usize {
        let spacing = self.spacing_mm();
        let cosine = |axis: usize| (self.0[world][axis] / spacing[axis]).abs();
        (0..3)
            .max_by(|&a, &b| cosine(a).total_cmp(&cosine(b)))
            .expect("three axes to choose from")
    }
}

/// The lattice of a volume: how many voxels along each axis, and where they lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Voxels along i, j, k.
    pub shape: [usize; 3],
    /// Voxel indices to mm.
    pub affine: Affine,
}

impl Grid {
    /// A grid with axes along the world's.
    pub fn new(shape: [usize; 3], spacing_mm: [f64; 3]) -> Self {
        Grid {
            shape,
            affine: Affine::from_spacing(spacing_mm),
        }
    }

    /// Number of voxels.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the grid holds no voxel at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Edge lengths of a voxel in mm.
    pub fn spacing_mm(&self) -> [f64; 3] {
        self.affine.spacing_mm()
    }

    /// Volume of one voxel in ml.
    pub fn voxel_ml(&self) -> f64 {
        self.affine.determinant().abs() / 1000.0
    }

    /// The axis with the thickest spacing, along which volumes are cut unless told otherwise; the first of equals.
    pub fn thickest_axis(&self) -> usize {
        let spacing = self.spacing_mm();
        (1..3).fold(0, |best, axis| {
            if spacing[axis] > spacing[best] + 1e-6 {
                axis
            } else {
                best
            }
        })
    }

    /// How far apart the two grids' corners lie, in voxels of `self`; `None` when the shapes differ.
    ///
    /// Each corner's distance in mm is divided by the smallest spacing, so a thin axis is held most strictly.
    pub fn corner_distance_voxels(&self, other: &Grid) -> Option<f64> {
        if self.shape != other.shape {
            return None;
        }
        let smallest_mm = self.spacing_mm().into_iter().fold(f64::INFINITY, f64::min);
        let corners = (0..8).map(|corner| {
            let voxel: [f64; 3] = std::array::from_fn(|axis| {
                if corner >> axis & 1 == 1 {
                    self.shape[axis] as f64 - 1.0
                } else {
                    0.0
                }
            });
            let (a, b) = (self.affine.world_mm(voxel), other.affine.world_mm(voxel));
            a.iter()
                .zip(b)
                .map(|(a, b)| (a - b) * (a - b))
                .sum::<f64>()
                .sqrt()
                / smallest_mm
        });
        Some(corners.fold(0.0, f64::max))
    }

    /// Whether two images lie on one grid: same shape, corners within 1e-3 voxel.
    pub fn matches(&self, other: &Grid) -> bool {
        self.corner_distance_voxels(other).is_some_and(|d| d <= 1e-3)
    }
}

/// How one grid lies in another that has the same voxels: which axis runs along which, in which direction, and where its
/// first voxel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// For each axis of the outer grid, the axis of the inner one that runs along it.
    pub axes: [usize; 3],
    /// Whether it runs against it.
    pub flipped: [bool; 3],
    /// Where the inner grid's first voxel along each of them lies.
    pub offset: [i64; 3],
}

impl Placement {
    /// How `inner` lies in `outer`; `None` unless each voxel of it falls on one of the outer lattice, within 1e-3 voxel.
    pub fn of(inner: &Grid, outer: &Grid) -> Option<Placement> {
        let into = outer.affine.inverse();
        let at = |voxel: [f64; 3]| into.world_mm(inner.affine.world_mm(voxel));
        let origin = at([0.0; 3]);
        let steps = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
            .map(|step| std::array::from_fn::<f64, 3, _>(|i| at(step)[i] - origin[i]));
        let mut placement = Placement {
            axes: [3; 3],
            flipped: [false; 3],
            offset: origin.map(|n| n.round() as i64),
        };
        for (axis, step) in steps.iter().enumerate() {
            let along = (0..3).max_by(|&a, &b| step[a].abs().total_cmp(&step[b].abs()))?;
            if placement.axes[along] != 3 {
                return None;
            }
            placement.axes[along] = axis;
            placement.flipped[along] = step[along] < 0.0;
        }
        // The furthest corners have to agree: a small turn adds up over many voxels.
        let holds = (0..8).all(|corner| {
            let voxel: [usize; 3] =
                std::array::from_fn(|axis| (corner >> axis & 1) * (inner.shape[axis] - 1));
            let exact = at(voxel.map(|n| n as f64));
            let whole = placement.outer(voxel);
            (0..3).all(|axis| (exact[axis] - whole[axis] as f64).abs() <= 1e-3)
        });
        holds.then_some(placement)
    }

    /// How a grid lies in one that fills the same space, when only the directions in which their axes run are believed;
    /// `None` where they do not have as many voxels along each.
    pub fn by_axes(inner: &Grid, outer: &Grid) -> Option<Placement> {
        let mut placement = Placement {
            axes: [3; 3],
            flipped: [false; 3],
            offset: [0; 3],
        };
        for world in 0..3 {
            let (axis, along) = (
                inner.affine.voxel_axis_along(world),
                outer.affine.voxel_axis_along(world),
            );
            let runs = |affine: &Affine, axis: usize| affine.0[world][axis] < 0.0;
            placement.axes[along] = axis;
            placement.flipped[along] = runs(&inner.affine, axis) != runs(&outer.affine, along);
            if inner.shape[axis] != outer.shape[along] {
                return None;
            }
            if placement.flipped[along] {
                placement.offset[along] = outer.shape[along] as i64 - 1;
            }
        }
        // One that lies askew may have no axis for some direction.
        (!placement.axes.contains(&3)).then_some(placement)
    }

    /// The outer grid's voxel that an inner one falls on; it may lie outside.
    pub fn outer(&self, inner: [usize; 3]) -> [i64; 3] {
        std::array::from_fn(|axis| {
            let n = inner[self.axes[axis]] as i64;
            self.offset[axis] + if self.flipped[axis] { -n } else { n }
        })
    }

    /// Whether the inner grid's first voxel lies where `crop` says, counted along the inner grid's own axes from the outer
    /// grid's end that they begin at.
    pub fn fits(&self, crop: [i64; 3], outer: &Grid) -> bool {
        (0..3).all(|axis| {
            let first = match self.flipped[axis] {
                false => self.offset[axis],
                true => outer.shape[axis] as i64 - 1 - self.offset[axis],
            };
            crop[self.axes[axis]] == first
        })
    }

    /// Whether it leaves every voxel where it is.
    pub fn is_plain(&self) -> bool {
        self.axes == [0, 1, 2] && self.flipped == [false; 3]
    }

    /// The values of `inner`, one a voxel and i fastest, on the outer grid, 0 where there are none; `None` where one would fall
    /// outside.
    pub fn put<T: Copy + Default>(&self, values: &[T], inner: &Grid, outer: &Grid) -> Option<Vec<T>> {
        let mut out = vec![T::default(); outer.len()];
        let [nx, ny, nz] = inner.shape;
        let mut values = values.iter();
        for z in 0..nz {
            for y in 0..ny {
                for x in 0..nx {
                    let at = self.outer([x, y, z]);
                    let mut index = 0;
                    for axis in (0..3).rev() {
                        let n = usize::try_from(at[axis])
                            .ok()
                            .filter(|&n| n < outer.shape[axis])?;
                        index = index * outer.shape[axis] + n;
                    }
                    out[index] = *values.next()?;
                }
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thickest_axis_of_an_ibsr_like_grid_is_the_second() {
        assert_eq!(
            Grid::new([256, 128, 256], [0.9375, 1.5, 0.9375]).thickest_axis(),
            1
        );
        assert_eq!(
            Grid::new([4, 4, 4], [1.0, 1.0, 1.0]).thickest_axis(),
            0,
            "the first of equals"
        );
    }

    #[test]
    fn a_grid_moved_by_half_a_voxel_does_not_match() {
        let here = Grid::new([4, 4, 4], [2.0, 2.0, 2.0]);
        let mut moved = here;
        moved.affine.0[0][3] = 1.0;
        assert_eq!(here.corner_distance_voxels(&moved), Some(0.5));
        assert!(!here.matches(&moved));
        assert!(here.matches(&here));
        assert_eq!(here.corner_distance_voxels(&Grid::new([4, 4, 5], [2.0; 3])), None);
    }

    #[test]
    fn an_affine_whose_axes_do_not_span_space_is_unsound() {
        assert!(Affine::from_spacing([1.0, 2.0, 3.0]).is_sound());
        assert!(!Affine::from_spacing([1.0, 0.0, 3.0]).is_sound());
        assert!(!Affine([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]).is_sound());
        assert!(!Affine::from_spacing([1.0, f64::NAN, 3.0]).is_sound());
    }

    #[test]
    fn a_grid_that_says_nothing_lies_as_the_axes_of_the_world_run() {
        // Left-handed: the image's first axis runs from right to left, its second from bottom to top.
        let image = Grid {
            shape: [2, 4, 3],
            affine: Affine([[-1.0, 0.0, 0.0, 9.0], [0.0, 0.0, 1.0, 5.0], [0.0, 1.0, 0.0, 7.0]]),
        };
        let lost = Grid::new([2, 3, 4], [1.0; 3]);
        let placement = Placement::by_axes(&lost, &image).unwrap();
        assert_eq!(
            (placement.axes, placement.flipped),
            ([0, 2, 1], [true, false, false])
        );
        let numbers: Vec<u8> = (0..24).collect();
        let put = placement.put(&numbers, &lost, &image).unwrap();
        // Its first voxel is the leftmost: the image's last along axis 0.
        assert_eq!(put[..4], [1, 0, 7, 6]);
        assert_eq!(Placement::by_axes(&Grid::new([2, 4, 3], [1.0; 3]), &image), None);
        assert!(Placement::by_axes(&image, &image).unwrap().is_plain());
    }

    #[test]
    fn world_axes_are_found_through_permuted_voxel_axes() {
        let coronal = Affine([[0.0, 0.0, -1.0, 9.0], [-1.5, 0.0, 0.0, 9.0], [0.0, 1.0, 0.0, 9.0]]);
        assert_eq!([0, 1, 2].map(|world| coronal.voxel_axis_along(world)), [2, 0, 1]);
        assert_eq!(coronal.spacing_mm(), [1.5, 1.0, 1.0]);
    }
}
