//! The worker: a process of its own that computes one task.
//!
//! Whoever wants a task done starts the worker's program ([`run`]), writes the task into its standard input and reads
//! what it says from its standard output; closing the input cancels. Both ends are here, and the frames between them.
//! What computes may abort, run out of memory or meet a fault of a GPU's driver without taking anybody along, and a
//! program linked with CUDA, which starts only where a driver is, is tried and left for the CPU's. Tasks, progress and
//! results are those of the records: paths and settings, no tensors. May import `settings`, `records` and `model`.

mod client;
pub(crate) mod frames;
mod serve;

pub use client::{Programs, run};
pub use serve::serve;
