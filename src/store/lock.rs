//! One process at a time: an advisory lock whose file says who holds it.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::StoreError;

/// How long a lock may be had by who only asks for it.
const ASKING: Duration = Duration::from_millis(100);

/// Who has a store open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// The machine that it runs on.
    pub host: String,
    /// Its version of overtrace.
    pub version: String,
    /// Where it can be talked to, if it can.
    pub socket: Option<PathBuf>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} on {}, overtrace {}", self.pid, self.host, self.version)
    }
}

impl Holder {
    fn this_process() -> Holder {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = match host.trim() {
            "" => "unknown",
            host => host,
        };
        Holder {
            pid: std::process::id(),
            host: host.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            socket: None,
        }
    }

    /// Who holds the lock at `path`, or held it last: whether that process still runs, its file cannot say.
    pub fn read(path: &Path) -> Option<Holder> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }
}

/// Whether somebody holds the lock at `path`.
pub fn is_held(path: &Path) -> Result<bool, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StoreError::io("opening", path)(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(StoreError::io("locking", path)(source)),
    }
}

/// Held until dropped; the system drops it with the process, so no stale lock outlives a crash.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

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
        // Whoever only asks whether it is held has it for a moment.
        let until = Instant::now() + ASKING;
        let mut tried = file.try_lock();
        while matches!(tried, Err(TryLockError::WouldBlock)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
            tried = file.try_lock();
        }
        match tried {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut words = String::new();
                file.read_to_string(&mut words)
                    .map_err(StoreError::io("reading", path))?;
                // An older version wrote words.
                let holder = match serde_json::from_str::<Holder>(&words) {
                    Ok(holder) => holder.to_string(),
                    Err(_) => words.trim_end().to_string(),
                };
                return Err(StoreError::Held { holder });
            }
            Err(TryLockError::Error(source)) => return Err(StoreError::io("locking", path)(source)),
        }
        let lock = Lock {
            file,
            path: path.to_path_buf(),
        };
        lock.write(&Holder::this_process())?;
        Ok(lock)
    }

    /// Says where this process can be talked to.
    pub fn announce(&self, socket: &Path) -> Result<(), StoreError> {
        self.write(&Holder {
            socket: Some(socket.to_path_buf()),
            ..Holder::this_process()
        })
    }

    /// Whether the lock's file is where it was: its folder may have been deleted or moved.
    pub fn is_there(&self) -> bool {
        let inode = |meta: std::io::Result<std::fs::Metadata>| meta.map(|meta| (meta.dev(), meta.ino())).ok();
        inode(self.file.metadata()) == inode(std::fs::metadata(&self.path))
    }

    fn write(&self, holder: &Holder) -> Result<(), StoreError> {
        let words = serde_json::to_vec(holder).expect("a holder has string keys and no failing serializer");
        let mut file = &self.file;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(&words))
            .map_err(StoreError::io("writing", &self.path))
    }
}
