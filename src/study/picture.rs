//! A slice four times: the image, the labels that count, what was drawn, and how sure that is (as the paper's Fig. 10).

use super::chart::packed;
use crate::imaging::{Grid, Plane, Slice};

/// Pixels between panels.
const GAP: usize = 4;
/// Pixels that the longer side of a panel has at least.
const LEAST: usize = 320;

/// What of a case is shown; every map has a value a voxel, first axis fastest.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// Where the voxels lie.
    pub grid: &'a Grid,
    /// The cut.
    pub plane: Plane,
    /// Its image, 255 white.
    pub image: &'a [u8],
    /// Its classes.
    pub labels: &'a [u8],
    /// Those that were drawn.
    pub drawn: &'a [u8],
    /// Their margins, 255 for 1.
    pub margins: &'a [u8],
    /// Red, green and blue of every class but the background.
    pub colours: &'a [[u8; 3]],
}

/// The slice with most of its pixels labelled, four panels side by side, as a PNG file; square pixels become squares.
pub fn panels(picture: &Picture) -> Vec<u8> {
    let slices = 0..picture.plane.slices(picture.grid);
    let cut = |voxels: &[u8], slice| Slice::cut(voxels, picture.grid, picture.plane, slice);
    let labelled = |slice: &usize| {
        let labels = cut(picture.labels, *slice);
        labels.pixels.iter().filter(|&&class| class > 0).count()
    };
    let slice = slices.max_by_key(labelled).unwrap_or(0);
    let [width_mm, height_mm] = picture.plane.pixel_mm(picture.grid);
    let size = picture.plane.size(picture.grid);
    let (across, down) = (size[0] as f64 * width_mm, size[1] as f64 * height_mm);
    let pixel = (LEAST as f64).max(size[0].max(size[1]) as f64) / across.max(down);
    let panel = [across, down].map(|side| ((side * pixel).round() as usize).max(1));
    let width = 4 * panel[0] + 3 * GAP;
    let mut pixels = vec![255; width * panel[1] * 3];
    // Front and top are shown above.
    let down_axis = picture.plane.in_plane()[1];
    let world = (0..3).find(|&world| picture.grid.affine.voxel_axis_along(world) == down_axis);
    let is_upwards = world.is_some_and(|world| world > 0 && picture.grid.affine.0[world][down_axis] > 0.0);
    let grey = |value: u8| [value; 3];
    let colour = |class: u8| match class {
        0 => [0; 3],
        class => picture
            .colours
            .get(class as usize - 1)
            .copied()
            .unwrap_or([255; 3]),
    };
    let shown = [
        (picture.image, false),
        (picture.labels, true),
        (picture.drawn, true),
        (picture.margins, false),
    ];
    for (n, (voxels, is_class)) in shown.into_iter().enumerate() {
        let slice = cut(voxels, slice);
        for y in 0..panel[1] {
            for x in 0..panel[0] {
                let row = y * size[1] / panel[1];
                let row = if is_upwards { size[1] - 1 - row } else { row };
                let from = [x * size[0] / panel[0], row];
                let value = slice.pixels[from[1] * size[0] + from[0]];
                let at = (y * width + n * (panel[0] + GAP) + x) * 3;
                pixels[at..at + 3].copy_from_slice(&if is_class { colour(value) } else { grey(value) });
            }
        }
    }
    packed(&pixels, [width as u32, panel[1] as u32])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two slices of 2 x 1 pixels, twice as high as wide; the second has a label.
    #[test]
    fn the_slice_with_most_labels_is_shown_four_times() {
        let grid = Grid::new([2, 1, 2], [1.0, 2.0, 1.0]);
        let bytes = panels(&Picture {
            grid: &grid,
            plane: Plane(2),
            image: &[9, 9, 40, 80],
            labels: &[0, 0, 0, 1],
            drawn: &[1, 1, 2, 0],
            margins: &[7, 7, 255, 0],
            colours: &[[10, 20, 30], [40, 50, 60]],
        });
        let drawn = image::load_from_memory(&bytes).unwrap().to_rgb8();
        let size = LEAST as u32;
        assert_eq!(drawn.dimensions(), (4 * size + 3 * GAP as u32, size));
        let at = |panel: u32, x: u32| drawn.get_pixel(panel * (size + GAP as u32) + x, 5).0;
        let (left, right) = (0, size - 1);
        assert_eq!((at(0, left), at(0, right)), ([40; 3], [80; 3]));
        assert_eq!((at(1, left), at(1, right)), ([0; 3], [10, 20, 30]));
        assert_eq!((at(2, left), at(2, right)), ([40, 50, 60], [0; 3]));
        assert_eq!((at(3, left), at(3, right)), ([255; 3], [0; 3]));
    }
}
