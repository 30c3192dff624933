//! Experiments: does the query save work on these data?
//!
//! An [`Experiment`] says which cases, which systems and strategies, how many seeds; its [`Run`]s are projects like any other, driven through
//! the commands that people give, with stored labels for an annotator. What their rounds came to is an [`Outcome`]; here it is
//! made into curves, intervals, tables, charts and a report. Nothing here trains, opens a project or knows a clock. May import
//! `settings`, `imaging` and `records`.

mod chart;
mod majority;
mod outcome;
mod paper;
mod picture;
mod plan;
mod query_strategy;
mod report;
mod summary;
mod system;

pub use chart::{Chart, Line, png, svg};
pub use majority::{MAJORITY, Votes};
pub use outcome::{Outcome, Point, RunOutcome};
pub use picture::{Picture, panels};
pub use plan::{Experiment, Kind, PlanError, Run, StoredCase};
pub use query_strategy::QueryStrategy;
pub use report::{charts, csv, html};
pub use summary::{Curve, EffortTable, Full, Interval, Paired, Spot, Summary, summarise};
pub use system::System;
