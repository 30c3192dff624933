//! How the screens look: the styles by what they mean, in one place.

use ratatui::style::{Color, Modifier, Style};

use crate::settings::Labels;

/// The styles, by what they mean. Without colour, weight and words carry the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Theme {
    colour: bool,
}

impl Theme {
    /// A theme with colours, or without (`NO_COLOR`).
    pub fn new(colour: bool) -> Theme {
        Theme { colour }
    }

    /// Whether there are colours at all.
    pub fn has_colour(&self) -> bool {
        self.colour
    }

    fn of(&self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// Headers and names of panes.
    pub fn title(&self) -> Style {
        self.of(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// The row that keys act on.
    pub fn selected(&self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What is less important.
    pub fn dim(&self) -> Style {
        if self.colour {
            self.of(Color::Gray)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        }
    }

    /// What went well.
    pub fn good(&self) -> Style {
        self.of(Color::Green)
    }

    /// What a person should look at.
    pub fn warn(&self) -> Style {
        self.of(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// What could not be done.
    pub fn error(&self) -> Style {
        self.of(Color::LightRed).add_modifier(Modifier::BOLD)
    }

    /// A colour of the picture, for its legend.
    pub fn swatch(&self, [r, g, b]: [u8; 3]) -> Style {
        self.of(Color::Rgb(r, g, b))
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
}

impl Palette {
    /// All of them.
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

    /// The labels' own colours, and those of the paper's Fig. 6 (e) for the difference.
    pub fn of(labels: &Labels) -> Palette {
        Palette {
            classes: labels
                .0
                .iter()
                .map(|label| label.rgb().unwrap_or([255, 255, 255]))
                .collect(),
            common: [140, 60, 60],
            predicted: [60, 110, 255],
            corrected: [255, 220, 40],
            unsure: [255, 60, 200],
            crosshair: [60, 220, 160],
        }
    }
}
