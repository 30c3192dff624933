//! overtrace: which medical volume to annotate next, and how much of its contour nobody had to draw.
pub mod effort;
pub mod imaging;
pub mod metrics;
pub mod model;
pub mod protocol;
pub mod query;
pub mod records;
pub mod settings;
pub mod store;
