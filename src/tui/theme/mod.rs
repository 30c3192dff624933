//! How the screens look: styles by what they mean, and the colours of pictures, from TOML files.
//!
//! A theme that is compiled in (`themes/`) says everything; a person's own file is laid over one of them. Which one is in
//! force is [`Themes`]'s to say: the one chosen, or the one that goes with what the terminal says of its ground.

mod file;
mod themes;

pub use themes::Themes;

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};

use crate::settings::Labels;
use crate::tui::wire::Depth;

/// What a style is for, in the words of a theme file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Everything else, and the ground: painted only where the terminal's own is the other way.
    Text,
    Title,
    Selected,
    Dim,
    Good,
    Warn,
    Error,
}

impl Part {
    const ALL: [(&str, Part); 7] = [
        ("text", Part::Text),
        ("title", Part::Title),
        ("selected", Part::Selected),
        ("dim", Part::Dim),
        ("good", Part::Good),
        ("warn", Part::Warn),
        ("error", Part::Error),
    ];
}

/// The styles by what they mean, and what pictures are drawn in.
#[derive(Debug, Clone, PartialEq)]
pub struct Theme {
    name: String,
    styles: [Style; Part::ALL.len()],
    /// One colour a class; none where the project's labels have their own.
    classes: Vec<[u8; 3]>,
    /// The palette but for its classes.
    picture: Palette,
}

impl Theme {
    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn style(&self, part: Part) -> Style {
        self.styles[part as usize]
    }

    /// Headers and names of panes.
    pub fn title(&self) -> Style {
        self.style(Part::Title)
    }

    /// The row that keys act on.
    pub fn selected(&self) -> Style {
        self.style(Part::Selected)
    }

    /// What is less important.
    pub fn dim(&self) -> Style {
        self.style(Part::Dim)
    }

    /// What went well.
    pub fn good(&self) -> Style {
        self.style(Part::Good)
    }

    /// What a person should look at.
    pub fn warn(&self) -> Style {
        self.style(Part::Warn)
    }

    /// What could not be done.
    pub fn error(&self) -> Style {
        self.style(Part::Error)
    }

    /// Whether it is made for a light ground.
    fn is_light(&self) -> bool {
        let ground = self.style(Part::Text).bg.and_then(Depth::shown);
        ground.is_some_and(|ground| luminance(ground) > 0.5)
    }

    /// Paints text and ground wherever the screen has left them to the terminal, if `ground_is_light` says that the
    /// terminal's own go with another theme.
    pub fn paint(&self, ground_is_light: Option<bool>, buffer: &mut Buffer) {
        if self.is_light() == ground_is_light.unwrap_or(false) {
            return;
        }
        let Style { fg, bg, .. } = self.style(Part::Text);
        for cell in &mut buffer.content {
            if cell.fg == Color::Reset {
                cell.fg = fg.unwrap_or(Color::Reset);
            }
            if cell.bg == Color::Reset {
                cell.bg = bg.unwrap_or(Color::Reset);
            }
        }
    }

    /// What pictures of these labels are drawn in.
    pub fn palette(&self, labels: &Labels) -> Palette {
        let own = labels.0.iter().map(|label| label.rgb().unwrap_or([255; 3]));
        let classes = match self.classes.as_slice() {
            [] => own.collect(),
            ours => own.zip(ours.iter().cycle()).map(|(_, rgb)| *rgb).collect(),
        };
        Palette {
            classes,
            ..self.picture.clone()
        }
    }
}

/// The colours that a picture is drawn in.
#[derive(Debug, Clone, PartialEq)]
pub struct Palette {
    /// One a class, background left out.
    pub classes: Vec<[u8; 3]>,
    /// Contour that prediction and correction share.
    pub common: [u8; 3],
    /// Contour of the prediction alone.
    pub predicted: [u8; 3],
    /// Contour of the correction alone: what a person had to draw.
    pub corrected: [u8; 3],
    /// Where the model is unsure.
    pub unsure: [u8; 3],
    /// The lines of the crosshair.
    pub crosshair: [u8; 3],
    /// Classes are told apart by patterns instead of colours.
    pub hatching: bool,
}

impl Palette {
    /// All of its colours.
    pub fn all(&self) -> Vec<[u8; 3]> {
        let others = [
            self.common,
            self.predicted,
            self.corrected,
            self.unsure,
            self.crosshair,
        ];
        self.classes.iter().copied().chain(others).collect()
    }

    /// What a legend shows for a surface of this colour and this number among its like, from 1.
    pub fn surface(&self, rgb: [u8; 3], number: u8) -> (&'static str, Style) {
        self.pattern(rgb, number, ["//", "\\\\", "==", "||", "::"])
    }

    /// The same for a line: whole, dashed, dotted.
    pub fn line(&self, rgb: [u8; 3], number: u8) -> (&'static str, Style) {
        self.pattern(rgb, number, ["__", "- ", ".."])
    }

    fn pattern<const N: usize>(
        &self,
        rgb: [u8; 3],
        number: u8,
        of: [&'static str; N],
    ) -> (&'static str, Style) {
        match self.hatching {
            true => (
                of[(usize::from(number) + N - 1) % N],
                Style::new().add_modifier(Modifier::BOLD),
            ),
            false => self.block(rgb),
        }
    }

    /// What a legend shows for a colour.
    pub fn block(&self, rgb: [u8; 3]) -> (&'static str, Style) {
        let [r, g, b] = rgb;
        ("\u{2588}\u{2588}", Style::new().fg(Color::Rgb(r, g, b)))
    }
}

/// Relative luminance of an sRGB colour, 0 to 1; source: WCAG 2.1.
fn luminance(rgb: [u8; 3]) -> f64 {
    let [r, g, b] = rgb.map(|v| {
        let v = f64::from(v) / 255.0;
        if v <= 0.04045 {
            v / 12.92
        } else {
            ((v + 0.055) / 1.055).powf(2.4)
        }
    });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

#[cfg(test)]
mod tests;
