//! What can be wrong with a keymap, in words that name file, section, key and action.

use std::fmt;

use super::keymap::preset_names;

/// Why a keymap could not be used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum KeymapError {
    /// No preset of that name.
    #[error("there is no keymap {name:?}; there are {}", preset_names())]
    Preset {
        /// The name asked for.
        name: String,
    },
    /// The file could not be read.
    #[error("reading the keymap {file}: {problem}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        problem: String,
    },
    /// No TOML.
    #[error("{file}: {problem}")]
    Toml {
        /// The file.
        file: String,
        /// The parser's words, with line and column.
        problem: String,
    },
    /// A section that is no screen.
    #[error("{file}: there is no [{section}]; use [global], [queue], [slices], [rounds] or [help]")]
    Section {
        /// The file.
        file: String,
        /// The section.
        section: String,
    },
    /// A value that is no text.
    #[error("{file}, [{section}] {chord:?}: write the action as a text, like \"quit\"")]
    NotText {
        /// The file.
        file: String,
        /// The section.
        section: String,
        /// The key.
        chord: String,
    },
    /// A word that is no key.
    #[error(
        "{file}, [{section}] {chord:?} = {action:?}: {word:?} is no key; write j, G, enter, ctrl-d or g g"
    )]
    Key {
        /// The file.
        file: String,
        /// The section.
        section: String,
        /// The chord as written.
        chord: String,
        /// The action it was for.
        action: String,
        /// The part of it that is no key.
        word: String,
    },
    /// A name that is no action.
    #[error("{file}, [{section}] {chord:?} = {action:?}: there is no such action{hint}")]
    Action {
        /// The file.
        file: String,
        /// The section.
        section: String,
        /// The key.
        chord: String,
        /// The name.
        action: String,
        /// The nearest name, as the end of the sentence.
        hint: String,
    },
    /// An action of other screens.
    #[error("{file}, [{section}] {chord:?} = {action:?}: that action works on {screens} only; bind it there")]
    Elsewhere {
        /// The file.
        file: String,
        /// The section.
        section: String,
        /// The key.
        chord: String,
        /// The action.
        action: String,
        /// Where it works.
        screens: String,
    },
    /// Two lines that want the same key, or of which one is the beginning of the other.
    #[error("{file}: {line} and {other} {clash}")]
    Conflict {
        /// The file.
        file: String,
        /// The earlier line.
        line: String,
        /// The later line.
        other: String,
        /// How they clash.
        clash: &'static str,
    },
}

/// Everything that is wrong with a keymap, one a line.
#[derive(Debug, PartialEq)]
pub struct KeymapErrors(pub Vec<KeymapError>);

impl fmt::Display for KeymapErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> = self.0.iter().map(KeymapError::to_string).collect();
        f.write_str(&each.join("\n"))
    }
}

impl std::error::Error for KeymapErrors {}

impl From<KeymapError> for KeymapErrors {
    fn from(error: KeymapError) -> Self {
        KeymapErrors(vec![error])
    }
}
