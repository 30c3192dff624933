//! What the runs of an experiment came to.

use serde::{Deserialize, Serialize};

use super::{Experiment, QueryStrategy, Run, System};
use crate::records::{CaseId, ClassEffort, EpochReport, Machine, Round, mean_of_known};

/// What a round came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Labelled cases that it learnt from.
    pub labelled: usize,
    /// Their share of all cases that are not measured on.
    pub fraction: f64,
    /// The cases that it had asked for.
    pub asked: Vec<CaseId>,
    /// Mean Dice over the measured cases, per class (background left out).
    pub dice: Vec<Option<f64>>,
    /// Saved effort of the cases that it had asked for, per class; empty where it asked for none.
    pub effort: Vec<ClassEffort>,
    /// The same where a contour within a pixel counts as right.
    pub near_effort: Vec<ClassEffort>,
    /// Seconds of training.
    pub training_s: f64,
    /// Seconds of drawing: the pool and the measured cases.
    pub predicting_s: f64,
}

impl Point {
    /// A closed round, or what an open one has come to so far.
    pub fn of(round: &Round, run: &Run) -> Point {
        let all = run.labelled.len() + run.pool.len();
        Point {
            labelled: round.labelled,
            fraction: round.labelled as f64 / all as f64,
            asked: round.queried.clone(),
            dice: round.held_out_dice.clone(),
            effort: round.effort.clone(),
            near_effort: Vec::new(),
            training_s: round.training_s,
            predicting_s: round.predicting_s,
        }
    }

    /// The mean over the classes; `None` where nothing was measured.
    pub fn mean_dice(&self) -> Option<f64> {
        mean_of_known(self.dice.iter().copied())
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunOutcome {
    /// Its name.
    pub name: String,
    /// Its fold, from 1.
    pub fold: usize,
    /// Its seed.
    pub seed: u64,
    /// What it trained.
    pub system: System,
    /// How it asked.
    pub strategy: QueryStrategy,
    /// Its rounds, in their order.
    pub points: Vec<Point>,
    /// The epochs of the last training.
    pub curve: Vec<EpochReport>,
    /// Seconds to read and draw one measured case, on the mean.
    pub seconds_a_case: Option<f64>,
    /// Effort that a person would have been saved on the measured cases, per class, pooled; with everything
    /// labelled alone, else empty.
    pub held_out_effort: Vec<ClassEffort>,
    /// The same where a contour within a pixel counts as right.
    pub held_out_near_effort: Vec<ClassEffort>,
    /// Mean Dice per class over the measured cases of what most labelled masks have at each voxel: what a network has to beat. With
    /// everything labelled and all of it of one size, else empty.
    pub majority_dice: Vec<Option<f64>>,
    /// Files that the inbox held and the stand-in annotator accepted.
    pub held: usize,
}

/// All that came of an experiment so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The version of overtrace.
    pub version: String,
    /// The experiment, as it was asked for.
    pub experiment: Experiment,
    /// BLAKE3 of every case's files: images, then the mask.
    pub files: Vec<(CaseId, Vec<String>)>,
    /// That of the weights that it began with.
    pub weights: Option<String>,
    /// What it was begun on, and gone on with since.
    pub machines: Vec<Machine>,
    /// The runs that are done.
    pub runs: Vec<RunOutcome>,
}
