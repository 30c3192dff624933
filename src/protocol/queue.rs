//! The queue: one line a case, derived from a snapshot, the same for the screen and the verbs.

use std::cmp::Reverse;
use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;

use super::Snapshot;
use crate::records::{
    Case, CaseId, ClassEffort, ModelId, Pool, Prediction, Scored, mean_of_known, mean_saved,
};

/// Where a case is, in the words of the queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// A file of it waits for a decision.
    Held {
        /// The check's code.
        code: String,
    },
    /// A file of it lies in the inbox and is waited for.
    InInbox {
        /// Why it is not looked at yet.
        why: String,
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
            Status::InInbox { .. } => "in inbox",
            Status::Out { .. } => "out",
            Status::Queried => "queried",
            Status::Unlabelled => "unlabelled",
            Status::Corrected => "corrected",
            Status::Labelled => "labelled",
            Status::HeldOut => "held out",
            Status::Excluded { .. } => "excluded",
        }
    }

    /// Whose hands it is in, which check holds it, why it is waited for or left out; as it was written.
    pub fn note(&self) -> &str {
        match self {
            Status::Held { code } => code,
            Status::Out { owner, .. } => owner,
            Status::InInbox { why } | Status::Excluded { why } => why,
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
    /// Left out, whatever else is the matter with it.
    pub is_excluded: bool,
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
    /// Average BvSB over all pixels of what `volume_model` drew.
    pub drawn_bvsb: Option<f64>,
    /// That of each member of a committee by itself, by its name; none of a single network.
    pub member_bvsb: Vec<(String, f64)>,
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
struct Lookup<'a> {
    efforts: HashMap<&'a CaseId, &'a [ClassEffort]>,
    held: HashMap<&'a CaseId, &'a str>,
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
                let saved = mean_saved(&correction.effort)?;
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

    /// The queue: ranked cases in their order, then the other unlabelled ones, then the rest by name.
    pub fn queue(&self) -> Vec<QueueRow> {
        let mut rows = self.queue_rows();
        let places: HashMap<CaseId, u32> = rows.iter().map(|row| row.case.clone()).zip(0..).collect();
        self.rank(&mut rows, &self.order_of(&places));
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

    /// The queue's rows, by name, without what [`Snapshot::rank`] says.
    pub fn queue_rows(&self) -> Vec<QueueRow> {
        let mut lookup = Lookup {
            efforts: HashMap::new(),
            held: self
                .waiting()
                .map(|file| (&file.case, file.code.as_str()))
                .collect(),
        };
        for correction in self.corrections.values() {
            lookup.efforts.insert(&correction.case, &correction.effort);
        }
        // Both go by name.
        let mut predictions = self.predictions.iter().peekable();
        let mut prediction_of = |id: &CaseId| {
            while predictions.next_if(|(case, _)| *case < id).is_some() {}
            predictions
                .next_if(|(case, _)| *case == id)
                .map(|(_, prediction)| prediction)
        };
        self.cases
            .values()
            .map(|case| self.row_by(case, prediction_of(&case.id), &lookup))
            .collect()
    }

    /// The row of one case, without what [`Snapshot::rank`] says.
    pub fn queue_row(&self, id: &CaseId) -> Option<QueueRow> {
        let lookup = Lookup {
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
        };
        let case = self.cases.get(id)?;
        Some(self.row_by(case, self.predictions.get(id), &lookup))
    }

    /// The ranking's order by places in a list of rows, with its scores.
    pub fn order_of(&self, places: &HashMap<CaseId, u32>) -> Vec<(u32, Option<f64>)> {
        let known = |scored: &Scored| Some((*places.get(&scored.case)?, scored.score));
        self.order.iter().filter_map(known).collect()
    }

    /// Gives every row its rank, its score and what its correction would save.
    pub fn rank(&self, rows: &mut [QueueRow], order: &[(u32, Option<f64>)]) {
        let forecast = self.forecast();
        let still = |row: &QueueRow| row.pool == Pool::Unlabelled && !row.is_excluded;
        for row in rows.iter_mut() {
            (row.rank, row.score, row.score_model) = (None, None, None);
            let known = row.drawn_bvsb.filter(|_| still(row)).zip(forecast);
            row.expected_effort = known.map(|(score, forecast)| forecast.at(score));
        }
        let model = self.ranking().and_then(|ranking| ranking.model);
        let mut rank = 0;
        for &(at, score) in order {
            let row = &mut rows[at as usize];
            if still(row) {
                rank += 1;
                (row.rank, row.score, row.score_model) = (Some(rank), score, model);
            }
        }
    }

    fn row_by(&self, case: &Case, prediction: Option<&Prediction>, lookup: &Lookup<'_>) -> QueueRow {
        let effort = lookup.efforts.get(&case.id);
        let status = if let Some(code) = lookup.held.get(&case.id) {
            Status::Held {
                code: code.to_string(),
            }
        } else if let Some(why) = self.in_inbox.get(&case.id) {
            Status::InInbox { why: why.clone() }
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
        QueueRow {
            rank: None,
            case: case.id.clone(),
            pool: case.pool,
            status,
            is_excluded: case.excluded.is_some(),
            score: None,
            score_model: None,
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
            drawn_bvsb: prediction.and_then(|prediction| prediction.sums.average_bvsb()),
            member_bvsb: prediction.map_or_else(Vec::new, |prediction| {
                let model = self.models.get(&prediction.model);
                let names = model.map_or_else(Vec::new, |model| model.architecture.networks.names());
                let scored = names.into_iter().zip(&prediction.members);
                scored
                    .filter_map(|(name, sums)| Some((name, sums.average_bvsb()?)))
                    .collect()
            }),
            expected_effort: None,
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
