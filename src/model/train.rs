//! Learning: tiles of labelled cases in, the best epoch's weights out.
//!
//! An epoch is one pass over the training tiles that have signal, dealt into batches anew each time. After each, hard
//! Dice over all validation pixels says how good the network is; the mean over the classes that occur is the score, and
//! training ends when `patience` epochs have not raised it, or after a number of steps. Same seed and data: same weights to the bit, for any number
//! of threads.

mod resume;
mod samples;
mod tiles;

use std::collections::VecDeque;
use std::time::Instant;

use candle_core::{Device, Tensor, Var};

use super::checkpoint::{self, Checkpoint, Header};
use super::data::Case;
use super::judge::best_classes;
use super::learning::Learning;
use super::loss::Measured;
use super::network::{field, parameters};
use super::processor::with_batch;
use super::{ModelError, Processor, Report};
use crate::imaging::Rng;
use crate::metrics::dice;
use crate::records::{EpochReport, Progress, TaskResult, TrainTask, Trained, mean_of_known};
use crate::settings::Part;
use resume::{Keeper, State};
use samples::Sampler;
use tiles::{Tiles, deal, split};

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
    let rarity = learn.rarity();
    let sampler = Sampler::new(training, cases, &learn);
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
        let mut batches = deal(&rarity, state.batch, &mut state.shuffle);
        batches.truncate(left);
        let mut run = Epoch::new(epoch, batches);
        let draw = |tiles: &[usize]| match &sampler {
            Some(sampler) => sampler.batch(tiles, &samples, processor.device()),
            None => learn.batch(tiles, processor.device()),
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
        if state.best.is_none_or(|(_, highest)| score > highest) {
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

/// A pass over all tiles that can be taken up again where it stopped.
struct Epoch {
    /// From 1.
    number: usize,
    left: VecDeque<Vec<usize>>,
    steps: usize,
    /// Of the losses that were looked at.
    sum: f64,
    /// Of every member.
    under_way: Vec<Measured>,
}

impl Epoch {
    fn new(number: usize, batches: Vec<Vec<usize>>) -> Epoch {
        Epoch {
            number,
            left: batches.into(),
            steps: 0,
            sum: 0.0,
            under_way: Vec::new(),
        }
    }

    /// Splits what is left into batches of at most `batch` tiles.
    fn shrink(&mut self, batch: usize) {
        let left = std::mem::take(&mut self.left);
        let parts = left
            .iter()
            .flat_map(|tiles| tiles.chunks(batch).map(<[usize]>::to_vec));
        self.left = parts.collect();
    }

    /// Adds the mean of the members' losses.
    fn look(&mut self, members: &[Measured]) -> Result<(), ModelError> {
        for member in members {
            let loss = member.loss()?;
            if !loss.is_finite() {
                return Err(ModelError::Diverged {
                    loss,
                    epoch: self.number,
                });
            }
            self.sum += loss / members.len() as f64;
        }
        Ok(())
    }
}

/// Inputs and classes of some tiles.
type Draw<'a> = dyn Fn(&[usize]) -> candle_core::Result<(Tensor, Tensor)> + Sync + 'a;

/// The learning rate when a share of a training is done.
///
/// Source: "poly" of Chen et al., DeepLab, 2017, as nnU-Net has it.
fn fallen(rate: f64, done: f64) -> f64 {
    rate * (1.0 - done.clamp(0.0, 1.0)).powf(0.9)
}

/// A network that learns.
struct Student<'a> {
    task: &'a TrainTask,
    device: &'a Device,
    learning: Learning,
}

impl<'a> Student<'a> {
    /// A network with the task's first weights, or with those, and the optimizer, of a training that goes on.
    fn new(
        task: &'a TrainTask,
        processor: &'a Processor,
        rng: &Rng,
        goes_on: Option<&Checkpoint>,
    ) -> Result<Self, ModelError> {
        let device = processor.device();
        let shape = task.architecture;
        let rng = rng.fork("weights");
        let start = task
            .start
            .as_ref()
            .filter(|_| goes_on.is_none())
            .map(|path| checkpoint::load(path, &shape, Some(&rng), device))
            .transpose()?;
        let weights = parameters(&shape)
            .into_iter()
            .map(|parameter| {
                let var = match &start {
                    Some(start) => Var::from_tensor(&start[&parameter.name]),
                    None => Var::from_vec(parameter.drawn(&rng), parameter.shape(), device),
                };
                Ok((parameter.name, var?))
            })
            .collect::<candle_core::Result<Vec<(String, Var)>>>()?;
        let training = &task.training;
        let mut learning = Learning::new(shape, weights, training.objective(), training.learning_rate)?;
        if let Some(before) = goes_on {
            let adam = &mut learning.adam;
            adam.steps = before.header.step;
            for (learner, (_, values, moments)) in adam.learners.iter_mut().zip(&before.learned) {
                let shape = learner.weight.shape().clone();
                learner.weight.set(&Tensor::from_slice(values, shape, device)?)?;
                learner.moments = Tensor::from_slice(moments, (2, values.len()), device)?;
            }
        }
        Ok(Student {
            task,
            device,
            learning,
        })
    }

    /// The steps that an epoch has left, and the mean loss of all of them; `None` when `report` says so.
    ///
    /// A step's loss is looked at when the next step is under way, so that a GPU is not waited for in between. A loss that is
    /// no number has moved the weights by then, which are thrown away.
    fn epoch(
        &mut self,
        epoch: &mut Epoch,
        draw: &Draw<'_>,
        report: &mut Report<'_>,
    ) -> Result<Option<f64>, ModelError> {
        let training = &self.task.training;
        while let Some(batch) = epoch.left.front() {
            let done = match training.steps {
                0 => {
                    let share = epoch.steps as f64 / (epoch.steps + epoch.left.len()) as f64;
                    (epoch.number as f64 - 1.0 + share) / training.max_epochs as f64
                }
                steps => self.learning.adam.steps as f64 / steps as f64,
            };
            if training.has(Part::Poly) {
                self.learning.adam.rate = fallen(training.learning_rate, done);
            }
            let (images, classes) = draw(batch)?;
            let losses = self.learning.step(&images, &classes, fallen(1.0, done))?;
            epoch.left.pop_front();
            epoch.steps += 1;
            let before = std::mem::replace(&mut epoch.under_way, losses);
            epoch.look(&before)?;
            let progress = Progress::Step {
                epoch: epoch.number,
                max_epochs: self.task.training.max_epochs,
                step: epoch.steps,
                steps: epoch.steps + epoch.left.len(),
            };
            if report(progress).is_break() {
                return Ok(None);
            }
        }
        let last = std::mem::take(&mut epoch.under_way);
        epoch.look(&last)?;
        Ok(Some(epoch.sum / epoch.steps as f64))
    }

    /// Dice of all pixels of `tiles` that lie in their slices.
    fn dice(&self, tiles: &Tiles, batch: usize) -> candle_core::Result<Vec<Option<f64>>> {
        let m = self.task.architecture.classes;
        let (mut drawn, mut known) = (Vec::new(), Vec::new());
        let all: Vec<usize> = (0..tiles.len()).collect();
        let net = self.learning.net.frozen();
        let field = net.field();
        for batch in all.chunks(batch) {
            let (images, _) = tiles.batch(batch, self.device)?;
            let classes = best_classes(&net.forward(&images)?)?;
            for (classes, &tile) in classes.chunks_exact(field.pixels()).zip(batch) {
                for (at, class) in tiles.known(tile) {
                    drawn.push(classes[at]);
                    known.push(class);
                }
            }
        }
        Ok(dice(&drawn, &known, m))
    }

    fn checkpoint(&self, seed: u64, epoch: usize) -> candle_core::Result<Checkpoint> {
        let learned = self.learning.adam.learners.iter().map(|learner| {
            let weight = learner.weight.flatten_all()?.to_vec1()?;
            Ok((
                learner.name.clone(),
                weight,
                learner.moments.flatten_all()?.to_vec1()?,
            ))
        });
        Ok(Checkpoint {
            header: Header::new(self.task.architecture, self.learning.adam.steps, seed, epoch),
            learned: learned.collect::<candle_core::Result<_>>()?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
