//! The queue: one line a case, derived from a snapshot, the same for the screen and the verbs.

use std::cmp::Reverse;
use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;

use super::Snapshot;
use crate::records::{Case, CaseId, ClassEffort, ModelId, Pool, Scored, mean_of_known};

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

    /// Whose hands it is in, which check holds it, why it is left out; as it was written.
    pub fn note(&self) -> &str {
        match self {
            Status::Held { code } => code,
            Status::Out { owner, .. } => owner,
            Status::Excluded { why } => why,
            _ => "",
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
    /// What its correction would save, as the corrections so far say; `None` for a case that is not asked for any more, or
    /// while nothing was measured.
    pub expected_effort: Option<f64>,
    /// When it was imported.
    pub added_at: Timestamp,
}

impl QueueRow {
    /// Mean saved effort of the classes that have one.
    pub fn mean_saved_effort(&self) -> Option<f64> {
        mean_of_known(self.saved_effort.iter().copied())
    }
}

/// What is looked up for every row of a queue.
#[derive(Debug)]
struct Lookup<'a> {
    model: Option<ModelId>,
    scores: HashMap<&'a CaseId, Option<f64>>,
    efforts: HashMap<&'a CaseId, &'a [ClassEffort]>,
    held: HashMap<&'a CaseId, &'a str>,
    forecast: Option<Forecast>,
}

/// How saved effort went with Average BvSB so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Corrections that it rests on.
    pub corrections: usize,
    /// Their mean Average BvSB, and their mean saved effort.
    mean: [f64; 2],
    /// Saved effort by Average BvSB.
    slope: f64,
}

impl Forecast {
    /// The straight line nearest to `(Average BvSB, saved effort)` of corrections; level for fewer than three.
    fn through(points: &[[f64; 2]]) -> Option<Forecast> {
        if points.is_empty() {
            return None;
        }
        let n = points.len() as f64;
        let mean = [0, 1].map(|axis| points.iter().map(|point| point[axis]).sum::<f64>() / n);
        let sum = |a: usize, b: usize| -> f64 {
            points
                .iter()
                .map(|point| (point[a] - mean[a]) * (point[b] - mean[b]))
                .sum()
        };
        let slope = match sum(0, 0) {
            spread if points.len() >= 3 && spread > 0.0 => sum(0, 1) / spread,
            _ => 0.0,
        };
        Some(Forecast {
            corrections: points.len(),
            mean,
            slope,
        })
    }

    /// What a case of this Average BvSB would save, 0 to 1.
    pub fn at(&self, score: f64) -> f64 {
        (self.mean[1] + self.slope * (score - self.mean[0])).clamp(0.0, 1.0)
    }
}

impl Snapshot {
    /// What corrections so far say of those to come: of each case's last one, where the prediction that it was measured
    /// against is still there.
    pub fn forecast(&self) -> Option<Forecast> {
        let mut last = HashMap::new();
        for correction in self.corrections.values() {
            last.insert(&correction.case, correction);
        }
        let mut points: Vec<(&CaseId, [f64; 2])> = last
            .into_iter()
            .filter_map(|(case, correction)| {
                let prediction = self.predictions.get(case)?;
                let saved = mean_of_known(correction.effort.iter().map(ClassEffort::saved))?;
                let is_same = correction.model == Some(prediction.model) && prediction.sums.pixels > 0;
                let score = prediction.sums.margin / prediction.sums.pixels as f64;
                is_same.then_some((case, [score, saved]))
            })
            .collect();
        // The same sums, whatever order they were found in.
        points.sort_by_key(|(case, _)| *case);
        let points: Vec<[f64; 2]> = points.into_iter().map(|(_, point)| point).collect();
        Forecast::through(&points)
    }

    /// The ranked cases that are still to be asked for, in their order.
    pub fn ranked(&self) -> impl Iterator<Item = &Scored> {
        self.order.iter().filter(|scored| {
            self.cases
                .get(&scored.case)
                .is_some_and(|case| case.pool == Pool::Unlabelled && case.excluded.is_none())
        })
    }

    /// The queue: ranked cases in their order, then the other unlabelled ones, then the rest by name.
    pub fn queue(&self) -> Vec<QueueRow> {
        let mut rows = self.queue_rows();
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

    /// The queue's rows, by name.
    pub fn queue_rows(&self) -> Vec<QueueRow> {
        let mut lookup = Lookup {
            model: self.ranking().and_then(|ranking| ranking.model),
            scores: self
                .order
                .iter()
                .map(|scored| (&scored.case, scored.score))
                .collect(),
            efforts: HashMap::new(),
            held: self
                .waiting()
                .map(|file| (&file.case, file.code.as_str()))
                .collect(),
            forecast: self.forecast(),
        };
        for correction in self.corrections.values() {
            lookup.efforts.insert(&correction.case, &correction.effort);
        }
        let mut ranks: HashMap<&CaseId, usize> = HashMap::new();
        for (at, scored) in self.ranked().enumerate() {
            ranks.insert(&scored.case, at + 1);
        }
        let ranked = |case| QueueRow {
            rank: ranks.get(case).copied(),
            ..self.row_by(&self.cases[case], &lookup)
        };
        self.cases.keys().map(ranked).collect()
    }

    /// The row of one case, without its rank.
    pub fn queue_row(&self, id: &CaseId) -> Option<QueueRow> {
        let case = self.cases.get(id)?;
        let score = self.order.iter().find(|scored| scored.case == *id);
        let lookup = Lookup {
            model: self.ranking().and_then(|ranking| ranking.model),
            scores: score
                .map(|scored| (&scored.case, scored.score))
                .into_iter()
                .collect(),
            efforts: self
                .correction_of(id)
                .map(|correction| (&correction.case, correction.effort.as_slice()))
                .into_iter()
                .collect(),
            held: self
                .waiting()
                .filter(|file| file.case == *id)
                .map(|file| (&file.case, file.code.as_str()))
                .collect(),
            forecast: self.forecast(),
        };
        Some(self.row_by(case, &lookup))
    }

    fn row_by(&self, case: &Case, lookup: &Lookup<'_>) -> QueueRow {
        let still = case.pool == Pool::Unlabelled && case.excluded.is_none();
        let score = lookup.scores.get(&case.id).filter(|_| still);
        let prediction = self.predictions.get(&case.id);
        let effort = lookup.efforts.get(&case.id);
        let status = if let Some(code) = lookup.held.get(&case.id) {
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
        } else if effort.is_some() {
            Status::Corrected
        } else if case.pool == Pool::Labelled {
            Status::Labelled
        } else {
            Status::Unlabelled
        };
        let known = prediction.filter(|prediction| still && prediction.sums.pixels > 0);
        let expected_effort = known.zip(lookup.forecast).map(|(prediction, forecast)| {
            forecast.at(prediction.sums.margin / prediction.sums.pixels as f64)
        });
        QueueRow {
            rank: None,
            case: case.id.clone(),
            pool: case.pool,
            status,
            score: score.and_then(|score| *score),
            score_model: score.and(lookup.model),
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
            saved_effort: effort
                .map_or_else(Vec::new, |effort| effort.iter().map(ClassEffort::saved).collect()),
            dice: prediction.map_or_else(Vec::new, |prediction| prediction.dice.clone()),
            expected_effort,
            added_at: case.added_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_come_follows_the_line_of_what_was_and_stays_a_share() {
        assert_eq!(Forecast::through(&[]), None);
        let two = Forecast::through(&[[0.9, 0.2], [0.95, 0.6]]).unwrap();
        assert!((two.at(0.1) - 0.4).abs() < 1e-12, "two points make no line");
        let three = Forecast::through(&[[0.8, 0.2], [0.9, 0.4], [1.0, 0.6]]).unwrap();
        assert_eq!(three.corrections, 3);
        assert!((three.at(0.85) - 0.3).abs() < 1e-9);
        assert_eq!([three.at(0.0), three.at(5.0)], [0.0, 1.0]);
        let same = Forecast::through(&[[0.9, 0.1], [0.9, 0.2], [0.9, 0.6]]).unwrap();
        assert!(
            (same.at(0.2) - 0.3).abs() < 1e-12,
            "one score says nothing of others"
        );
    }
}
