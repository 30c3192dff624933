//! What an engine before this one left on its way, because it was killed, is brought to its end.
//!
//! One move is whole or not at all. Several that belong together (a mask, its label table, the other half of its pair), and
//! the erasing of a case, are written down before they begin, so that the next engine can finish them. What was decided about
//! is journalled first and moved then: what the journal says is decided does not stay in `held/`.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DONE, HELD, QUARANTINE, move_private};
use crate::engine::EngineError;
use crate::engine::actor::Actor;
use crate::records::{CaseId, HeldFile, HeldId};

/// What is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Unfinished {
    /// Files that move together.
    Moves(Vec<Move>),
    /// What is left of a case that is forgotten goes.
    Erase(CaseId),
}

/// A file that moves, by its places inside the inbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Move {
    from: PathBuf,
    to: PathBuf,
    /// It, and not another one that came under its name since.
    file: [i64; 4],
}

/// What tells a file from another one, while nobody touches it.
fn marks(meta: &Metadata) -> [i64; 4] {
    [
        meta.ino() as i64,
        meta.size() as i64,
        meta.ctime(),
        meta.ctime_nsec(),
    ]
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// What lies in a folder; nothing where there is none.
fn listed(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let items = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        items => items.map_err(EngineError::io("looking into", folder))?,
    };
    let paths = items.map(|item| item.map(|item| item.path()));
    let paths = paths.collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(EngineError::io("looking into", folder))?;
    paths.sort();
    Ok(paths)
}

impl Actor {
    fn notes_path(&self) -> PathBuf {
        self.project.folder("unfinished.json")
    }

    /// What is not finished yet.
    fn notes(&self) -> Result<Vec<Unfinished>, EngineError> {
        let path = self.notes_path();
        let json = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            json => json.map_err(EngineError::io("reading", &path))?,
        };
        serde_json::from_slice(&json).map_err(|error| {
            EngineError::Refused(format!(
                "reading {}: {error}; move it away, and look into held/ for files whose label table is missing",
                path.display()
            ))
        })
    }

    /// Has it last, before anything of it begins.
    fn put_notes(&self, notes: &[Unfinished]) -> Result<(), EngineError> {
        let (path, folder) = (self.notes_path(), &self.project.snapshot.folder);
        if notes.is_empty() {
            return fs::remove_file(&path).map_err(EngineError::io("removing", &path));
        }
        let json = serde_json::to_vec(notes).map_err(|error| {
            EngineError::Refused(format!("a file's name cannot be written down: {error}"))
        })?;
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&json)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            fs::File::open(folder)?.sync_all()
        };
        write().map_err(EngineError::io("writing", &path))
    }

    /// Does something that the next engine finishes where this one does not come to its end.
    fn noted<T>(
        &mut self,
        note: Unfinished,
        act: impl FnOnce(&mut Actor) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut notes = self.notes()?;
        // One that went wrong before, and is tried again at every look, stands there already.
        notes.retain(|known| *known != note);
        notes.push(note);
        self.put_notes(&notes)?;
        let done = act(self)?;
        notes.pop();
        self.put_notes(&notes)?;
        Ok(done)
    }

    /// Moves files of the inbox that belong together.
    pub(super) fn move_all(&mut self, all: &[(PathBuf, PathBuf)]) -> Result<(), EngineError> {
        if let [(from, to)] = all {
            return move_private(from, to);
        }
        let inbox = self.project.inbox();
        let inside = |path: &Path| path.strip_prefix(&inbox).unwrap_or(path).to_path_buf();
        let moves = all.iter().map(|(from, to)| {
            let meta = fs::symlink_metadata(from).map_err(EngineError::io("looking at", from))?;
            Ok(Move {
                from: inside(from),
                to: inside(to),
                file: marks(&meta),
            })
        });
        let note = Unfinished::Moves(moves.collect::<Result<_, EngineError>>()?);
        let mut moves = all.iter();
        self.noted(note, |_| moves.try_for_each(|(from, to)| move_private(from, to)))
    }

    /// Journals that a case is forgotten, and erases it.
    pub(in crate::engine) fn erasing(
        &mut self,
        case: &CaseId,
        erase: impl FnOnce(&mut Actor) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.noted(Unfinished::Erase(case.clone()), erase)
    }

    /// Brings to its end what was cut short; what went wrong with it, in words.
    pub(in crate::engine) fn settle(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        match self.notes() {
            Err(error) => wrong.push(error.to_string()),
            Ok(mut notes) if !notes.is_empty() => {
                notes.retain(|note| match self.finish(note) {
                    Ok(()) => false,
                    Err(error) => {
                        wrong.push(error.to_string());
                        true
                    }
                });
                wrong.extend(self.put_notes(&notes).err().map(|error| error.to_string()));
            }
            Ok(_) => {}
        }
        let parts = self.held_parts().unwrap_or_else(|error| {
            wrong.push(error.to_string());
            BTreeMap::new()
        });
        for (id, parts) in parts {
            let row = self.project.snapshot.held.get(&id);
            let row = row.filter(|row| row.decided.is_some()).cloned();
            if let Some(Err(error)) = row.map(|row| self.settle_decided(&row, &parts)) {
                wrong.push(error.to_string());
            }
        }
        wrong
    }

    fn finish(&self, note: &Unfinished) -> Result<(), EngineError> {
        match note {
            Unfinished::Moves(moves) => {
                let inbox = self.project.inbox();
                let one = |Move { from, to, file }: &Move| {
                    let (from, to) = (inbox.join(from), inbox.join(to));
                    let is_it = fs::symlink_metadata(&from).is_ok_and(|meta| marks(&meta) == *file);
                    match is_it && from.starts_with(&inbox) && to.starts_with(&inbox) && !is_there(&to) {
                        true => move_private(&from, &to),
                        false => Ok(()),
                    }
                };
                // Each is tried, whatever becomes of the others.
                let done: Vec<Result<(), EngineError>> = moves.iter().map(one).collect();
                done.into_iter().collect()
            }
            Unfinished::Erase(case) => {
                let known = self.project.snapshot.cases.get(case);
                match known.is_some_and(|case| case.forgotten.is_some()) {
                    true => self.erase(case),
                    // The journal had not come so far.
                    false => Ok(()),
                }
            }
        }
    }

    /// What lies in `held/`, by the number of the row that it is of.
    fn held_parts(&self) -> Result<BTreeMap<HeldId, Vec<PathBuf>>, EngineError> {
        let number = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            let id: HeldId = name.split_once('-')?.0.parse().ok()?;
            // What people put there is called otherwise.
            (name.starts_with(&format!("{id}-")) && !path.is_dir()).then_some(id)
        };
        let mut parts: BTreeMap<HeldId, Vec<PathBuf>> = BTreeMap::new();
        for path in listed(&self.project.inbox().join(HELD))? {
            if let Some(id) = number(&path) {
                parts.entry(id).or_default().push(path);
            }
        }
        Ok(parts)
    }

    /// What was decided about waits no more.
    fn settle_decided(&mut self, row: &HeldFile, parts: &[PathBuf]) -> Result<(), EngineError> {
        let folder = match row.decided.as_deref() {
            Some("accepted" | "fixed") => DONE,
            Some("forgotten") => return erase_all(parts),
            _ => QUARANTINE,
        };
        if is_there(&self.held_path(row)) {
            let place = self.rename_held(row, row.for_case())?;
            self.put_away(&place, folder)?;
        }
        for rest in parts.iter().filter(|part| is_there(part)) {
            self.put_all_away(std::slice::from_ref(rest), folder)?;
        }
        Ok(())
    }

    /// Erases the held files of a patient who withdrew.
    pub(in crate::engine) fn erase_held(&self, rows: &[&HeldFile]) -> Result<(), EngineError> {
        let parts = self.held_parts()?;
        let of_rows = rows.iter().filter_map(|row| parts.get(&row.id));
        of_rows.map(Vec::as_slice).try_for_each(erase_all)
    }
}

fn erase_all(paths: &[PathBuf]) -> Result<(), EngineError> {
    let mut paths = paths.iter();
    paths.try_for_each(|path| fs::remove_file(path).map_err(EngineError::io("erasing", path)))
}
