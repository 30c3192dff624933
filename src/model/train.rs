//! Learning: tiles of labelled cases in, the best epoch's weights out.
//!
//! An epoch is one pass over the training tiles that have signal, in a seeded random order; the last batch may be
//! smaller. After each, hard Dice over all validation pixels says how good the network is; the mean over the classes
//! that occur is the score, and training ends when `patience` epochs have not raised it. Same seed and data: same
//! weights to the bit, for any number of threads.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::time::Instant;

use candle_core::{Device, Tensor, Var};

use super::adam::Adam;
use super::checkpoint::{self, Checkpoint, Header};
use super::data::{Case, TILE, TILE_PIXELS};
use super::error::pool;
use super::loss::loss;
use super::unet::{UNet, parameters};
use super::{ModelError, predict::best_class};
use crate::imaging::Rng;
use crate::metrics::dice;
use crate::records::{EpochReport, Progress, TaskResult, TrainTask, Trained, mean_of_known};

/// From this many cases on, whole cases are held out for validation instead of slices of each.
const WHOLE_CASES: usize = 5;

/// Trains as `task` says and writes the best weights; stops early when `report` says so, and writes nothing then.
///
/// # Errors
/// [`ModelError`]: files that cannot be read or do not fit, no signal anywhere, or a loss that is no number.
pub fn train(
    task: &TrainTask,
    report: &mut dyn FnMut(Progress) -> ControlFlow<()>,
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
    train_on(task, &cases, report)
}

/// [`train`] on cases that are already in memory.
pub(super) fn train_on(
    task: &TrainTask,
    cases: &[Case],
    report: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<TaskResult, ModelError> {
    let start = Instant::now();
    let training = &task.training;
    let rng = Rng::new(training.seed);
    let channels = task.architecture.channels;
    if let Some(case) = cases.iter().find(|case| case.channels.len() != channels) {
        let problem = format!(
            "it has {} images, but the network takes {channels}",
            case.channels.len()
        );
        return Err(ModelError::Case {
            case: case.id.clone(),
            problem,
        });
    }
    let (learn, mut check) = split(cases, channels, &mut rng.fork("validation"));
    if learn.len() == 0 {
        return Err(ModelError::NoSignal { cases: cases.len() });
    }
    if check.len() == 0 {
        // A single slice in all: it has to do for both.
        check = learn.clone();
    }
    let pool = pool(training.threads)?;
    let mut student = Student::new(task, &rng)?;
    let mut shuffle = rng.fork("shuffle");
    let mut order: Vec<usize> = (0..learn.len()).collect();
    let mut curve: Vec<EpochReport> = Vec::new();
    let mut best: Option<(f64, Checkpoint)> = None;
    let mut best_epoch = 0;
    for epoch in 1..=training.max_epochs {
        let began = Instant::now();
        shuffle.shuffle(&mut order);
        let steps = order.len().div_ceil(training.batch);
        let mut sum = 0.0;
        for (step, batch) in order.chunks(training.batch).enumerate() {
            let loss = pool.install(|| student.step(&learn, batch))?;
            if !loss.is_finite() {
                return Err(ModelError::Diverged { loss, epoch });
            }
            sum += loss;
            let progress = Progress::Step {
                epoch,
                max_epochs: training.max_epochs,
                step: step + 1,
                steps,
            };
            if report(progress).is_break() {
                return Ok(TaskResult::Cancelled);
            }
        }
        let dice = pool.install(|| student.dice(&check, training.batch))?;
        // Without a class to measure no epoch is better than the first.
        let score = mean_of_known(dice.iter().copied()).unwrap_or(0.0);
        if best.as_ref().is_none_or(|(highest, _)| score > *highest) {
            best = Some((score, student.checkpoint(training.seed, epoch)?));
            best_epoch = epoch;
        }
        let seconds = began.elapsed().as_secs_f64();
        let row = EpochReport {
            epoch,
            loss: sum / steps as f64,
            dice,
            best_epoch,
            seconds,
        };
        curve.push(row.clone());
        if report(Progress::Epoch(row)).is_break() {
            return Ok(TaskResult::Cancelled);
        }
        if epoch - best_epoch >= training.patience {
            break;
        }
    }
    if let Some((_, checkpoint)) = best {
        checkpoint::save(&checkpoint, &task.weights)?;
    }
    Ok(TaskResult::Trained(Trained {
        curve,
        best_epoch,
        seconds: start.elapsed().as_secs_f64(),
    }))
}

/// A network that learns, seen twice: with its graph for training, without for validation.
struct Student<'a> {
    task: &'a TrainTask,
    net: UNet,
    plain: UNet,
    adam: Adam,
}

impl<'a> Student<'a> {
    fn new(task: &'a TrainTask, rng: &Rng) -> Result<Self, ModelError> {
        let shape = task.architecture;
        let rng = rng.fork("weights");
        let start = task
            .start
            .as_ref()
            .map(|path| checkpoint::load(path, &shape, Some(&rng)))
            .transpose()?;
        let weights = parameters(&shape)
            .into_iter()
            .map(|parameter| {
                let var = match &start {
                    Some(start) => Var::from_tensor(&start[&parameter.name]),
                    None => Var::from_vec(parameter.drawn(&rng), parameter.shape(), &Device::Cpu),
                };
                Ok((parameter.name, var?))
            })
            .collect::<candle_core::Result<Vec<(String, Var)>>>()?;
        let graph: HashMap<_, _> = weights
            .iter()
            .map(|(n, var)| (n.clone(), var.as_tensor().clone()))
            .collect();
        // Shares the values, so that it sees every step.
        let plain = graph
            .iter()
            .map(|(n, tensor)| (n.clone(), tensor.detach()))
            .collect();
        Ok(Student {
            task,
            net: UNet::new(shape, graph)?,
            plain: UNet::new(shape, plain)?,
            adam: Adam::new(weights, task.training.learning_rate)?,
        })
    }

    fn step(&mut self, tiles: &Tiles, batch: &[usize]) -> candle_core::Result<f64> {
        let (images, classes) = tiles.batch(batch)?;
        let loss = loss(self.task.training.loss, &self.net.forward(&images)?, &classes)?;
        let value = loss.to_scalar::<f32>()?;
        if value.is_finite() {
            self.adam.step(&loss.backward()?)?;
        }
        Ok(f64::from(value))
    }

    /// Dice of all pixels of `tiles` that lie in their slices.
    fn dice(&self, tiles: &Tiles, batch: usize) -> candle_core::Result<Vec<Option<f64>>> {
        let m = self.task.architecture.classes;
        let (mut drawn, mut known) = (Vec::new(), Vec::new());
        let all: Vec<usize> = (0..tiles.len()).collect();
        for batch in all.chunks(batch) {
            let (images, _) = tiles.batch(batch)?;
            let logits = self.plain.forward(&images)?.flatten_all()?.to_vec1::<f32>()?;
            for (logits, &tile) in logits.chunks_exact(TILE_PIXELS * m).zip(batch) {
                let (width, height) = tiles.inside[tile];
                for at in (0..height).flat_map(|y| (0..width).map(move |x| y * TILE + x)) {
                    drawn.push(best_class(&logits[at * m..][..m]));
                    known.push(tiles.classes[tile * TILE_PIXELS + at]);
                }
            }
        }
        Ok(dice(&drawn, &known, m))
    }

    fn checkpoint(&self, seed: u64, epoch: usize) -> candle_core::Result<Checkpoint> {
        let learned = self.adam.learners.iter().map(|learner| {
            let weight = learner.weight.flatten_all()?.to_vec1()?;
            Ok((
                learner.name.clone(),
                weight,
                learner.moments.flatten_all()?.to_vec1()?,
            ))
        });
        Ok(Checkpoint {
            header: Header::new(self.task.architecture, self.adam.steps, seed, epoch),
            learned: learned.collect::<candle_core::Result<_>>()?,
        })
    }
}

/// Tiles with signal, and the part of each that lies in its slice.
#[derive(Clone)]
struct Tiles {
    channels: usize,
    inputs: Vec<f32>,
    classes: Vec<u8>,
    inside: Vec<(usize, usize)>,
}

impl Tiles {
    fn new(channels: usize) -> Tiles {
        Tiles {
            channels,
            inputs: Vec::new(),
            classes: Vec::new(),
            inside: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.inside.len()
    }

    /// Adds the tiles with signal of one slice.
    fn add(&mut self, case: &Case, slice: usize) {
        let mut input = vec![0.0; TILE_PIXELS * self.channels];
        let mut classes = vec![0; TILE_PIXELS];
        for tile in 0..case.tiling().tiles() {
            if case.cut(slice, tile, &mut input) {
                case.cut_mask(slice, tile, &mut classes);
                let window = case.tiling().window(tile);
                self.inputs.extend_from_slice(&input);
                self.classes.extend_from_slice(&classes);
                self.inside
                    .push((window.right - window.left, window.bottom - window.top));
            }
        }
    }

    fn batch(&self, batch: &[usize]) -> candle_core::Result<(Tensor, Tensor)> {
        let size = TILE_PIXELS * self.channels;
        let inputs: Vec<f32> = batch
            .iter()
            .flat_map(|&t| &self.inputs[t * size..][..size])
            .copied()
            .collect();
        let classes: Vec<u8> = batch
            .iter()
            .flat_map(|&t| &self.classes[t * TILE_PIXELS..][..TILE_PIXELS])
            .copied()
            .collect();
        Ok((
            Tensor::from_vec(inputs, (batch.len(), TILE, TILE, self.channels), &Device::Cpu)?,
            Tensor::from_vec(classes, (batch.len(), TILE, TILE), &Device::Cpu)?,
        ))
    }
}

/// The tiles to learn from and those to check with.
fn split(cases: &[Case], channels: usize, rng: &mut Rng) -> (Tiles, Tiles) {
    let (mut learn, mut check) = (Tiles::new(channels), Tiles::new(channels));
    for (case, held_out) in cases.iter().zip(held_out(cases, rng)) {
        for slice in 0..case.slices() {
            let tiles = if held_out.contains(&slice) {
                &mut check
            } else {
                &mut learn
            };
            tiles.add(case, slice);
        }
    }
    (learn, check)
}

/// The slices of each case that are held out for validation.
///
/// With fewer than 5 cases: of each case, a run of a tenth of its slices with signal (at least one, if there are
/// two), at a random place. Neighbouring slices look alike, so a run tells more than scattered slices would. From 5
/// cases on: all slices of a tenth of the cases, rounded up, and none of the others.
fn held_out(cases: &[Case], rng: &mut Rng) -> Vec<Range<usize>> {
    if cases.len() >= WHOLE_CASES {
        let mut order: Vec<usize> = (0..cases.len()).collect();
        rng.shuffle(&mut order);
        let chosen = &order[..cases.len().div_ceil(10)];
        let all = |(n, case): (usize, &Case)| {
            if chosen.contains(&n) {
                0..case.slices()
            } else {
                0..0
            }
        };
        return cases.iter().enumerate().map(all).collect();
    }
    let mut input = vec![0.0; TILE_PIXELS * cases.iter().map(|case| case.channels.len()).max().unwrap_or(0)];
    let mut run_of = |case: &Case| {
        let input = &mut input[..TILE_PIXELS * case.channels.len()];
        let signal: Vec<usize> = (0..case.slices())
            .filter(|&slice| (0..case.tiling().tiles()).any(|tile| case.cut(slice, tile, input)))
            .collect();
        if signal.len() < 2 {
            return 0..0;
        }
        let length = (signal.len() / 10).max(1);
        let first = rng.below(signal.len() - length + 1);
        signal[first]..signal[first + length - 1] + 1
    };
    cases.iter().map(&mut run_of).collect()
}

#[cfg(test)]
mod tests;
