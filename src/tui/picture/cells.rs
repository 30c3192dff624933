//! A picture of half-blocks: two colours a cell, few of them, and as many as can be left as they were.
//!
//! Adjacent slices of a volume differ in nearly every pixel, most of them by noise. A colour is therefore brought to a
//! coarse step, and a pixel keeps the colour it had in the picture before while that is no further from the truth than
//! [`tolerance`] says: what is shown is never further off than that, however many slices were gone through.

use image::RgbImage;
use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use ratatui::style::Color;
use ratatui::widgets::Widget;

use crate::tui::wire::Depth;

/// From colour to colour in each channel, where all colours are there: 32 of them.
const STEP: u8 = 8;

/// How far a channel may be off what it should be.
pub fn tolerance(depth: Depth) -> u8 {
    match depth {
        Depth::True => STEP,
        // The greys of 256 colours lie 10 apart.
        _ => 10,
    }
}

/// A picture of half-blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cells {
    size: Size,
    /// Row by row, two rows of pixels a row of cells.
    pixels: Vec<[u8; 3]>,
}

impl Cells {
    /// From a picture of a pixel a half-block; an odd last row is left black below. `exact` are colours that stand for
    /// something and are kept as they are.
    pub fn of(picture: &RgbImage, before: Option<&Cells>, exact: &[[u8; 3]], depth: Depth) -> Cells {
        let (width, height) = (picture.width(), picture.height().next_multiple_of(2));
        let size = Size::new(width as u16, (height / 2) as u16);
        let before = before.filter(|before| before.size == size);
        let mut pixels: Vec<[u8; 3]> = picture.pixels().map(|pixel| pixel.0).collect();
        pixels.resize((width * height) as usize, [0; 3]);
        for (at, pixel) in pixels.iter_mut().enumerate() {
            if exact.contains(pixel) {
                continue;
            }
            let kept = before.map(|before| before.pixels[at]).filter(|old| {
                let is_near = (0..3).all(|i| old[i].abs_diff(pixel[i]) <= tolerance(depth));
                is_near && !exact.contains(old)
            });
            *pixel = kept.unwrap_or_else(|| step(*pixel, depth));
        }
        Cells { size, pixels }
    }

    /// Cells that it takes.
    pub fn size(&self) -> Size {
        self.size
    }
}

/// The nearest colour that is shown.
fn step(rgb: [u8; 3], depth: Depth) -> [u8; 3] {
    match depth {
        Depth::Ansi256 => Depth::rgb(Depth::index(rgb)),
        // Both ends are kept.
        _ => rgb.map(|v| {
            let steps = (u16::from(v) + u16::from(STEP) / 2) / u16::from(STEP);
            (steps * u16::from(STEP)).min(255) as u8
        }),
    }
}

impl Widget for &Cells {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let width = usize::from(self.size.width);
        for row in 0..self.size.height.min(area.height) {
            for column in 0..self.size.width.min(area.width) {
                let at = usize::from(row) * 2 * width + usize::from(column);
                let [upper, lower] = [at, at + width].map(|at| {
                    let [r, g, b] = self.pixels[at];
                    Color::Rgb(r, g, b)
                });
                if let Some(cell) = buffer.cell_mut((area.x + column, area.y + row)) {
                    cell.set_symbol("\u{2580}").set_fg(upper).set_bg(lower);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;
    use crate::imaging::Rng;

    fn picture(pixels: &[[u8; 3]]) -> RgbImage {
        RgbImage::from_fn(1, pixels.len() as u32, |_, y| Rgb(pixels[y as usize]))
    }

    #[test]
    fn nothing_is_further_off_than_it_may_be_however_many_slices_were_gone_through() {
        let mut rng = Rng::new(1);
        for depth in [Depth::True, Depth::Ansi256] {
            let mut pixels = vec![[0u8; 3]; 64];
            let mut before: Option<Cells> = None;
            for _ in 0..500 {
                for pixel in &mut pixels {
                    let grey = pixel[0].saturating_add_signed(rng.below(9) as i8 - 4);
                    *pixel = [grey; 3];
                }
                let cells = Cells::of(&picture(&pixels), before.as_ref(), &[], depth);
                for (shown, pixel) in cells.pixels.iter().zip(&pixels) {
                    assert!(
                        shown[0].abs_diff(pixel[0]) <= tolerance(depth),
                        "{shown:?} for {pixel:?}"
                    );
                }
                before = Some(cells);
            }
        }
    }

    #[test]
    fn noise_changes_no_cell_and_what_stands_for_something_is_exact() {
        let class = [87, 199, 133];
        let first = Cells::of(&picture(&[[100; 3], [104; 3]]), None, &[class], Depth::True);
        assert_eq!(first.pixels, [[104; 3], [104; 3]]);
        let second = Cells::of(
            &picture(&[[97; 3], [112; 3]]),
            Some(&first),
            &[class],
            Depth::True,
        );
        assert_eq!(second, first);
        let third = Cells::of(&picture(&[class, [113; 3]]), Some(&second), &[class], Depth::True);
        assert_eq!(third.pixels, [class, [112; 3]]);
        let near = Cells::of(
            &picture(&[[88, 200, 130], [0; 3]]),
            Some(&third),
            &[class],
            Depth::True,
        );
        assert_eq!(
            near.pixels[0],
            [88, 200, 128],
            "a class that has gone leaves nothing behind"
        );
        let other = Cells::of(&picture(&[[255; 3]; 4]), Some(&near), &[], Depth::Ansi256);
        assert_eq!(
            other.pixels, [[255; 3]; 4],
            "a picture of another size has nothing to keep"
        );
    }

    #[test]
    fn an_odd_last_row_is_black_below() {
        let cells = Cells::of(&picture(&[[255; 3]; 3]), None, &[], Depth::True);
        assert_eq!(cells.size(), Size::new(1, 2));
        let mut buffer = Buffer::empty(Rect::new(0, 0, 1, 2));
        (&cells).render(buffer.area, &mut buffer);
        let colours = |y| buffer.cell((0, y)).map(|cell| (cell.fg, cell.bg));
        assert_eq!(
            colours(0),
            Some((Color::Rgb(255, 255, 255), Color::Rgb(255, 255, 255)))
        );
        assert_eq!(colours(1), Some((Color::Rgb(255, 255, 255), Color::Rgb(0, 0, 0))));
    }
}
