//! The worker's end: one task from the input, progress and the result to the output.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::frames::{self, LONGEST, Said};
use crate::model::{self, ModelError, Processor};
use crate::records::{PredictCase, Progress, Task, TaskResult};
use crate::settings::Device;

/// Steps are told at most this often: a screen cannot show more.
const STEP_EVERY: Duration = Duration::from_millis(100);

/// How much of the device is in use is told this often.
const USE_EVERY: Duration = Duration::from_secs(2);

/// How far the work stands back for others.
const NICE: i32 = 5;

/// Does the task that comes from `input` on `device`, and says what comes of it to `output`. Cases to draw are asked for one by one and
/// come from `input`, too; its end cancels the task.
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
    let (sender, answers) = channel();
    thread::spawn(move || {
        while let Ok(Some(answer)) = frames::read(&mut input, LONGEST)
            && sender.send(answer).is_ok()
        {}
        // Whatever ended the pipe, nobody waits for the result any more.
        told.store(true, Ordering::Relaxed);
    });
    let output = Mutex::new(output);
    let result = compute(&task, &processor, &cancel, answers, &output)?;
    say(&output, &Said::Done(result))
}

/// Says something; one after the other, whoever says it.
fn say(output: &Mutex<impl Write>, said: &Said) -> std::io::Result<()> {
    // After a panic in the middle of a message the other end finds no message in what follows.
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    frames::write(&mut *output, said, LONGEST)
}

/// The result, unless this process is of no use any more.
///
/// # Errors
/// A panic in the arithmetic, or a fault of a GPU, which stays with the process that met it.
fn compute(
    task: &Task,
    processor: &Processor,
    cancel: &AtomicBool,
    answers: Receiver<Option<PredictCase>>,
    output: &Mutex<impl Write + Send>,
) -> std::io::Result<TaskResult> {
    let mut told = Instant::now();
    let mut used: Option<Instant> = None;
    let mut report = |progress: Progress| {
        let is_step = matches!(progress, Progress::Step { .. } | Progress::Drawing);
        let is_due = !is_step || told.elapsed() >= STEP_EVERY;
        if is_due {
            told = Instant::now();
        }
        let mut heard = !is_due || say(output, &Said::Progress(progress)).is_ok();
        if used.is_none_or(|used| used.elapsed() >= USE_EVERY) {
            used = Some(Instant::now());
            let usage = processor
                .usage()
                .map(|usage| Said::Progress(Progress::Device(usage)));
            heard &= usage.is_none_or(|usage| say(output, &usage).is_ok());
        }
        if cancel.load(Ordering::Relaxed) || !heard {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let next = move || {
        say(output, &Said::Next).ok()?;
        answers.recv().ok()?
    };
    let cases = std::iter::from_fn(next);
    match catch_unwind(AssertUnwindSafe(|| {
        model::compute(task, cases, processor, &mut report)
    })) {
        // There were no more cases because nobody wants them any more.
        Ok(Ok(TaskResult::Predicted)) if cancel.load(Ordering::Relaxed) => Ok(TaskResult::Cancelled),
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error @ ModelError::Compute(_))) if processor.is_gpu() => Err(std::io::Error::other(error)),
        Ok(Err(error)) => Ok(TaskResult::Failed(error.to_string())),
        Err(_) => Err(std::io::Error::other("the worker panicked; the log says where")),
    }
}
