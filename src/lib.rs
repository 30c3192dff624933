//! overtrace: which medical volume to annotate next, and how much of its contour nobody had to draw.
pub mod imaging;
pub mod protocol;
pub mod records;
pub mod settings;
pub mod tui;
