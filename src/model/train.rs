//! Learning: tiles of labelled cases in, the best epoch's weights out.
//!
//! An epoch is one pass over the training tiles that have signal, dealt into batches anew each time. After each, hard
//! Dice over all validation pixels says how good the network is; the mean over the classes that occur is the score, and
//! training ends when `patience` epochs have not raised it, or after a number of steps. Same seed and data: same weights to the bit, for any number
//! of threads.

mod lesson;
mod resume;
mod samples;
mod student;
mod tiles;

use std::time::Instant;

use super::checkpoint;
use super::data::Case;
use super::network::field;
use super::processor::with_batch;
use super::{ModelError, Processor, Report};
use crate::imaging::Rng;
use crate::records::{EpochReport, Progress, TaskResult, TrainTask, Trained, mean_of_known};
use lesson::Lesson;
use resume::{Keeper, State};
use student::{Epoch, Student};
use tiles::{deal, split};

/// The score of what is no whole ensemble yet: less than any Dice.
const UNFINISHED: f64 = -1.0;

/// Trains as `task` says and writes the best weights; stops early when `report` says so, and writes none then. What is kept
/// in the task's folder meanwhile, the next training of the same task goes on with.
///
/// # Errors
/// [`ModelError`]: files that cannot be read or do not fit, no signal anywhere, or a loss that is no number.
pub fn train(
    task: &TrainTask,
    processor: &Processor,
    report: &mut Report<'_>,
) -> Result<TaskResult, ModelError> {
    let classes = task.architecture.classes;
    let cases = task
        .cases
        .iter()
        .map(|case| {
            Case::read(
                &case.id,
                &case.images,
                Some(&case.mask),
                case.plane,
                task.intensity,
                classes,
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    train_on(task, processor, &cases, report)
}

/// [`train`] on cases that are already in memory.
pub(super) fn train_on(
    task: &TrainTask,
    processor: &Processor,
    cases: &[Case],
    report: &mut Report<'_>,
) -> Result<TaskResult, ModelError> {
    let start = Instant::now();
    let training = &task.training;
    let rng = Rng::new(training.seed);
    let channels = task.architecture.channels;
    cases.iter().try_for_each(|case| case.check_channels(channels))?;
    let field = field(&task.architecture);
    let (learn, mut check) = split(cases, field, &mut rng.fork("validation"));
    if learn.len() == 0 {
        return Err(ModelError::NoSignal { cases: cases.len() });
    }
    if check.len() == 0 {
        // A single slice in all: it has to do for both.
        check = learn.clone();
    }
    let pool = processor.pool(training.threads)?;
    processor.set_precision(task.precision);
    let (mut keeper, found) = Keeper::open(task)?;
    let found = match found.transpose() {
        Ok(found) => found,
        Err(why) => {
            let words = format!("what was kept of this training cannot be used ({why}): it begins anew");
            let _ = report(Progress::Notice(words));
            None
        }
    };
    let mut student = Student::new(task, processor, &rng, found.as_ref().map(|found| &found.last))?;
    let (mut state, mut best) = match found {
        Some(found) => (found.state, Some(found.best)),
        None => {
            let state = State {
                curve: Vec::new(),
                best: None,
                shuffle: rng.fork("shuffle"),
                batch: field.tiles(training.batch),
                seconds: 0.0,
            };
            (state, None)
        }
    };
    let before_s = state.seconds;
    let lessons = Lesson::all(task, cases, &learn, &rng);
    // Tiles of a rare class, and of them those that one member leaves out, are spread over the batches.
    let leavers: Vec<Option<usize>> = (0..learn.len())
        .map(|tile| lessons.iter().position(|lesson| !lesson.teaches(tile)))
        .collect();
    let keys: Vec<(usize, Option<usize>)> = learn.rarity().into_iter().zip(leavers).collect();
    // What is known already is told again: whoever asks has forgotten it.
    for row in &state.curve {
        if report(Progress::Epoch(row.clone())).is_break() {
            return Ok(TaskResult::Cancelled);
        }
    }
    // Steps that are left, where they are counted; `None` at the end.
    let left = |state: &State, taken: usize| match training.steps {
        0 => {
            let best = state.best.map_or(0, |(epoch, _)| epoch);
            let is_at_end =
                state.curve.len() >= training.max_epochs || state.curve.len() - best >= training.patience;
            (!is_at_end).then_some(usize::MAX)
        }
        steps => steps.checked_sub(taken).filter(|left| *left > 0),
    };
    while let Some(left) = left(&state, student.learning.adam.steps as usize) {
        let epoch = state.curve.len() + 1;
        let began = Instant::now();
        let samples = state.shuffle.fork("samples");
        let mut batches = deal(&keys, state.batch, &mut state.shuffle);
        let epochs = match training.steps {
            0 => training.max_epochs,
            _ => epoch - 1 + left.div_ceil(batches.len()),
        };
        batches.truncate(left);
        let mut run = Epoch::new(epoch, epochs, batches);
        let draw = |tiles: &[usize]| {
            let lessons = lessons.iter();
            lessons
                .map(|lesson| lesson.batch(tiles, &samples, processor.device()))
                .collect()
        };
        let loss = with_batch(&mut state.batch, report, |batch, report| {
            run.shrink(batch);
            pool.install(|| student.epoch(&mut run, &draw, report))
        })?;
        let Some(loss) = loss else {
            return Ok(TaskResult::Cancelled);
        };
        let dice = with_batch(&mut state.batch, report, |batch, _| {
            Ok(pool.install(|| student.dice(&check, batch))?)
        })?;
        // Without a class to measure no epoch is better than the first.
        let score = mean_of_known(dice.iter().copied()).unwrap_or(0.0);
        // An ensemble that has not all its members yet is kept only until there is another.
        let score = if student.is_whole() { score } else { UNFINISHED };
        if state
            .best
            .is_none_or(|(_, highest)| score > highest || highest == UNFINISHED)
        {
            best = Some(student.checkpoint(training.seed, epoch)?);
            state.best = Some((epoch, score));
        }
        let seconds = began.elapsed().as_secs_f64();
        let row = EpochReport {
            epoch,
            loss,
            dice,
            best_epoch: state.best.map_or(0, |(epoch, _)| epoch),
            seconds,
        };
        state.curve.push(row.clone());
        state.seconds = before_s + start.elapsed().as_secs_f64();
        if let Some(best) = best.as_ref().filter(|_| keeper.is_due()) {
            let last = student.checkpoint(training.seed, epoch)?;
            if let Err(error) = keeper.keep(&state, &last, best) {
                // A full disk is no reason to stop learning.
                let _ = report(Progress::Notice(format!(
                    "the training's state could not be kept: {error}"
                )));
            }
        }
        if report(Progress::Epoch(row)).is_break() {
            return Ok(TaskResult::Cancelled);
        }
    }
    if let Some(checkpoint) = best {
        checkpoint::save(&checkpoint, &task.weights, false)?;
    }
    Ok(TaskResult::Trained(Trained {
        best_epoch: state.best.map_or(0, |(epoch, _)| epoch),
        curve: state.curve,
        seconds: before_s + start.elapsed().as_secs_f64(),
    }))
}

#[cfg(test)]
pub(super) mod tests;
