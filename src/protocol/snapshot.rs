//! All that a surface shows, as of one journal entry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Activity, Change};
use crate::records::{
    Architecture, Case, CaseId, Correction, CorrectionId, Handout, HandoutId, HeldFile, HeldId, MaskOrigin,
    Model, ModelId, Prediction, Project, Ranking, RankingId, Round, RoundId, RoundState, Row, Scored,
};
use crate::settings::Settings;

/// A change was missed: attach again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("change {got} came where {expected} was due")]
pub struct Gap {
    /// The number that was due.
    pub expected: u64,
    /// The number that came.
    pub got: u64,
}

/// What a round begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Training on the labels there are.
    Train,
    /// Asking for cases: by this model, or in a random order.
    Ask(Option<ModelId>),
    /// There is neither a case to ask for nor one to learn from.
    Nothing,
}

/// The rows of a project, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Number of the last journal entry in it.
    pub seq: u64,
    /// The project folder.
    pub folder: PathBuf,
    /// The settings in force.
    pub settings: Settings,
    /// The project.
    pub project: Project,
    /// Every case, or those that the queue begins with.
    pub cases: BTreeMap<CaseId, Case>,
    /// Every model.
    pub models: BTreeMap<ModelId, Model>,
    /// Every round.
    pub rounds: BTreeMap<RoundId, Round>,
    /// Every hand-out.
    pub handouts: BTreeMap<HandoutId, Handout>,
    /// Every correction.
    pub corrections: BTreeMap<CorrectionId, Correction>,
    /// Every ranking, without its order.
    pub rankings: BTreeMap<RankingId, Ranking>,
    /// The current model's prediction of each case, where there is none the newest.
    pub predictions: BTreeMap<CaseId, Prediction>,
    /// Every held file.
    pub held: BTreeMap<HeldId, HeldFile>,
    /// The rounds of the random control, oldest first; none without one.
    pub control: Vec<Round>,
    /// The rounds of other projects that are drawn beside ours, by their names.
    pub beside: Vec<(String, Vec<Round>)>,
    /// Cases of which a file in the inbox is waited for, and why.
    pub in_inbox: BTreeMap<CaseId, String>,
    /// Times that blobs were taken away.
    pub erasures: u32,
    /// The order of the project's ranking, first to ask first.
    pub order: Vec<Scored>,
    /// Cases that were left out.
    pub cases_left_out: usize,
    /// What the worker is at.
    pub activity: Activity,
}

impl Snapshot {
    /// What fixing a held file would do, in words; `None` where there is one way to read it.
    pub fn fix_words(&self, held: &HeldFile) -> Option<String> {
        let grid = &self.cases.get(held.for_case())?.grid;
        Some(held.fix.as_ref()?.words(&self.settings.labels, grid))
    }

    /// A snapshot without any row but the project's.
    pub fn empty(folder: PathBuf, settings: Settings) -> Snapshot {
        Snapshot {
            seq: 0,
            folder,
            settings,
            project: Project {
                format: 1,
                model: None,
                ranking: None,
                fixed: None,
                mask_labels: None,
                satisfied: None,
            },
            cases: BTreeMap::new(),
            models: BTreeMap::new(),
            rounds: BTreeMap::new(),
            handouts: BTreeMap::new(),
            corrections: BTreeMap::new(),
            rankings: BTreeMap::new(),
            predictions: BTreeMap::new(),
            held: BTreeMap::new(),
            control: Vec::new(),
            beside: Vec::new(),
            in_inbox: BTreeMap::new(),
            erasures: 0,
            order: Vec::new(),
            cases_left_out: 0,
            activity: Activity::default(),
        }
    }

    /// The same with only the cases that the queue begins with, at most `most` of them.
    pub fn beginning(&self, most: usize) -> Snapshot {
        if self.cases.len() <= most {
            return self.clone();
        }
        let ranked = self.order.iter().map(|scored| &scored.case);
        let mut names = BTreeSet::new();
        for name in ranked.chain(self.cases.keys()) {
            if names.len() == most {
                break;
            }
            names.insert(name);
        }
        let cases: BTreeMap<CaseId, Case> = names
            .iter()
            .filter_map(|name| Some(((*name).clone(), self.cases.get(*name)?.clone())))
            .collect();
        let predictions = names
            .iter()
            .filter_map(|name| Some(((*name).clone(), self.predictions.get(*name)?.clone())))
            .collect();
        Snapshot {
            seq: self.seq,
            folder: self.folder.clone(),
            settings: self.settings.clone(),
            project: self.project.clone(),
            cases_left_out: self.cases.len() - cases.len(),
            cases,
            models: self.models.clone(),
            rounds: self.rounds.clone(),
            handouts: self.handouts.clone(),
            corrections: self.corrections.clone(),
            rankings: self.rankings.clone(),
            predictions,
            held: self.held.clone(),
            control: self.control.clone(),
            beside: self.beside.clone(),
            in_inbox: self.in_inbox.clone(),
            erasures: self.erasures,
            order: self.order.iter().take(most).cloned().collect(),
            activity: self.activity.clone(),
        }
    }

    /// Puts a row in the place of its elder.
    pub fn put(&mut self, row: Row) {
        match row {
            Row::Project(row) => self.project = row,
            Row::Case(row) => {
                if row.forgotten.is_some() {
                    self.predictions.remove(&row.id);
                }
                self.cases.insert(row.id.clone(), row);
            }
            Row::Model(row) => drop(self.models.insert(row.id, row)),
            Row::Round(row) => drop(self.rounds.insert(row.id, row)),
            Row::Handout(row) => drop(self.handouts.insert(row.id, row)),
            Row::Correction(row) => drop(self.corrections.insert(row.id, row)),
            Row::Ranking(row) => drop(self.rankings.insert(row.id, row)),
            Row::Held(row) => drop(self.held.insert(row.id, row)),
            Row::Erasure(row) => self.erasures = self.erasures.max(row.id.0),
            Row::Prediction(row) => {
                // The current model's counts, even if it is an older one that was gone back to; otherwise the newest.
                let worth = |model: ModelId| (Some(model) == self.project.model, model);
                let old = self.predictions.get(&row.case).map(|old| worth(old.model));
                let is_forgotten = |case: &Case| case.forgotten.is_some();
                if self.cases.get(&row.case).is_some_and(is_forgotten) {
                    return;
                }
                if old.is_none_or(|old| old <= worth(row.model)) {
                    self.predictions.insert(row.case.clone(), row);
                }
            }
        }
    }

    /// Brings the snapshot to the next journal entry.
    ///
    /// # Errors
    /// [`Gap`] when a change was missed; the snapshot is left as it was.
    pub fn apply(&mut self, change: Change) -> Result<(), Gap> {
        if change.seq != self.seq + 1 {
            return Err(Gap {
                expected: self.seq + 1,
                got: change.seq,
            });
        }
        self.seq = change.seq;
        change.rows.into_iter().for_each(|row| self.put(row));
        if let Some(order) = change.order {
            self.order = order;
        }
        Ok(())
    }

    /// The round that is not over, if any.
    pub fn open_round(&self) -> Option<&Round> {
        self.rounds
            .values()
            .next_back()
            .filter(|round| !round.state.is_over())
    }

    /// The current model, if it can draw the project's classes; weights imported for another number of classes only
    /// serve as a start.
    pub fn drawing_model(&self) -> Option<&Model> {
        let model = self.project.model.and_then(|id| self.models.get(&id))?;
        (model.architecture == Architecture::of(&self.settings)).then_some(model)
    }

    /// What a round would begin with.
    pub fn next_step(&self, from_scratch: bool) -> NextStep {
        let asks = self.cases.values().any(Case::is_askable);
        let trains = self.cases.values().any(Case::is_training);
        let model = self.drawing_model();
        match (asks, trains) {
            (_, true) if from_scratch || model.is_none() || !asks => NextStep::Train,
            (true, _) => NextStep::Ask(model.map(|model| model.id)),
            _ => NextStep::Nothing,
        }
    }

    /// Whether cases have come back to the open round and none that it asked for is still to come.
    pub fn is_complete(&self) -> bool {
        self.open_round().is_some_and(|round| {
            let missing = self.cases.values().any(|case| case.queried == Some(round.id));
            round.state == RoundState::Correcting && round.returned > 0 && !missing
        })
    }

    /// The round of the random control to hold a round against: the last that learnt from no more labelled cases.
    pub fn control_of(&self, round: &Round) -> Option<&Round> {
        round.model?;
        let fair = |control: &&Round| control.labelled <= round.labelled;
        self.control
            .iter()
            .filter(fair)
            .max_by_key(|control| control.labelled)
    }

    /// The ranking that the queue shows.
    pub fn ranking(&self) -> Option<&Ranking> {
        self.project.ranking.and_then(|id| self.rankings.get(&id))
    }

    /// Whether the ranking was made by another model than the current one.
    pub fn ranking_is_stale(&self) -> bool {
        self.ranking()
            .is_some_and(|ranking| ranking.model.is_some() && ranking.model != self.project.model)
    }

    /// The newest accepted correction of a case.
    pub fn correction_of(&self, case: &CaseId) -> Option<&Correction> {
        self.corrections
            .values()
            .rev()
            .find(|correction| &correction.case == case)
    }

    /// Whether its case trains with a correction.
    pub fn trains(&self, correction: &Correction) -> bool {
        let mask = self.cases.get(&correction.case).and_then(|case| case.mask);
        mask.is_some_and(|mask| mask.origin == MaskOrigin::Correction(correction.id))
    }

    /// Files that wait for a decision, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &HeldFile> {
        self.held.values().filter(|held| held.decided.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Grid;
    use crate::records::{Hash, Pool, What};

    #[test]
    fn a_missed_change_is_a_gap_and_leaves_the_snapshot_alone() {
        let mut snapshot = Snapshot::empty("p".into(), Settings::default());
        let change = |seq, satisfied: &str| Change {
            seq,
            what: What::DeclaredSatisfactory,
            rows: vec![Row::Project(Project {
                format: 1,
                model: None,
                ranking: None,
                fixed: None,
                mask_labels: None,
                satisfied: Some(satisfied.into()),
            })],
            order: None,
        };
        assert_eq!(snapshot.apply(change(1, "good")), Ok(()));
        assert_eq!(
            snapshot.apply(change(3, "better")),
            Err(Gap { expected: 2, got: 3 })
        );
        assert_eq!(
            (snapshot.seq, snapshot.project.satisfied.as_deref()),
            (1, Some("good"))
        );
    }

    #[test]
    fn a_beginning_has_the_cases_that_the_queue_begins_with_and_says_how_many_it_lacks() {
        let mut whole = Snapshot::empty("p".into(), Settings::default());
        for name in ["a", "b", "c", "d"] {
            whole.put(Row::Case(Case {
                id: CaseId::new(name).unwrap(),
                pool: Pool::Unlabelled,
                excluded: None,
                images: Vec::new(),
                grid: Grid::new([1; 3], [1.0; 3]),
                source: Hash::ZERO,
                mask: None,
                mask_versions: 0,
                handout: None,
                queried: None,
                added_at: jiff::Timestamp::UNIX_EPOCH,
                forgotten: None,
            }));
        }
        whole.order = ["d", "b"]
            .map(|name| Scored {
                case: CaseId::new(name).unwrap(),
                score: None,
            })
            .into();
        let names = |most: usize| -> (Vec<String>, usize) {
            let part = whole.beginning(most);
            (
                part.cases.keys().map(ToString::to_string).collect(),
                part.cases_left_out,
            )
        };
        assert_eq!(names(1), (vec!["d".into()], 3));
        assert_eq!(names(2), (vec!["b".into(), "d".into()], 2));
        // The ranked ones come again by name: no case is left out for that.
        assert_eq!(names(3), (vec!["a".into(), "b".into(), "d".into()], 1));
        assert_eq!(whole.beginning(4), whole);
    }
}
