//! The screens, each a file of what it knows and does and a `_view` file that draws it.

pub mod cases;
pub mod corrections;
pub mod corrections_view;
pub mod help;
pub mod help_view;
pub mod log;
pub mod log_view;
pub mod models;
pub mod models_view;
pub mod queue;
pub mod queue_view;
pub mod rounds;
pub mod rounds_charts;
pub mod rounds_view;
pub mod slices;
pub mod slices_view;
pub mod views;
