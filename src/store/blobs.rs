//! Arrays and lists, named by the BLAKE3 of their bytes: written once, never changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use super::disk::{self, Disk, Real};
use crate::records::Hash;

/// The blobs of one store.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    /// Bytes of the disk that are left free.
    reserve: Arc<AtomicU64>,
}

/// BLAKE3 of some bytes.
pub(crate) fn hash_of(bytes: &[u8]) -> Hash {
    Hash::from_bytes(*blake3::hash(bytes).as_bytes())
}

impl Blobs {
    pub(super) fn open(folder: &Path) -> Result<Blobs, StoreError> {
        Blobs::on(Arc::new(Real), folder)
    }

    pub(super) fn on(disk: Arc<dyn Disk>, folder: &Path) -> Result<Blobs, StoreError> {
        disk.make_folder(folder)
            .map_err(StoreError::io("making folder", folder))?;
        Ok(Blobs {
            folder: folder.to_path_buf(),
            disk,
            reserve: Arc::default(),
        })
    }

    /// Leaves this many bytes of the disk free from now on.
    pub fn leave_free(&self, bytes: u64) {
        self.reserve.store(bytes, Ordering::Relaxed);
    }

    /// Refuses to write `bytes` where less than twice as much, or less than the reserve, is left.
    fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        let wanted = self.reserve.load(Ordering::Relaxed).max(2 * bytes);
        match self.disk.free(&self.folder) {
            Some(free) if free < wanted => Err(StoreError::Full {
                path: self.folder.clone(),
                free,
                wanted,
            }),
            _ => Ok(()),
        }
    }

    /// The hash that `bytes` would have, without keeping them.
    pub fn hash(bytes: &[u8]) -> Hash {
        hash_of(bytes)
    }

    /// Where a blob lies.
    pub fn path(&self, hash: Hash) -> PathBuf {
        let name = hash.to_string();
        self.folder.join(&name[..2]).join(name)
    }

    /// Keeps bytes: written beside, synced, renamed, the folder synced; the same bytes twice are one blob.
    ///
    /// # Errors
    /// [`StoreError::Full`] and [`StoreError::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<Hash, StoreError> {
        self.write(bytes, true)
    }

    /// Keeps a list as JSON, out of the reserve if need be: for what makes room.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_anyway(&self, value: &impl Serialize) -> Result<Hash, StoreError> {
        let json = serde_json::to_vec(value).expect("records have string keys and no failing serializer");
        self.write(&json, false)
    }

    fn write(&self, bytes: &[u8], leaves_reserve: bool) -> Result<Hash, StoreError> {
        let hash = hash_of(bytes);
        let path = self.path(hash);
        // One that was damaged since is written anew.
        if self.disk.read(&path).is_ok_and(|there| there == bytes) {
            // Whoever put it there may have been cut off before its name was kept.
            let shelf = path.parent().expect("a blob lies in a shelf");
            return self
                .disk
                .sync_folder(shelf)
                .map(|()| hash)
                .map_err(StoreError::io("syncing", shelf));
        }
        if leaves_reserve {
            self.check_room(bytes.len() as u64)?;
        }
        let shelf = path.parent().expect("a blob lies in a shelf");
        self.disk
            .make_folder(shelf)
            .and_then(|()| self.disk.sync_folder(&self.folder))
            .map_err(StoreError::io("making folder", shelf))?;
        disk::put(&*self.disk, &path, bytes).map_err(StoreError::io("writing", &path))?;
        Ok(hash)
    }

    /// Keeps a list or record as JSON.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_json(&self, value: &impl Serialize) -> Result<Hash, StoreError> {
        self.put(&serde_json::to_vec(value).expect("records have string keys and no failing serializer"))
    }

    /// The bytes of a blob, checked against its name.
    ///
    /// # Errors
    /// [`StoreError::Blob`] when it is missing or altered.
    pub fn get(&self, hash: Hash) -> Result<Vec<u8>, StoreError> {
        let bytes = self
            .disk
            .read(&self.path(hash))
            .map_err(|error| StoreError::Blob {
                hash,
                problem: format!("cannot be read: {error}"),
            })?;
        if hash_of(&bytes) != hash {
            return Err(StoreError::Blob {
                hash,
                problem: "its bytes are not what its name says".into(),
            });
        }
        Ok(bytes)
    }

    /// Whether a blob is there, and how many bytes it has.
    pub fn size(&self, hash: Hash) -> Option<u64> {
        std::fs::metadata(self.path(hash)).ok().map(|meta| meta.len())
    }

    /// Every blob that is there, with its bytes; in no order.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn all(&self) -> Result<Vec<(Hash, u64)>, StoreError> {
        const LOOKING: &str = "looking into";
        let mut found = Vec::new();
        for shelf in std::fs::read_dir(&self.folder).map_err(StoreError::io(LOOKING, &self.folder))? {
            let shelf = shelf.map_err(StoreError::io(LOOKING, &self.folder))?.path();
            for file in std::fs::read_dir(&shelf).map_err(StoreError::io(LOOKING, &shelf))? {
                let file = file.map_err(StoreError::io(LOOKING, &shelf))?;
                // What was being written when the power went has another name.
                if let Ok(hash) = file.file_name().to_string_lossy().parse() {
                    found.push((
                        hash,
                        file.metadata().map_err(StoreError::io(LOOKING, &shelf))?.len(),
                    ));
                }
            }
        }
        Ok(found)
    }

    /// Takes a blob away for good; one that is not there is away already.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove(&self, hash: Hash) -> Result<(), StoreError> {
        let path = self.path(hash);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io("removing", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes files that were being written when something was cut short.
    pub(super) fn tidy(&self) -> Result<(), StoreError> {
        for shelf in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            for file in std::fs::read_dir(shelf.path()).into_iter().flatten().flatten() {
                let path = file.path();
                if path.extension().is_some_and(|extension| extension == "new") {
                    std::fs::remove_file(&path).map_err(StoreError::io("removing", &path))?;
                }
            }
        }
        Ok(())
    }

    /// Bytes that may still be written where they are kept; `None` where that cannot be told.
    pub fn free(&self) -> Option<u64> {
        self.disk.free(&self.folder)
    }

    /// A list or record kept by [`Blobs::put_json`].
    ///
    /// # Errors
    /// [`StoreError::Blob`].
    pub fn get_json<T: DeserializeOwned>(&self, hash: Hash) -> Result<T, StoreError> {
        serde_json::from_slice(&self.get(hash)?).map_err(|error| StoreError::Blob {
            hash,
            problem: format!("is not the record expected: {error}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_same_bytes_are_one_private_blob() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&folder.path().join("blobs")).unwrap();
        let hash = blobs.put(b"voxels").unwrap();
        assert_eq!(blobs.put(b"voxels").unwrap(), hash);
        assert_eq!(blobs.get(hash).unwrap(), b"voxels");
        assert_eq!(
            fs::metadata(blobs.path(hash)).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::read_dir(blobs.path(hash).parent().unwrap()).unwrap().count(),
            1
        );
    }

    #[test]
    fn an_altered_or_missing_blob_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&folder.path().join("blobs")).unwrap();
        let hash = blobs.put(b"voxels").unwrap();
        fs::write(blobs.path(hash), b"vowels").unwrap();
        assert!(
            blobs
                .get(hash)
                .unwrap_err()
                .to_string()
                .contains("not what its name says")
        );
        blobs.put(b"voxels").unwrap();
        assert_eq!(blobs.get(hash).unwrap(), b"voxels", "put mends it");
        assert!(
            blobs
                .get(Hash::ZERO)
                .unwrap_err()
                .to_string()
                .contains("cannot be read")
        );
    }
}
