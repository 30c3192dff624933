//! The worker's end: one task from the input, progress and the result to the output.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::frames::{self, LONGEST, Said};
use crate::model::{self, ModelError, Processor};
use crate::records::{Progress, Task, TaskResult};
use crate::settings::Device;

/// Steps are told at most this often: a screen cannot show more.
const STEP_EVERY: Duration = Duration::from_millis(100);

/// How much of the device is in use is told this often.
const USE_EVERY: Duration = Duration::from_secs(2);

/// How far the work stands back for others.
const NICE: i32 = 5;

/// Does the task that comes from `input` on `device`, and says what comes of it to `output`. The end of `input` cancels it.
///
/// # Errors
/// A device that is not there, before anything is said; or pipes that broke.
pub fn serve(
    device: Device,
    mut input: impl Read + Send + 'static,
    mut output: impl Write + Send,
) -> std::io::Result<()> {
    // Screens and the engine come first where a task takes every core; a system that refuses runs it all the same.
    let _ = rustix::process::nice(NICE);
    let processor = Processor::open(device).map_err(std::io::Error::other)?;
    let ready = Said::Ready {
        build: frames::build(),
        gpus: processor.gpus().to_vec(),
    };
    frames::write(&mut output, &ready, LONGEST)?;
    let Some(task) = frames::read::<Task>(&mut input, LONGEST)? else {
        return Ok(());
    };
    let cancel = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&cancel);
    thread::spawn(move || {
        // Nothing else comes: whatever ends the pipe, nobody waits for the result any more.
        let _ = input.read(&mut [0]);
        told.store(true, Ordering::Relaxed);
    });
    let result = compute(&task, &processor, &cancel, &mut output)?;
    frames::write(&mut output, &Said::Done(result), LONGEST)
}

/// The result, unless this process is of no use any more.
///
/// # Errors
/// A panic in the arithmetic, or a fault of a GPU, which stays with the process that met it.
fn compute(
    task: &Task,
    processor: &Processor,
    cancel: &AtomicBool,
    output: &mut (impl Write + Send),
) -> std::io::Result<TaskResult> {
    let mut told = Instant::now();
    let mut used: Option<Instant> = None;
    let mut report = |progress: Progress| {
        let is_step = matches!(progress, Progress::Step { .. } | Progress::Drawing);
        let is_due = !is_step || told.elapsed() >= STEP_EVERY;
        if is_due {
            told = Instant::now();
        }
        let mut heard = !is_due || frames::write(&mut *output, &Said::Progress(progress), LONGEST).is_ok();
        if used.is_none_or(|used| used.elapsed() >= USE_EVERY) {
            used = Some(Instant::now());
            let usage = processor
                .usage()
                .map(|usage| Said::Progress(Progress::Device(usage)));
            heard &= usage.is_none_or(|usage| frames::write(&mut *output, &usage, LONGEST).is_ok());
        }
        if cancel.load(Ordering::Relaxed) || !heard {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    match catch_unwind(AssertUnwindSafe(|| model::compute(task, processor, &mut report))) {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error @ ModelError::Compute(_))) if processor.is_gpu() => Err(std::io::Error::other(error)),
        Ok(Err(error)) => Ok(TaskResult::Failed(error.to_string())),
        Err(_) => Err(std::io::Error::other("the worker panicked; the log says where")),
    }
}
