//! Processes of their own: the worker, which computes one task, and the parser, which reads volumes from outside.
//!
//! Whoever wants a task done starts the worker's program ([`run`]), writes the task into its standard input, later each
//! case to draw that it asks for, and reads what it says from its standard output; closing the input cancels. Both ends
//! are here, and the frames between them. What computes may abort, run out of memory or meet a fault of a GPU's driver
//! without taking anybody along, and a program linked with CUDA, which starts only where a driver is, is tried and left
//! for the CPU's. Tasks, progress and results are those of the records: paths and settings, no tensors. The [`Parser`] is
//! such a process for a file that nobody has vouched for. May import `settings`, `imaging`, `records` and `model`.

mod client;
pub mod frames;
mod parser;
mod serve;

pub use client::{Programs, run};
pub use parser::{OTHER_BUILD, Parser, parse, understands};
pub use serve::serve;
