//! One function a verb: ask the engine, print the answer.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::args::{Format, InboxAction, ModelAction, RoundAction, Verb};
use super::{Exit, Session, import, print, print_json, tables};
use crate::imaging::{MAX_VOLUME_BYTES, gunzip, split_pair};
use crate::protocol::{Answer, Command, Event, HandedOut, IntakeReport, Outcome, Snapshot, Status};
use crate::records::{CaseId, printable};

/// Runs a verb that needs a project.
pub fn run(session: &Session, verb: &Verb) -> Result<Exit> {
    match verb {
        Verb::Import {
            paths,
            pool,
            mask,
            id,
        } => {
            let items = import::items(paths, mask.as_ref(), id.as_ref())?;
            import_cases(
                session,
                Command::Import {
                    items,
                    pool: pool.map(Into::into),
                },
            )
        }
        Verb::Status => status(session),
        Verb::Rank { strategy, pixels } => {
            let (strategy, pixels) = (*strategy, pixels.map(Into::into));
            let answer = session.ask(Command::Rank { strategy, pixels })?;
            if matches!(answer, Answer::Nothing(_)) {
                return session.tell(answer);
            }
            queue(session, &session.snapshot()?)
        }
        Verb::Handout {
            case: Some(case),
            withdraw: Some(why),
            ..
        } => session.tell(session.ask(Command::Withdraw {
            case: case.clone(),
            why: why.clone(),
        })?),
        Verb::Handout {
            case: Some(case),
            to,
            take_over: Some(why),
            ..
        } => {
            let owner = to.clone().unwrap_or_else(|| session.handle.who().to_string());
            let command = Command::TakeOver {
                case: case.clone(),
                owner,
                why: why.clone(),
            };
            show_handout(session, &handed_out(session.ask(command)?)?)
        }
        Verb::Handout {
            case,
            to,
            second_reading,
            ..
        } => hand_out(session, case.clone(), to.clone(), *second_reading),
        Verb::Inbox { action, .. } => inbox(session, action.as_ref()),
        Verb::Round { action } => round(session, action.as_ref().unwrap_or(&RoundAction::List)),
        Verb::History { journal } => history(session, *journal),
        Verb::Export {
            folder: Some(folder),
            cases,
            format,
        } => export(session, folder, cases, *format),
        Verb::Exclude { case, why } => session.tell(session.ask(Command::Exclude {
            case: case.clone(),
            why: why.clone(),
        })?),
        Verb::Gc { dry_run } => session.tell(session.ask(Command::Gc { dry_run: *dry_run })?),
        Verb::Forget { case, reason } => session.tell(session.ask(Command::Forget {
            case: case.clone(),
            why: reason.clone(),
        })?),
        Verb::Include { case } => session.tell(session.ask(Command::Include { case: case.clone() })?),
        Verb::Model { action } => model(session, action.as_ref().unwrap_or(&ModelAction::List)),
        Verb::Init { .. }
        | Verb::Demo { .. }
        | Verb::Bench { .. }
        | Verb::Engine { .. }
        | Verb::Export { folder: None, .. }
        | Verb::Verify
        | Verb::Rebuild
        | Verb::Backup { .. }
        | Verb::Restore { .. }
        | Verb::Worker { .. }
        | Verb::Experiment(_)
        | Verb::Parse { .. } => {
            bail!("this verb opens no project of its own accord")
        }
    }
}

fn import_cases(session: &Session, command: Command) -> Result<Exit> {
    let Answer::Imported {
        cases,
        known,
        masks_left,
        refused,
    } = session.ask(command)?
    else {
        bail!("the engine did not answer an import by one");
    };
    if session.json {
        print_json(&json!({
            "imported": cases,
            "known": known,
            "masks_left": masks_left,
            "refused": refused,
        }))?;
    } else {
        for (item, case) in &known {
            print(&format!("{item} is there already, as {case}"))?;
        }
        for (item, why) in &masks_left {
            print(&format!("{item}: its mask was not taken in: {why}"))?;
        }
        for (item, why) in &refused {
            print(&format!("{item} refused: {}", printable(why)))?;
        }
        print(&format!(
            "{} imported, {} known, {} refused",
            cases.len(),
            known.len(),
            refused.len()
        ))?;
    }
    match (cases.is_empty(), refused.is_empty()) {
        (_, false) => bail!("{} of the cases could not be imported", refused.len()),
        (true, true) => Ok(Exit::Nothing),
        (false, true) => Ok(Exit::Done),
    }
}

fn status(session: &Session) -> Result<Exit> {
    let snapshot = session.snapshot()?;
    let space = match session.ask(Command::Space)? {
        Answer::Space(space) => space,
        other => bail!("the engine answered {other:?} where it was asked how much room there is"),
    };
    if session.json {
        print_json(&json!({
            "folder": snapshot.folder,
            "project": snapshot.project,
            "ranking": snapshot.ranking(),
            "ranking_is_stale": snapshot.ranking_is_stale(),
            "open_round": snapshot.open_round(),
            "held": snapshot.waiting().collect::<Vec<_>>(),
            "queue": snapshot.queue(),
            "bytes": space,
        }))?;
    } else {
        print(&tables::status(&snapshot))?;
        print(&tables::space(&space))?;
        if !snapshot.cases.is_empty() {
            print("")?;
            print(&tables::queue(&snapshot, &snapshot.queue()))?;
        }
    }
    Ok(Exit::Done)
}

/// Prints the queue of a snapshot.
pub fn queue(session: &Session, snapshot: &Snapshot) -> Result<Exit> {
    let mut rows = snapshot.queue();
    rows.retain(|row| row.rank.is_some());
    if session.json {
        let (ranking, is_stale) = (snapshot.ranking(), snapshot.ranking_is_stale());
        print_json(&json!({ "ranking": ranking, "is_stale": is_stale, "queue": rows }))?;
    } else {
        print(&tables::queue(snapshot, &rows))?;
    }
    Ok(Exit::Done)
}

fn hand_out(session: &Session, case: Option<CaseId>, to: Option<String>, again: bool) -> Result<Exit> {
    let case = match case {
        Some(case) => case,
        None => {
            let queue = session.snapshot()?.queue();
            let next = queue.iter().find(|row| row.status == Status::Queried);
            let next = next.or_else(|| queue.iter().find(|row| row.status == Status::Unlabelled));
            match next {
                Some(row) => row.case.clone(),
                None => return session.tell(Answer::Nothing("no case is left to hand out".into())),
            }
        }
    };
    let owner = to.unwrap_or_else(|| session.handle.who().to_string());
    show_handout(session, &give(session, case, owner, again)?)
}

fn show_handout(session: &Session, out: &HandedOut) -> Result<Exit> {
    if session.json {
        print_json(out)?;
    } else {
        let drawn = out
            .model
            .map_or("drawn by nobody".into(), |model| format!("drawn by {model}"));
        print(&format!(
            "{} {}: files in {}",
            out.id,
            out.case,
            out.folder.display()
        ))?;
        print(&format!("correct {} ({drawn})", out.mask.display()))?;
        print(&format!(
            "and copy it as {} to {}",
            out.reply_name,
            out.inbox.display()
        ))?;
    }
    Ok(Exit::Done)
}

/// Hands one case out.
pub fn give(session: &Session, case: CaseId, owner: String, again: bool) -> Result<HandedOut> {
    handed_out(session.ask(Command::HandOut { case, owner, again })?)
}

fn handed_out(answer: Answer) -> Result<HandedOut> {
    match answer {
        Answer::HandedOut(out) => Ok(out),
        other => bail!("the engine answered {other:?} to a hand-out"),
    }
}

fn inbox(session: &Session, action: Option<&InboxAction>) -> Result<Exit> {
    let command = match action {
        Some(InboxAction::Refuse { held, why }) => {
            return session.tell(session.ask(Command::RefuseHeld {
                held: *held,
                why: why.clone(),
            })?);
        }
        Some(InboxAction::Minutes { case, minutes }) => {
            let command = Command::NoteMinutes {
                case: case.clone(),
                minutes: *minutes,
            };
            return session.tell(session.ask(command)?);
        }
        Some(InboxAction::Choose { correction, why }) => {
            return session.tell(session.ask(Command::ChooseCorrection {
                correction: *correction,
                why: why.clone(),
            })?);
        }
        Some(InboxAction::Accept { held }) => Command::AcceptHeld {
            held: *held,
            fix: false,
        },
        Some(InboxAction::Fix { held }) => Command::AcceptHeld {
            held: *held,
            fix: true,
        },
        None => Command::ScanInbox,
    };
    let mut reports = intake(session, command)?;
    let is_resting = |report: &IntakeReport| report.outcome == Outcome::Wait && report.code == "S1";
    if action.is_none() && reports.iter().any(is_resting) {
        // What was dropped a moment ago has come to rest after this.
        let stable_s = session.snapshot()?.settings.inbox.stable_s;
        std::thread::sleep(std::time::Duration::from_secs_f64(stable_s + 0.1));
        reports.retain(|report| !is_resting(report));
        reports.extend(intake(session, Command::ScanInbox)?);
    }
    let snapshot = session.snapshot()?;
    if session.json {
        print_json(&json!({ "files": reports, "held": snapshot.waiting().collect::<Vec<_>>() }))?;
    } else {
        for report in &reports {
            print_report(&snapshot, report)?;
        }
        for held in snapshot.waiting() {
            print(&format!(
                "held: {} {}: {} {}",
                held.id,
                held.name,
                held.code,
                printable(&held.words)
            ))?;
            if let Some(words) = snapshot.fix_words(held) {
                let words = printable(&words);
                print(&format!(
                    "      `overtrace inbox fix {}` takes it in, {words}",
                    held.id
                ))?;
            }
        }
        if reports.is_empty() && snapshot.waiting().next().is_none() {
            print("nothing new in the inbox")?;
        }
        let complete = snapshot.open_round().filter(|_| snapshot.is_complete());
        if let Some(round) = complete {
            print(&format!(
                "every case of round {} is back: `overtrace round train` learns from them",
                round.id
            ))?;
        }
    }
    Ok(if reports.is_empty() {
        Exit::Nothing
    } else {
        Exit::Done
    })
}

/// Has the inbox looked into, or a held file taken in.
pub fn intake(session: &Session, command: Command) -> Result<Vec<IntakeReport>> {
    match session.ask(command)? {
        Answer::Intake(reports) => Ok(reports),
        other => bail!("the engine answered {other:?} to a look into the inbox"),
    }
}

fn print_report(snapshot: &Snapshot, report: &IntakeReport) -> Result<()> {
    print(&format!(
        "{}: {} ({}) {}",
        report.file,
        report.outcome.word(),
        report.code,
        printable(&report.words)
    ))?;
    let names = snapshot.settings.labels.names();
    for (name, effort) in names.zip(&report.effort) {
        print(&format!(
            "  {name}: saved {} % ({} of {} contour pixels; {:.0} mm to draw, {} px to erase; Dice {} %)",
            tables::percent(effort.saved()),
            effort.shared_px,
            effort.corrected_px,
            effort.added_path_mm,
            effort.erased_px,
            tables::percent(effort.dice)
        ))?;
    }
    Ok(())
}

/// Stays: prints what comes in and what the rounds do, until interrupted.
pub fn watch(session: &Session) -> Result<Exit> {
    let snapshot = session.snapshot()?;
    let inbox = snapshot.folder.join(&snapshot.settings.inbox.folder);
    if session.json {
        // An object a line, so that a program can follow.
        super::print_json_line(&json!({ "watching": inbox }))?;
        loop {
            match session.handle.wait()? {
                Event::Changed(change) => super::print_json_line(&json!({ "changed": change }))?,
                Event::Notice(words) => super::print_json_line(&json!({ "notice": words }))?,
                Event::Settings(_)
                | Event::Inbox(_)
                | Event::Activity(_)
                | Event::Refresh
                | Event::Answer { .. } => {}
            }
        }
    }
    print(&format!("watching {}; end with Ctrl-C", inbox.display()))?;
    let mut bars = super::progress::Bars::new();
    loop {
        let event = session.handle.wait()?;
        if let Event::Changed(change) = &event {
            print(&change.what.words())?;
        }
        bars.show(&event);
    }
}

fn round(session: &Session, action: &RoundAction) -> Result<Exit> {
    let command = match action {
        RoundAction::List => {
            let snapshot = session.snapshot()?;
            if session.json {
                print_json(&snapshot.rounds.values().collect::<Vec<_>>())?;
            } else {
                print(&tables::rounds(&snapshot))?;
            }
            return Ok(Exit::Done);
        }
        RoundAction::Start {
            from_scratch,
            budget,
            strategy,
        } => Command::StartRound {
            from_scratch: *from_scratch,
            budget: *budget,
            strategy: *strategy,
        },
        RoundAction::Train => Command::Train,
        RoundAction::Abandon { why } => Command::AbandonRound { why: why.clone() },
        RoundAction::Satisfied { why } => Command::DeclareSatisfactory { why: why.clone() },
        RoundAction::Reopen { why } => Command::Reopen { why: why.clone() },
    };
    session.tell(session.ask(command)?)
}

fn history(session: &Session, journal: bool) -> Result<Exit> {
    if journal {
        let Answer::Journal(entries) = session.ask(Command::Journal { from: 0 })? else {
            bail!("the engine did not answer with its journal");
        };
        if session.json {
            print_json(&entries)?
        } else {
            print(&tables::journal(&entries))?
        }
        return Ok(Exit::Done);
    }
    let snapshot = session.snapshot()?;
    if session.json {
        print_json(&snapshot.corrections.values().collect::<Vec<_>>())?;
    } else {
        print(&tables::corrections(&snapshot))?;
    }
    Ok(if snapshot.corrections.is_empty() {
        Exit::Nothing
    } else {
        Exit::Done
    })
}

fn export(session: &Session, folder: &Path, cases: &[CaseId], format: Format) -> Result<Exit> {
    let snapshot = session.snapshot()?;
    let cases: Vec<CaseId> = match cases {
        [] => {
            let has_map =
                |id: &CaseId| snapshot.cases[id].mask.is_some() || snapshot.predictions.contains_key(id);
            snapshot.cases.keys().filter(|id| has_map(id)).cloned().collect()
        }
        named => named.to_vec(),
    };
    fs::create_dir_all(folder).with_context(|| format!("making folder {}", folder.display()))?;
    let mut files: Vec<PathBuf> = Vec::new();
    for case in cases {
        let named = |ending: &str| folder.join(format!("{case}_seg.{ending}"));
        let packed = file(session, Command::Export { case: case.clone() })?;
        let parts = match format {
            Format::NiiGz => vec![(named("nii.gz"), packed)],
            Format::Nii => vec![(named("nii"), gunzip(&packed, MAX_VOLUME_BYTES)?)],
            Format::Pair => {
                let (header, voxels) = split_pair(&gunzip(&packed, MAX_VOLUME_BYTES)?);
                vec![(named("hdr"), header), (named("img"), voxels)]
            }
        };
        for (path, bytes) in parts {
            fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
            files.push(path);
        }
    }
    if session.json {
        print_json(&json!({ "files": files }))?;
    } else {
        print(&format!("{} files written to {}", files.len(), folder.display()))?;
    }
    Ok(if files.is_empty() {
        Exit::Nothing
    } else {
        Exit::Done
    })
}

fn file(session: &Session, command: Command) -> Result<Vec<u8>> {
    match session.ask(command)? {
        Answer::File(bytes) => Ok(bytes),
        other => bail!("the engine answered {other:?} where a file was asked for"),
    }
}

fn model(session: &Session, action: &ModelAction) -> Result<Exit> {
    match action {
        ModelAction::List => {
            let snapshot = session.snapshot()?;
            if session.json {
                print_json(&snapshot.models.values().collect::<Vec<_>>())?;
            } else {
                print(&tables::models(&snapshot))?;
            }
            Ok(Exit::Done)
        }
        ModelAction::Import { file } => {
            let file = std::path::absolute(file).with_context(|| format!("resolving {}", file.display()))?;
            session.tell(session.ask(Command::ImportModel { file })?)
        }
        ModelAction::Export { file } => {
            let weights = self::file(session, Command::ExportModel)?;
            fs::write(file, weights).with_context(|| format!("writing {}", file.display()))?;
            super::say(session.json, &format!("weights written to {}", file.display()))
        }
    }
}
