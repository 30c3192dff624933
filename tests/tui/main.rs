//! The screens, driven by keys: what the engine says, keys, the screen after. No terminal, no clock, no sleep.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped fails its test")]

mod actions;
mod bench;
mod corrections;
mod everywhere;
mod fuzz;
mod project;
mod queue;
mod rounds;
mod scenes;
mod slices;
mod snapshots;
