//! Why a network could not be trained, loaded or used.

use std::path::{Path, PathBuf};

use super::Report;
use crate::imaging::NiftiError;
use crate::records::{CaseId, Progress};
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
        held: usize,
        /// What was asked for.
        wanted: usize,
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
        source: NiftiError,
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
}

impl ModelError {
    /// Whether a GPU had no room for it.
    fn is_out_of_memory(&self) -> bool {
        let ModelError::Compute(error) = self else {
            return false;
        };
        let words = error.to_string();
        ["OUT_OF_MEMORY", "ALLOC_FAILED", "out of memory"]
            .iter()
            .any(|known| words.contains(known))
    }
}

/// Does `work` with `batch` tiles at a time; where a GPU's memory does not hold them, with half as many from then on, and
/// says so.
pub(super) fn with_batch<R>(
    batch: &mut usize,
    report: &mut Report<'_>,
    mut work: impl FnMut(usize, &mut Report<'_>) -> Result<R, ModelError>,
) -> Result<R, ModelError> {
    loop {
        match work(*batch, report) {
            Err(error) if error.is_out_of_memory() && *batch > 1 => {
                *batch /= 2;
                // Whether to go on is asked again at the next step.
                let _ = report(Progress::Notice(format!(
                    "the GPU's memory is full: {batch} tiles at a time from here on"
                )));
            }
            done => return done,
        }
    }
}

/// A pool of `threads` threads; 0 takes every core.
pub(super) fn pool(threads: usize) -> Result<rayon::ThreadPool, ModelError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|source| ModelError::Threads { threads, source })
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    #[test]
    fn a_full_gpu_gets_half_as_many_tiles_until_they_fit() {
        let (mut batch, mut said) = (16, Vec::new());
        let mut report = |progress| {
            said.push(progress);
            ControlFlow::Continue(())
        };
        let full = |tiles: usize| {
            let error = candle_core::Error::msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
            if tiles > 5 { Err(error.into()) } else { Ok(tiles) }
        };
        assert_eq!(
            with_batch(&mut batch, &mut report, |tiles, _| full(tiles)).unwrap(),
            4
        );
        assert_eq!((batch, said.len()), (4, 2));
        assert!(matches!(&said[1], Progress::Notice(words) if words.contains("4 tiles")));
    }

    #[test]
    fn one_tile_that_does_not_fit_and_other_errors_are_errors() {
        let mut batch = 2;
        let mut asked = Vec::new();
        let error = with_batch(&mut batch, &mut |_| ControlFlow::Continue(()), |tiles, _| {
            asked.push(tiles);
            Err::<(), _>(candle_core::Error::msg("CUBLAS_STATUS_ALLOC_FAILED").into())
        });
        assert!(error.is_err() && asked == [2, 1]);
        let mut calls = 0;
        let error = with_batch(&mut 8, &mut |_| ControlFlow::Continue(()), |_, _| {
            calls += 1;
            Err::<(), _>(candle_core::Error::msg("shapes").into())
        });
        assert!(error.is_err() && calls == 1);
    }
}
