//! What an engine before this one left on its way, because it was killed, is brought to where the journal says it is.
//!
//! An entry comes first and the moves follow: so a file may lie where it was dropped though it is decided about, or apart
//! from its label table. None of this reads a volume; what cannot be told from the journal and the names stays.

use std::fs;
use std::path::{Path, PathBuf};

use super::held::with_ending_of;
use super::names::{self, VOLUMES, beside, table_hash, table_stem};
use super::{DONE, HELD, QUARANTINE, Reason, content, move_private, reason_of};
use crate::engine::EngineError;
use crate::engine::actor::Actor;
use crate::imaging::volume_stem;
use crate::records::{CaseId, Fix, Hash, HeldFile};
use crate::store::Blobs;

/// What lies in a folder; nothing where there is none.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let items = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = items.map(|item| item.path()).collect();
    paths.sort();
    paths
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

impl Actor {
    /// Brings to its end what was cut short.
    pub(in crate::engine) fn settle(&self) -> Result<(), EngineError> {
        let rows: Vec<HeldFile> = self.project.snapshot.held.values().cloned().collect();
        for row in rows {
            match row.decided {
                None => self.settle_waiting(&row)?,
                Some(_) => self.settle_decided(&row)?,
            }
        }
        for path in listed(&self.project.inbox()) {
            self.settle_alone(&path)?;
        }
        Ok(())
    }

    /// The rest of what waits for a person is brought to it.
    fn settle_waiting(&self, row: &HeldFile) -> Result<(), EngineError> {
        let (place, left) = (self.held_path(row), self.project.inbox().join(&row.name));
        let has_half = row.file == Hash::ZERO && content::other_half(&place).is_some();
        if !is_there(&place) && has_half && is_there(&left) {
            move_private(&left, &place)?;
        }
        if is_there(&place)
            && names::table_of(&place).is_none()
            && row.table.is_some()
            && row.table == table_hash(&left)
            && let Some(table) = names::table_of(&left)
        {
            move_private(&table, &with_ending_of(&place, &table))?;
        }
        Ok(())
    }

    /// What was decided about waits no more.
    fn settle_decided(&self, row: &HeldFile) -> Result<(), EngineError> {
        let folder = match row.decided.as_deref() {
            Some("accepted" | "fixed") => DONE,
            Some("forgotten") => return self.erase_held(row),
            _ => QUARANTINE,
        };
        let case = case_in_the_end(row);
        let place = self.held_path(row);
        if is_there(&place) {
            let place = self.rename_held(row, case)?;
            self.put_away(&place, folder)?;
        }
        for rest in self.held_parts(row) {
            self.put_all_away(&[rest], folder)?;
        }
        Ok(())
    }

    /// All that lies in `held/` under a row's number.
    pub(super) fn held_parts(&self, row: &HeldFile) -> Vec<PathBuf> {
        let mut parts = listed(&self.project.inbox().join(HELD));
        let number = format!("{}-", row.id);
        parts.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&number)
        });
        parts
    }

    /// Erases a held file of a patient who withdrew.
    pub(in crate::engine) fn erase_held(&self, row: &HeldFile) -> Result<(), EngineError> {
        for path in self.held_parts(row) {
            fs::remove_file(&path).map_err(EngineError::io("erasing", &path))?;
        }
        Ok(())
    }

    /// A label table, or half of a pair, whose mask was moved on without it follows it.
    fn settle_alone(&self, path: &Path) -> Result<(), EngineError> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Ok(());
        };
        let is_half = content::is_half(name);
        let stem = match volume_stem(name).filter(|_| is_half).or_else(|| table_stem(name)) {
            Some(stem) if beside(path, stem, &VOLUMES).is_none() => stem,
            _ => return Ok(()),
        };
        for folder in [DONE, QUARANTINE] {
            let folder = self.project.inbox().join(folder);
            // As files of one name are numbered there.
            for n in 1.. {
                let stem = match n {
                    1 => stem.to_string(),
                    n => format!("{n}-{stem}"),
                };
                let Some(mask) = beside(&folder.join(&stem), &stem, &VOLUMES) else {
                    break;
                };
                let place = with_ending_of(&mask, path);
                if !is_there(&place) && self.was_moved_without(&mask, path, is_half) {
                    return move_private(path, &place);
                }
            }
        }
        Ok(())
    }

    /// Whether a mask that was moved on came with `part`, which was not.
    fn was_moved_without(&self, mask: &Path, part: &Path, is_half: bool) -> bool {
        if mask.parent().is_some_and(|folder| folder.ends_with(QUARANTINE)) {
            let reason = fs::read(reason_of(mask)).ok();
            let reason = reason.and_then(|json| serde_json::from_slice::<Reason>(&json).ok());
            return reason.is_some_and(|reason| reason.along.contains(&super::shown(part)));
        }
        // No half is taken in without the other.
        if is_half {
            return content::other_half(mask).is_none();
        }
        let table = names::read_table(part).map(|bytes| Blobs::hash(&bytes));
        let corrections = self.project.snapshot.corrections.values();
        let mut with_it = corrections.filter(|done| done.table.is_some() && done.table == table);
        // The file made of a pair is neither of its halves.
        let is_pair = mask
            .file_name()
            .is_some_and(|name| content::is_half(&name.to_string_lossy()));
        let file = fs::read(mask).ok().map(|bytes| Blobs::hash(&bytes));
        with_it.any(|done| is_pair || Some(done.file) == file)
    }
}

/// The case whose mask a held file is, after what people had set right.
fn case_in_the_end(row: &HeldFile) -> &CaseId {
    let other = row.mended.iter().rev().find_map(|fix| match fix {
        Fix::Case(other) => Some(other),
        _ => None,
    });
    other.unwrap_or(&row.case)
}
