//! One process at a time: an advisory lock whose file says who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::StoreError;

/// Held until dropped; the system drops it with the process, so no stale lock outlives a crash.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "the open file is the lock; nobody reads it")] File);

impl Lock {
    /// Takes the lock, or says who has it.
    pub fn take(path: &Path) -> Result<Lock, StoreError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(StoreError::io("opening", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)
                    .map_err(StoreError::io("reading", path))?;
                return Err(StoreError::Held {
                    holder: holder.trim_end().to_string(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(StoreError::io("locking", path)(source)),
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() {
            "unknown"
        } else {
            host.trim()
        };
        let holder = format!(
            "pid {} on {host}, overtrace {}\n",
            std::process::id(),
            env!("CARGO_PKG_VERSION")
        );
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(holder.as_bytes()))
            .map_err(StoreError::io("writing", path))?;
        Ok(Lock(file))
    }
}
