//! Arrays and lists, named by the BLAKE3 of their bytes: written once, never changed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{StoreError, private_folder};
use crate::records::Hash;

/// The blobs of one store.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
}

/// BLAKE3 of some bytes.
pub(crate) fn hash_of(bytes: &[u8]) -> Hash {
    Hash::from_bytes(*blake3::hash(bytes).as_bytes())
}

impl Blobs {
    pub(super) fn open(folder: &Path) -> Result<Blobs, StoreError> {
        private_folder(folder)?;
        Ok(Blobs {
            folder: folder.to_path_buf(),
        })
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
    /// [`StoreError::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<Hash, StoreError> {
        let hash = hash_of(bytes);
        let path = self.path(hash);
        // One that was damaged since is written anew.
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(hash);
        }
        let shelf = path.parent().expect("a blob lies in a shelf");
        if !shelf.is_dir() {
            private_folder(shelf)?;
            File::open(&self.folder)
                .and_then(|folder| folder.sync_all())
                .map_err(StoreError::io("syncing", &self.folder))?;
        }
        // `NamedTempFile` is made 0600, whatever the umask.
        let mut file =
            tempfile::NamedTempFile::new_in(shelf).map_err(StoreError::io("making a file in", shelf))?;
        file.write_all(bytes)
            .and_then(|()| file.as_file().sync_all())
            .map_err(StoreError::io("writing", &path))?;
        file.persist(&path)
            .map_err(|error| StoreError::io("renaming to", &path)(error.error))?;
        File::open(shelf)
            .and_then(|shelf| shelf.sync_all())
            .map_err(StoreError::io("syncing", shelf))?;
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
        let bytes = fs::read(self.path(hash)).map_err(|error| StoreError::Blob {
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
