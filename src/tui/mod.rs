//! The screens: queue, slices, rounds and help, driven by keys.
//!
//! One [`App`] holds what the screens know. A key, an engine event or a picture that is ready comes in as a
//! [`Msg`]; [`App::update`] changes the state and returns [`Effect`]s; [`draw`] shows the state and changes
//! nothing. Only [`run()`] touches terminal, threads and clock, so tests drive the rest by keys alone. Every screen
//! is a file of state and a `_view` file that draws it; what a key can do is one line of the table in
//! `action.rs`, which keymaps, help and README derive from.
//!
//! The room imports `protocol`, `records`, `settings` and `imaging`, and must not know the engine, the store or
//! the model: everything goes through an [`EngineHandle`](crate::protocol::EngineHandle).

mod action;
mod app;
mod cases;
mod help;
mod help_view;
mod key;
mod keymap;
mod keymap_error;
mod layout;
mod list;
mod picture;
mod prompt;
mod queue;
mod queue_view;
mod rounds;
mod rounds_view;
mod run;
mod slices;
mod slices_view;
mod terminal;
mod text;
mod theme;
mod view;
mod wish;

pub use action::{ACTIONS, Action, Entry, Screen};
pub use app::{App, Effect, Msg, Purpose, Setup};
pub use key::Key;
pub use keymap::{Keymap, Meaning, PRESETS, key_table};
pub use keymap_error::{KeymapError, KeymapErrors};
pub use picture::{Look, PaintJob, Picture, Turn, compose, paint};
pub use run::{Options, PictureMode, TuiError, run};
pub use theme::{Palette, Theme};
pub use view::draw;
