//! What is remembered: plain data with names, no behaviour beyond arithmetic on itself.
//!
//! A project is a set of [`Row`]s (cases, models, rounds, hand-outs, corrections, rankings, predictions, held
//! files) and the chain of [`Entry`]s that put them there: each entry says who did what when and why, and
//! holds the rows as they are afterwards. [`Task`] is what the compute worker is asked. The room knows no
//! file, store or screen; it imports `imaging` for grids and `settings` for the choices a record repeats.

mod bench;
mod case;
mod effort;
mod entry;
mod ids;
mod model;
mod round;
mod task;
mod text;
mod verified;

pub use bench::{BenchRow, BenchTask, Machine};
pub use case::{
    Agreement, Case, CaseSource, ClassAgreement, Correction, Erasure, Fix, Handout, HandoutEnd, HeldFile,
    Mask, MaskOrigin, Pool,
};
pub use effort::{ClassEffort, mean_of_known, mean_saved};
pub use entry::{Entry, Keep, Named, Project, Row, RowKey, What};
pub use ids::{
    CaseId, CorrectionId, ErasureId, HandoutId, Hash, HeldId, IdError, ModelId, RankingId, RoundId,
};
pub use model::{Architecture, Model, ModelOrigin, Prediction, Ranking, Scored, SliceSums, TrainedOn};
pub use round::{Fixed, Round, RoundState};
pub use task::{
    DeviceUse, EpochReport, PredictCase, PredictTask, Predicted, Progress, Task, TaskResult, TrainCase,
    TrainTask, Trained,
};
pub use text::{is_unsafe, printable};
pub use verified::{Archived, Problem, Verified};
