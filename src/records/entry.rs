//! Rows, and the journal entries that put them there.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Case, CaseId, Correction, CorrectionId, Erasure, ErasureId, Fixed, Handout, HandoutId, Hash, HeldFile,
    HeldId, Model, ModelId, Prediction, Ranking, RankingId, Round, RoundId,
};

use crate::settings::Labels;

/// What is true of the project as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// The format of the journal; this build writes 1.
    pub format: u32,
    /// The model that draws and ranks.
    pub model: Option<ModelId>,
    /// The ranking that the queue shows.
    pub ranking: Option<RankingId>,
    /// What the models depend on; `None` while there is no model.
    pub fixed: Option<Fixed>,
    /// The labels in force when the first mask was taken in: masks hold classes, which are places in this list.
    pub mask_labels: Option<Labels>,
    /// Who declared the performance satisfactory, and why; `None` while the loop goes on.
    pub satisfied: Option<String>,
}

/// One thing that is remembered, as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant)] // rows live in maps of their own kind; the enum only carries them there
pub enum Row {
    /// The project.
    Project(Project),
    /// A case.
    Case(Case),
    /// A model.
    Model(Model),
    /// A round.
    Round(Round),
    /// A hand-out.
    Handout(Handout),
    /// A correction.
    Correction(Correction),
    /// A ranking.
    Ranking(Ranking),
    /// A prediction.
    Prediction(Prediction),
    /// A held file.
    Held(HeldFile),
    /// What was taken away.
    Erasure(Erasure),
}

/// A blob that a row names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// What it is to the row.
    pub role: &'static str,
    /// Its name.
    pub hash: Hash,
    /// How long it is kept.
    pub keep: Keep,
    /// Whether it is JSON that says nothing of where a case came from.
    pub is_list: bool,
}

/// How long a blob is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// As long as the project.
    Forever,
    /// While its model is the current one.
    WhileShown,
}

/// What a row is found by: one row a key, the newest wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// The project.
    Project,
    /// A case.
    Case(CaseId),
    /// A model.
    Model(ModelId),
    /// A round.
    Round(RoundId),
    /// A hand-out.
    Handout(HandoutId),
    /// A correction.
    Correction(CorrectionId),
    /// A ranking.
    Ranking(RankingId),
    /// A prediction of a case by a model.
    Prediction(ModelId, CaseId),
    /// A held file.
    Held(HeldId),
    /// What was taken away.
    Erasure(ErasureId),
}

impl Row {
    /// What the row is found by.
    pub fn key(&self) -> RowKey {
        match self {
            Row::Project(_) => RowKey::Project,
            Row::Case(case) => RowKey::Case(case.id.clone()),
            Row::Model(model) => RowKey::Model(model.id),
            Row::Round(round) => RowKey::Round(round.id),
            Row::Handout(handout) => RowKey::Handout(handout.id),
            Row::Correction(correction) => RowKey::Correction(correction.id),
            Row::Ranking(ranking) => RowKey::Ranking(ranking.id),
            Row::Prediction(prediction) => RowKey::Prediction(prediction.model, prediction.case.clone()),
            Row::Held(held) => RowKey::Held(held.id),
            Row::Erasure(erasure) => RowKey::Erasure(erasure.id),
        }
    }

    /// The case that it is about, if it is about one.
    pub fn case(&self) -> Option<&CaseId> {
        match self {
            Row::Case(row) => Some(&row.id),
            Row::Handout(row) => Some(&row.case),
            Row::Correction(row) => Some(&row.case),
            Row::Prediction(row) => Some(&row.case),
            Row::Held(row) => Some(&row.case),
            Row::Project(_) | Row::Model(_) | Row::Round(_) | Row::Ranking(_) | Row::Erasure(_) => None,
        }
    }

    /// What it is called, for words.
    pub fn name(&self) -> String {
        match self {
            Row::Project(_) => "the project".into(),
            Row::Case(row) => row.id.to_string(),
            Row::Model(row) => row.id.to_string(),
            Row::Round(row) => row.id.to_string(),
            Row::Handout(row) => row.id.to_string(),
            Row::Correction(row) => row.id.to_string(),
            Row::Ranking(row) => row.id.to_string(),
            Row::Prediction(row) => format!("{} by {}", row.case, row.model),
            Row::Held(row) => row.id.to_string(),
            Row::Erasure(row) => row.id.to_string(),
        }
    }

    /// The blobs that it names.
    pub fn blobs(&self) -> Vec<Named> {
        let bytes = |role, hash| Named {
            role,
            hash,
            keep: Keep::Forever,
            is_list: false,
        };
        let list = |role, hash| Named {
            is_list: true,
            ..bytes(role, hash)
        };
        let map = |role, hash| Named {
            keep: Keep::WhileShown,
            ..bytes(role, hash)
        };
        match self {
            Row::Project(_) | Row::Held(_) => Vec::new(),
            Row::Case(row) => {
                let images = row.images.iter().map(|&image| bytes("an image", image));
                let mask = row.mask.map(|mask| bytes("the mask", mask.blob));
                images
                    .chain([bytes("the source", row.source)])
                    .chain(mask)
                    .collect()
            }
            Row::Model(row) => {
                let set = row.trained_on.map(|set| list("the training set", set));
                let curve = row.curve.map(|curve| list("the curve", curve));
                let weights = [bytes("the weights", row.weights)];
                weights.into_iter().chain(set).chain(curve).collect()
            }
            Row::Round(row) => {
                let set = row.training_set.map(|set| list("the training set", set));
                set.into_iter()
                    .chain([list("the settings", row.settings)])
                    .collect()
            }
            Row::Handout(row) => vec![bytes("the pre-annotation", row.pre_annotation)],
            Row::Correction(row) => {
                // Older than the field, the file that came back was not kept.
                let file = row.plane.map(|_| bytes("the file that came back", row.file));
                let table = row
                    .table
                    .map(|table| bytes("the label table that came with it", table));
                let maps = [
                    bytes("the mask", row.mask),
                    bytes("the pre-annotation", row.pre_annotation),
                ];
                maps.into_iter().chain(file).chain(table).collect()
            }
            Row::Ranking(row) => vec![list("the order", row.order)],
            Row::Prediction(row) => vec![
                map("the label map", row.labels),
                map("the margins", row.margins),
                list("the sums of the slices", row.slices),
            ],
            Row::Erasure(row) => vec![list("the list", row.blobs)],
        }
    }
}

/// What somebody did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // the names are the words of the audit trail
pub enum What {
    ProjectCreated,
    CaseImported,
    CaseExcluded,
    CaseIncluded,
    RoundStarted,
    CasesQueried,
    TrainingStarted,
    ModelTrained,
    ModelImported,
    ModelChosen,
    CasesPredicted,
    PoolRanked,
    RoundClosed,
    RoundAbandoned,
    HandedOut,
    HandoutWithdrawn,
    TakenOver,
    FileHeld,
    FileRefused,
    CorrectionAccepted,
    MinutesNoted,
    MaskChosen,
    DeclaredSatisfactory,
    Reopened,
    BlobsRemoved,
    CaseForgotten,
}

impl What {
    /// The words of the audit trail: `correction accepted`.
    pub fn words(self) -> String {
        let kebab = serde_json::to_string(&self).expect("a unit variant is a JSON string");
        kebab.trim_matches('"').replace('-', " ")
    }
}

/// One line of the journal: who did what when and why, and the rows as they are afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts up from 1.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The account it was done under.
    pub who: String,
    /// What was done.
    pub what: What,
    /// Why, where somebody said so.
    pub why: Option<String>,
    /// The rows that are new or changed, whole.
    pub rows: Vec<Row>,
    /// Hash of the entry before, [`Hash::ZERO`] for the first.
    pub previous: Hash,
}
