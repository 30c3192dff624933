//! What goes over the wire: bytes to the terminal, bytes from it, and what it says it can do. No I/O of its own.

mod answers;
mod depth;
mod input;
mod output;

pub use answers::{Capabilities, FEW_QUESTIONS, QUESTIONS};
pub use depth::Depth;
pub use input::{Input, Mouse, MouseAction, Parser};
pub use output::Output;
