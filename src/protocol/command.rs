//! What a surface asks of the engine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Wanted;
use crate::records::{CaseId, CorrectionId, HeldId, ModelId, Pool};
use crate::settings::{Pixels, Strategy};

/// One wish. Each is answered exactly once, long ones when they are done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Send a snapshot, then every change. Answered by `Answer::Snapshot`.
    Attach {
        /// Only the cases that the queue begins with, at most these many: what a first screen needs. `None`: all.
        cases: Option<usize>,
    },
    /// Take images (and masks) in. Answered by `Answer::Imported`.
    Import {
        /// The cases.
        items: Vec<ImportItem>,
        /// The pool; by default cases with a mask are labelled, the others unlabelled.
        pool: Option<Pool>,
    },
    /// Leave a case out of ranking, training and measuring.
    Exclude {
        /// Which.
        case: CaseId,
        /// Why.
        why: String,
    },
    /// Bring an excluded case back.
    Include {
        /// Which.
        case: CaseId,
    },
    /// Predict what the current model has not predicted, and rank the unlabelled pool.
    Rank {
        /// Instead of the settings' strategy.
        strategy: Option<Strategy>,
        /// Instead of the settings' pixels.
        pixels: Option<Pixels>,
    },
    /// Write image, pre-annotation and instructions for a person. Answered by `Answer::HandedOut`.
    HandOut {
        /// Which.
        case: CaseId,
        /// To whom.
        owner: String,
        /// For a second reading: what the last reader was given, instead of what came of it.
        again: bool,
    },
    /// Give a case that is out to somebody else instead. Answered by `Answer::HandedOut`.
    TakeOver {
        /// Which.
        case: CaseId,
        /// To whom.
        owner: String,
        /// Why.
        why: String,
    },
    /// Take a hand-out back without a mask.
    Withdraw {
        /// Which.
        case: CaseId,
        /// Why.
        why: String,
    },
    /// Look into the inbox now. Answered by `Answer::Intake`.
    ScanInbox,
    /// Take a held file in after all. Answered by `Answer::Intake`.
    AcceptHeld {
        /// Which.
        held: HeldId,
        /// Read the other way.
        fix: bool,
    },
    /// Move a held file to quarantine.
    RefuseHeld {
        /// Which.
        held: HeldId,
        /// Why.
        why: String,
    },
    /// Have a case train with this one of its corrections.
    ChooseCorrection {
        /// Which.
        correction: CorrectionId,
        /// Why.
        why: String,
    },
    /// Note how long a person worked on the case's last correction.
    NoteMinutes {
        /// Which.
        case: CaseId,
        /// Minutes at work.
        minutes: f64,
    },
    /// Begin a round: rank and ask, or, without a model and with labels, train.
    StartRound {
        /// Draw the weights anew; the way to other labels, plane, channels or width.
        from_scratch: bool,
        /// Instead of the settings' budget.
        budget: Option<usize>,
        /// Instead of the settings' strategy.
        strategy: Option<Strategy>,
    },
    /// Train now, without the queried cases that are not back; also resumes an interrupted round.
    Train,
    /// Stop the open round.
    AbandonRound {
        /// Why.
        why: String,
    },
    /// Start from another project's weights.
    ImportModel {
        /// A safetensors checkpoint.
        file: PathBuf,
    },
    /// The current model's checkpoint as bytes. Answered by `Answer::File`.
    ExportModel,
    /// Draw, rank and go on from this model; an older one rolls back.
    UseModel {
        /// Which.
        model: ModelId,
        /// Why.
        why: String,
    },
    /// The newest order that each model put the pool in. Answered by `Answer::Orders`.
    Orders,
    /// End the loop: the performance is satisfactory.
    DeclareSatisfactory {
        /// Why.
        why: String,
    },
    /// Go on after all.
    Reopen {
        /// Why.
        why: String,
    },
    /// A case to look at. Answered by `Answer::Case`.
    Open(Wanted),
    /// Remove what is not kept for ever. Answered by `Answer::Done`.
    Gc {
        /// Only say what that would be.
        dry_run: bool,
    },
    /// Erase a case whose patient withdrew.
    Forget {
        /// Which.
        case: CaseId,
        /// Why.
        why: String,
    },
    /// How much room the project takes. Answered by `Answer::Space`.
    Space,
    /// Which engine this is, and who is at it. Answered by `Answer::Engine`.
    Engine,
    /// End the engine, for all who are attached; a round that it is at goes on when the next one begins.
    Stop,
    /// The learning curve of a model. Answered by `Answer::Curve`.
    Curve {
        /// Which.
        model: ModelId,
    },
    /// The journal, oldest first. Answered by `Answer::Journal`.
    Journal {
        /// Only the entries from this one on.
        from: u64,
    },
    /// A file of a case as bytes: its mask or the current model's label map, in the values of the labels.
    /// Answered by `Answer::File`.
    Export {
        /// Which.
        case: CaseId,
    },
}

/// Longest reason, in characters, that is kept.
const MAX_REASON: usize = 500;

impl Command {
    /// The command with its reason cut to what the store keeps.
    pub fn shortened(mut self) -> Command {
        if let Command::Exclude { why, .. }
        | Command::Withdraw { why, .. }
        | Command::Forget { why, .. }
        | Command::TakeOver { why, .. }
        | Command::RefuseHeld { why, .. }
        | Command::AbandonRound { why }
        | Command::UseModel { why, .. }
        | Command::DeclareSatisfactory { why }
        | Command::Reopen { why } = &mut self
        {
            *why = why.chars().take(MAX_REASON).collect();
        }
        self
    }
}

/// The files of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportItem {
    /// Its name.
    pub id: CaseId,
    /// One file a channel.
    pub images: Vec<PathBuf>,
    /// Its mask.
    pub mask: Option<PathBuf>,
    /// Its pool, where a list names it.
    pub pool: Option<Pool>,
}
