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
pub const FILE: &str = "0001.jsonl";

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

impl Head {
    const NONE: Head = Head {
        seq: 0,
        hash: Hash::ZERO,
    };
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
            head: Head::NONE,
            torn: false,
        };
        let bytes = journal.read()?;
        let mut chain = Chain::of(&journal.path, &bytes, known);
        for line in &mut chain {
            line?;
        }
        (journal.head, journal.length) = (chain.head, chain.length as u64);
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
        let after = Chain::of(&self.path, whole, None).filter(|line| match line {
            Ok((head, _)) => head.seq > seq,
            Err(_) => true,
        });
        after
            .map(|line| line.and_then(|(head, text)| parse(&self.path, head.seq, text)))
            .collect()
    }

    fn read(&self) -> Result<Vec<u8>, StoreError> {
        self.disk
            .read(&self.path)
            .map_err(StoreError::io("reading", &self.path))
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

/// The whole lines of a journal, as far as each follows from the one before; on the way they have to pass `known`.
struct Chain<'a> {
    path: &'a Path,
    rest: &'a [u8],
    known: Option<Head>,
    /// After the last line that holds.
    head: Head,
    /// Bytes of the lines that hold.
    length: usize,
}

impl<'a> Chain<'a> {
    fn of(path: &'a Path, bytes: &'a [u8], known: Option<Head>) -> Chain<'a> {
        Chain {
            path,
            rest: bytes,
            known,
            head: Head::NONE,
            length: 0,
        }
    }
}

/// Ends at half a line, and after the first that does not hold.
impl<'a> Iterator for Chain<'a> {
    type Item = Result<(Head, &'a str), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = self.rest.iter().position(|&byte| byte == b'\n')? + 1;
        let (line, rest) = std::mem::take(&mut self.rest).split_at(length);
        let (head, text) = match follow(self.path, self.head, line) {
            Ok(followed) => followed,
            Err(error) => return Some(Err(error)),
        };
        if self
            .known
            .is_some_and(|known| known.seq == head.seq && known.hash != head.hash)
        {
            let problem = "is not the entry that was acknowledged under this number";
            return Some(Err(broken(self.path, head.seq, problem.into())));
        }
        (self.head, self.rest) = (head, rest);
        self.length += length;
        Some(Ok((head, text)))
    }
}

/// A journal as far as it holds.
#[derive(Debug)]
pub struct Walk {
    /// The entries that hold together, oldest first.
    pub entries: Vec<Entry>,
    /// The first line that does not, from 1, and what is wrong with it.
    pub problem: Option<(u64, String)>,
    /// The lines of those that do.
    pub lines: Vec<u8>,
    /// The last of them.
    pub head: Head,
}

impl Walk {
    /// The same, where all of it holds.
    ///
    /// # Errors
    /// [`StoreError::Journal`] otherwise; `store` is for its words.
    pub fn whole(mut self, store: &Path) -> Result<Walk, StoreError> {
        match self.problem.take() {
            None => Ok(self),
            Some((line, problem)) => Err(broken(&store.join("journal").join(FILE), line, problem)),
        }
    }
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
    let mut lines = fs::read(&path).map_err(StoreError::io("reading", &path))?;
    let mut entries = Vec::new();
    let mut chain = Chain::of(&path, &lines, known);
    let mut broken = None;
    for line in &mut chain {
        match line.and_then(|(head, text)| parse(&path, head.seq, text)) {
            Ok(entry) => entries.push(entry),
            Err(StoreError::Journal { line, problem, .. }) => {
                broken = Some((line, problem));
                break;
            }
            Err(error) => return Err(error),
        }
    }
    let (head, length) = (chain.head, chain.length);
    lines.truncate(length);
    let problem = broken.or_else(|| match known {
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
    });
    Ok(Walk {
        entries,
        problem,
        lines,
        head,
    })
}

fn parse(path: &Path, number: u64, text: &str) -> Result<Entry, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| broken(path, number, format!("is no entry this build knows: {error}")))
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
