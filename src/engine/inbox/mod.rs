//! The inbox: a dropped file is looked at in a fixed order, and has one of six outcomes.
//!
//! [`checks::CHECKS`] is the list of what a file must pass, in order, each with its code; `take` is what
//! happens to one that does. File events only make it quick: the look into the folder is the mechanism.
//! Nothing is deleted: what is refused moves to `quarantine/` beside a `.reason.json`, what waits for a person
//! to `held/`, what was taken in to `done/`, all inside the inbox so that a move is a rename.

mod checks;
mod content;
mod mixups;
mod names;
mod take;
mod watch;
mod writers;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

use super::EngineError;
use super::actor::Actor;
use super::project::{next, write_private};
use crate::imaging::LabelMap;
use crate::protocol::{Answer, Event, IntakeReport, Outcome};
use crate::records::{CaseId, Fix, Hash, HeldFile, HeldId, Row, What, printable};
use crate::store::{Blobs, private_folder};
use checks::{Candidate, Decision, Finding, READING};
pub use names::case_of_file;
pub use watch::Watch;
use writers::Writers;

/// Folders inside the inbox that are not looked into.
pub(super) const DONE: &str = "done";
pub(super) const HELD: &str = "held";
pub(super) const QUARANTINE: &str = "quarantine";

/// Which files are being waited for, of which case, and why: so that each is told of once.
#[derive(Debug, Default)]
pub struct Sight(BTreeMap<PathBuf, (Option<CaseId>, String)>);

impl Sight {
    /// Whether some file may be ready at the next look.
    pub fn is_waiting(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Why a file was refused, as written beside it.
#[derive(Debug, Serialize)]
struct Reason<'a> {
    file: &'a str,
    code: &'a str,
    reason: &'a str,
    at: Timestamp,
}

/// A file's name as it may be shown.
fn shown(path: &Path) -> String {
    printable(&path.file_name().unwrap_or_default().to_string_lossy())
}

/// When a file last changed, by its inode: it has been waiting since.
fn changed_at(path: &Path) -> Timestamp {
    let changed = fs::symlink_metadata(path)
        .ok()
        .and_then(|meta| Timestamp::from_second(meta.ctime()).ok());
    changed.unwrap_or_else(Timestamp::now)
}

/// Moves a dropped file, and takes it away from everybody else: who dropped it may have left it readable.
fn move_private(from: &Path, to: &Path) -> Result<(), EngineError> {
    fs::rename(from, to).map_err(EngineError::io("moving", from))?;
    // Links are moved as they are, and what they point to is not ours.
    if fs::symlink_metadata(to).is_ok_and(|meta| meta.is_file())
        && let Err(error) = fs::set_permissions(to, Permissions::from_mode(0o600))
    {
        // A file that another account owns lies in a folder that nobody else can enter.
        tracing::warn!(%error, path = %to.display(), "the mode of a dropped file stays as it is");
    }
    Ok(())
}

impl Actor {
    /// Looks at the files in the inbox, at all of them or until some time has passed; whether it has come to the end. Files that
    /// are ignored, or waited for as before, are not reported.
    pub(super) fn scan_inbox(
        &mut self,
        until: Option<Instant>,
    ) -> Result<(Vec<IntakeReport>, bool), EngineError> {
        self.project.check_settings()?;
        let inbox = self.project.inbox();
        private_folder(&inbox)?;
        let listing = fs::read_dir(&inbox).map_err(EngineError::io("looking into", &inbox))?;
        let mut paths = Vec::new();
        for item in listing {
            let item = item.map_err(EngineError::io("looking into", &inbox))?;
            let is_own = [DONE, HELD, QUARANTINE]
                .iter()
                .any(|own| item.file_name() == **own);
            if !is_own {
                paths.push(item.path());
            }
        }
        paths.sort();
        self.sight.0.retain(|path, _| paths.binary_search(path).is_ok());
        let (mut reports, mut is_done) = (Vec::new(), true);
        let writers = Writers::default();
        for path in paths {
            // What is waited for comes first at the next look, too: something new has to be done in each.
            if !reports.is_empty() && until.is_some_and(|until| Instant::now() >= until) {
                is_done = false;
                break;
            }
            let before = self.sight.0.get(&path).cloned();
            let report = match self.intake(&path, &writers, None) {
                Ok(report) => report,
                Err(EngineError::Store(error)) => return Err(error.into()),
                // One file that cannot be dealt with must not keep the others waiting.
                Err(error) => self.wait_for(&path, &error.to_string()),
            };
            let is_news = match report.outcome {
                Outcome::Ignore => false,
                Outcome::Wait => before.is_none_or(|(_, words)| words != report.words),
                _ => true,
            };
            if is_news {
                reports.push(report);
            }
        }
        self.parser.rest();
        self.tell_inbox();
        Ok((reports, is_done))
    }

    /// Tells of which cases a file is being waited for, if that has changed.
    fn tell_inbox(&mut self) {
        let waiting = self.sight.0.values();
        let waiting: BTreeMap<CaseId, String> = waiting
            .filter_map(|(case, words)| Some((case.clone()?, words.clone())))
            .collect();
        if self.project.snapshot.in_inbox != waiting {
            self.project.snapshot.in_inbox = waiting.clone();
            self.tell(Event::Inbox(waiting));
        }
    }

    /// A file that the system would not let be dealt with; the next look tries again.
    fn wait_for(&mut self, path: &Path, words: &str) -> IntakeReport {
        self.sight.0.insert(path.to_path_buf(), (None, words.to_string()));
        IntakeReport {
            file: shown(path),
            outcome: Outcome::Wait,
            code: "S3".into(),
            words: words.into(),
            case: None,
            correction: None,
            held: None,
            effort: Vec::new(),
        }
    }

    /// Takes one file through the checks; `decided` is a held file that a person lets through, who and how.
    fn intake(
        &mut self,
        path: &Path,
        writers: &Writers,
        decided: Option<(&str, &HeldFile, Decision)>,
    ) -> Result<IntakeReport, EngineError> {
        let (who, held) = (decided.map(|(who, ..)| who), decided.map(|(_, held, _)| held));
        let parser = Arc::clone(&self.parser);
        let mut notes: Vec<(String, String)> = Vec::new();
        let mut candidate = match decided {
            None => Candidate::new(path, changed_at(path), (&parser, writers)),
            Some((_, held, decision)) => {
                Candidate::decided(path, changed_at(path), (&parser, writers), held, decision)
            }
        };
        if let (Some(fix), Some(held)) = (&candidate.mend, held) {
            let words = fix.words(&self.project.snapshot.settings.labels);
            notes.push((
                held.code.clone(),
                format!("{words}, as {} decided", who.unwrap_or_default()),
            ));
        }
        let mut stop = None;
        for check in checks::CHECKS {
            match check(&mut candidate, &self.project)? {
                Finding::Pass => {}
                Finding::Warn(code, words) => notes.push((code.to_string(), words)),
                Finding::Hold(code, words) if held.is_some() => notes.push((code.to_string(), words)),
                other => {
                    stop = Some(other);
                    break;
                }
            }
        }
        let mut report = IntakeReport {
            file: shown(path),
            outcome: Outcome::Accept,
            code: "K1".into(),
            words: String::new(),
            case: candidate.case.clone(),
            correction: None,
            held: held.map(|held| held.id),
            effort: Vec::new(),
        };
        match stop {
            None => {
                let decided = decided.map(|(who, held, decision)| (who, held, decision == Decision::Fix));
                self.take(decided, candidate, &notes, &mut report)?;
                self.sight.0.remove(path);
            }
            Some(Finding::Ignore(code)) => (report.outcome, report.code) = (Outcome::Ignore, code.into()),
            Some(Finding::Wait(code, words)) => {
                let waits = (report.case.clone(), words.clone());
                self.sight.0.insert(path.to_path_buf(), waits);
                (report.outcome, report.code, report.words) = (Outcome::Wait, code.into(), words);
            }
            Some(Finding::Known(words)) => {
                self.put_away(path, DONE)?;
                self.sight.0.remove(path);
                (report.outcome, report.code, report.words) = (Outcome::Warn, "P4".into(), words);
            }
            Some(Finding::Hold(code, words)) => {
                let case = candidate.case.expect("only a file whose case is known is held");
                let bytes = candidate.file.map(|_| candidate.bytes);
                report.held = Some(self.hold(path, case, bytes, (code, &words), candidate.fix)?);
                self.sight.0.remove(path);
                (report.outcome, report.code, report.words) = (Outcome::Hold, code.into(), words);
            }
            Some(Finding::Erase(code, words)) => {
                for path in std::iter::once(path.to_path_buf()).chain(content::along(path)) {
                    fs::remove_file(&path).map_err(EngineError::io("erasing", &path))?;
                }
                self.sight.0.remove(path);
                (report.outcome, report.code, report.words) = (Outcome::Reject, code.into(), words);
            }
            Some(Finding::Reject(code, words)) => {
                self.refuse(path, code, &words)?;
                self.sight.0.remove(path);
                (report.outcome, report.code, report.words) = (Outcome::Reject, code.into(), words);
            }
            Some(Finding::Pass | Finding::Warn(..)) => unreachable!("these do not stop the checks"),
        }
        Ok(report)
    }

    /// Puts a file aside until a person decides: journalled first, so that a crash before the move leaves the file in
    /// the inbox, where the next look finds it and the row that waits for it.
    ///
    /// * `bytes`: of the volume; one that cannot be read is held all the same, and accepting it reads it then
    fn hold(
        &mut self,
        path: &Path,
        case: CaseId,
        bytes: Option<Vec<u8>>,
        (code, words): (&str, &str),
        fix: Option<Fix>,
    ) -> Result<HeldId, EngineError> {
        let file = bytes.as_deref().map_or(Hash::ZERO, Blobs::hash);
        let is_missing = |held: &&HeldFile| fs::symlink_metadata(self.held_path(held)).is_err();
        let journalled = self
            .project
            .snapshot
            .waiting()
            .filter(|held| held.case == case && held.file == file && held.name == shown(path))
            .find(is_missing)
            .cloned();
        let held = match journalled {
            Some(held) => held,
            None => {
                let mut held = HeldFile {
                    id: HeldId(next(&self.project.snapshot.held, |id| id.0)),
                    name: shown(path),
                    file,
                    case,
                    code: code.into(),
                    words: words.into(),
                    fix,
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
        let place = self.held_path(&held);
        private_folder(place.parent().expect("held files lie in a folder"))?;
        if let Some(table) = names::table_of(path) {
            let ending = table.extension().unwrap_or_default().to_string_lossy();
            let name = format!("{}-{}.{ending}", held.id, held.case);
            move_private(&table, &place.with_file_name(name))?;
        }
        match (content::other_half(path), bytes) {
            // Of a pair the one file made of both waits; the halves themselves are put away.
            (Some(_), Some(bytes)) => {
                write_private(&place, &bytes)?;
                self.put_away(path, DONE)?;
            }
            _ => move_private(path, &place)?,
        }
        Ok(held.id)
    }

    /// Where a held file lies; its extension stays, so that it reads as what it is.
    fn held_path(&self, held: &HeldFile) -> PathBuf {
        let name = held.name.to_lowercase();
        let extension = match &name {
            name if name.ends_with(".gz") => "nii.gz",
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

    /// Takes a held file in after all; what was odd about it becomes a note.
    pub(super) fn accept_held(
        &mut self,
        who: &str,
        id: HeldId,
        is_fixed: bool,
    ) -> Result<IntakeReport, EngineError> {
        self.project.check_settings()?;
        let mut held = self.waiting(id)?;
        let decision = match (is_fixed, &held.fix) {
            (false, _) => Decision::Accept,
            (true, Some(_)) => Decision::Fix,
            (true, None) => {
                return EngineError::refused(format!(
                    "{id} can be read one way only; accept it as it is, or refuse it"
                ));
            }
        };
        let path = self.held_path(&held);
        let bytes = fs::read(&path).map_err(EngineError::io("reading", &path))?;
        if held.file != Hash::ZERO && Blobs::hash(&bytes) != held.file {
            return EngineError::refused(format!(
                "{} is not the file that was held any more; refuse it and drop the right one into the inbox",
                path.display()
            ));
        }
        let report = self.intake(&path, &Writers::default(), Some((who, &held, decision)))?;
        self.parser.rest();
        let decided = self
            .project
            .snapshot
            .held
            .get(&id)
            .is_some_and(|held| held.decided.is_some());
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
    pub(super) fn read_held(&self, id: HeldId, is_fixed: bool) -> Result<LabelMap, EngineError> {
        let held = self.waiting(id)?;
        let path = self.held_path(&held);
        let decision = if is_fixed { Decision::Fix } else { Decision::Accept };
        let writers = Writers::default();
        let tools = (&*self.parser, &writers);
        let mut candidate = Candidate::decided(&path, changed_at(&path), tools, &held, decision);
        for check in READING {
            match check(&mut candidate, &self.project)? {
                Finding::Reject(_, words) | Finding::Wait(_, words) => return EngineError::refused(words),
                // What is odd is what the file is held for.
                _ => {}
            }
        }
        self.parser.rest();
        Ok(candidate.mask.expect("the last of these checks makes the mask"))
    }

    /// Moves a held file to quarantine.
    pub(super) fn refuse_held(&mut self, who: &str, id: HeldId, why: String) -> Result<Answer, EngineError> {
        let mut held = self.waiting(id)?;
        let path = self.held_path(&held);
        let moved = self
            .project
            .inbox()
            .join(QUARANTINE)
            .join(path.file_name().unwrap_or_default());
        if fs::symlink_metadata(&path).is_ok() {
            self.quarantine(&path, &held.code.clone(), &why)?;
        } else if fs::symlink_metadata(&moved).is_err() {
            // Unless a crash moved it already, the file is elsewhere, and a decision would lose sight of it.
            return EngineError::refused(format!(
                "{} is not there; if inbox.folder was changed, put it back until nothing is held",
                path.display()
            ));
        }
        let words = format!("{id} ({}) is refused and in quarantine", held.name);
        held.decided = Some("refused".into());
        self.commit(who, What::FileRefused, Some(why), vec![Row::Held(held)])?;
        Ok(Answer::Done(words))
    }

    fn refuse(&mut self, path: &Path, code: &str, words: &str) -> Result<(), EngineError> {
        self.quarantine(path, code, words)?;
        let why = format!("{}: {code} {words}", shown(path));
        self.commit("overtrace", What::FileRefused, Some(why), Vec::new())
    }

    fn quarantine(&self, path: &Path, code: &str, words: &str) -> Result<(), EngineError> {
        let place = self.put_away(path, QUARANTINE)?;
        let file = shown(path);
        let reason = Reason {
            file: &file,
            code,
            reason: words,
            at: Timestamp::now(),
        };
        let json = serde_json::to_vec_pretty(&reason).expect("four plain fields");
        let mut beside = place.into_os_string();
        beside.push(".reason.json");
        write_private(Path::new(&beside), &json)
    }

    /// Moves a file into a folder of the inbox under a name that is free there; what belongs to it moves along.
    fn put_away(&self, path: &Path, folder: &str) -> Result<PathBuf, EngineError> {
        let folder = self.project.inbox().join(folder);
        private_folder(&folder)?;
        let all: Vec<PathBuf> = std::iter::once(path.to_path_buf())
            .chain(content::along(path))
            .collect();
        let names: Vec<_> = all
            .iter()
            .map(|path| path.file_name().unwrap_or_default())
            .collect();
        // One number for all of them: nothing that lies there is overwritten.
        let places = (1..)
            .map(|n| {
                let place = |name: &&std::ffi::OsStr| match n {
                    1 => folder.join(name),
                    n => folder.join(format!("{n}-{}", name.to_string_lossy())),
                };
                names.iter().map(place).collect::<Vec<_>>()
            })
            .find(|places| places.iter().all(|place| fs::symlink_metadata(place).is_err()))
            .expect("some number is free");
        for (path, place) in all.iter().zip(&places) {
            move_private(path, place)?;
        }
        Ok(places[0].clone())
    }
}
