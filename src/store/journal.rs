//! The truth: one entry a line, each holding the hash of the line before it and its own.
//!
//! A line is `{"hash":H,"entry":E}` with H the BLAKE3 of E's bytes as they stand. Appending a line and syncing it
//! is the commit. `head` repeats the last number and hash beside the journal: lines missing at the end show as a
//! journal shorter than its head, while a line that was being written when the power went lies beyond it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::StoreError;
use super::blobs::hash_of;
use super::disk::{self, Disk, Handle, Real};
use crate::records::{Entry, Hash, Row, What};

/// The journal's file in its folder.
const FILE: &str = "0001.jsonl";

#[derive(Deserialize)]
struct Line<'a> {
    hash: Hash,
    #[serde(borrow)]
    entry: &'a RawValue,
}

#[derive(Deserialize)]
struct Link {
    seq: u64,
    previous: Hash,
}

/// Number and hash of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// 0 before the first entry.
    pub seq: u64,
    /// [`Hash::ZERO`] before the first entry.
    pub hash: Hash,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    file: Box<dyn Handle>,
    path: PathBuf,
    head_path: PathBuf,
    length: u64,
    head: Head,
    /// Whether half a line may stand at the end, which has to go before another can follow.
    torn: bool,
}

impl Journal {
    /// Opens (or begins) the journal of a store, checks its chain, and cuts off a torn tail, which is kept aside.
    pub fn open(store: &Path, notices: &mut Vec<String>) -> Result<Journal, StoreError> {
        Journal::open_on(Arc::new(Real), store, notices)
    }

    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        store: &Path,
        notices: &mut Vec<String>,
    ) -> Result<Journal, StoreError> {
        let folder = store.join("journal");
        disk.make_folder(&folder)
            .map_err(StoreError::io("making folder", &folder))?;
        let path = folder.join(FILE);
        let file = disk.open(&path).map_err(StoreError::io("opening", &path))?;
        disk.sync_folder(&folder)
            .map_err(StoreError::io("syncing", &folder))?;
        let head_path = store.join("head");
        let known: Option<Head> = disk
            .read(&head_path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut journal = Journal {
            disk,
            file,
            path,
            head_path,
            length: 0,
            head: Head {
                seq: 0,
                hash: Hash::ZERO,
            },
            torn: false,
        };
        let bytes = journal.read()?;
        journal.check(&bytes, known)?;
        if known.is_none() && journal.head.seq > 0 {
            notices.push(format!(
                "{} is missing or damaged: whether entries after {} were lost cannot be told; it is made anew",
                journal.head_path.display(),
                journal.head.seq
            ));
        }
        if let Some(known) = known.filter(|known| known.seq > journal.head.seq) {
            return Err(journal.broken(
                journal.head.seq + 1,
                format!(
                    "the journal ends at entry {}, but entry {} was acknowledged",
                    journal.head.seq, known.seq
                ),
            ));
        }
        let torn = &bytes[journal.length as usize..];
        if !torn.is_empty() {
            let aside = folder.join(format!("torn-after-{}", journal.head.seq));
            disk::put(&*journal.disk, &aside, torn).map_err(StoreError::io("writing", &aside))?;
            journal.cut_back()?;
            notices.push(format!(
                "the last write to the journal was cut short by a crash: {} bytes that were never acknowledged were \
                 set aside in {}",
                torn.len(),
                aside.display()
            ));
        }
        journal.write_head();
        Ok(journal)
    }

    /// Number of the last entry.
    pub fn seq(&self) -> u64 {
        self.head.seq
    }

    /// Number and hash of the last entry.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Appends an entry and syncs it.
    pub fn append(
        &mut self,
        at: Timestamp,
        who: &str,
        what: What,
        why: Option<String>,
        rows: Vec<Row>,
    ) -> Result<Entry, StoreError> {
        if self.torn {
            // There may be room again.
            self.cut_back()?;
            self.torn = false;
        }
        let previous = self.head.hash;
        let entry = Entry {
            seq: self.head.seq + 1,
            at,
            who: who.to_string(),
            what,
            why,
            rows,
            previous,
        };
        let json = serde_json::to_string(&entry).expect("records have string keys and no failing serializer");
        let hash = hash_of(json.as_bytes());
        let line = format!("{{\"hash\":\"{hash}\",\"entry\":{json}}}\n");
        if let Err(source) = disk::write_all(&mut *self.file, line.as_bytes()).and_then(|()| self.file.sync())
        {
            self.torn = self.cut_back().is_err();
            return Err(StoreError::io("appending to", &self.path)(source));
        }
        self.length += line.len() as u64;
        self.head = Head { seq: entry.seq, hash };
        self.write_head();
        Ok(entry)
    }

    /// The entries after number `seq`, oldest first, with the chain checked again.
    pub fn entries_after(&self, seq: u64) -> Result<Vec<Entry>, StoreError> {
        if seq >= self.head.seq {
            return Ok(Vec::new());
        }
        let bytes = self.read()?;
        // Half a line may stand behind what was acknowledged.
        let whole = bytes.get(..self.length as usize).unwrap_or(&bytes);
        entries(&self.path, whole, seq)
    }

    fn read(&self) -> Result<Vec<u8>, StoreError> {
        self.disk
            .read(&self.path)
            .map_err(StoreError::io("reading", &self.path))
    }

    /// Walks the chain over whole lines; `length` and `head` end at the last that holds together. On the way it has
    /// to pass `known`.
    fn check(&mut self, bytes: &[u8], known: Option<Head>) -> Result<(), StoreError> {
        for line in bytes
            .split_inclusive(|&b| b == b'\n')
            .filter(|line| line.ends_with(b"\n"))
        {
            self.head = follow(&self.path, self.head, line)?.0;
            self.length += line.len() as u64;
            if known.is_some_and(|known| known.seq == self.head.seq && known.hash != self.head.hash) {
                let problem = "is not the entry that was acknowledged under this number";
                return Err(self.broken(self.head.seq, problem.into()));
            }
        }
        Ok(())
    }

    fn cut_back(&mut self) -> Result<(), StoreError> {
        self.file
            .set_len(self.length)
            .and_then(|()| self.file.sync())
            .map_err(StoreError::io("cutting back", &self.path))
    }

    /// The head may lag (the journal is the truth), so a failure to write it is only logged.
    fn write_head(&self) {
        let json = serde_json::to_vec(&self.head).expect("two plain fields");
        if let Err(error) = disk::put(&*self.disk, &self.head_path, &json) {
            tracing::warn!(%error, path = %self.head_path.display(), "the journal's head could not be written");
        }
    }

    fn broken(&self, line: u64, problem: String) -> StoreError {
        broken(&self.path, line, problem)
    }
}

fn broken(path: &Path, line: u64, problem: String) -> StoreError {
    StoreError::Journal {
        path: path.to_path_buf(),
        line,
        problem,
    }
}

/// The entries of a store that may be another engine's, oldest first: what is being written while it is read is left out.
///
/// # Errors
/// [`StoreError`] where there is no journal, or its chain does not hold.
pub fn read(store: &Path) -> Result<Vec<Entry>, StoreError> {
    let Walk { entries, problem } = walk(store)?;
    match problem {
        None => Ok(entries),
        Some((line, words)) => Err(broken(&store.join("journal").join(FILE), line, words)),
    }
}

/// Number and hash of the last of a journal's lines.
///
/// # Errors
/// [`StoreError::Journal`] at the first line that does not hold.
pub fn head_of(path: &Path, bytes: &[u8]) -> Result<Head, StoreError> {
    let mut head = Head {
        seq: 0,
        hash: Hash::ZERO,
    };
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        head = follow(path, head, line)?.0;
    }
    Ok(head)
}

/// A journal as far as it holds.
#[derive(Debug)]
pub struct Walk {
    /// The entries that hold together, oldest first.
    pub entries: Vec<Entry>,
    /// The first line that does not, from 1, and what is wrong with it.
    pub problem: Option<(u64, String)>,
}

/// Walks the chain of a store that may be another engine's; what is being written meanwhile is left out.
///
/// # Errors
/// [`StoreError::Io`] where there is no journal.
pub fn walk(store: &Path) -> Result<Walk, StoreError> {
    // The head first: the journal has at least what it says.
    let head_path = store.join("head");
    let known: Option<Head> = fs::read(&head_path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let path = store.join("journal").join(FILE);
    let bytes = fs::read(&path).map_err(StoreError::io("reading", &path))?;
    let mut entries = Vec::new();
    let mut head = Head {
        seq: 0,
        hash: Hash::ZERO,
    };
    let broken = |line: u64, words: String, entries| Walk {
        entries,
        problem: Some((line, words)),
    };
    for line in bytes
        .split_inclusive(|&b| b == b'\n')
        .filter(|line| line.ends_with(b"\n"))
    {
        let number = head.seq + 1;
        let entry = follow(&path, head, line).and_then(|(next, text)| {
            head = next;
            parse(&path, number, text)
        });
        match entry {
            Ok(entry) => entries.push(entry),
            Err(StoreError::Journal { line, problem, .. }) => return Ok(broken(line, problem, entries)),
            Err(error) => return Err(error),
        }
        if known.is_some_and(|known| known.seq == head.seq && known.hash != head.hash) {
            let words = "is not the entry that was acknowledged under this number";
            return Ok(broken(number, words.into(), entries));
        }
    }
    let problem = match known {
        Some(known) if known.seq > head.seq => Some((
            head.seq + 1,
            format!(
                "the journal ends before it, but entry {} was acknowledged",
                known.seq
            ),
        )),
        None if head.seq > 0 => Some((
            head.seq,
            format!(
                "{} is missing or damaged: whether entries after it were lost cannot be told",
                head_path.display()
            ),
        )),
        _ => None,
    };
    Ok(Walk { entries, problem })
}

fn parse(path: &Path, number: u64, text: &str) -> Result<Entry, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| broken(path, number, format!("is no entry this build knows: {error}")))
}

/// The entries of a journal's bytes after number `seq`.
fn entries(path: &Path, bytes: &[u8], seq: u64) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    let mut head = Head {
        seq: 0,
        hash: Hash::ZERO,
    };
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        let entry;
        (head, entry) = follow(path, head, line)?;
        if head.seq > seq {
            entries.push(parse(path, head.seq, entry)?);
        }
    }
    Ok(entries)
}

/// The head after `line`, and its entry's text.
fn follow<'a>(path: &Path, head: Head, line: &'a [u8]) -> Result<(Head, &'a str), StoreError> {
    let number = head.seq + 1;
    let broken = |problem: String| broken(path, number, problem);
    let parsed: Line =
        serde_json::from_slice(line).map_err(|error| broken(format!("is not a journal line: {error}")))?;
    let text = parsed.entry.get();
    // As it was written, to the letter: JSON would read some changed bytes as the same.
    if line != format!("{{\"hash\":\"{}\",\"entry\":{text}}}\n", parsed.hash).as_bytes() {
        return Err(broken(
            "was altered: it is not written as overtrace writes it".into(),
        ));
    }
    if hash_of(text.as_bytes()) != parsed.hash {
        return Err(broken("was altered: its hash does not hold".into()));
    }
    let link: Link = serde_json::from_str(text).map_err(|error| broken(format!("has no link: {error}")))?;
    if link.seq != number || link.previous != head.hash {
        return Err(broken(format!("does not follow entry {}", head.seq)));
    }
    let head = Head {
        seq: number,
        hash: parsed.hash,
    };
    Ok((head, text))
}
