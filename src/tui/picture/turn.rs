//! How a slice is turned for the eye of a radiologist.

use crate::imaging::{Grid, Plane};

/// How a slice has to be turned to be shown as radiologists do: superior (in axial cuts anterior) on top, the
/// patient's right on the left of the picture, and anterior on the left of sagittal cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Rows become columns first.
    pub transpose: bool,
    /// Then left and right change places.
    pub mirror: bool,
    /// And top and bottom.
    pub flip: bool,
    /// The letters at left, right, top and bottom (`R L A P S I`).
    pub letters: [char; 4],
}

impl Turn {
    /// For slices that `plane` cuts out of `grid`.
    pub fn of(grid: &Grid, plane: Plane) -> Turn {
        // Of two in-plane axes the one that runs nearer to the head is upright; in axial cuts, to the front.
        let along = |axis: usize, world: usize| grid.affine.0[world][axis] / grid.spacing_mm()[axis];
        let [a, b] = plane.in_plane();
        let normal = (0..3).find(|&world| grid.affine.voxel_axis_along(world) == plane.0);
        let up = if normal == Some(2) { 1 } else { 2 };
        let transpose = along(a, up).abs() > along(b, up).abs();
        let (across_axis, up_axis) = if transpose { (b, a) } else { (a, b) };
        let across = (0..3)
            .filter(|&world| world != up)
            .max_by(|&v, &w| {
                along(across_axis, v)
                    .abs()
                    .total_cmp(&along(across_axis, w).abs())
            })
            .expect("two axes are left");
        let [positive, negative] = [['R', 'L'], ['A', 'P'], ['S', 'I']][across];
        let [top, bottom] = [['R', 'L'], ['A', 'P'], ['S', 'I']][up];
        Turn {
            transpose,
            mirror: along(across_axis, across) > 0.0,
            flip: along(up_axis, up) > 0.0,
            letters: [positive, negative, top, bottom],
        }
    }

    /// The slice's pixel under pixel `[x, y]` of the turned picture of `size` pixels.
    pub fn source(self, [x, y]: [usize; 2], [width, height]: [usize; 2]) -> [usize; 2] {
        let x = if self.mirror { width - 1 - x } else { x };
        let y = if self.flip { height - 1 - y } else { y };
        if self.transpose { [y, x] } else { [x, y] }
    }

    /// The turned picture's pixel over pixel `[x, y]` of the slice; `size` is the turned picture's.
    pub fn target(self, pixel: [usize; 2], [width, height]: [usize; 2]) -> [usize; 2] {
        let [x, y] = self.sides(pixel);
        [
            if self.mirror { width - 1 - x } else { x },
            if self.flip { height - 1 - y } else { y },
        ]
    }

    /// Width and height of what was `[width, height]` before.
    pub fn sides<T: Copy>(self, [a, b]: [T; 2]) -> [T; 2] {
        if self.transpose { [b, a] } else { [a, b] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Affine;

    #[test]
    fn slices_are_turned_head_up_and_the_right_hand_to_the_left() {
        let coronal = Turn::of(&Grid::new([2, 2, 2], [1.0; 3]), Plane(1));
        assert_eq!(
            (coronal.transpose, coronal.mirror, coronal.flip, coronal.letters),
            (false, true, true, ['R', 'L', 'S', 'I'])
        );
        let sagittal = Turn::of(&Grid::new([2, 2, 2], [1.0; 3]), Plane(0));
        assert_eq!(sagittal.letters, ['A', 'P', 'S', 'I']);
        let axial = Turn::of(&Grid::new([2, 2, 2], [1.0; 3]), Plane(2));
        assert_eq!(axial.letters, ['R', 'L', 'A', 'P']);
    }

    /// i runs to the head and k to the left hand: the picture has to be transposed, and nothing mirrored.
    #[test]
    fn a_volume_that_lies_on_its_side_is_stood_up_and_every_pixel_finds_its_way_back() {
        let grid = Grid {
            shape: [2, 1, 3],
            affine: Affine([[0.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]),
        };
        let turn = Turn::of(&grid, Plane(1));
        assert_eq!((turn.transpose, turn.mirror, turn.flip), (true, false, true));
        let size = turn.sides([2, 3]);
        assert_eq!(size, [3, 2]);
        for pixel in (0..6).map(|n| [n % 2, n / 2]) {
            assert_eq!(turn.source(turn.target(pixel, size), size), pixel);
        }
        assert_eq!(turn.target([0, 0], size), [0, 1], "i = 0 is below");
    }
}
