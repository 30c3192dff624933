//! What the engine and its surfaces (screens, verbs) say to each other.
//!
//! A surface holds an [`EngineHandle`]: it sends [`Command`]s and receives [`Event`]s, and cannot tell whether
//! the far side is a thread or another process. `Attach` is answered by a [`Snapshot`]; every fact that is
//! stored afterwards arrives as a [`Change`] numbered from `snapshot.seq + 1`, and a surface that sees a gap
//! attaches again. [`Activity`] may be merged or skipped; changes and answers never are. Everything here is
//! owned serde data; a case to look at travels as a whole. Imports `records`, `imaging` and `settings`.

mod command;
mod event;
mod handle;
mod queue;
mod snapshot;
mod view;

pub use command::{Command, ImportItem};
pub use event::{
    Activity, Answer, Attached, Change, EngineStatus, Event, HandedOut, IntakeReport, Outcome, Space, Stage,
};
pub use handle::{EngineGone, EngineHandle, EngineReceiver, EngineSender, Request};
pub use queue::{Forecast, QueueRow, Status};
pub use snapshot::{Gap, NextStep, Snapshot};
pub use view::{Beside, CaseView, Drawing, Intensities, Maker, Wanted};
