//! Keys, what they do, and the keymaps that tie the two.

mod action;
mod key;
mod keymap;

pub use action::{ACTIONS, Action, Entry, Screen};
pub use key::{Key, chord_text};
pub use keymap::{Keymap, Meaning, PRESETS, key_table};
