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
    /// A GPU with no room for a single tile.
    #[error(
        "the GPU's memory does not hold one tile: {0}; lower model.base_channels, end what else uses the GPU, or set compute.device = \"cpu\""
    )]
    Full(candle_core::Error),
    /// The arithmetic itself was refused: shapes that do not fit, or a fault of a GPU.
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
    pub(super) fn is_full(error: &candle_core::Error) -> bool {
        let words = error.to_string();
        // Of the driver, of cuBLAS, of cuDNN, and of images that are larger than a GPU's kernels count.
        [
            "OUT_OF_MEMORY",
            "out of memory",
            "ALLOC_FAILED",
            "ALLOCATION_FAILED",
            "use fewer tiles",
        ]
        .iter()
        .any(|known| words.contains(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_full(words: &str) -> bool {
        ModelError::is_full(&candle_core::Error::msg(words))
    }

    /// As each library says it.
    #[test]
    fn a_full_gpu_is_known_by_its_words() {
        for words in [
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "CublasError(CUBLAS_STATUS_ALLOC_FAILED)",
            "CudnnError(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED)",
            "CudnnError(CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)",
            "pool by 2147483648 threads at a time is more than a GPU's kernels count; use fewer tiles",
        ] {
            assert!(is_full(words), "{words}");
        }
        assert!(!is_full("CUDNN_STATUS_BAD_PARAM") && !is_full("shapes do not fit"));
    }

    /// What the layers say when cuDNN's own memory is not to be had.
    #[cfg(feature = "cudnn")]
    #[test]
    fn cudnn_names_its_full_memory_so() {
        use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, sys::cudnnStatus_t};
        let error = CudnnError(cudnnStatus_t::CUDNN_STATUS_ALLOC_FAILED);
        assert!(is_full(&error.to_string()), "{error}");
    }
}
