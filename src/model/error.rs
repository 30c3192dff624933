//! Why a network could not be trained, loaded or used.

use std::path::{Path, PathBuf};

use crate::imaging::VolumeError;
use crate::records::CaseId;
use crate::settings::Device;

/// Why a network could not be trained, loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that holds no weights of ours, or damaged ones.
    #[error("{path} holds no usable weights: {problem}; give a checkpoint that overtrace has written")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Weights of a network of another shape.
    #[error(
        "{path} has {key} = {held}, but {wanted} is asked for; set {setting} = {held}, or start without it"
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// What differs.
        key: &'static str,
        /// What the file has.
        held: String,
        /// What was asked for.
        wanted: String,
        /// The setting that decides.
        setting: &'static str,
    },
    /// An image of a case could not be read.
    #[error("case {case}, {path}: {source}")]
    Image {
        /// The case.
        case: CaseId,
        /// The file.
        path: PathBuf,
        /// Why.
        source: VolumeError,
    },
    /// A case whose files do not fit together or do not fit the network.
    #[error("case {case}: {problem}")]
    Case {
        /// The case.
        case: CaseId,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Nothing but background in every case.
    #[error("none of the {cases} cases has a tile with signal; add a case whose image is not empty")]
    NoSignal {
        /// How many cases there are.
        cases: usize,
    },
    /// The loss is no number any more.
    #[error("the loss became {loss} in epoch {epoch}; lower training.learning_rate")]
    Diverged {
        /// Not finite.
        loss: f64,
        /// The epoch, from 1.
        epoch: usize,
    },
    /// The GPU that was asked for cannot be had.
    #[error("{device} cannot be had: {problem}")]
    NoDevice {
        /// Which.
        device: Device,
        /// Why.
        problem: String,
    },
    /// No threads to compute with.
    #[error("no {threads} threads to compute with: {source}; lower training.threads")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// Why.
        source: rayon::ThreadPoolBuildError,
    },
    /// The arithmetic itself was refused: shapes that do not fit.
    #[error("computing: {0}")]
    Compute(#[from] candle_core::Error),
}

impl ModelError {
    /// For `map_err`: what was being done to which file.
    pub(super) fn io<'a>(
        doing: &'static str,
        path: &'a Path,
    ) -> impl Fn(std::io::Error) -> ModelError + use<'a> {
        move |source| ModelError::Io {
            doing,
            path: path.to_path_buf(),
            source,
        }
    }

    /// Whether a GPU had no room for it.
    pub(super) fn is_out_of_memory(&self) -> bool {
        let ModelError::Compute(error) = self else {
            return false;
        };
        let words = error.to_string();
        ["OUT_OF_MEMORY", "ALLOC_FAILED", "out of memory"]
            .iter()
            .any(|known| words.contains(known))
    }
}
