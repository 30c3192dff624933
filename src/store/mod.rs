//! Where a project is kept: an append-only journal that is the truth, content-addressed blobs, and a sled index
//! of the newest rows that can be thrown away and made anew.
//!
//! ```text
//! store/
//!   lock                 who has the store open
//!   journal/0001.jsonl   one entry a line, chained by BLAKE3; appending and syncing one IS the commit
//!   head                 number and hash of the last entry, so that a shortened journal shows
//!   blobs/ab/abcd..      arrays and lists, named by the BLAKE3 of their bytes
//!   index/               sled: row key -> (version, bincode)
//! ```
//!
//! A commit appends to the journal and syncs it, then writes head and index; when it returns, the entry
//! survives a power cut. Whoever opens a store reads its rows out of the index, not out of the journal's
//! history. The room knows no rule of the loop: it keeps the rows it is given. It is the only room
//! that knows sled, and imports `records`.

mod archive;
mod blobs;
mod disk;
#[cfg(test)]
mod faults;
mod index;
mod journal;
mod lock;

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

pub use archive::{backup, restore};
pub use blobs::Blobs;
use index::Index;
use journal::Journal;
pub use journal::Walk;
pub use lock::Holder;
use lock::Lock;

use crate::records::{CaseId, Entry, Hash, Row, RowKey, What};

/// The store's folder inside a project folder.
pub const FOLDER: &str = "store";

/// The entries of a project that another engine may have open, oldest first; what is being written meanwhile is left out.
///
/// # Errors
/// [`StoreError`] where there is no project, or its journal does not hold.
pub fn read_elsewhere(project: &Path) -> Result<Vec<Entry>, StoreError> {
    let store = folder_of(project)?;
    Ok(journal::walk(&store)?.whole(&store)?.entries)
}

/// The bytes of the journal of a project that another engine may have open: it grows with every entry, and never shrinks.
///
/// # Errors
/// [`StoreError`] where there is no project, or no journal.
pub fn length_elsewhere(project: &Path) -> Result<u64, StoreError> {
    let path = folder_of(project)?.join("journal").join(journal::FILE);
    let known = std::fs::metadata(&path).map_err(StoreError::io("looking at", &path))?;
    Ok(known.len())
}

/// The journal of a project that another engine may have open, as far as it holds.
///
/// # Errors
/// [`StoreError`] where there is no project, or no journal.
pub fn walk(project: &Path) -> Result<Walk, StoreError> {
    journal::walk(&folder_of(project)?)
}

/// The blobs that the journal says were taken away and that nothing has put back since, and the lines whose lists cannot be
/// read, with why.
pub fn taken_away(entries: &[Entry], blobs: &Blobs) -> (BTreeSet<Hash>, Vec<(u64, StoreError)>) {
    let (mut gone, mut unreadable) = (BTreeSet::new(), Vec::new());
    let mut forgotten: BTreeSet<&CaseId> = BTreeSet::new();
    for entry in entries {
        for row in &entry.rows {
            if let Row::Case(case) = row
                && case.forgotten.is_some()
            {
                forgotten.insert(&case.id);
            }
            // What a later entry names is there again; but for a forgotten case, whose rows may still be written.
            if row.case().is_none_or(|case| !forgotten.contains(case)) {
                for named in row.blobs() {
                    gone.remove(&named.hash);
                }
            }
        }
        for row in &entry.rows {
            let Row::Erasure(erasure) = row else { continue };
            match blobs.get_json::<Vec<Hash>>(erasure.blobs) {
                Ok(hashes) => gone.extend(hashes),
                Err(error) => unreadable.push((entry.seq, error)),
            }
        }
    }
    (gone, unreadable)
}

/// The blobs of a project that another engine may have open.
///
/// # Errors
/// [`StoreError`] where there is no project.
pub fn blobs_of(project: &Path) -> Result<Blobs, StoreError> {
    Blobs::open(&folder_of(project)?.join("blobs"))
}

fn folder_of(project: &Path) -> Result<PathBuf, StoreError> {
    let folder = project.join(FOLDER);
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(StoreError::Missing {
            path: project.to_path_buf(),
        }),
    }
}

/// Who has a project open, or had it last: whether that process still runs, it has to be asked.
pub fn holder(project: &Path) -> Option<Holder> {
    Holder::read(&project.join(FOLDER).join("lock"))
}

/// Whether a process has the project open.
///
/// # Errors
/// [`StoreError::Io`].
pub fn is_held(project: &Path) -> Result<bool, StoreError> {
    lock::is_held(&project.join(FOLDER).join("lock"))
}

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused a file operation.
    #[error("{doing} {path}: {source}{}", remedy(source))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The disk is nearly full.
    #[error(
        "{path}: {} MB are left on its disk, and {} MB are to stay free; make room (`overtrace gc --dry-run` shows what \
         can go), or lower store.min_free_mb",
        free >> 20,
        wanted >> 20
    )]
    Full {
        /// Where it was to be written.
        path: PathBuf,
        /// Bytes that are left.
        free: u64,
        /// Bytes that have to be.
        wanted: u64,
    },
    /// Another process has the project open.
    #[error(
        "the project is open in another process ({holder}); leave it there, or end an engine by `overtrace engine stop`"
    )]
    Held {
        /// Pid, host and version of it.
        holder: String,
    },
    /// No store where one should be.
    #[error("{path} is no overtrace project; make one with `overtrace init {path}`")]
    Missing {
        /// The project folder.
        path: PathBuf,
    },
    /// A store where none should be.
    #[error("{path} is an overtrace project already")]
    Exists {
        /// The project folder.
        path: PathBuf,
    },
    /// The journal does not hold together.
    #[error("{path}, line {line}: {problem}; restore the journal from a backup")]
    Journal {
        /// The journal file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A blob is missing or not what its name says.
    #[error("blob {hash}: {problem}; restore it from a backup")]
    Blob {
        /// Its name.
        hash: Hash,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that is no archive of a project.
    #[error("{path}: {problem}; take one that `overtrace backup` wrote")]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A row that would not read back; nothing was journalled.
    #[error("the record is longer than the store keeps; shorten the texts in it")]
    TooLong,
    /// The index failed; it is rebuilt at the next start.
    #[error("the index failed ({0}); start again and it is rebuilt from the journal")]
    Index(String),
}

/// What to do about an error of the system, where that is known.
fn remedy(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::StorageFull => "; make room (`overtrace gc --dry-run` shows what can go)",
        _ => "",
    }
}

impl StoreError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.to_path_buf();
        move |source| StoreError::Io { doing, path, source }
    }
}

/// A store, and what was found in it.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Every row as it is now.
    pub rows: Vec<Row>,
    /// What was mended, in words.
    pub notices: Vec<String>,
}

/// An open store; nobody else can open it meanwhile.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    blobs: Blobs,
    journal: Journal,
    index: Index,
    index_is_behind: bool,
    lock: Lock,
}

/// Makes a folder, and those above it, for this user alone (0700).
///
/// # Errors
/// [`StoreError::Io`].
pub fn private_folder(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(StoreError::io("making folder", path))
}

impl Store {
    /// Makes an empty store in a project folder.
    ///
    /// # Errors
    /// [`StoreError::Exists`] where there is one.
    pub fn create(project: &Path) -> Result<Store, StoreError> {
        let folder = project.join(FOLDER);
        if folder.exists() {
            return Err(StoreError::Exists {
                path: project.to_path_buf(),
            });
        }
        private_folder(&folder)?;
        Ok(Store::open(project)?.store)
    }

    /// Opens a project's store; brings the index up to the journal, rebuilding it where it is missing, older
    /// than this build, ahead of the journal, or broken.
    ///
    /// # Errors
    /// [`StoreError::Held`] while another process has it; [`StoreError::Journal`] where the journal was altered.
    pub fn open(project: &Path) -> Result<Opened, StoreError> {
        let folder = folder_of(project)?;
        let lock = Lock::take(&folder.join("lock"))?;
        let mut notices = Vec::new();
        let blobs = Blobs::open(&folder.join("blobs"))?;
        let journal = Journal::open(&folder, &mut notices)?;
        let (index, rows) = Index::open(&folder.join("index"), &journal, &mut notices)?;
        let store = Store {
            folder,
            blobs,
            journal,
            index,
            index_is_behind: false,
            lock,
        };
        Ok(Opened { store, rows, notices })
    }

    /// Makes a project's index anew from its journal; how many rows it has.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn rebuild(project: &Path) -> Result<usize, StoreError> {
        let folder = folder_of(project)?;
        let _lock = Lock::take(&folder.join("lock"))?;
        let journal = Journal::open(&folder, &mut Vec::new())?;
        Index::rebuild(&folder.join("index"), &journal)
    }

    /// The arrays and lists.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Says in the lock where this process can be talked to.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn announce(&self, socket: &Path) -> Result<(), StoreError> {
        self.lock.announce(socket)
    }

    /// Whether the store is still where it was opened.
    pub fn is_there(&self) -> bool {
        self.lock.is_there()
    }

    /// Number of the last entry; 0 in an empty store.
    pub fn seq(&self) -> u64 {
        self.journal.seq()
    }

    /// Journals what was done, with the rows as they are afterwards. When this returns the entry is on disk.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the journal could not be written; nothing was done then.
    pub fn commit(
        &mut self,
        at: Timestamp,
        who: &str,
        what: What,
        why: Option<String>,
        rows: Vec<Row>,
    ) -> Result<Entry, StoreError> {
        if !index::fits(&rows) {
            return Err(StoreError::TooLong);
        }
        let entry = self.journal.append(at, who, what, why, rows)?;
        // The index can be made anew: a failure here must not unsay what the journal has acknowledged. After one,
        // nothing more is put in, so that the next start sees how far the index got and catches up.
        if !self.index_is_behind
            && let Err(error) = self.index.apply(&entry, self.journal.head())
        {
            tracing::error!(%error, seq = entry.seq, "the index fell behind the journal");
            self.index_is_behind = true;
        }
        Ok(entry)
    }

    /// A row by its key, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Index`] when the index cannot be read.
    pub fn row(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        self.index.row(key)
    }

    /// Removes what crashes left behind: files that were being written, and indexes that were moved aside.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn tidy(&self) -> Result<(), StoreError> {
        let looking = StoreError::io("looking into", &self.folder);
        let items = std::fs::read_dir(&self.folder).map_err(looking)?;
        for path in items.flatten().map(|item| item.path()) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            if name.is_some_and(|name| name.starts_with("index-broken-")) {
                std::fs::remove_dir_all(&path).map_err(StoreError::io("removing", &path))?;
            }
        }
        self.blobs.tidy()
    }

    /// Every entry from number `from` on, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Journal`] at the first line that does not hold.
    pub fn entries(&self, from: u64) -> Result<Vec<Entry>, StoreError> {
        self.journal.entries_after(from.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Project;
    use std::fs;

    fn project(satisfied: &str) -> Row {
        let satisfied = Some(satisfied.to_string());
        Row::Project(Project {
            format: 1,
            model: None,
            ranking: None,
            fixed: None,
            mask_labels: None,
            satisfied,
        })
    }

    fn commit(store: &mut Store, why: &str) -> Entry {
        store
            .commit(
                Timestamp::UNIX_EPOCH,
                "ann",
                What::Reopened,
                Some(why.into()),
                vec![project(why)],
            )
            .unwrap()
    }

    fn two_entries() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::create(folder.path()).unwrap();
        commit(&mut store, "one");
        commit(&mut store, "two");
        let journal = folder.path().join("store/journal/0001.jsonl");
        (folder, journal)
    }

    #[test]
    fn what_was_committed_is_there_at_the_next_start() {
        let (folder, _) = two_entries();
        let Opened { store, rows, notices } = Store::open(folder.path()).unwrap();
        assert_eq!((store.seq(), notices), (2, vec![]));
        assert_eq!(rows, [project("two")]);
        let whys: Vec<_> = store
            .entries(0)
            .unwrap()
            .into_iter()
            .map(|entry| entry.why.unwrap())
            .collect();
        assert_eq!(whys, ["one", "two"]);
    }

    #[test]
    fn a_lost_or_garbled_index_is_rebuilt_from_the_journal() {
        for garble in [false, true] {
            let (folder, _) = two_entries();
            let index = folder.path().join("store/index");
            fs::remove_dir_all(&index).unwrap();
            if garble {
                fs::create_dir(&index).unwrap();
                fs::write(index.join("conf"), b"not a sled configuration at all").unwrap();
                fs::write(index.join("db"), [0x5a; 4096]).unwrap();
            }
            let Opened { rows, notices, .. } = Store::open(folder.path()).unwrap();
            assert_eq!(rows, [project("two")]);
            assert!(
                notices.iter().any(|notice| notice.contains("rebuilt")),
                "{notices:?}"
            );
        }
    }

    #[test]
    fn a_torn_tail_is_cut_off_and_kept_aside() {
        let (folder, journal) = two_entries();
        let mut text = fs::read(&journal).unwrap();
        text.extend_from_slice(b"{\"hash\":\"00");
        fs::write(&journal, &text).unwrap();
        let Opened {
            mut store, notices, ..
        } = Store::open(folder.path()).unwrap();
        assert_eq!(store.seq(), 2);
        assert!(notices[0].contains("11 bytes"), "{notices:?}");
        assert_eq!(commit(&mut store, "three").seq, 3);
        drop(store);
        assert_eq!(Store::open(folder.path()).unwrap().store.seq(), 3);
    }

    #[test]
    fn a_shortened_journal_is_told_from_a_torn_one() {
        let (folder, journal) = two_entries();
        let text = fs::read_to_string(&journal).unwrap();
        let first = text.lines().next().unwrap();
        fs::write(&journal, format!("{first}\n")).unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("ends at entry 1") && error.contains("entry 2"),
            "{error}"
        );
    }

    #[test]
    fn an_edited_line_breaks_the_chain_and_is_named() {
        let (folder, journal) = two_entries();
        let text = fs::read_to_string(&journal).unwrap();
        fs::write(&journal, text.replacen("\"one\"", "\"won\"", 1)).unwrap();
        let error = Store::open(folder.path()).unwrap_err();
        assert!(matches!(error, StoreError::Journal { line: 1, .. }), "{error}");
    }

    #[test]
    fn a_second_opener_is_told_who_holds_it() {
        let (folder, _) = two_entries();
        let _opened = Store::open(folder.path()).unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    }

    #[test]
    fn a_folder_without_a_store_says_how_to_make_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            Store::open(folder.path())
                .unwrap_err()
                .to_string()
                .contains("overtrace init")
        );
    }
}
