//! What an engine before this one left on its way, because it was killed, is brought to its end.
//!
//! One move is whole or not at all. Several that belong together (a mask, its label table, the other half of its pair), and
//! the erasing of a case, are written down before they begin, so that the next engine can finish them. What was decided about
//! is journalled first and moved then: what the journal says is decided does not stay in `held/`.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DONE, HELD, QUARANTINE, move_private};
use crate::engine::EngineError;
use crate::engine::actor::Actor;
use crate::engine::project::write_private;
use crate::records::{CaseId, HeldFile};

/// What is under way.
#[derive(Debug, Serialize, Deserialize)]
enum Unfinished {
    /// Files that move together.
    Moves(Vec<Move>),
    /// What is left of a case that is forgotten goes.
    Erase(CaseId),
}

/// A file that moves.
#[derive(Debug, Serialize, Deserialize)]
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
    fn unfinished(&self) -> PathBuf {
        self.project.folder("unfinished.json")
    }

    fn write_down(&self, what: &Unfinished) -> Result<(), EngineError> {
        let json = serde_json::to_vec(what).map_err(|error| {
            EngineError::Refused(format!("a file's name cannot be written down: {error}"))
        })?;
        write_private(&self.unfinished(), &json)
    }

    fn strike_out(&self) -> Result<(), EngineError> {
        let path = self.unfinished();
        fs::remove_file(&path).map_err(EngineError::io("removing", &path))
    }

    /// Moves files that belong together: all of them, by the next engine where this one does not come to it.
    pub(super) fn move_all(&self, all: &[(PathBuf, PathBuf)]) -> Result<(), EngineError> {
        if let [(from, to)] = all {
            return move_private(from, to);
        }
        let moves = all.iter().map(|(from, to)| {
            let meta = fs::symlink_metadata(from).map_err(EngineError::io("looking at", from))?;
            Ok(Move {
                from: from.clone(),
                to: to.clone(),
                file: marks(&meta),
            })
        });
        self.write_down(&Unfinished::Moves(moves.collect::<Result<_, EngineError>>()?))?;
        for (from, to) in all {
            move_private(from, to)?;
        }
        self.strike_out()
    }

    /// Does what has to be done in the end though this engine may be killed: the journal says already that it is.
    pub(in crate::engine) fn erasing(
        &mut self,
        case: &CaseId,
        erase: impl FnOnce(&mut Actor) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.write_down(&Unfinished::Erase(case.clone()))?;
        erase(self)?;
        self.strike_out()
    }

    /// Brings to its end what was cut short; what went wrong with it, in words.
    pub(in crate::engine) fn settle(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Err(error) = self.finish() {
            wrong.push(error.to_string());
        }
        let parts = match self.held_parts() {
            Ok(parts) => parts,
            Err(error) => return vec![error.to_string()],
        };
        for (id, parts) in parts {
            let held = self.project.snapshot.held.values();
            let row = held
                .filter(|row| row.decided.is_some())
                .find(|row| row.id.to_string() == id);
            if let Some(Err(error)) = row.map(|row| self.settle_decided(row, &parts)) {
                wrong.push(error.to_string());
            }
        }
        wrong
    }

    fn finish(&self) -> Result<(), EngineError> {
        let path = self.unfinished();
        let json = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            json => json.map_err(EngineError::io("reading", &path))?,
        };
        match serde_json::from_slice(&json) {
            Ok(Unfinished::Moves(moves)) => {
                for Move { from, to, file } in moves {
                    let is_it = fs::symlink_metadata(&from).is_ok_and(|meta| marks(&meta) == file);
                    if is_it && !is_there(&to) {
                        move_private(&from, &to)?;
                    }
                }
            }
            Ok(Unfinished::Erase(case)) => {
                let known = self.project.snapshot.cases.get(&case);
                if known.is_some_and(|case| case.forgotten.is_some()) {
                    self.erase(&case)?;
                }
            }
            // It was being written when the engine was killed: nothing had begun.
            Err(error) => tracing::warn!(%error, path = %path.display(), "not finished"),
        }
        self.strike_out()
    }

    /// What lies in `held/`, by the number of the row that it is of.
    fn held_parts(&self) -> Result<BTreeMap<String, Vec<PathBuf>>, EngineError> {
        let mut parts: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for path in listed(&self.project.inbox().join(HELD))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some((id, _)) = name.split_once('-').filter(|_| !path.is_dir()) {
                parts.entry(id.to_string()).or_default().push(path.clone());
            }
        }
        Ok(parts)
    }

    /// What was decided about waits no more.
    fn settle_decided(&self, row: &HeldFile, parts: &[PathBuf]) -> Result<(), EngineError> {
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
        let of_rows = rows.iter().filter_map(|row| parts.get(&row.id.to_string()));
        of_rows.map(Vec::as_slice).try_for_each(erase_all)
    }
}

fn erase_all(paths: &[PathBuf]) -> Result<(), EngineError> {
    let mut paths = paths.iter();
    paths.try_for_each(|path| fs::remove_file(path).map_err(EngineError::io("erasing", path)))
}
