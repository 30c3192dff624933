//! A slice with its layers on, and what of it each pixel of the screen shows.
//!
//! Composed at the size of the screen: each target pixel looks at the source pixels under it, and a contour that runs
//! through any of them is drawn, so that a thin line survives a small terminal.

use image::{Rgb, RgbImage};

use super::zoom::Window;
use super::{Kind, PaintJob, Source};
use crate::imaging::Slice;
use crate::metrics::contour;

/// What a mark stands for: its colour, how dense it is, its letter where there are no colours, and which of its pixels are
/// drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ink {
    rgb: [u8; 3],
    share: f32,
    letter: char,
    stroke: Stroke,
}

/// Which pixels of the screen a mark is drawn on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stroke {
    /// All of them.
    Solid,
    /// A line that is whole, dashed or dotted, by the number of its ink.
    Line(u8),
    /// A surface, by the number of its ink.
    Hatch(u8),
}

impl Stroke {
    fn covers(self, [x, y]: [u32; 2]) -> bool {
        match self {
            Stroke::Solid => true,
            Stroke::Line(number) => match number % 3 {
                1 => true,
                2 => (x + y) % 4 < 2,
                _ => (x + y) % 2 == 0,
            },
            // The patterns of a legend, in its order: / \ = | :
            Stroke::Hatch(number) => match number % 5 {
                1 => (x + y) % 4 == 0,
                2 => (x + 3 * y) % 4 == 0,
                3 => y % 4 == 0,
                4 => x % 4 == 0,
                _ => x % 3 == 0 && y % 3 == 0,
            },
        }
    }
}

impl Ink {
    /// What it makes of a pixel of the screen.
    fn over(self, under: [u8; 3], at: [u32; 2]) -> [u8; 3] {
        match self.stroke {
            Stroke::Solid => blend(under, self.rgb, self.share),
            stroke if !stroke.covers(at) => under,
            // White on dark and black on bright, because a brain is both.
            _ => {
                let is_bright = under.iter().map(|&v| u32::from(v)).sum::<u32>() > 3 * 128;
                blend(under, if is_bright { [0; 3] } else { [255; 3] }, self.share)
            }
        }
    }
}

/// A slice with its layers on: a colour for each pixel, and 1 + the number of an ink where a contour runs.
pub(super) struct Layers {
    width: usize,
    base: Vec<[u8; 3]>,
    marks: Vec<u8>,
    inks: Vec<Ink>,
    /// How many of the inks are a contour's, which letters of doubt never hide.
    contours: usize,
}

/// The letters of doubt: below half of the margin that there may be, and below a quarter of it.
const DOUBTS: [(char, u8); 2] = [('?', 128), ('!', 64)];

pub(super) fn blend(under: [u8; 3], over: [u8; 3], share: f32) -> [u8; 3] {
    std::array::from_fn(|i| (f32::from(under[i]) * (1.0 - share) + f32::from(over[i]) * share).round() as u8)
}

impl Layers {
    pub fn of(job: &PaintJob) -> Layers {
        let (view, look) = (&job.view.0, &job.look);
        let cut = |voxels: &[u8]| Slice::cut(voxels, &view.grid, job.plane, job.index);
        let image = Slice::cut(&view.image.values, &view.grid, job.plane, job.index);
        let [black, white] = look.window.unwrap_or(view.image.window);
        // In CT 0 is water.
        let has_floor = view.image.low >= 0.0;
        let mut base: Vec<[u8; 3]> = image
            .pixels
            .iter()
            .map(|&value| {
                let v = view.image.low + view.image.step * f64::from(value);
                let bright = ((v - black) / (white - black) * 255.0).round().clamp(0.0, 255.0) as u8;
                // Where there is no signal it is dark, wherever the window lies.
                look.colours
                    .rgb(if v == 0.0 && look.window.is_none() && has_floor {
                        0
                    } else {
                        bright
                    })
            })
            .collect();
        let margins = view.margins.as_ref().filter(|_| look.margin);
        let margins = margins.map(|margins| cut(&margins.voxels).pixels);
        if let Some(margins) = margins.as_ref().filter(|_| job.kind != Kind::Ascii) {
            for (pixel, sure) in base.iter_mut().zip(margins) {
                *pixel = blend(*pixel, job.palette.unsure, 0.85 * f32::from(255 - *sure) / 255.0);
            }
        }
        let predicted = view.predicted.as_ref().map(|drawing| &drawing.voxels);
        let other = view.other();
        let mut marks = vec![0; image.pixels.len()];
        let shown = |k: u8| k > 0 && look.class(k).is_on;
        let mut inks = match (predicted, other) {
            (Some(predicted), Some(other)) if look.difference => {
                let [predicted, other] = [predicted, other].map(|map| contour(&cut(map)).pixels);
                for (mark, (p, c)) in marks.iter_mut().zip(predicted.into_iter().zip(other)) {
                    let [p, c] = [p, c].map(|k| if shown(k) { k } else { 0 });
                    *mark = match (p, c) {
                        (0, 0) => 0,
                        (p, c) if p == c => 1,
                        (_, 0) => 2,
                        _ => 3,
                    };
                }
                let ink = |rgb, letter, number| Ink {
                    rgb,
                    share: 1.0,
                    letter,
                    stroke: match job.palette.hatching {
                        true => Stroke::Line(number),
                        false => Stroke::Solid,
                    },
                };
                vec![
                    ink(job.palette.common, '=', 1),
                    ink(job.palette.predicted, 'p', 2),
                    ink(job.palette.corrected, 'c', 3),
                ]
            }
            (predicted, other) => {
                // What a model drew comes first: that is what a person is asked to judge.
                let map = match job.source {
                    Source::Drawn => predicted.or(other),
                    Source::Other => other,
                };
                let classes = job.palette.classes.len() as u8;
                let contours = look.contours || job.kind == Kind::Ascii;
                let inks: Vec<Ink> = (1..=classes)
                    .map(|k| Ink {
                        rgb: job.palette.classes[usize::from(k) - 1],
                        share: f32::from(look.class(k).opacity) / 100.0,
                        letter: job.letters.get(usize::from(k) - 1).copied().unwrap_or('*'),
                        stroke: match (job.palette.hatching, contours) {
                            (false, _) => Stroke::Solid,
                            (true, true) => Stroke::Line(k),
                            (true, false) => Stroke::Hatch(k),
                        },
                    })
                    .collect();
                let ink_of = |k: u8| inks.get(usize::from(k).wrapping_sub(1)).filter(|_| shown(k));
                if let Some(map) = map.filter(|_| look.overlay) {
                    let map = cut(map);
                    if contours || job.palette.hatching {
                        marks = if contours {
                            contour(&map).pixels
                        } else {
                            map.pixels
                        };
                        marks
                            .iter_mut()
                            .filter(|k| ink_of(**k).is_none())
                            .for_each(|k| *k = 0);
                    } else {
                        for (pixel, k) in base.iter_mut().zip(map.pixels) {
                            if let Some(ink) = ink_of(k) {
                                *pixel = blend(*pixel, ink.rgb, ink.share / 2.0);
                            }
                        }
                    }
                }
                inks
            }
        };
        let contours = inks.len();
        if let Some(margins) = margins.filter(|_| job.kind == Kind::Ascii) {
            inks.extend(DOUBTS.map(|(letter, _)| Ink {
                rgb: job.palette.unsure,
                share: 1.0,
                letter,
                stroke: Stroke::Solid,
            }));
            for (mark, margin) in marks.iter_mut().zip(margins).filter(|(mark, _)| **mark == 0) {
                let doubt = DOUBTS.iter().rposition(|(_, below)| margin < *below);
                *mark = doubt.map_or(0, |doubt| (contours + 1 + doubt) as u8);
            }
        }
        Layers {
            width: image.width,
            base,
            marks,
            inks,
            contours,
        }
    }

    /// What a target pixel shows that covers these source pixels: their mean colour, and the mark that most of
    /// the marked ones carry; of equals the later ink, which is the correction's.
    fn under(&self, pixels: impl Iterator<Item = [usize; 2]>) -> ([u8; 3], Option<Ink>) {
        let (mut sum, mut n, mut votes) = ([0u32; 3], 0, [0u32; 256]);
        let mut is_marked = false;
        for [x, y] in pixels {
            let at = y * self.width + x;
            (0..3).for_each(|i| sum[i] += u32::from(self.base[at][i]));
            let mark = usize::from(self.marks[at]);
            votes[mark] += 1;
            is_marked |= mark > 0;
            n += 1;
        }
        let winner = is_marked.then(|| {
            let marked = (1..=self.inks.len()).filter(|&k| votes[k] > 0);
            marked.max_by_key(|&k| (k <= self.contours, votes[k]))
        });
        (
            sum.map(|channel| (channel / n.max(1)) as u8),
            winner.flatten().map(|k| self.inks[k - 1]),
        )
    }

    /// Calls `put` for each pixel of the screen with what it shows.
    pub fn each(&self, job: &PaintJob, window: &Window, mut put: impl FnMut([u32; 2], [u8; 3], Option<Ink>)) {
        let turned = job.turned();
        for y in 0..window.target[1] {
            let rows = window.under(y, 1);
            for x in 0..window.target[0] {
                let columns = window.under(x, 0);
                let within = |range: &std::ops::Range<usize>, axis: usize| {
                    range.start.min(turned[axis] - 1)..range.end.min(turned[axis])
                };
                let (columns, rows) = (within(&columns, 0), within(&rows, 1));
                let pixels = rows.flat_map(|v| columns.clone().map(move |u| job.turn.source([u, v], turned)));
                let (rgb, ink) = self.under(pixels);
                put([x, y], rgb, ink);
            }
        }
    }
}

/// The picture of a slice in colour.
pub fn compose(job: &PaintJob, window: &Window) -> RgbImage {
    let layers = Layers::of(job);
    let mut image = RgbImage::new(window.target[0], window.target[1]);
    layers.each(job, window, |[x, y], rgb, ink| {
        image.put_pixel(x, y, Rgb(ink.map_or(rgb, |ink| ink.over(rgb, [x, y]))));
    });
    if let Some([column, row]) = job
        .cross
        .and_then(|pixel| window.over(job.turn.target(pixel, job.turned())))
    {
        // The crossing itself stays open, so that what lies there is seen.
        let gap = (window.target[0].min(window.target[1]) / 16).max(1);
        let mut line = |x: u32, y: u32| image.put_pixel(x, y, Rgb(job.palette.crosshair));
        (0..window.target[0])
            .filter(|x| x.abs_diff(column) > gap)
            .for_each(|x| line(x, row));
        (0..window.target[1])
            .filter(|y| y.abs_diff(row) > gap)
            .for_each(|y| line(column, y));
    }
    image
}

/// The picture of a slice in characters, where there are no colours: shades, and each contour by its letter.
pub(super) fn spell(job: &PaintJob, window: &Window) -> Vec<String> {
    const SHADES: [char; 8] = [' ', '.', ':', '-', '~', '+', '%', '@'];
    let layers = Layers::of(job);
    let mut rows = vec![Vec::new(); window.target[1] as usize];
    layers.each(job, window, |[_, y], rgb, ink| {
        let light = rgb.iter().map(|&c| usize::from(c)).sum::<usize>() / 3;
        let shade = SHADES[light * SHADES.len() / 256];
        rows[y as usize].push(ink.map_or(shade, |ink| ink.letter));
    });
    if let Some([column, row]) = job
        .cross
        .and_then(|pixel| window.over(job.turn.target(pixel, job.turned())))
    {
        rows[row as usize][column as usize] = 'X';
    }
    rows.into_iter().map(String::from_iter).collect()
}
