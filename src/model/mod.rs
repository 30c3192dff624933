//! The network: what it computes, how it learns, what it draws. The only room that knows candle.
//!
//! A task comes in (paths and settings), progress goes out, and a result. From the bottom: the kernels are plain
//! arithmetic on slices; the layers make them candle operations with gradients of their own; the network, the loss
//! and Adam are made of layers; training and prediction drive them over the tiles of cases. The room must not know
//! projects, rounds, pools or screens, nor which case is asked for next. May import `imaging`, `records`, `settings`
//! and `metrics`.

mod adam;
mod bench;
mod blend;
mod checkpoint;
#[cfg(any(test, feature = "cuda"))]
mod cuda;
mod data;
mod draw;
mod drawn;
mod error;
mod judge;
mod kernels;
mod layers;
mod learning;
mod loss;
mod network;
mod place;
mod predict;
mod processor;
mod stages;
mod tiling;
mod train;

#[cfg(test)]
mod torch;

use std::ops::ControlFlow;

pub use checkpoint::architecture_of;
pub use error::ModelError;
pub use network::parameter_count;
pub use processor::Processor;

use crate::records::{PredictCase, Progress, Task, TaskResult};

/// Hears how a task gets on, and says whether it goes on.
pub type Report<'a> = dyn FnMut(Progress) -> ControlFlow<()> + Send + 'a;

/// Does a task on `processor`, of a drawing the cases that come from `cases`; stops early when `report` says so.
///
/// # Errors
/// [`ModelError`]: files that cannot be read, do not fit or cannot be written, or a computation that failed.
pub fn compute(
    task: &Task,
    cases: impl Iterator<Item = PredictCase> + Send,
    processor: &Processor,
    report: &mut Report<'_>,
) -> Result<TaskResult, ModelError> {
    match task {
        Task::Train(task) => train::train(task, processor, report),
        Task::Predict(task) => predict::predict(task, cases, processor, report),
        Task::Bench(task) => bench::bench(task, processor, report),
    }
}
