//! overtrace: which medical volume to annotate next, and how much of its contour nobody had to draw.
//!
//! # The rooms
//!
//! One folder a room, and each knows only rooms above it (`tests/rooms.rs` holds the table):
//!
//! | room | holds |
//! | --- | --- |
//! | [`settings`] | `overtrace.toml`: read, checked, explained |
//! | [`imaging`] | voxels and millimetres: grids, planes, NIfTI, phantoms |
//! | [`records`] | what is remembered, plain data: cases, models, rounds, corrections, tasks |
//! | [`metrics`] | how far two label maps agree: contours, Dice |
//! | [`model`] | the network: kernels, layers, loss, training, prediction; the only room that knows candle |
//! | [`query`] | which case next: scores and orders |
//! | [`effort`] | what the pre-annotation saved: Eq. 3 and what it leaves out |
//! | [`store`] | journal, blobs, index; the only room that knows sled |
//! | [`protocol`] | what engine and surfaces say to each other |
//! | [`worker`] | the process that computes, and the pipe to it |
//! | [`engine`] | the owner: actor, worker, rounds, hand-outs, inbox |
//! | [`study`] | experiments: what their runs came to, in curves, intervals, charts and a report |
//! | [`cli`], [`tui`] | verbs and screens; they reach the engine through a handle |
//!
//! # The way of one key press
//!
//! A thread of the screen reads it and sends it to the event loop, whose keymap makes an action of it;
//! `App::update` changes the state and returns effects; "send this command" goes through the
//! [`protocol::EngineHandle`] to the actor, which commits what becomes true to the store and only then tells the
//! surface; the change comes back as an event, is put into the snapshot, and is drawn.
//!
//! # The way of one corrected mask
//!
//! A person copies it into the inbox. A hint of the watcher, or the regular look, brings the actor there;
//! the list of checks in `engine/inbox/checks.rs` looks at name, case, rest, container, geometry, values and
//! sanity. What passes becomes a blob; its contours are held against the pre-annotation that was handed out
//! ([`effort`]); one journal entry closes the hand-out, records the correction and moves the case to the labelled
//! pool; only then is the file moved to `done/`. When the last queried case is back, the round trains: a task
//! goes to the worker, which starts from the last model's weights.

pub mod cli;
pub mod effort;
pub mod engine;
pub mod imaging;
pub mod metrics;
pub mod model;
pub mod protocol;
pub mod query;
pub mod records;
pub mod settings;
pub mod store;
pub mod study;
pub mod tui;
pub mod worker;
