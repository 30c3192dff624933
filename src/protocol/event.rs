//! What the engine tells its surfaces.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CaseView, Snapshot};
use crate::records::{
    CaseId, ClassEffort, CorrectionId, DeviceUse, Entry, EpochReport, HandoutId, HeldId, ModelId, Row,
    Scored, What,
};
use crate::settings::Settings;

/// One message to a surface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A fact was stored. Emitted after every commit; a surface puts the rows into its snapshot.
    Changed(Box<Change>),
    /// Other settings are in force. Emitted when the settings file was read again and differs.
    Settings(Box<Settings>),
    /// The cases of which a file in the inbox is waited for, and why. Emitted when they change; the newest counts.
    Inbox(BTreeMap<CaseId, String>),
    /// What the worker is at. Emitted often; only the newest counts.
    Activity(Activity),
    /// The answer to one request of this surface: what came of it, or why it could not be done.
    Answer {
        /// Number of the request.
        request: u64,
        /// What came of it.
        result: Result<Answer, String>,
    },
    /// More changed than changes say: attach again.
    Refresh,
    /// Something a person should read: a file refused, a disk that fills up.
    Notice(String),
}

/// One journal entry, as surfaces see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The entry's number.
    pub seq: u64,
    /// What was done.
    pub what: What,
    /// Rows that are new or changed, whole.
    pub rows: Vec<Row>,
    /// The order of the ranking, where one is among the rows.
    pub order: Option<Vec<Scored>>,
}

/// What the compute worker is at.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Activity {
    /// The stage.
    pub stage: Stage,
    /// Parts done (cases, or steps of the running epoch).
    pub done: usize,
    /// Parts in all.
    pub of: usize,
    /// The running epoch, from 1; 0 outside training.
    pub epoch: usize,
    /// Epochs at most.
    pub max_epochs: usize,
    /// Every epoch of the running (or last) training.
    pub curve: Vec<EpochReport>,
    /// When the stage began.
    pub since: Option<Timestamp>,
    /// How much of the devices that compute is in use, where they say.
    pub devices: Vec<DeviceUse>,
}

/// The engine that a surface talks to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it began.
    pub since: Timestamp,
    /// Whether it goes on when nobody is attached.
    pub stays: bool,
    /// Whether it looks into the inbox and trains by itself.
    pub watches: bool,
    /// Who is attached, in the order in which they came.
    pub attached: Vec<Attached>,
}

/// How much room a project takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Images, masks, drawings, weights and lists.
    pub blobs: u64,
    /// The journal.
    pub journal: u64,
    /// The index.
    pub index: u64,
    /// What was dropped.
    pub inbox: u64,
    /// What was written for people.
    pub handouts: u64,
    /// What a task is at.
    pub work: u64,
    /// Logs.
    pub logs: u64,
    /// What the disk still has; `None` where that cannot be told.
    pub free: Option<u64>,
}

/// Somebody at a surface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The account.
    pub who: String,
    /// The surface's process, where it is not the engine's.
    pub pid: Option<u32>,
    /// When it came.
    pub since: Timestamp,
}

/// What the worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Stage {
    /// Nothing.
    #[default]
    Idle,
    /// Takes cases in.
    Importing,
    /// Draws the pool.
    Predicting,
    /// Learns.
    Training,
    /// Measures and draws with the new model.
    Evaluating,
}

impl Stage {
    /// The word people see.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Idle => "idle",
            Stage::Importing => "importing",
            Stage::Predicting => "predicting",
            Stage::Training => "training",
            Stage::Evaluating => "evaluating",
        }
    }
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Done, in words.
    Done(String),
    /// There was nothing to do, in words.
    Nothing(String),
    /// To `Attach`.
    Snapshot(Box<Snapshot>),
    /// To `Import`.
    Imported {
        /// New cases.
        cases: Vec<CaseId>,
        /// Items that were there already, by the case that has them.
        known: Vec<(CaseId, CaseId)>,
        /// Cases whose mask was left alone, and why.
        masks_left: Vec<(CaseId, String)>,
        /// Items that could not be taken, with the reason.
        refused: Vec<(CaseId, String)>,
    },
    /// To `HandOut`.
    HandedOut(HandedOut),
    /// To `ScanInbox` and `AcceptHeld`.
    Intake(Vec<IntakeReport>),
    /// To `Open`.
    Case(Box<CaseView>),
    /// To `Curve`.
    Curve(Vec<EpochReport>),
    /// To `Orders`: the scores that each model gave, first to ask first.
    Orders(Vec<(ModelId, Vec<Scored>)>),
    /// To `Journal`.
    Journal(Vec<Entry>),
    /// To `Export` and `ExportModel`.
    File(Vec<u8>),
    /// To `Engine`.
    Engine(EngineStatus),
    /// To `Space`.
    Space(Space),
}

/// What was written for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HandedOut {
    /// The hand-out.
    pub id: HandoutId,
    /// The case.
    pub case: CaseId,
    /// Where the files are.
    pub folder: PathBuf,
    /// The pre-annotation's file.
    pub mask: PathBuf,
    /// The file name to send back.
    pub reply_name: String,
    /// The watched folder it goes to.
    pub inbox: PathBuf,
    /// The model that drew; `None`: the mask is empty.
    pub model: Option<ModelId>,
}

/// What became of a dropped file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Taken in.
    Accept,
    /// Taken in, with a note.
    Warn,
    /// Waits for a key press.
    Hold,
    /// Moved to quarantine.
    Reject,
    /// Looked at again later.
    Wait,
    /// Left alone.
    Ignore,
}

impl Outcome {
    /// The word people see.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Accept => "accepted",
            Outcome::Warn => "accepted, with a note",
            Outcome::Hold => "held",
            Outcome::Reject => "refused",
            Outcome::Wait => "waiting",
            Outcome::Ignore => "ignored",
        }
    }
}

/// What became of one dropped file, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IntakeReport {
    /// Its name, control characters replaced.
    pub file: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Code of the check that decided, or the first that noticed something; `K1` when nothing did.
    pub code: String,
    /// Why, and what to do.
    pub words: String,
    /// The case it is for, where that is known.
    pub case: Option<CaseId>,
    /// The correction it became.
    pub correction: Option<CorrectionId>,
    /// The held file it became.
    pub held: Option<HeldId>,
    /// Its saved effort per class, where measured.
    pub effort: Vec<ClassEffort>,
}
