//! A network that learns: its first weights, an epoch's steps, how good it is, and what is kept of it.

use std::collections::VecDeque;

use candle_core::{Device, Tensor};

use super::tiles::Tiles;
use crate::imaging::Rng;
use crate::metrics::dice;
use crate::model::checkpoint::{self, Checkpoint, Header};
use crate::model::judge::best_classes;
use crate::model::learning::Learning;
use crate::model::loss::Measured;
use crate::model::network::{Net, parameters};
use crate::model::{ModelError, Processor, Report};
use crate::records::{Architecture, Progress, TrainTask};
use crate::settings::{Ensemble, Part};

/// A pass over all tiles that can be taken up again where it stopped.
pub struct Epoch {
    /// From 1.
    number: usize,
    /// Of how many at most.
    of: usize,
    /// Batches to come.
    pub left: VecDeque<Vec<usize>>,
    steps: usize,
    /// Of the losses that were looked at.
    sum: f64,
    /// Of every member.
    under_way: Vec<Measured>,
}

impl Epoch {
    /// One of these batches.
    pub fn new(number: usize, of: usize, batches: Vec<Vec<usize>>) -> Epoch {
        Epoch {
            number,
            of,
            left: batches.into(),
            steps: 0,
            sum: 0.0,
            under_way: Vec::new(),
        }
    }

    /// Splits what is left into batches of at most `batch` tiles.
    pub fn shrink(&mut self, batch: usize) {
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

/// Inputs and classes of some tiles: for all members, or for each.
type Draw<'a> = dyn Fn(&[usize]) -> candle_core::Result<Vec<(Tensor, Tensor)>> + Sync + 'a;

/// The learning rate when a share of a training is done.
///
/// Source: "poly" of Chen et al., DeepLab, 2017, as nnU-Net has it.
pub(super) fn fallen(rate: f64, done: f64) -> f64 {
    rate * (1.0 - done.clamp(0.0, 1.0)).powf(0.9)
}

/// The same within one of so many cycles, from the top to 0 along a cosine.
///
/// Source: Huang et al., Snapshot ensembles: train 1, get M for free, ICLR 2017.
pub(super) fn annealed(rate: f64, done: f64, cycles: usize) -> f64 {
    let within = (done * cycles as f64).fract();
    rate / 2.0 * (1.0 + (std::f64::consts::PI * within).cos())
}

/// A network that learns.
pub struct Student<'a> {
    task: &'a TrainTask,
    device: &'a Device,
    /// Every member, or, of an ensemble of snapshots, the first.
    pub learning: Learning,
    /// The weights of each other member, where there are such.
    snapshots: Vec<Vec<(String, Tensor)>>,
    /// Whether there are such that were learnt before: until a snapshot is taken they stand, and else the first member does.
    are_learnt: bool,
}

impl<'a> Student<'a> {
    /// A network with the task's first weights, or with those, and the optimizer, of a training that goes on.
    ///
    /// # Errors
    /// Weights that cannot be read, or do not fit.
    pub fn new(
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
        let mut before = goes_on.iter().flat_map(|before| &before.learned);
        let mut weights = parameters(&shape)
            .into_iter()
            .map(|parameter| {
                let values = match (before.next(), &start) {
                    (Some((_, values, _)), _) => Tensor::from_slice(values, parameter.shape(), device),
                    (None, Some(start)) => Ok(start[&parameter.name].clone()),
                    (None, None) => Tensor::from_vec(parameter.drawn(&rng), parameter.shape(), device),
                };
                Ok((parameter.name, values?))
            })
            .collect::<candle_core::Result<Vec<(String, Tensor)>>>()?;
        let training = &task.training;
        let learns = learner_of(task);
        let others = weights.split_off(parameters(&learns).len());
        let mut learning = Learning::new(learns, weights, training.objective(), training.learning_rate)?;
        let snapshots = others.chunks(learning.adam.learners.len()).map(<[_]>::to_vec);
        let snapshots: Vec<_> = snapshots.collect();
        // Of other classes the last layers are drawn anew.
        let are_learnt = match task.start.as_ref().filter(|_| !snapshots.is_empty()) {
            Some(path) => checkpoint::header_of(path)?.architecture.classes == shape.classes,
            None => false,
        };
        if let Some(before) = goes_on {
            let adam = &mut learning.adam;
            adam.steps = before.header.step;
            for (learner, (_, values, moments)) in adam.learners.iter().zip(&before.learned) {
                learner.set_moments(&Tensor::from_slice(moments, (2, values.len()), device)?)?;
            }
        }
        Ok(Student {
            task,
            device,
            learning,
            snapshots,
            are_learnt,
        })
    }

    /// The steps that an epoch has left, and the mean loss of all of them; `None` when `report` says so.
    ///
    /// A step's loss is looked at when the next step is under way, so that a GPU is not waited for in between. A loss that is
    /// no number has moved the weights by then, which are thrown away.
    ///
    /// # Errors
    /// A loss that is no number, and what goes wrong on a GPU.
    pub fn epoch(
        &mut self,
        epoch: &mut Epoch,
        draw: &Draw<'_>,
        report: &mut Report<'_>,
    ) -> Result<Option<f64>, ModelError> {
        let training = &self.task.training;
        while let Some(batch) = epoch.left.front() {
            // Of batches that were split there are more than steps left.
            if training.steps > 0 && self.learning.adam.steps as usize >= training.steps {
                epoch.left.clear();
                break;
            }
            let done = match training.steps {
                0 => {
                    let share = epoch.steps as f64 / (epoch.steps + epoch.left.len()) as f64;
                    (epoch.number as f64 - 1.0 + share) / epoch.of as f64
                }
                steps => self.learning.adam.steps as f64 / steps as f64,
            };
            let cycles = self.snapshots.len() + 1;
            let rate = training.learning_rate;
            self.learning.adam.rate = match training.ensemble {
                Ensemble::Snapshots => annealed(rate, done, cycles),
                _ if training.has(Part::Poly) => fallen(rate, done),
                _ => rate,
            };
            let losses = self.learning.step(&draw(batch)?, fallen(1.0, done))?;
            epoch.left.pop_front();
            self.keep_snapshot()?;
            epoch.steps += 1;
            let before = std::mem::replace(&mut epoch.under_way, losses);
            epoch.look(&before)?;
            let progress = Progress::Step {
                epoch: epoch.number,
                max_epochs: epoch.of,
                step: epoch.steps,
                steps: epoch.steps + epoch.left.len(),
            };
            if report(progress).is_break() {
                return Ok(None);
            }
        }
        let last = std::mem::take(&mut epoch.under_way);
        epoch.look(&last)?;
        Ok(Some(epoch.sum / epoch.steps.max(1) as f64))
    }

    /// Dice of all pixels of `tiles` that lie in their slices.
    ///
    /// # Errors
    /// What goes wrong on a GPU.
    pub fn dice(&self, tiles: &Tiles, batch: usize) -> candle_core::Result<Vec<Option<f64>>> {
        let m = self.task.architecture.classes;
        let (mut drawn, mut known) = (Vec::new(), Vec::new());
        let all: Vec<usize> = (0..tiles.len()).collect();
        let net = self.net()?.frozen(batch);
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

    /// Cycles that have ended after so many steps.
    fn ended(&self, steps: u64) -> usize {
        match self.snapshots.len() {
            0 => 0,
            // Snapshots are taken of a training of so many steps.
            others => steps as usize * (others + 1) / self.task.training.steps.max(1),
        }
    }

    /// Whether every member is one that learnt something of its own.
    pub fn is_whole(&self) -> bool {
        self.are_learnt || self.ended(self.learning.adam.steps) >= self.snapshots.len()
    }

    /// At the end of a cycle but the last, another member becomes what the first one is.
    fn keep_snapshot(&mut self) -> candle_core::Result<()> {
        let taken = self.learning.adam.steps;
        let ended = self.ended(taken);
        if ended > self.ended(taken - 1)
            && let Some(member) = self.snapshots.get(ended - 1)
        {
            for ((_, kept), learner) in member.iter().zip(&self.learning.adam.learners) {
                // In place: a step that was taken is not taken again where memory is full.
                kept.slice_set(&learner.weight, 0, 0)?;
            }
        }
        Ok(())
    }

    /// The weights of every other member: what it kept, or what it was before; the first member's where it has neither.
    fn others(&self) -> impl Iterator<Item = (&String, Tensor)> {
        let ended = self.ended(self.learning.adam.steps);
        self.snapshots.iter().enumerate().flat_map(move |(n, member)| {
            let is_its_own = n < ended || self.are_learnt;
            let learners = self.learning.adam.learners.iter();
            member.iter().zip(learners).map(move |((name, kept), learner)| {
                let values = if is_its_own { kept } else { &learner.weight };
                (name, values.clone())
            })
        })
    }

    /// The network as it draws: every member.
    fn net(&self) -> candle_core::Result<Net> {
        if self.snapshots.is_empty() {
            return Ok(self.learning.net.clone());
        }
        let learners = self.learning.adam.learners.iter();
        let first = learners.map(|learner| (&learner.name, learner.weight.clone()));
        let all = first.chain(self.others());
        Net::new(
            self.task.architecture,
            all.map(|(name, values)| (name.clone(), values)).collect(),
        )
    }

    /// The network as it is, for a file.
    ///
    /// # Errors
    /// What goes wrong on a GPU.
    pub fn checkpoint(&self, seed: u64, epoch: usize) -> candle_core::Result<Checkpoint> {
        let learned = self.learning.adam.learners.iter().map(|learner| {
            let (weight, moments) = learner.values()?;
            Ok((learner.name.clone(), weight, moments))
        });
        let kept = self.others().map(|(name, values)| {
            let values: Vec<f32> = values.flatten_all()?.to_vec1()?;
            let moments = vec![0.0; 2 * values.len()];
            Ok((name.clone(), values, moments))
        });
        Ok(Checkpoint {
            header: Header::new(self.task.architecture, self.learning.adam.steps, seed, epoch),
            learned: learned.chain(kept).collect::<candle_core::Result<_>>()?,
        })
    }
}

/// What learns: the network, or the first member of an ensemble of snapshots.
fn learner_of(task: &TrainTask) -> Architecture {
    let shape = task.architecture;
    match task.training.ensemble {
        Ensemble::Snapshots => Architecture {
            networks: shape.networks.first(),
            ..shape
        },
        Ensemble::Seeds | Ensemble::Folds => shape,
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use candle_core::DType;

    use super::super::tests::task;
    use super::*;

    /// As when a memory is full: what was split is more batches than there are steps left.
    #[test]
    fn an_epoch_of_counted_steps_ends_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut task = task(&folder.path().join("weights"), 1);
        task.training.steps = 3;
        let processor = Processor::CPU;
        let mut student = Student::new(&task, &processor, &Rng::new(1), None).unwrap();
        let mut epoch = Epoch::new(1, 1, vec![vec![0, 1], vec![2, 3], vec![4, 5]]);
        epoch.shrink(1);
        let draw = |tiles: &[usize]| {
            let edge = 16;
            let images = Tensor::ones((tiles.len(), edge, edge, 1), DType::F32, &Device::Cpu)?;
            Ok(vec![(
                images,
                Tensor::zeros((tiles.len(), edge, edge), DType::U8, &Device::Cpu)?,
            )])
        };
        let mut steps = 0;
        let loss = student.epoch(&mut epoch, &draw, &mut |_| {
            steps += 1;
            ControlFlow::Continue(())
        });
        assert!(loss.unwrap().is_some_and(f64::is_finite));
        assert_eq!((steps, student.learning.adam.steps, epoch.left.len()), (3, 3, 0));
    }
}
