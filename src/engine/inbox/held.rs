//! Files that wait for a person: put aside, looked at, decided about.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::checks::{Candidate, Decision, Finding, READING};
use super::names::{other_half, table_hash, table_of};
use super::writers::Writers;
use super::{DONE, HELD, QUARANTINE, changed_at, content};
use crate::engine::EngineError;
use crate::engine::actor::Actor;
use crate::engine::project::{next, write_private};
use crate::imaging::{LabelMap, volume_stem};
use crate::protocol::{Answer, IntakeReport, Outcome};
use crate::records::{CaseId, Hash, HeldFile, HeldId, Row, What};
use crate::store::{Blobs, private_folder};

impl Actor {
    /// The row of a file that was journalled as held and does not lie there yet, as a crash may leave it.
    pub(super) fn unfinished_hold(&self, candidate: &Candidate) -> Option<HeldFile> {
        let row = self.journalled_hold(candidate)?;
        fs::symlink_metadata(self.held_path(&row)).is_err().then_some(row)
    }

    /// The row that waits for these very bytes, and this label table, under this name; of one that is not there, as a crash
    /// leaves it, it is no matter whose it was.
    fn journalled_hold(&self, candidate: &Candidate) -> Option<HeldFile> {
        let file = candidate.file.unwrap_or(Hash::ZERO);
        let mut waiting = self.project.snapshot.waiting();
        let same = |held: &&HeldFile| {
            let is_missing = || fs::symlink_metadata(self.held_path(held)).is_err();
            Some(&held.case) == candidate.case.as_ref()
                && held.file == file
                && held.name == candidate.name
                && held.table == table_hash(candidate.path)
                && ((held.answers == candidate.answers && file != Hash::ZERO) || is_missing())
        };
        waiting.find(same).cloned()
    }

    /// Puts a file aside until a person decides: journalled first, so that a crash before the move leaves the file in
    /// the inbox, where the next look finds it and the row that waits for it. One that cannot be read is held all the same;
    /// accepting it reads it then.
    pub(super) fn hold(
        &mut self,
        candidate: &Candidate,
        code: &str,
        words: &str,
    ) -> Result<HeldFile, EngineError> {
        let held = match self.journalled_hold(candidate) {
            Some(held) => held,
            None => {
                let case = candidate.case.clone();
                let mut held = HeldFile {
                    id: HeldId(next(&self.project.snapshot.held, |id| id.0)),
                    name: candidate.name.clone(),
                    file: candidate.file.unwrap_or(Hash::ZERO),
                    case: case.expect("only a file whose case is known is held"),
                    code: code.into(),
                    words: words.into(),
                    fix: candidate.fix.clone(),
                    table: table_hash(candidate.path),
                    answers: candidate.answers,
                    passed: Vec::new(),
                    mended: Vec::new(),
                    at: Timestamp::now(),
                    decided: None,
                };
                // A file that somebody put there is never overwritten.
                while fs::symlink_metadata(self.held_path(&held)).is_ok() {
                    held.id.0 += 1;
                }
                let row = Row::Held(held.clone());
                self.commit("overtrace", What::FileHeld, Some(words.into()), vec![row])?;
                held
            }
        };
        self.lay_aside(candidate, &held)?;
        Ok(held)
    }

    /// Moves a journalled file to where such files wait.
    pub(super) fn lay_aside(&mut self, candidate: &Candidate, held: &HeldFile) -> Result<(), EngineError> {
        let (path, place) = (candidate.path, self.held_path(held));
        private_folder(place.parent().expect("held files lie in a folder"))?;
        let mut moves = match (other_half(path), candidate.file) {
            (None, _) => vec![(path.to_path_buf(), place.clone())],
            // Of a pair the one file made of both waits; the halves themselves are put away.
            (Some(other), Some(_)) => {
                write_private(&place, &candidate.bytes)?;
                self.free_places(&[path.to_path_buf(), other], DONE)?
            }
            (Some(other), None) => {
                let with_it = with_ending_of(&place, &other);
                vec![(path.to_path_buf(), place.clone()), (other, with_it)]
            }
        };
        moves.extend(table_of(path).map(|table| (table.clone(), with_ending_of(&place, &table))));
        self.move_all(&moves)
    }

    /// Has a file that a person let pass wait for the next decision: what else is odd about it was not known to him.
    pub(super) fn hold_again(
        &mut self,
        who: &str,
        held: &HeldFile,
        decision: Decision,
        candidate: Candidate,
        code: &str,
        words: &str,
    ) -> Result<HeldFile, EngineError> {
        let mut row = held.clone();
        match decision {
            Decision::Accept => row.passed.push(row.code.clone()),
            Decision::Fix => row.mended.extend(row.fix.take()),
        }
        (row.code, row.words, row.fix) = (code.into(), words.into(), candidate.fix);
        row.answers = row.answers.or(candidate
            .answers
            .filter(|_| candidate.case.as_ref() == Some(&held.case)));
        let read = HeldFile {
            file: candidate.file.unwrap_or(row.file),
            ..row.clone()
        };
        // The halves of a pair stay two files.
        if self.held_path(&read) == self.held_path(&row) {
            row = read;
        }
        self.commit(
            who,
            What::FileHeld,
            Some(words.into()),
            vec![Row::Held(row.clone())],
        )?;
        Ok(row)
    }

    /// Where a held file lies; its extension stays, so that it reads as what it is.
    pub(in crate::engine) fn held_path(&self, held: &HeldFile) -> PathBuf {
        let name = held.name.to_lowercase();
        let is_unread = held.file == Hash::ZERO;
        let extension = match &name {
            name if is_unread && (name.ends_with(".hdr") || name.ends_with(".hdr.gz")) => "hdr",
            name if is_unread && (name.ends_with(".img") || name.ends_with(".img.gz")) => "img",
            name if name.ends_with(".nii.gz") => "nii.gz",
            name if name.ends_with(".nrrd") => "nrrd",
            _ => "nii",
        };
        self.project
            .inbox()
            .join(HELD)
            .join(format!("{}-{}.{extension}", held.id, held.case))
    }

    fn waiting(&self, id: HeldId) -> Result<HeldFile, EngineError> {
        match self.project.snapshot.held.get(&id) {
            None => EngineError::refused(format!(
                "there is no held file {id}; `overtrace inbox` lists them"
            )),
            Some(held) => match &held.decided {
                None => Ok(held.clone()),
                Some(decided) => EngineError::refused(format!("{id} was {decided} already")),
            },
        }
    }

    /// Takes a held file in after all, as it is or read the other way; what was odd about it becomes a note. What else is odd
    /// about it has it wait again.
    pub(in crate::engine) fn accept_held(
        &mut self,
        who: &str,
        id: HeldId,
        decision: Decision,
    ) -> Result<IntakeReport, EngineError> {
        self.project.check_settings()?;
        let mut held = self.waiting(id)?;
        if decision == Decision::Fix && held.fix.is_none() {
            return EngineError::refused(format!(
                "{id} can be read one way only; accept it as it is, or refuse it"
            ));
        }
        let path = self.held_path(&held);
        let bytes = fs::read(&path).map_err(EngineError::io("reading", &path));
        let bytes = bytes.map_err(|error| {
            EngineError::Refused(format!("{error}; where it is gone for good, refuse {id}"))
        })?;
        if held.file != Hash::ZERO && Blobs::hash(&bytes) != held.file {
            return EngineError::refused(format!(
                "{} is not the file that was held any more; refuse it and drop the right one into the inbox",
                path.display()
            ));
        }
        if held.table != table_hash(&path) {
            return EngineError::refused(format!(
                "the label table that came with {id} is not the one beside {}: put that there under its name, or refuse the \
                 file",
                path.display()
            ));
        }
        if held.fix.is_some() && decision == Decision::Accept {
            // One that can be read the other way alone is left where it is.
            self.read_held(id, Decision::Accept)?;
        }
        let report = self.intake(&path, &Writers::default(), Some((who, &held, decision)));
        self.parser.rest();
        let report = report?;
        let known = self.project.snapshot.held.get(&id);
        let decided = known.is_some_and(|held| held.decided.is_some());
        if !decided && matches!(report.outcome, Outcome::Accept | Outcome::Warn | Outcome::Reject) {
            // Refused by a later check, or known already: the file has been moved, so nothing waits any more.
            held.decided = Some("refused".into());
            self.commit(
                who,
                What::FileRefused,
                Some(report.words.clone()),
                vec![Row::Held(held)],
            )?;
        }
        Ok(report)
    }

    /// The mask that a held file would become, as it is or read the other way.
    ///
    /// # Errors
    /// Why it is none.
    pub(in crate::engine) fn read_held(
        &self,
        id: HeldId,
        decision: Decision,
    ) -> Result<LabelMap, EngineError> {
        let held = self.waiting(id)?;
        let path = self.held_path(&held);
        let writers = Writers::default();
        let tools = (&*self.parser, &writers);
        let mut candidate = Candidate::decided(&path, changed_at(&path), tools, &held, decision);
        // Somebody looks on, and others wait.
        candidate.patience = 1.0;
        let read = READING
            .iter()
            .try_for_each(|check| match check(&mut candidate, &self.project)? {
                Finding::Reject(_, words) | Finding::Wait(_, words) => EngineError::refused(words),
                // Odd before it was read: there is nothing to look at.
                Finding::Hold(_, words) if candidate.scan.is_none() && candidate.mask.is_none() => {
                    EngineError::refused(words)
                }
                // What is odd is what the file is held for.
                _ => Ok(()),
            });
        self.parser.rest();
        read?;
        match candidate.mask {
            Some(mask) => Ok(mask),
            None => EngineError::refused(held.words),
        }
    }

    /// Moves a held file to quarantine.
    pub(in crate::engine) fn refuse_held(
        &mut self,
        who: &str,
        id: HeldId,
        why: String,
    ) -> Result<Answer, EngineError> {
        let mut held = self.waiting(id)?;
        let path = self.held_path(&held);
        let is_in = |folder: &str| {
            let moved = self
                .project
                .inbox()
                .join(folder)
                .join(path.file_name().unwrap_or_default());
            fs::symlink_metadata(moved).is_ok()
        };
        let words = if fs::symlink_metadata(&path).is_ok() {
            self.quarantine(&path, &held.code.clone(), &why)?;
            format!("{id} ({}) is refused and in quarantine", held.name)
        } else if is_in(QUARANTINE) || is_in(DONE) {
            // A crash had moved it already.
            format!("{id} ({}) is refused", held.name)
        } else if !self.project.inbox().join(HELD).is_dir() {
            // All of them are elsewhere, and a decision would lose sight of it.
            return EngineError::refused(format!(
                "{} is not there; if inbox.folder was changed, put it back until nothing is held",
                path.display()
            ));
        } else {
            format!(
                "{id} ({}) is refused; its file was not at {} any more",
                held.name,
                path.display()
            )
        };
        held.decided = Some("refused".into());
        self.commit(who, What::FileRefused, Some(why), vec![Row::Held(held)])?;
        Ok(Answer::Done(words))
    }

    /// Has a held file that was taken for another case lie under that case's name; where it lies then.
    pub(super) fn rename_held(&mut self, held: &HeldFile, case: &CaseId) -> Result<PathBuf, EngineError> {
        let from = self.held_path(held);
        let to = self.held_path(&HeldFile {
            case: case.clone(),
            ..held.clone()
        });
        if from != to {
            let along = content::along(&from).into_iter();
            let along = along.map(|also| (also.clone(), with_ending_of(&to, &also)));
            let moves: Vec<_> = std::iter::once((from, to.clone())).chain(along).collect();
            self.move_all(&moves)?;
        }
        Ok(to)
    }
}

/// A held file's place with the ending of something that belongs to it.
fn with_ending_of(place: &Path, other: &Path) -> PathBuf {
    let name = other
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let endings = [".img.gz", ".hdr.gz", ".img", ".hdr", ".tsv", ".txt", ".label"];
    let ending = endings
        .into_iter()
        .find(|ending| name.ends_with(ending))
        .unwrap_or("");
    let stem = place
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let stem = volume_stem(&stem).unwrap_or(&stem).to_string();
    place.with_file_name(format!("{stem}{ending}"))
}
