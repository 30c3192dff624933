//! What the journal and the blobs ask of a disk, so that the tests can put one under them that fails, is full, writes half
//! of what it is given, or loses what was not synced when the power goes.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::private_folder;

/// A disk.
pub trait Disk: Debug + Send + Sync {
    /// All bytes of a file.
    fn read(&self, path: &Path) -> Result<Vec<u8>>;
    /// A file to add to, made for this user alone where there is none.
    fn open(&self, path: &Path) -> Result<Box<dyn Handle>>;
    /// An empty file for this user alone; what was there is gone.
    fn create(&self, path: &Path) -> Result<Box<dyn Handle>>;
    /// Gives a file the place of another, at once.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// A folder, and those above it, for this user alone.
    fn make_folder(&self, path: &Path) -> Result<()>;
    /// Keeps the names in a folder through a power cut.
    fn sync_folder(&self, path: &Path) -> Result<()>;
    /// Bytes that this user may still write where `path` is; `None` where that cannot be told.
    fn free(&self, path: &Path) -> Option<u64>;
}

/// An open file.
pub trait Handle: Debug + Send + Sync {
    /// Adds bytes at the end: some of them, and says how many.
    fn write(&mut self, bytes: &[u8]) -> Result<usize>;
    /// Keeps what was written through a power cut.
    fn sync(&mut self) -> Result<()>;
    /// Cuts the file off.
    fn set_len(&mut self, length: u64) -> Result<()>;
}

/// Adds all bytes at the end.
pub fn write_all(file: &mut dyn Handle, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Puts a file in its place, whole or not at all: written beside, synced, renamed, the folder synced.
pub fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension("new");
    let mut file = disk.create(&beside)?;
    write_all(&mut *file, bytes)?;
    file.sync()?;
    disk.rename(&beside, path)?;
    disk.sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// The system's.
#[derive(Debug)]
pub struct Real;

impl Disk for Real {
    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        fs::read(path)
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Handle>> {
        let mut how = OpenOptions::new();
        how.append(true).create(true).mode(0o600);
        Ok(Box::new(how.open(path)?))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn Handle>> {
        let mut how = OpenOptions::new();
        how.write(true).create(true).truncate(true).mode(0o600);
        Ok(Box::new(how.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to)
    }

    fn make_folder(&self, path: &Path) -> Result<()> {
        private_folder(path).map_err(Error::other)
    }

    fn sync_folder(&self, path: &Path) -> Result<()> {
        File::open(path)?.sync_all()
    }

    fn free(&self, path: &Path) -> Option<u64> {
        let there = path.ancestors().find(|folder| folder.exists())?;
        let known = rustix::fs::statvfs(there).ok()?;
        Some(known.f_bavail.saturating_mul(known.f_frsize))
    }
}

impl Handle for File {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        Write::write(self, bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.sync_data()
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        File::set_len(self, length)
    }
}
