//! A theme as a file.

use std::path::Path;

use ratatui::style::{Color, Modifier, Style};

use super::{Palette, Part, Theme};
use crate::tui::config::{Entry, Fault, Faults, Value, entries, hint, read};
use crate::tui::wire::Depth;

/// The themes compiled in, by name; the first is what another is laid over.
pub const PRESETS: [(&str, &str); 5] = [
    ("dark", include_str!("../../../themes/dark.toml")),
    ("light", include_str!("../../../themes/light.toml")),
    (
        "high-contrast",
        include_str!("../../../themes/high-contrast.toml"),
    ),
    ("colour-blind", include_str!("../../../themes/colour-blind.toml")),
    ("mono", include_str!("../../../themes/mono.toml")),
];

const MODIFIERS: [(&str, Modifier); 5] = [
    ("bold", Modifier::BOLD),
    ("dim", Modifier::DIM),
    ("italic", Modifier::ITALIC),
    ("underlined", Modifier::UNDERLINED),
    ("reversed", Modifier::REVERSED),
];

/// The names of the colours.
const COLOURS: [&str; 16] = [
    "black",
    "red",
    "green",
    "yellow",
    "blue",
    "magenta",
    "cyan",
    "gray",
    "darkgray",
    "lightred",
    "lightgreen",
    "lightyellow",
    "lightblue",
    "lightmagenta",
    "lightcyan",
    "white",
];

/// Where a colour of a palette is.
type Place = fn(&mut Palette) -> &mut [u8; 3];

/// The `[picture]` lines that are a colour.
const INKS: [(&str, Place); 5] = [
    ("common", |palette| &mut palette.common),
    ("predicted", |palette| &mut palette.predicted),
    ("corrected", |palette| &mut palette.corrected),
    ("unsure", |palette| &mut palette.unsure),
    ("crosshair", |palette| &mut palette.crosshair),
];

impl Theme {
    /// The theme compiled in under that name.
    pub fn preset(name: &str) -> Option<Theme> {
        let (name, text) = PRESETS.iter().find(|(preset, _)| *preset == name)?;
        let lines = entries(text, name).expect("a test reads every preset");
        let blank = Theme {
            name: name.to_string(),
            styles: Default::default(),
            classes: Vec::new(),
            picture: Palette {
                classes: Vec::new(),
                common: [0; 3],
                predicted: [0; 3],
                corrected: [0; 3],
                unsure: [0; 3],
                crosshair: [0; 3],
                hatching: false,
            },
        };
        Some(blank.with(&lines).expect("a test reads every preset"))
    }

    /// A person's own theme; `None` when there is no such file.
    ///
    /// # Errors
    /// All that is wrong, by file and line.
    pub fn own(path: &Path) -> Result<Option<Theme>, Faults> {
        let Some(text) = read(path)? else {
            return Ok(None);
        };
        Theme::parse(&text, &path.display().to_string()).map(Some)
    }

    /// A person's own theme from its text; `file` is for the words of an error.
    ///
    /// # Errors
    /// All that is wrong, by file and line.
    pub fn parse(text: &str, file: &str) -> Result<Theme, Faults> {
        let lines = entries(text, file)?;
        let (head, rest): (Vec<Entry>, Vec<Entry>) =
            lines.into_iter().partition(|line| line.section.is_empty());
        let mut base = PRESETS[0].0.to_string();
        for line in head {
            let names = PRESETS.map(|(name, _)| name);
            base = match &line.value {
                Value::Text(name) if line.key == "base" && names.contains(&name.as_str()) => name.clone(),
                Value::Text(name) if line.key == "base" => {
                    let hint = hint(name, names);
                    return Err(Faults(vec![
                        line.fault(format!("there is no theme {name:?}{hint}")),
                    ]));
                }
                _ => {
                    let words = "above the first section only base = \"NAME\" can stand; there are [styles] and [picture]";
                    return Err(Faults(vec![line.fault(words)]));
                }
            };
        }
        let base = Theme::preset(&base).expect("it was looked for");
        Theme {
            name: "own".into(),
            ..base
        }
        .with(&rest)
    }

    /// This theme with some lines laid over it.
    fn with(mut self, lines: &[Entry]) -> Result<Theme, Faults> {
        let faults: Vec<Fault> = lines.iter().filter_map(|line| self.take(line).err()).collect();
        if faults.is_empty() {
            Ok(self)
        } else {
            Err(Faults(faults))
        }
    }

    fn take(&mut self, line: &Entry) -> Result<(), Fault> {
        let no_such = |words: &[&str]| {
            let hint = hint(&line.key, words.iter().copied());
            Err(line.fault(format!("there is no such line{hint}")))
        };
        match line.section.as_str() {
            "styles" => {
                let Some(at) = Part::ALL.iter().position(|(word, _)| *word == line.key) else {
                    return no_such(&Part::ALL.map(|(word, _)| word));
                };
                let Value::Text(words) = &line.value else {
                    return Err(line.fault("write the style as a text, like \"cyan bold\""));
                };
                self.styles[at] = style(words).map_err(|words| line.fault(words))?;
            }
            "picture" => match (line.key.as_str(), &line.value) {
                ("hatching", Value::Switch(is_on)) => self.picture.hatching = *is_on,
                ("hatching", _) => return Err(line.fault("write true or false")),
                ("classes", Value::List(colours)) => {
                    self.classes = colours
                        .iter()
                        .map(|colour| rgb(colour).map_err(|words| line.fault(words)))
                        .collect::<Result<_, _>>()?;
                }
                ("classes", _) => return Err(line.fault("write a list of colours, like [\"#4aa3ff\"]")),
                (key, value) => {
                    let Some((_, ink)) = INKS.iter().find(|(word, _)| *word == key) else {
                        let words: Vec<&str> = ["classes", "hatching"]
                            .into_iter()
                            .chain(INKS.map(|(word, _)| word))
                            .collect();
                        return no_such(&words);
                    };
                    let Value::Text(words) = value else {
                        return Err(line.fault("write the colour as a text, like \"#ffdc28\""));
                    };
                    *ink(&mut self.picture) = rgb(words).map_err(|words| line.fault(words))?;
                }
            },
            other => {
                let hint = hint(other, ["styles", "picture"]);
                return Err(line.fault(format!("there is no section [{other}]{hint}")));
            }
        }
        Ok(())
    }
}

/// A style in words: `cyan bold`, `black on #ffff00`.
fn style(words: &str) -> Result<Style, String> {
    let mut style = Style::new();
    let mut is_ground = false;
    for word in words.split_whitespace() {
        if let Some((_, modifier)) = MODIFIERS.iter().find(|(name, _)| *name == word) {
            style = style.add_modifier(*modifier);
        } else if word == "on" && !is_ground {
            is_ground = true;
        } else {
            let colour = colour(word)?;
            style = match is_ground {
                true => style.bg(colour),
                false => style.fg(colour),
            };
        }
    }
    match (is_ground, style.bg) {
        (true, None) => Err(format!("{words:?}: a colour has to follow \"on\"")),
        _ => Ok(style),
    }
}

fn colour(word: &str) -> Result<Color, String> {
    let is_known = COLOURS.contains(&word) || (word.len() == 7 && word.starts_with('#'));
    word.parse().ok().filter(|_| is_known).ok_or_else(|| {
        let words = COLOURS
            .into_iter()
            .chain(MODIFIERS.map(|(word, _)| word))
            .chain(["on"]);
        format!("{word:?} is neither a colour nor a style{}", hint(word, words))
    })
}

/// A colour of a picture.
fn rgb(word: &str) -> Result<[u8; 3], String> {
    let colour = colour(word)?;
    Depth::shown(colour).ok_or_else(|| format!("{word:?} is no colour; write #rrggbb"))
}
