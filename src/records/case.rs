//! Cases, what was handed out, what came back, what waits for a decision.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    CaseId, ClassEffort, CorrectionId, ErasureId, HandoutId, Hash, HeldId, ModelId, RoundId, mean_of_known,
};
use crate::imaging::{Grid, Plane};
use crate::settings::Labels;

/// Which pool a case is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// Has a mask and trains.
    Labelled,
    /// Waits to be asked for.
    Unlabelled,
    /// Has a mask and only measures; it never steers training.
    HeldOut,
}

impl Pool {
    /// The word people see and type.
    pub fn word(self) -> &'static str {
        match self {
            Pool::Labelled => "labelled",
            Pool::Unlabelled => "unlabelled",
            Pool::HeldOut => "held-out",
        }
    }
}

/// One patient's images on one grid, and the mask that counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Its name.
    pub id: CaseId,
    /// Where it is in the loop.
    pub pool: Pool,
    /// Why it is left out of ranking, training and measuring, if it is.
    pub excluded: Option<String>,
    /// Blobs of the images as imported (NIfTI, one a channel, in the order of the channels).
    pub images: Vec<Hash>,
    /// The grid all of them lie on.
    pub grid: Grid,
    /// Blob of the [`CaseSource`], which alone holds names and paths, so that they can be erased.
    pub source: Hash,
    /// The mask that trains or measures.
    pub mask: Option<Mask>,
    /// Mask versions there have been.
    pub mask_versions: u32,
    /// The open hand-out.
    pub handout: Option<HandoutId>,
    /// The open round that asks for it and has not got it back.
    pub queried: Option<RoundId>,
    /// When it was imported.
    pub added_at: Timestamp,
    /// When its bytes were erased for good, where they were.
    #[serde(default)]
    pub forgotten: Option<Timestamp>,
}

impl Case {
    /// Whether it waits to be asked for.
    pub fn is_askable(&self) -> bool {
        self.pool == Pool::Unlabelled && self.excluded.is_none()
    }

    /// Whether a training learns from it.
    pub fn is_training(&self) -> bool {
        self.pool == Pool::Labelled && self.mask.is_some() && self.excluded.is_none()
    }

    /// Whether it measures models.
    pub fn is_measuring(&self) -> bool {
        self.pool == Pool::HeldOut && self.excluded.is_none()
    }
}

/// Where a case came from; kept in a blob of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseSource {
    /// The image files as named at import.
    pub images: Vec<PathBuf>,
    /// The mask file, if one came along.
    pub mask: Option<PathBuf>,
}

/// One version of a case's mask.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mask {
    /// 1 for the first.
    pub version: u32,
    /// Blob of the label map (`.nii.gz` of classes, u8).
    pub blob: Hash,
    /// Where it came from.
    pub origin: MaskOrigin,
}

/// Where a mask came from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum MaskOrigin {
    /// Imported with the image.
    Imported,
    /// Handed in.
    Correction(CorrectionId),
}

/// A case in somebody's hands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handout {
    /// Its number.
    pub id: HandoutId,
    /// What was handed out.
    pub case: CaseId,
    /// To whom.
    pub owner: String,
    /// When.
    pub at: Timestamp,
    /// The model that drew; `None` for an empty mask.
    pub model: Option<ModelId>,
    /// Blob of the label map that was drawn: saved effort is measured against this one.
    pub pre_annotation: Hash,
    /// The file name to send back.
    pub reply_name: String,
    /// Whether it was asked for as a second reading, of what the first one was given.
    #[serde(default)]
    pub again: bool,
    /// How it ended; `None` while it is open.
    pub end: Option<HandoutEnd>,
}

/// How a hand-out ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum HandoutEnd {
    /// The mask came back.
    Corrected(CorrectionId),
    /// Taken back, with the reason.
    Withdrawn(String),
}

/// A corrected mask that was accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    /// Its number.
    pub id: CorrectionId,
    /// Of which case.
    pub case: CaseId,
    /// Which hand-out it answers.
    pub handout: HandoutId,
    /// The round it counts for: the one open when it came, if that round asked for the case.
    pub round: Option<RoundId>,
    /// Who had the case.
    pub who: String,
    /// When it was accepted.
    pub at: Timestamp,
    /// Blob of the corrected label map.
    pub mask: Hash,
    /// BLAKE3 of the file as dropped.
    pub file: Hash,
    /// Blob of the label table that came with it.
    #[serde(default)]
    pub table: Option<Hash>,
    /// Blob of the pre-annotation it is measured against.
    pub pre_annotation: Hash,
    /// The model that drew the pre-annotation; `None` for an empty one, whose saved effort is n/a.
    pub model: Option<ModelId>,
    /// Per class (background left out), in the labels' order; empty when nothing was drawn beforehand.
    pub effort: Vec<ClassEffort>,
    /// Tolerance that `effort` was counted with.
    pub tolerance_mm: f64,
    /// The cut whose slices they were counted in; `None` in a correction older than this field.
    #[serde(default)]
    pub plane: Option<Plane>,
    /// Seconds from hand-out to hand-in; `None` where nobody had asked for the mask.
    pub turnaround_s: Option<f64>,
    /// Minutes at work, where the person said so.
    pub minutes: Option<f64>,
    /// Codes and words of what the intake noticed.
    pub notes: Vec<String>,
    /// How far it agrees with the mask that the case had from somebody else when it came.
    #[serde(default)]
    pub agreement: Option<Agreement>,
}

/// How far two people's corrections of one case agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// The other correction.
    pub with: CorrectionId,
    /// Blob of its label map.
    pub mask: Hash,
    /// Per class (background left out), in the labels' order.
    pub classes: Vec<ClassAgreement>,
}

impl Agreement {
    /// Mean Dice over the classes.
    pub fn dice(&self) -> Option<f64> {
        mean_of_known(self.classes.iter().map(|class| class.dice))
    }

    /// Mean share of both contours that the other has too.
    pub fn contour(&self) -> Option<f64> {
        mean_of_known(self.classes.iter().map(|class| class.contour))
    }
}

/// How far two label maps agree on a class; the same whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassAgreement {
    /// Dice; `None` where the class is in neither.
    pub dice: Option<f64>,
    /// The share of both contours that the other has too, within the tolerance in use; `None` where there is none.
    pub contour: Option<f64>,
}

/// Blobs that were taken away for good: by the policy of what is kept, or because a patient withdrew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Erasure {
    /// Its number.
    pub id: ErasureId,
    /// The case that was forgotten, if it was for that.
    pub case: Option<CaseId>,
    /// Blob of their hashes (a JSON list), by which the chain stays checkable.
    pub blobs: Hash,
    /// How many.
    pub count: usize,
    /// Their bytes.
    pub bytes: u64,
    /// When.
    pub at: Timestamp,
}

/// What would set a held file right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fix {
    /// Read it by the axes of the world, as a header that says nothing else has them.
    Turn,
    /// Mirror it back.
    Mirror {
        /// Along this axis of the image.
        axis: usize,
    },
    /// Exchange two classes back.
    Exchange {
        /// Which.
        classes: [u8; 2],
    },
    /// It is another case's.
    Case(CaseId),
}

impl Fix {
    /// What it does to a mask of a case that lies on `grid`, in words.
    pub fn words(&self, labels: &Labels, grid: &Grid) -> String {
        match self {
            Fix::Turn => "read by its own axes".into(),
            Fix::Mirror { axis } => format!("with {} exchanged", Fix::sides(*axis, grid)),
            Fix::Exchange { classes: [a, b] } => {
                let name = |class: &u8| labels.name_of(usize::from(*class));
                format!("{} and {} exchanged", name(a), name(b))
            }
            Fix::Case(case) => format!("taken for {case}"),
        }
    }

    /// What lies at the two ends of a voxel axis of `grid`.
    pub fn sides(axis: usize, grid: &Grid) -> &'static str {
        let world = (0..3).find(|&world| grid.affine.voxel_axis_along(world) == axis);
        let sides = ["left and right", "front and back", "top and bottom"];
        world.map_or("the two ends of an axis", |world| sides[world])
    }
}

impl HeldFile {
    /// The case whose mask it is, after what people had set right.
    pub fn for_case(&self) -> &CaseId {
        let other = self.mended.iter().rev().find_map(|fix| match fix {
            Fix::Case(other) => Some(other),
            _ => None,
        });
        other.unwrap_or(&self.case)
    }
}

/// A dropped file that waits for a key press.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldFile {
    /// Its number.
    pub id: HeldId,
    /// Name as dropped, control characters replaced.
    pub name: String,
    /// BLAKE3 of the bytes that were looked at; an accepted file has to have it still.
    pub file: Hash,
    /// The case it is for.
    pub case: CaseId,
    /// The check's code.
    pub code: String,
    /// What is odd about it, and what to do.
    pub words: String,
    /// The other way to read it, where there is one.
    #[serde(default)]
    pub fix: Option<Fix>,
    /// BLAKE3 of the label table that came with it: without that, its values are not what they were.
    #[serde(default)]
    pub table: Option<Hash>,
    /// The hand-out that it answers, where that was known when it came.
    #[serde(default)]
    pub answers: Option<HandoutId>,
    /// Codes that a person has let pass already: one decision lets one thing pass.
    #[serde(default)]
    pub passed: Vec<String>,
    /// What a person had set right already.
    #[serde(default)]
    pub mended: Vec<Fix>,
    /// When.
    pub at: Timestamp,
    /// `accepted`, `fixed` or `refused`, once decided.
    pub decided: Option<String>,
}
