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

mod activity;
mod app;
mod config;
mod keys;
mod layout;
mod line;
mod list;
mod picture;
mod prompt;
mod screens;
mod terminal;
mod text;
mod theme;
mod view;
mod wire;
mod wish;

pub use app::{App, Effect, Msg, Purpose, Setup};
pub use config::{Fault, Faults};
pub use keys::{ACTIONS, Action, Entry, Key, Keymap, Meaning, PRESETS, Screen, key_table};
pub use picture::{
    Cells, Kind, Look, PaintJob, Painter, Picture, PictureMode, Profile, ProfileJob, Seen, Source, Turn,
    Window, Zoom, compose,
};
pub use terminal::{Options, TuiError, run};
pub use theme::{Palette, Theme, Themes};
pub use view::draw;
pub use wire::{Capabilities, Depth, Mouse, MouseAction, Output};
