//! The queue: one line a case, derived from a snapshot, the same for the screen and the verbs.

use std::cmp::Reverse;

use jiff::Timestamp;
use serde::Serialize;

use super::Snapshot;
use crate::records::{CaseId, ClassEffort, ModelId, Pool, mean_of_known};

/// Where a case is, in the words of the queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// A file of it waits for a decision.
    Held {
        /// The check's code.
        code: String,
    },
    /// In somebody's hands.
    Out {
        /// Whose.
        owner: String,
        /// Since when.
        since: Timestamp,
    },
    /// Asked for by the open round.
    Queried,
    /// Waits to be asked for.
    Unlabelled,
    /// Came back corrected.
    Corrected,
    /// Imported with its mask.
    Labelled,
    /// Only measures.
    HeldOut,
    /// Left out.
    Excluded {
        /// Why.
        why: String,
    },
}

impl Status {
    /// The word people see.
    pub fn word(&self) -> &'static str {
        match self {
            Status::Held { .. } => "held",
            Status::Out { .. } => "out",
            Status::Queried => "queried",
            Status::Unlabelled => "unlabelled",
            Status::Corrected => "corrected",
            Status::Labelled => "labelled",
            Status::HeldOut => "held out",
            Status::Excluded { .. } => "excluded",
        }
    }
}

/// One line of the queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueueRow {
    /// Place in the ranking, from 1; `None` for a case that is not in it.
    pub rank: Option<usize>,
    /// The case.
    pub case: CaseId,
    /// Its pool.
    pub pool: Pool,
    /// Where it is.
    pub status: Status,
    /// Its score in the ranking.
    pub score: Option<f64>,
    /// The model that gave the score.
    pub score_model: Option<ModelId>,
    /// Predicted volume of each class in ml, background left out; empty without a prediction.
    pub class_ml: Vec<f64>,
    /// The model that predicted the volumes.
    pub volume_model: Option<ModelId>,
    /// Saved effort of the last correction per class; empty without one, or when nothing was drawn beforehand.
    pub saved_effort: Vec<Option<f64>>,
    /// Dice against the case's mask per class by `volume_model`, where measured.
    pub dice: Vec<Option<f64>>,
    /// When it was imported.
    pub added_at: Timestamp,
}

impl QueueRow {
    /// Mean saved effort of the classes that have one.
    pub fn mean_saved_effort(&self) -> Option<f64> {
        mean_of_known(self.saved_effort.iter().copied())
    }
}

impl Snapshot {
    /// The queue: ranked cases in their order, then the other unlabelled ones, then the rest by name.
    pub fn queue(&self) -> Vec<QueueRow> {
        let model = self.ranking().and_then(|ranking| ranking.model);
        let mut rank_of = std::collections::HashMap::new();
        let still = self.order.iter().filter(|scored| {
            self.cases
                .get(&scored.case)
                .is_some_and(|case| case.pool == Pool::Unlabelled && case.excluded.is_none())
        });
        for (at, scored) in still.enumerate() {
            rank_of.insert(&scored.case, (at + 1, scored.score));
        }
        let mut last_effort = std::collections::HashMap::new();
        for correction in self.corrections.values() {
            last_effort.insert(&correction.case, &correction.effort);
        }
        let mut held = std::collections::HashMap::new();
        for file in self.waiting() {
            held.insert(&file.case, &file.code);
        }
        let mut rows: Vec<QueueRow> = self
            .cases
            .values()
            .map(|case| {
                let ranked = rank_of.get(&case.id);
                let prediction = self.predictions.get(&case.id);
                let status = if let Some(code) = held.get(&case.id) {
                    Status::Held {
                        code: code.to_string(),
                    }
                } else if let Some(why) = &case.excluded {
                    Status::Excluded { why: why.clone() }
                } else if let Some(handout) = case.handout.and_then(|id| self.handouts.get(&id)) {
                    Status::Out {
                        owner: handout.owner.clone(),
                        since: handout.at,
                    }
                } else if case.queried.is_some() {
                    Status::Queried
                } else if case.pool == Pool::HeldOut {
                    Status::HeldOut
                } else if last_effort.contains_key(&case.id) {
                    Status::Corrected
                } else if case.pool == Pool::Labelled {
                    Status::Labelled
                } else {
                    Status::Unlabelled
                };
                QueueRow {
                    rank: ranked.map(|(rank, _)| *rank),
                    case: case.id.clone(),
                    pool: case.pool,
                    status,
                    score: ranked.and_then(|(_, score)| *score),
                    score_model: ranked.and(model),
                    class_ml: prediction.map_or_else(Vec::new, |prediction| {
                        let ml = case.grid.voxel_ml();
                        prediction
                            .class_voxels
                            .iter()
                            .skip(1)
                            .map(|&n| n as f64 * ml)
                            .collect()
                    }),
                    volume_model: prediction.map(|prediction| prediction.model),
                    saved_effort: last_effort
                        .get(&case.id)
                        .map_or_else(Vec::new, |effort| effort.iter().map(ClassEffort::saved).collect()),
                    dice: prediction.map_or_else(Vec::new, |prediction| prediction.dice.clone()),
                    added_at: case.added_at,
                }
            })
            .collect();
        rows.sort_by_key(|row| {
            (
                Reverse(row.rank.is_some()),
                row.rank,
                Reverse(row.pool == Pool::Unlabelled),
                row.case.clone(),
            )
        });
        rows
    }
}
