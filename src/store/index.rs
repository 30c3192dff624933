//! The newest rows, by key, in sled: what everything is read from, and nothing that could not be made anew.
//!
//! One tree, so that an entry's rows and the number of the entry change together in one atomic batch; keys are
//! `kind/id`. A value is a version byte and bincode, because bincode's bytes change meaning when a field is
//! added: another version than this build's means rebuild.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};

use super::StoreError;
use super::journal::{Head, Journal};
use crate::records::{Entry, Row, RowKey};

/// Raised with every change to a record's fields.
const VERSION: u8 = 6;
const HEAD: &[u8] = b"!head";
/// Longest row that reads back; a longer one is refused before it is journalled.
const MAX_ROW_BYTES: usize = 1 << 20;

/// Whether every row would read back out of the index.
pub fn fits(rows: &[Row]) -> bool {
    rows.iter().all(|row| encode(row).len() <= MAX_ROW_BYTES)
}

fn codec() -> Configuration<LittleEndian, Varint, Limit<MAX_ROW_BYTES>> {
    config::standard().with_limit::<MAX_ROW_BYTES>()
}

/// How long sled may take to write what it holds when the index is let go of: on a full disk it never returns.
const FAREWELL: Duration = Duration::from_secs(5);

/// An open index.
#[derive(Debug)]
pub struct Index(Kept);

/// Where the rows are.
#[derive(Debug)]
enum Kept {
    /// In sled; `None` only while it is let go of.
    Sled(Option<sled::Db>),
    /// In memory, where sled cannot be used: on a full disk, say. The journal has all of it.
    Memory(RefCell<BTreeMap<Vec<u8>, Row>>),
}

impl Drop for Index {
    fn drop(&mut self) {
        let Kept::Sled(db) = &mut self.0 else { return };
        let (done, is_done) = channel();
        let db = db.take();
        let writing = thread::Builder::new().spawn(move || {
            drop(db);
            // Nobody waits any more where it took too long.
            let _ = done.send(());
        });
        if writing.is_ok() && is_done.recv_timeout(FAREWELL).is_err() {
            tracing::warn!("the index was not written in time; the next start brings it up to the journal");
        }
    }
}

impl Index {
    /// Opens the index and brings it up to the journal; moves it aside and makes it anew where that fails. With every row.
    pub fn open(
        folder: &Path,
        journal: &Journal,
        notices: &mut Vec<String>,
    ) -> Result<(Index, Vec<Row>), StoreError> {
        let fresh = !folder.exists();
        let problem = match Index::open_and_catch_up(folder, journal) {
            Ok(opened) => {
                if fresh && journal.seq() > 0 {
                    notices.push("the index was missing and was rebuilt from the journal".into());
                }
                return Ok(opened);
            }
            Err(problem) => problem,
        };
        match Index::anew(folder, journal) {
            Ok((index, aside)) => {
                notices.push(format!(
                    "the index could not be used ({problem}); it was moved to {} and rebuilt from the journal",
                    aside.display()
                ));
                Ok(index)
            }
            Err(error) => {
                notices.push(format!(
                    "the index could not be used ({problem}) nor made anew ({error}): everything is read from the \
                     journal this time, and the next start tries again"
                ));
                Index::in_memory(journal)
            }
        }
    }

    /// Moves an index that cannot be used aside, and makes another.
    fn anew(folder: &Path, journal: &Journal) -> Result<((Index, Vec<Row>), PathBuf), StoreError> {
        let aside = folder.with_file_name(format!("index-broken-at-{}", journal.seq()));
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(StoreError::io("removing", &aside))?;
        }
        fs::rename(folder, &aside).map_err(StoreError::io("moving aside", folder))?;
        let opened = Index::open_and_catch_up(folder, journal).map_err(StoreError::Index)?;
        Ok((opened, aside))
    }

    /// The rows of the journal, and no index on the disk.
    fn in_memory(journal: &Journal) -> Result<(Index, Vec<Row>), StoreError> {
        let mut rows = BTreeMap::new();
        for row in journal.entries_after(0)?.into_iter().flat_map(|entry| entry.rows) {
            rows.insert(key_bytes(&row.key()), row);
        }
        let all = rows.values().cloned().collect();
        Ok((Index(Kept::Memory(RefCell::new(rows))), all))
    }

    /// Throws the index away and makes it anew; how many rows it has.
    pub fn rebuild(folder: &Path, journal: &Journal) -> Result<usize, StoreError> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io("removing", folder)(error));
            }
            _ => {}
        }
        let (_, rows) = Index::open_and_catch_up(folder, journal).map_err(StoreError::Index)?;
        Ok(rows.len())
    }

    fn open_and_catch_up(folder: &Path, journal: &Journal) -> Result<(Index, Vec<Row>), String> {
        // sled 0.34 panics on some damaged files instead of returning an error.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            sled::Config::new()
                .path(folder)
                .cache_capacity(64 << 20)
                .flush_every_ms(Some(500))
                .open()
        }));
        let db = opened
            .map_err(|_| "sled panicked while opening it")?
            .map_err(|error| error.to_string())?;
        let index = Index(Kept::Sled(Some(db)));
        let at = index.head()?;
        if at.seq > journal.seq() || (at.seq == journal.seq() && at.hash != journal.head().hash) {
            return Err(format!(
                "it is at entry {}, the journal at {}",
                at.seq,
                journal.seq()
            ));
        }
        let missing = journal.entries_after(at.seq).map_err(|error| error.to_string())?;
        if missing.first().is_some_and(|entry| entry.previous != at.hash) {
            return Err(format!("its entry {} is not the journal's", at.seq));
        }
        for (at, entry) in missing.iter().enumerate() {
            let hash = missing
                .get(at + 1)
                .map_or(journal.head().hash, |next| next.previous);
            index
                .apply(entry, Head { seq: entry.seq, hash })
                .map_err(|error| error.to_string())?;
        }
        // Every value is read once here, so that a damaged page shows now and not in the middle of a round.
        let rows = catch_unwind(AssertUnwindSafe(|| index.rows()))
            .map_err(|_| "sled panicked while reading it")?
            .map_err(|error| error.to_string())?;
        Ok((index, rows))
    }

    fn sled(&self) -> Option<&sled::Db> {
        match &self.0 {
            Kept::Sled(db) => db.as_ref(),
            Kept::Memory(_) => None,
        }
    }

    /// Puts an entry's rows in, together with its number.
    pub fn apply(&self, entry: &Entry, head: Head) -> Result<(), StoreError> {
        let db = match &self.0 {
            Kept::Memory(rows) => {
                let new = entry.rows.iter().map(|row| (key_bytes(&row.key()), row.clone()));
                rows.borrow_mut().extend(new);
                return Ok(());
            }
            Kept::Sled(db) => db.as_ref().expect("nothing is put in while it is let go of"),
        };
        let mut batch = sled::Batch::default();
        for row in &entry.rows {
            batch.insert(key_bytes(&row.key()), encode(row));
        }
        batch.insert(HEAD, encode(&head));
        db.apply_batch(batch)
            .map_err(|error| StoreError::Index(error.to_string()))
    }

    /// Every row as it is now, of an index on the disk.
    fn rows(&self) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        for pair in self.sled().into_iter().flat_map(|db| db.iter()) {
            let (key, value) = pair.map_err(|error| StoreError::Index(error.to_string()))?;
            if key != HEAD {
                rows.push(decode(&value).map_err(StoreError::Index)?);
            }
        }
        Ok(rows)
    }

    /// The row of a key.
    pub fn row(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        if let Kept::Memory(rows) = &self.0 {
            return Ok(rows.borrow().get(&key_bytes(key)).cloned());
        }
        let value = self.sled().map(|db| db.get(key_bytes(key))).transpose();
        let value = value.map_err(|error| StoreError::Index(error.to_string()))?;
        value
            .flatten()
            .map(|value| decode(&value).map_err(StoreError::Index))
            .transpose()
    }

    fn head(&self) -> Result<Head, String> {
        let value = self.sled().map(|db| db.get(HEAD)).transpose();
        match value.map_err(|error| error.to_string())?.flatten() {
            Some(value) => decode(&value),
            None => Ok(Head {
                seq: 0,
                hash: crate::records::Hash::ZERO,
            }),
        }
    }
}

/// Numbers are padded, so that keys sort as the ids do.
fn key_bytes(key: &RowKey) -> Vec<u8> {
    match key {
        RowKey::Project => "project".to_string(),
        RowKey::Case(id) => format!("case/{id}"),
        RowKey::Model(id) => format!("model/{:010}", id.0),
        RowKey::Round(id) => format!("round/{:010}", id.0),
        RowKey::Handout(id) => format!("handout/{:010}", id.0),
        RowKey::Correction(id) => format!("correction/{:010}", id.0),
        RowKey::Ranking(id) => format!("ranking/{:010}", id.0),
        RowKey::Prediction(model, case) => format!("prediction/{:010}/{case}", model.0),
        RowKey::Held(id) => format!("held/{:010}", id.0),
        RowKey::Erasure(id) => format!("erasure/{:010}", id.0),
    }
    .into_bytes()
}

fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let body = bincode::serde::encode_to_vec(value, codec()).expect("rows are plain data below the limit");
    bytes.extend_from_slice(&body);
    bytes
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&VERSION, body)) => {
            let (value, used) =
                bincode::serde::decode_from_slice(body, codec()).map_err(|error| error.to_string())?;
            if used == body.len() {
                Ok(value)
            } else {
                Err("a value has bytes to spare".into())
            }
        }
        Some((version, _)) => Err(format!("it has format {version}, this build writes {VERSION}")),
        None => Err("a value is empty".into()),
    }
}
