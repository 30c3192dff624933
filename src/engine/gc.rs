//! What is not kept for ever, and how much room everything takes.
//!
//! Kept for ever: images, masks, every file that came back, the pre-annotations they were measured against, the sums of
//! every slice, the weights of every model, every list that a row names. Kept while their model is the current one: its
//! label maps and margins, unless one of the former names them. What no entry names is left over from something that was
//! cut short.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::EngineError;
use super::actor::Actor;
use crate::protocol::{Answer, Event, Space};
use crate::records::{CaseId, Erasure, ErasureId, Hash, Keep, Row, What};
use crate::store::{FOLDER, taken_away};

/// What can go.
struct Rest {
    /// Maps of models that are not the current one.
    outdated: Vec<Hash>,
    /// What no entry names, or what an entry says was taken away already.
    unnamed: Vec<Hash>,
    /// Their bytes.
    bytes: u64,
}

impl Actor {
    /// Removes what is not kept, or says what that would be.
    pub(super) fn gc(&mut self, who: &str, dry_run: bool) -> Result<Answer, EngineError> {
        if !dry_run {
            self.need_idle()?;
        }
        let rest = self.rest()?;
        let count = rest.outdated.len() + rest.unnamed.len();
        if count == 0 {
            return Ok(Answer::Nothing(
                "everything that is there is kept: nothing can go".into(),
            ));
        }
        let what = format!(
            "{} label maps and margins of models that are not the current one, {} blobs that nothing names, {} MB",
            rest.outdated.len(),
            rest.unnamed.len(),
            rest.bytes >> 20
        );
        if dry_run {
            return Ok(Answer::Done(format!("would be removed: {what}")));
        }
        // Journalled first: what is missing afterwards, the journal says so of.
        if !rest.outdated.is_empty() {
            let erasure = self.erasure(None, &rest.outdated, rest.bytes)?;
            self.commit(who, What::BlobsRemoved, None, vec![Row::Erasure(erasure)])?;
        }
        for hash in rest.outdated.iter().chain(&rest.unnamed) {
            self.project.store.blobs().remove(*hash)?;
        }
        self.project.store.tidy()?;
        self.project.drop_missing();
        self.tell(Event::Refresh);
        Ok(Answer::Done(format!("removed: {what}")))
    }

    fn rest(&self) -> Result<Rest, EngineError> {
        let store = &self.project.store;
        let entries = store.entries(0)?;
        let (gone, unreadable) = taken_away(&entries, store.blobs());
        if let Some((_, error)) = unreadable.into_iter().next() {
            return Err(error.into());
        }
        let current = self.project.snapshot.project.model;
        // Whether some row that names it has it stay.
        let mut named: BTreeMap<Hash, bool> = BTreeMap::new();
        for row in entries.iter().flat_map(|entry| &entry.rows) {
            let is_current = matches!(row, Row::Prediction(row) if Some(row.model) == current);
            for blob in row.blobs().into_iter().filter(|blob| !gone.contains(&blob.hash)) {
                *named.entry(blob.hash).or_default() |= blob.keep == Keep::Forever || is_current;
            }
        }
        let (mut outdated, mut unnamed, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (hash, size) in store.blobs().all()? {
            match named.get(&hash) {
                Some(true) => continue,
                Some(false) => outdated.push(hash),
                None => unnamed.push(hash),
            }
            bytes += size;
        }
        Ok(Rest {
            outdated,
            unnamed,
            bytes,
        })
    }

    /// The row that says that blobs are taken away; its list is kept.
    pub(super) fn erasure(
        &self,
        case: Option<CaseId>,
        hashes: &[Hash],
        bytes: u64,
    ) -> Result<Erasure, EngineError> {
        Ok(Erasure {
            id: ErasureId(self.project.snapshot.erasures + 1),
            case,
            blobs: self.project.store.blobs().put_anyway(&hashes)?,
            count: hashes.len(),
            bytes,
            at: Timestamp::now(),
        })
    }

    /// How much room the project takes.
    pub(super) fn space(&self) -> Answer {
        let folder = |name: &str| bytes_in(&self.project.folder(name));
        let store = |name: &str| bytes_in(&self.project.folder(FOLDER).join(name));
        Answer::Space(Space {
            blobs: store("blobs"),
            journal: store("journal"),
            index: store("index"),
            inbox: bytes_in(&self.project.inbox()),
            handouts: folder("handouts"),
            work: folder("work"),
            logs: folder("logs"),
            free: self.project.store.blobs().free(),
        })
    }
}

/// Bytes of the files in a folder and those below it; what goes away meanwhile counts nothing.
fn bytes_in(folder: &Path) -> u64 {
    let mut todo: Vec<PathBuf> = vec![folder.to_path_buf()];
    let mut sum = 0;
    while let Some(folder) = todo.pop() {
        for item in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match item.metadata() {
                Ok(meta) if meta.is_dir() => todo.push(item.path()),
                Ok(meta) => sum += meta.len(),
                Err(_) => {}
            }
        }
    }
    sum
}
