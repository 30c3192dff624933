//! Which theme is in force.

use super::Theme;
use super::file::PRESETS;
use crate::tui::config::{Faults, hint};

/// What a person chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Choice {
    /// A person's own theme where there is one; otherwise the one that goes with the terminal's ground.
    #[default]
    Auto,
    /// The preset of that number.
    Preset(usize),
    /// A person's own.
    Own,
}

/// The themes there are, and which of them is chosen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Themes {
    choice: Choice,
    own: Option<Theme>,
}

impl Themes {
    /// By the name that a person gives: `auto`, `own` where there is one, or a preset's.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn new(name: &str, own: Option<Theme>) -> Result<Themes, Faults> {
        let preset = PRESETS.iter().position(|(preset, _)| *preset == name);
        let choice = match (name, preset) {
            ("auto", _) => Choice::Auto,
            ("own", _) if own.is_some() => Choice::Own,
            (_, Some(at)) => Choice::Preset(at),
            _ => {
                let own = own.is_some().then_some("own");
                let words = ["auto"]
                    .into_iter()
                    .chain(own)
                    .chain(PRESETS.map(|(name, _)| name));
                let hint = hint(name, words);
                return Err(Faults::one(
                    format!("theme {name:?}"),
                    format!("there is none of that name{hint}"),
                ));
            }
        };
        Ok(Themes { choice, own })
    }

    /// Chooses the next one.
    pub fn choose_next(&mut self) {
        self.choice = match self.choice {
            Choice::Auto => Choice::Preset(0),
            Choice::Preset(at) if at + 1 < PRESETS.len() => Choice::Preset(at + 1),
            Choice::Preset(_) if self.own.is_some() => Choice::Own,
            Choice::Preset(_) | Choice::Own => Choice::Auto,
        };
    }

    /// What is chosen, as a person calls it.
    pub fn word(&self) -> &'static str {
        match self.choice {
            Choice::Auto => "auto",
            Choice::Preset(at) => PRESETS[at].0,
            Choice::Own => "own",
        }
    }

    /// The theme in force, on a terminal with or without colours and of that ground.
    pub fn theme(&self, has_colour: bool, ground_is_light: Option<bool>) -> Theme {
        let name = match (self.choice, &self.own) {
            _ if !has_colour => "mono",
            (Choice::Auto | Choice::Own, Some(own)) => return own.clone(),
            (Choice::Preset(at), _) => PRESETS[at].0,
            _ if ground_is_light == Some(true) => "light",
            _ => "dark",
        };
        Theme::preset(name).expect("it is one of the presets")
    }
}
