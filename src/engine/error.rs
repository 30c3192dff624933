//! Why the engine could not do what it was asked.

use std::path::{Path, PathBuf};

use crate::imaging::VolumeError;
use crate::settings::SettingsError;
use crate::store::StoreError;

/// Why the engine could not do what it was asked; nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store's reason.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The settings' reason.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A volume's reason, with the file it came from.
    #[error("{file}: {source}")]
    Volume {
        /// The file, or the blob's role.
        file: String,
        /// What is wrong with it.
        source: VolumeError,
    },
    /// The system refused a file operation.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The command makes no sense as things stand: what stands in the way, and the remedy.
    #[error("{0}")]
    Refused(String),
}

impl EngineError {
    /// Whether another process has the project open.
    pub fn is_held(&self) -> bool {
        matches!(self, EngineError::Store(StoreError::Held { .. }))
    }

    pub(super) fn refused<T>(words: impl Into<String>) -> Result<T, EngineError> {
        Err(EngineError::Refused(words.into()))
    }

    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> EngineError {
        let path = path.to_path_buf();
        move |source| EngineError::Io { doing, path, source }
    }

    pub(super) fn thread(source: std::io::Error) -> EngineError {
        EngineError::Io {
            doing: "starting a thread for",
            path: "the engine".into(),
            source,
        }
    }
}
