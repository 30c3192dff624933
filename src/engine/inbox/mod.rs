//! The inbox: a dropped file is looked at in a fixed order, and has one of six outcomes.
//!
//! [`checks::CHECKS`] is the list of what a file must pass, in order, each with its code; `take` is what
//! happens to one that does. File events only make it quick: the look into the folder is the mechanism.
//! Nothing is deleted: what is refused moves to `quarantine/` beside a `.reason.json`, what waits for a person
//! to `held/`, what was taken in to `done/`, all inside the inbox so that a move is a rename.

mod checks;
mod content;
mod held;
mod mixups;
mod names;
mod settle;
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
use super::project::write_private;
use crate::protocol::{Event, IntakeReport, Outcome};
use crate::records::{CaseId, HeldFile, What, printable};
use crate::store::private_folder;
pub use checks::Decision;
use checks::{Candidate, Finding};
use content::along;
pub use names::{case_of_file, reply_name};
pub use watch::Watch;
use writers::Writers;

/// Folders inside the inbox that are not looked into.
pub(super) const DONE: &str = "done";
pub(super) const HELD: &str = "held";
pub(super) const QUARANTINE: &str = "quarantine";

/// Which files are being waited for, of which case, and why: so that each is told of once.
#[derive(Debug, Default)]
pub struct Sight(BTreeMap<PathBuf, (Option<CaseId>, String)>, Looks);

/// What files looked like, and since when.
#[derive(Debug, Default)]
struct Looks(BTreeMap<PathBuf, (Vec<[i64; 4]>, Instant)>);

impl Looks {
    /// Whether a file, and what belongs to it, has looked the same for `rest_s` at `now`, by this machine's clock.
    fn rests(&mut self, path: &Path, rest_s: f64, now: Instant) -> bool {
        let all = std::iter::once(path.to_path_buf()).chain(along(path));
        let looks = all
            .filter_map(|path| fs::symlink_metadata(path).ok())
            .map(|meta| {
                [
                    meta.size() as i64,
                    meta.ctime(),
                    meta.ctime_nsec(),
                    meta.ino() as i64,
                ]
            });
        let looks: Vec<[i64; 4]> = looks.collect();
        match self.0.get(path) {
            Some((before, since)) if *before == looks => (now - *since).as_secs_f64() >= rest_s,
            _ => {
                self.0.insert(path.to_path_buf(), (looks, now));
                rest_s <= 0.0
            }
        }
    }
}

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
        self.sight.1.0.retain(|path, _| paths.binary_search(path).is_ok());
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

    /// Takes one file through the checks; `decided` is a held file that a person decided about, who and how.
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
        if self.project.pace.by_looks {
            let rest_s = self.project.pace.rest_s;
            candidate.rested = Some(self.sight.1.rests(path, rest_s, Instant::now()));
        }
        for fix in &candidate.mends {
            let (held, snapshot) = (held.expect("only a decision mends"), &self.project.snapshot);
            let words = fix.words(
                &snapshot.settings.labels,
                &self.project.case(held.for_case())?.grid,
            );
            let code = held.code.as_str();
            notes.push((
                code.into(),
                format!("{words}, as {} decided", who.unwrap_or_default()),
            ));
        }
        let mut stop = None;
        for check in checks::CHECKS {
            match check(&mut candidate, &self.project)? {
                Finding::Pass => {}
                Finding::Warn(code, words) => notes.push((code.to_string(), words)),
                Finding::Hold(code, words) if candidate.passes(code) => {
                    notes.push((code.to_string(), words));
                    // It was offered, and is not taken.
                    candidate.fix = None;
                }
                other => {
                    stop = Some(other);
                    break;
                }
            }
        }
        let mut report = IntakeReport {
            file: candidate.name.clone(),
            outcome: Outcome::Accept,
            code: "K1".into(),
            words: String::new(),
            case: candidate.case.clone(),
            correction: None,
            held: held.map(|held| held.id),
            effort: Vec::new(),
        };
        // What was journalled as held, and is not yet where such files lie, is brought there first of all, once it rests.
        let may_be_held = held.is_none() && !matches!(stop, Some(Finding::Ignore(_) | Finding::Wait(..)));
        if let Some(row) = may_be_held.then(|| self.unfinished_hold(&candidate)).flatten() {
            self.lay_aside(&candidate, &row)?;
            self.sight.0.remove(path);
            (report.outcome, report.code, report.words) = (Outcome::Hold, row.code, row.words);
            report.held = Some(row.id);
            return Ok(report);
        }
        match stop {
            None => {
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
                let row = match decided {
                    Some((who, held, decision)) => {
                        self.hold_again(who, held, decision, candidate, code, &words)?
                    }
                    None => self.hold(&candidate, code, &words)?,
                };
                self.sight.0.remove(path);
                (report.outcome, report.code, report.words) = (Outcome::Hold, row.code, row.words);
                report.held = Some(row.id);
            }
            Some(Finding::Erase(code, words)) => {
                for path in std::iter::once(path.to_path_buf()).chain(along(path)) {
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

    fn refuse(&mut self, path: &Path, code: &str, words: &str) -> Result<(), EngineError> {
        self.quarantine(path, code, words)?;
        let why = format!("{}: {code} {words}", shown(path));
        self.commit("overtrace", What::FileRefused, Some(why), Vec::new())
    }

    fn quarantine(&mut self, path: &Path, code: &str, words: &str) -> Result<(), EngineError> {
        let file = shown(path);
        let reason = Reason {
            file: &file,
            code,
            reason: words,
            at: Timestamp::now(),
        };
        let json = serde_json::to_vec_pretty(&reason).expect("four plain fields");
        let all: Vec<PathBuf> = std::iter::once(path.to_path_buf()).chain(along(path)).collect();
        let moves = self.free_places(&all, QUARANTINE)?;
        // Before the file itself: none lies there without it.
        let mut beside = moves[0].1.clone().into_os_string();
        beside.push(".reason.json");
        write_private(Path::new(&beside), &json)?;
        self.move_all(&moves)
    }

    /// Moves a file into a folder of the inbox under a name that is free there; what belongs to it moves along.
    fn put_away(&mut self, path: &Path, folder: &str) -> Result<PathBuf, EngineError> {
        let all = std::iter::once(path.to_path_buf()).chain(along(path));
        self.put_all_away(&all.collect::<Vec<_>>(), folder)
    }

    fn put_all_away(&mut self, all: &[PathBuf], folder: &str) -> Result<PathBuf, EngineError> {
        let moves = self.free_places(all, folder)?;
        self.move_all(&moves)?;
        Ok(moves[0].1.clone())
    }

    /// Files that belong together, and where in a folder of the inbox each can lie.
    fn free_places(&self, all: &[PathBuf], folder: &str) -> Result<Vec<(PathBuf, PathBuf)>, EngineError> {
        let folder = self.project.inbox().join(folder);
        private_folder(&folder)?;
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
        Ok(all.iter().cloned().zip(places).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_rests_when_it_looked_the_same_long_enough_ago_whatever_its_own_times_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("brain.hdr");
        fs::write(&path, "one").unwrap();
        let mut looks = Looks::default();
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        assert!(!looks.rests(&path, 10.0, began));
        assert!(!looks.rests(&path, 10.0, after(9)));
        assert!(looks.rests(&path, 10.0, after(10)));
        fs::write(&path, "longer").unwrap();
        assert!(!looks.rests(&path, 10.0, after(11)), "it changed");
        fs::write(folder.path().join("brain.img"), "the other half").unwrap();
        assert!(!looks.rests(&path, 10.0, after(30)), "what belongs to it came");
        assert!(looks.rests(&path, 10.0, after(40)));
        assert!(Looks::default().rests(&path, 0.0, began));
    }
}
