//! A slice as a picture: the image, what a model drew over it, where it was unsure, what a person changed.
//!
//! Composed at the size of the screen: each target pixel looks at the source pixels under it, and a contour
//! that runs through any of them is drawn, so that a thin line survives a small terminal. Pure arithmetic; the
//! encoding for the terminal is [`paint`], which the event loop runs in a thread of its own.

use std::fmt;
use std::sync::Arc;

use image::{DynamicImage, Rgb, RgbImage};
use ratatui::layout::Size;
use ratatui_image::Resize;
use ratatui_image::picker::{Picker, ProtocolType};
use ratatui_image::protocol::Protocol;
use ratatui_image::protocol::halfblocks::Halfblocks;

use super::theme::Palette;
use crate::imaging::{Grid, Plane, Slice};
use crate::protocol::SliceView;

/// Which layers are on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// The label map.
    pub overlay: bool,
    /// The label map as contours instead of filled.
    pub contours: bool,
    /// The margin heat map.
    pub margin: bool,
    /// The paper's Fig. 6 (e) instead of the label map: contours in common, predicted, corrected.
    pub difference: bool,
    /// How dense the filled label map is, 0 to 100.
    pub opacity: u8,
    /// This class alone.
    pub class: Option<u8>,
}

impl Default for Look {
    fn default() -> Self {
        Look {
            overlay: true,
            contours: true,
            margin: false,
            difference: false,
            opacity: 40,
            class: None,
        }
    }
}

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

    /// The slice's pixel under pixel (x, y) of the turned picture of `width` x `height`.
    fn source(self, x: usize, y: usize, [width, height]: [usize; 2]) -> [usize; 2] {
        let x = if self.mirror { width - 1 - x } else { x };
        let y = if self.flip { height - 1 - y } else { y };
        if self.transpose { [y, x] } else { [x, y] }
    }

    fn sides<T: Copy>(self, [a, b]: [T; 2]) -> [T; 2] {
        if self.transpose { [b, a] } else { [a, b] }
    }
}

/// What a mark stands for: its colour, and its letter where there are no colours.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ink {
    rgb: [u8; 3],
    letter: char,
}

/// A slice with its layers on: a colour for each pixel, and 1 + the number of an ink where a contour runs.
struct Layers {
    width: usize,
    base: Vec<[u8; 3]>,
    marks: Vec<u8>,
    inks: Vec<Ink>,
}

/// Whether (x, y) lies on the contour of class `k`: labelled k, with one of its four neighbours not k; outside
/// the image is not k.
fn on_contour(map: &Slice<u8>, x: usize, y: usize, k: u8) -> bool {
    let (x, y) = (x as isize, y as isize);
    map.get(x, y) == Some(k)
        && [(1, 0), (-1, 0), (0, 1), (0, -1)]
            .iter()
            .any(|(dx, dy)| map.get(x + dx, y + dy) != Some(k))
}

/// The class whose contour runs through (x, y); background has none.
fn contour_at(map: &Slice<u8>, x: usize, y: usize) -> u8 {
    let k = map.pixels[y * map.width + x];
    if k > 0 && on_contour(map, x, y, k) { k } else { 0 }
}

fn blend(under: [u8; 3], over: [u8; 3], share: f32) -> [u8; 3] {
    std::array::from_fn(|i| (f32::from(under[i]) * (1.0 - share) + f32::from(over[i]) * share).round() as u8)
}

fn same_size<'a>(view: &SliceView, map: &'a Option<Slice<u8>>) -> Option<&'a Slice<u8>> {
    map.as_ref()
        .filter(|map| map.width == view.image.width && map.height == view.image.height)
}

fn layers(view: &SliceView, look: &Look, palette: &Palette, letters: &[char]) -> Layers {
    let (width, height) = (view.image.width, view.image.height);
    let mut base: Vec<[u8; 3]> = view.image.pixels.iter().map(|&grey| [grey; 3]).collect();
    let mut marks = vec![0; width * height];
    let class = |k: u8| palette.classes.get(k as usize - 1).copied().unwrap_or([255; 3]);
    let shown = |k: u8| k > 0 && look.class.is_none_or(|only| only == k);
    if let Some(margin) = same_size(view, &view.margin).filter(|_| look.margin) {
        for (pixel, &sure) in base.iter_mut().zip(&margin.pixels) {
            *pixel = blend(*pixel, palette.unsure, 0.85 * f32::from(255 - sure) / 255.0);
        }
    }
    let (predicted, corrected) = (same_size(view, &view.predicted), same_size(view, &view.corrected));
    let inks = match (predicted, corrected) {
        (Some(predicted), Some(corrected)) if look.difference => {
            for y in 0..height {
                for x in 0..width {
                    let [p, c] = [predicted, corrected].map(|map| contour_at(map, x, y));
                    let [p, c] = [p, c].map(|k| if shown(k) { k } else { 0 });
                    marks[y * width + x] = match (p, c) {
                        (0, 0) => 0,
                        (p, c) if p == c => 1,
                        (_, 0) => 2,
                        _ => 3,
                    };
                }
            }
            let ink = |rgb, letter| Ink { rgb, letter };
            vec![
                ink(palette.common, '='),
                ink(palette.predicted, 'p'),
                ink(palette.corrected, 'c'),
            ]
        }
        (predicted, corrected) => {
            // What a model drew comes first: that is what a person is asked to judge.
            if let Some(map) = predicted
                .or(corrected)
                .filter(|_| look.overlay && !look.difference)
            {
                for y in 0..height {
                    for x in 0..width {
                        let at = y * width + x;
                        let k = map.pixels[at];
                        if !shown(k) {
                            continue;
                        }
                        if !look.contours {
                            base[at] = blend(base[at], class(k), f32::from(look.opacity) / 100.0);
                        } else if on_contour(map, x, y, k) {
                            marks[at] = k;
                        }
                    }
                }
            }
            (1..=palette.classes.len() as u8)
                .map(|k| Ink {
                    rgb: class(k),
                    letter: letters.get(k as usize - 1).copied().unwrap_or('*'),
                })
                .collect()
        }
    };
    Layers {
        width,
        base,
        marks,
        inks,
    }
}

impl Layers {
    /// What a target pixel shows that covers these source pixels: their mean colour, and the mark that most of
    /// the marked ones carry; of equals the later ink, which is the correction's.
    fn under(&self, pixels: impl Iterator<Item = [usize; 2]>) -> ([u8; 3], Option<Ink>) {
        let (mut sum, mut n, mut votes) = ([0u32; 3], 0, [0u32; 256]);
        for [x, y] in pixels {
            let at = y * self.width + x;
            (0..3).for_each(|i| sum[i] += u32::from(self.base[at][i]));
            votes[self.marks[at] as usize] += 1;
            n += 1;
        }
        let winner = (1..=self.inks.len())
            .filter(|&k| votes[k] > 0)
            .max_by_key(|&k| votes[k]);
        (
            sum.map(|channel| (channel / n.max(1)) as u8),
            winner.map(|k| self.inks[k - 1]),
        )
    }
}

/// Calls `put` for each pixel of a picture of `target` size with what it shows.
fn resample(
    layers: &Layers,
    size: [usize; 2],
    turn: Turn,
    target: [u32; 2],
    mut put: impl FnMut(u32, u32, [u8; 3], Option<Ink>),
) {
    let turned = turn.sides(size);
    let span = |at: u32, axis: usize| {
        let from = at as usize * turned[axis] / target[axis] as usize;
        let to = (at as usize + 1) * turned[axis] / target[axis] as usize;
        from..to.max(from + 1)
    };
    for y in 0..target[1] {
        for x in 0..target[0] {
            let (columns, rows) = (span(x, 0), span(y, 1));
            let pixels = rows.flat_map(|v| columns.clone().map(move |u| turn.source(u, v, turned)));
            let (rgb, ink) = layers.under(pixels);
            put(x, y, rgb, ink);
        }
    }
}

/// The picture of a slice in colour.
pub fn compose(view: &SliceView, look: &Look, palette: &Palette, turn: Turn, target: [u32; 2]) -> RgbImage {
    let layers = layers(view, look, palette, &[]);
    let mut image = RgbImage::new(target[0], target[1]);
    let size = [view.image.width, view.image.height];
    resample(&layers, size, turn, target, |x, y, rgb, ink| {
        image.put_pixel(x, y, Rgb(ink.map_or(rgb, |ink| ink.rgb)));
    });
    image
}

/// The picture of a slice in characters, where there are no colours: shades, and each contour by its letter.
fn spell(job: &PaintJob, target: [u32; 2]) -> Vec<String> {
    const SHADES: [char; 8] = [' ', '.', ':', '-', '~', '+', '%', '@'];
    let look = Look {
        contours: true,
        ..job.look
    };
    let layers = layers(&job.view, &look, &job.palette, &job.letters);
    let mut rows = vec![String::new(); target[1] as usize];
    let size = [job.view.image.width, job.view.image.height];
    resample(&layers, size, job.turn, target, |_, y, rgb, ink| {
        let shade = SHADES[rgb[1] as usize * SHADES.len() / 256];
        rows[y as usize].push(ink.map_or(shade, |ink| ink.letter));
    });
    rows
}

/// A picture to make: everything that it depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct PaintJob {
    /// The slice.
    pub view: Arc<SliceView>,
    /// Which layers are on.
    pub look: Look,
    /// In which colours.
    pub palette: Arc<Palette>,
    /// The letters of the classes.
    pub letters: Arc<[char]>,
    /// How the slice is turned.
    pub turn: Turn,
    /// Cells there are for it.
    pub cells: Size,
    /// Characters instead of colours.
    pub spelled: bool,
}

/// A picture as the terminal wants it.
#[derive(Clone)]
pub enum Picture {
    /// By a graphics protocol or half-blocks.
    Encoded(Protocol),
    /// In characters.
    Spelled(Vec<String>),
    /// It could not be made.
    Failed(String),
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Picture::Encoded(protocol) => write!(f, "Encoded({})", protocol.size()),
            Picture::Spelled(rows) => write!(f, "Spelled({} rows)", rows.len()),
            Picture::Failed(why) => write!(f, "Failed({why})"),
        }
    }
}

/// Width and height in pixels of the largest picture of the job's slice in a frame of `room` pixels, each
/// `pixel_aspect` times as high as wide.
fn fit(job: &PaintJob, room: [f64; 2], pixel_aspect: f64) -> [u32; 2] {
    let image = &job.view.image;
    let [w_mm, h_mm] = job.turn.sides([
        image.width as f64 * job.view.pixel_mm[0],
        image.height as f64 * job.view.pixel_mm[1],
    ]);
    let scale = (room[0] / w_mm).min(room[1] * pixel_aspect / h_mm);
    let whole = |length: f64, limit: f64| length.round().clamp(1.0, limit.max(1.0)) as u32;
    [
        whole(w_mm * scale, room[0]),
        whole(h_mm * scale / pixel_aspect, room[1]),
    ]
}

/// Makes the picture; takes milliseconds, so not while a key waits.
pub fn paint(job: &PaintJob, picker: &Picker) -> Picture {
    let image = &job.view.image;
    let (columns, rows) = (f64::from(job.cells.width), f64::from(job.cells.height));
    if image.pixels.is_empty() || image.pixels.len() != image.width * image.height {
        return Picture::Failed("this slice has no pixels".into());
    }
    if job.spelled {
        return Picture::Spelled(spell(job, fit(job, [columns, rows], 2.0)));
    }
    let made = if picker.protocol_type() == ProtocolType::Halfblocks {
        // A half-block is one pixel wide and one high: composing at that size keeps every colour exact.
        let [width, height] = fit(job, [columns, rows * 2.0], 1.0);
        let picture = compose(&job.view, &job.look, &job.palette, job.turn, [width, height]);
        let mut padded = RgbImage::new(width, height.next_multiple_of(2));
        image::imageops::replace(&mut padded, &picture, 0, 0);
        let cells = Size::new(width as u16, padded.height() as u16 / 2);
        Halfblocks::new(DynamicImage::ImageRgb8(padded), cells).map(Protocol::Halfblocks)
    } else {
        let font = picker.font_size();
        let room = [columns * f64::from(font.width), rows * f64::from(font.height)];
        let target = fit(job, room, 1.0);
        let picture = compose(&job.view, &job.look, &job.palette, job.turn, target);
        picker.new_protocol(DynamicImage::ImageRgb8(picture), job.cells, Resize::Fit(None))
    };
    made.map_or_else(|error| Picture::Failed(error.to_string()), Picture::Encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Affine;
    use crate::records::CaseId;
    use crate::settings::Labels;

    const UPRIGHT: Turn = Turn {
        transpose: false,
        mirror: false,
        flip: false,
        letters: ['R', 'L', 'S', 'I'],
    };

    fn plane(width: usize, pixels: &[u8]) -> Slice<u8> {
        Slice {
            width,
            height: pixels.len() / width,
            pixels: pixels.to_vec(),
        }
    }

    fn view(image: Slice<u8>) -> SliceView {
        SliceView {
            case: CaseId::new("a").unwrap(),
            plane: Plane(1),
            plane_name: "coronal".into(),
            index: 0,
            slices: 1,
            pixel_mm: [1.0, 1.0],
            image,
            predicted: None,
            model: None,
            score_model: None,
            margin: None,
            corrected: None,
            effort: Vec::new(),
            average_bvsb: None,
        }
    }

    fn greys(view: &SliceView, turn: Turn, target: [u32; 2]) -> Vec<u8> {
        let palette = Palette::of(&Labels::default());
        let image = compose(view, &Look::default(), &palette, turn, target);
        image.pixels().map(|pixel| pixel.0[0]).collect()
    }

    /// The ring of a 3 x 3 square; its middle has neighbours of its own class only, and the border of the image
    /// counts as another class.
    #[test]
    fn a_contour_is_the_rim_of_its_class_and_the_border_of_the_image_counts() {
        let map = plane(3, &[2; 9]);
        let rim: Vec<u8> = (0..9).map(|at| contour_at(&map, at % 3, at / 3)).collect();
        assert_eq!(rim, [2, 2, 2, 2, 0, 2, 2, 2, 2]);
        assert_eq!(contour_at(&plane(1, &[0]), 0, 0), 0, "background has no contour");
    }

    /// One column of GM in eight survives being drawn on a single pixel; the grey under it would be a mean.
    #[test]
    fn a_thin_contour_survives_a_small_picture() {
        let mut view = view(plane(8, &[0, 0, 0, 80, 0, 0, 0, 80]));
        assert_eq!(greys(&view, UPRIGHT, [1, 1]), [20], "(80 + 80) / 8");
        view.predicted = Some(plane(8, &[0, 0, 0, 2, 0, 0, 0, 0]));
        assert_eq!(greys(&view, UPRIGHT, [1, 1]), [0x57], "GM's red");
    }

    #[test]
    fn a_class_of_both_maps_is_common_only_where_both_have_the_same_class() {
        let mut view = view(plane(4, &[0; 4]));
        view.predicted = Some(plane(4, &[1, 1, 1, 0]));
        view.corrected = Some(plane(4, &[1, 2, 0, 2]));
        let look = Look {
            difference: true,
            ..Look::default()
        };
        let palette = Palette::of(&Labels::default());
        let image = compose(&view, &look, &palette, UPRIGHT, [4, 1]);
        let expected = [
            palette.common,
            palette.corrected,
            palette.predicted,
            palette.corrected,
        ];
        assert_eq!(image.pixels().map(|pixel| pixel.0).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn slices_are_turned_head_up_and_the_right_hand_to_the_left() {
        let coronal = Turn::of(&Grid::new([2, 2, 2], [1.0; 3]), Plane(1));
        assert_eq!(
            (coronal.transpose, coronal.mirror, coronal.flip, coronal.letters),
            (false, true, true, ['R', 'L', 'S', 'I'])
        );
        // Voxel (i, k) holds 10 k + i: i grows to the right hand, k to the head.
        assert_eq!(
            greys(&view(plane(2, &[0, 1, 10, 11])), coronal, [2, 2]),
            [11, 10, 1, 0]
        );
        let sagittal = Turn::of(&Grid::new([2, 2, 2], [1.0; 3]), Plane(0));
        assert_eq!(sagittal.letters, ['A', 'P', 'S', 'I']);
        let axial = Turn::of(&Grid::new([2, 2, 2], [1.0; 3]), Plane(2));
        assert_eq!(axial.letters, ['R', 'L', 'A', 'P']);
    }

    /// i runs to the head and k to the left hand: the picture has to be transposed, and nothing mirrored.
    #[test]
    fn a_volume_that_lies_on_its_side_is_stood_up() {
        let grid = Grid {
            shape: [2, 1, 3],
            affine: Affine([[0.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]),
        };
        let turn = Turn::of(&grid, Plane(1));
        assert_eq!((turn.transpose, turn.mirror, turn.flip), (true, false, true));
        // Rows of the slice are k = 0, 1, 2; in the picture they are columns, the head (i = 1) above.
        let lying = view(plane(2, &[0, 1, 10, 11, 20, 21]));
        assert_eq!(greys(&lying, turn, [3, 2]), [1, 11, 21, 0, 10, 20]);
    }

    #[test]
    fn a_picture_keeps_the_shape_that_the_millimetres_say() {
        let job = PaintJob {
            view: Arc::new(SliceView {
                pixel_mm: [1.0, 3.0],
                ..view(plane(4, &[0; 8]))
            }),
            look: Look::default(),
            palette: Arc::new(Palette::of(&Labels::default())),
            letters: Arc::new([]),
            turn: UPRIGHT,
            cells: Size::new(40, 15),
            spelled: false,
        };
        // 4 mm x 6 mm in 40 x 30 half-blocks.
        assert_eq!(fit(&job, [40.0, 30.0], 1.0), [20, 30]);
        let Picture::Encoded(protocol) = paint(&job, &Picker::halfblocks()) else {
            panic!("half-blocks always work");
        };
        assert_eq!(protocol.size(), Size::new(20, 15));
    }
}
