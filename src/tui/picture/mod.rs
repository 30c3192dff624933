//! A slice as a picture: the image, what a model drew over it, where it was unsure, what a person changed.
//!
//! Pure arithmetic; the encoding for the terminal is [`paint`], which the event loop runs in a thread of its own.

mod cells;
mod layers;
mod look;
mod mode;
mod profile;
mod turn;
mod zoom;

pub use cells::Cells;
pub use layers::compose;
pub use look::{Look, PRESETS};
pub use mode::{Kind, PictureMode};
pub use profile::{Profile, ProfileJob};
pub use turn::Turn;
pub use zoom::{Window, Zoom};

use std::fmt;
use std::sync::Arc;

use image::DynamicImage;
use ratatui::layout::Size;
use ratatui_image::picker::{Picker, ProtocolType};
use ratatui_image::protocol::Protocol;
use ratatui_image::protocol::kitty::Kitty;
use ratatui_image::{FontSize, Resize};

use super::theme::Palette;
use super::wire::Depth;
use crate::imaging::Plane;
use crate::protocol::CaseView;

/// A case that is looked at; equal to itself alone.
#[derive(Debug, Clone)]
pub struct Seen(pub Arc<CaseView>);

impl PartialEq for Seen {
    fn eq(&self, other: &Seen) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Whose label map is laid over the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// What was drawn beforehand; where nothing was, the mask.
    Drawn,
    /// What it is held against: the mask, or another model's drawing.
    Other,
}

/// A picture to make: everything that it depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct PaintJob {
    /// Which of the pictures on the screen it is.
    pub pane: usize,
    /// The case.
    pub view: Seen,
    /// The cut.
    pub plane: Plane,
    /// Which slice of it.
    pub index: usize,
    /// Whose label map.
    pub source: Source,
    /// Which layers are on.
    pub look: Look,
    /// How far in.
    pub zoom: Zoom,
    /// The pixel of the slice that zoom keeps in the middle.
    pub focus: [usize; 2],
    /// The pixel of the slice where the lines of the crosshair cross, if they are shown.
    pub cross: Option<[usize; 2]>,
    /// In which colours.
    pub palette: Arc<Palette>,
    /// The letters of the classes.
    pub letters: Arc<[char]>,
    /// How the slice is turned.
    pub turn: Turn,
    /// Cells there are for it.
    pub cells: Size,
    /// How it is shown.
    pub kind: Kind,
    /// In how many colours.
    pub depth: Depth,
    /// Width and height of a cell in pixels, where pictures have pixels of their own.
    pub cell_px: [u16; 2],
}

impl PaintJob {
    /// Columns and rows of the turned slice.
    pub fn turned(&self) -> [usize; 2] {
        self.turn.sides(self.plane.size(&self.view.0.grid))
    }

    /// What of the slice is shown in a frame of `room` pixels, each `aspect` times as high as wide.
    pub fn window(&self, room: [f64; 2], aspect: f64) -> Window {
        let size = self.turned();
        let pixel_mm = self.turn.sides(self.plane.pixel_mm(&self.view.0.grid));
        let focus = self.turn.target(self.focus, size);
        Window::of(size, pixel_mm, room, aspect, self.zoom, focus)
    }

    /// The pixel of the slice under a cell of the picture, counted from the picture's own corner.
    pub fn pixel_at(&self, cell: [u16; 2]) -> Option<[usize; 2]> {
        // As half-blocks are: every picture keeps that shape to within a pixel.
        let window = self.window(
            [f64::from(self.cells.width), f64::from(self.cells.height) * 2.0],
            1.0,
        );
        let at = [u32::from(cell[0]), u32::from(cell[1]) * 2];
        if (0..2).any(|axis| at[axis] >= window.target[axis]) {
            return None;
        }
        let turned = self.turned();
        let middle = |axis: usize| {
            let under = window.under(at[axis], axis);
            ((under.start + under.end - 1) / 2).min(turned[axis] - 1)
        };
        Some(self.turn.source([middle(0), middle(1)], turned))
    }
}

/// A picture as the terminal wants it.
#[derive(Clone)]
pub enum Picture {
    /// By a graphics protocol.
    Encoded(Protocol),
    /// In half-blocks.
    Cells(Cells),
    /// In characters.
    Spelled(Vec<String>),
    /// It could not be made.
    Failed(String),
}

impl Picture {
    /// Cells that it takes.
    pub fn size(&self) -> Size {
        match self {
            Picture::Encoded(protocol) => protocol.size(),
            Picture::Cells(cells) => cells.size(),
            Picture::Spelled(rows) => {
                let width = rows.first().map_or(0, |row| row.chars().count());
                Size::new(width as u16, rows.len() as u16)
            }
            Picture::Failed(_) => Size::default(),
        }
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Picture::Encoded(protocol) => write!(f, "Encoded({})", protocol.size()),
            Picture::Cells(cells) => write!(f, "Cells({})", cells.size()),
            Picture::Spelled(rows) => write!(f, "Spelled({} rows)", rows.len()),
            Picture::Failed(why) => write!(f, "Failed({why})"),
        }
    }
}

/// Makes pictures; knows the half-blocks that it made last for each place.
#[derive(Debug, Default)]
pub struct Painter {
    before: Vec<Option<Cells>>,
    /// kitty's pictures sent so far.
    sent: u32,
}

impl Painter {
    /// Makes a picture; takes milliseconds, so not while a key waits.
    pub fn paint(&mut self, job: &PaintJob) -> Picture {
        let (columns, rows) = (f64::from(job.cells.width), f64::from(job.cells.height));
        if job.turned().contains(&0) {
            return Picture::Failed("this slice has no pixels".into());
        }
        let [width, height] = job.cell_px;
        let room = [columns * f64::from(width), rows * f64::from(height)];
        let protocol = match job.kind {
            Kind::Off => return Picture::Failed("pictures are off".into()),
            Kind::Ascii => return Picture::Spelled(layers::spell(job, &job.window([columns, rows], 2.0))),
            Kind::Half => {
                // A half-block is one pixel wide and one high: composing at that size leaves nothing to be scaled.
                let picture = compose(job, &job.window([columns, rows * 2.0], 1.0));
                self.before.resize(self.before.len().max(job.pane + 1), None);
                let before = &mut self.before[job.pane];
                let cells = Cells::of(&picture, before.as_ref(), &job.palette.all(), job.depth);
                *before = Some(cells.clone());
                return Picture::Cells(cells);
            }
            Kind::Sixel => ProtocolType::Sixel,
            Kind::Kitty => ProtocolType::Kitty,
            Kind::Iterm2 => ProtocolType::Iterm2,
        };
        let picture = compose(job, &job.window(room, 1.0));
        let cells = Size::new(
            picture.width().div_ceil(width.into()) as u16,
            picture.height().div_ceil(height.into()) as u16,
        );
        let picture = DynamicImage::ImageRgb8(picture);
        let encoded = if protocol == ProtocolType::Kitty {
            // Compressed: as it is a picture takes megabytes. Another program's numbers are another process's.
            self.sent = self.sent.wrapping_add(1) % (1 << 10);
            let number = std::process::id() << 10 | self.sent;
            Kitty::new(picture, cells, number, false, true).map(Protocol::Kitty)
        } else {
            #[expect(
                deprecated,
                reason = "the terminal was asked by us; asking again would swallow keys"
            )]
            let mut picker = Picker::from_fontsize(FontSize::new(width, height));
            picker.set_protocol_type(protocol);
            picker.new_protocol(picture, job.cells, Resize::Fit(None))
        };
        encoded.map_or_else(|error| Picture::Failed(error.to_string()), Picture::Encoded)
    }
}

#[cfg(test)]
mod tests;
