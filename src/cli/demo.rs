//! The demo: phantoms, a small network, and a stand-in annotator who knows the hidden truth.
//!
//! It does what people do, through the same commands: imports, starts rounds, has cases handed out, and drops
//! corrected masks into the inbox as files.

use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::args::PhantomsName;
use super::verbs::{give, intake, queue};
use super::{Args, Doors, Exit, Session, Wanted, phantoms, print, tables};
use crate::imaging::{DATASET_SEED, encode_labels, phantom};
use crate::protocol::{Answer, Command, Outcome};
use crate::records::{CaseId, Pool};

/// In a folder that the demo made, and may therefore make anew.
const MARK: &str = ".overtrace-demo";
const LABELLED: u32 = 2;
const UNLABELLED: u32 = 12;
const HELD_OUT: u32 = 5;
const ROUNDS: usize = 2;
const BUDGET: usize = 4;

fn settings(max_epochs: u32) -> String {
    format!(
        r#"# A demo on phantoms: small enough for two cores. `overtrace init` writes every key, explained.
[model]
base_channels = 8

[training]
learning_rate = 0.002
batch = 8
max_epochs = {max_epochs}
patience = 30

[query]
budget = {BUDGET}
train_when_complete = false

[inbox]
stable_s = 0.0
"#
    )
}

/// Runs the demo and opens the app on the result, or prints the tables.
pub fn run(args: &Args, doors: &Doors, folder: &Path, no_app: bool, max_epochs: u32) -> Result<Exit> {
    prepare(doors, folder, max_epochs)?;
    (doors.create)(folder)?;
    let session = Session {
        handle: (doors.open)(folder, Wanted::Any)?,
        json: args.json,
    };
    let began = Instant::now();
    say(
        &session,
        "1. phantoms: two labelled cases, twelve to ask for, five held out to measure on",
    )?;
    let phantoms = folder.join("phantoms");
    fs::create_dir_all(&phantoms)?;
    import(&session, &phantoms)?;
    say(
        &session,
        "2. a small U-shape network learns from the two labelled cases and ranks the pool",
    )?;
    step(
        &session,
        Command::StartRound {
            from_scratch: false,
            budget: None,
            strategy: None,
        },
    )?;
    if !args.json {
        queue(&session, &session.snapshot()?)?;
    }
    say(
        &session,
        &format!(
            "first ranked queue after {}\n",
            tables::duration(began.elapsed().as_secs_f64())
        ),
    )?;
    for round in 1..=ROUNDS {
        say(
            &session,
            &format!(
                "{}. round {round}: ask, hand out, correct, take back, learn",
                round + 2
            ),
        )?;
        step(
            &session,
            Command::StartRound {
                from_scratch: false,
                budget: Some(BUDGET),
                strategy: None,
            },
        )?;
        correct(&session)?;
        step(&session, Command::Train)?;
    }
    let snapshot = session.snapshot()?;
    let json = args.json;
    if json {
        super::print_json(&snapshot.rounds.values().collect::<Vec<_>>())?;
    } else {
        print(&format!("\nRounds\n{}", tables::rounds(&snapshot)))?;
        print(&format!("\nCorrections\n{}", tables::corrections(&snapshot)))?;
        print(&format!(
            "\nQueue\n{}",
            tables::queue(&snapshot, &snapshot.queue())
        ))?;
        print(&format!(
            "\nthe whole took {}",
            tables::duration(began.elapsed().as_secs_f64())
        ))?;
        print(&format!(
            "`overtrace --project {}` opens the app on it",
            folder.display()
        ))?;
    }
    if !no_app && !json && std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        // From here on a person works: the app's engine watches the inbox and trains by itself.
        drop(session);
        // Nothing of a demo runs on when it is left.
        super::app(args, doors, folder, true)?;
    }
    Ok(Exit::Done)
}

/// An empty folder with the demo's settings; an earlier demo is removed, anything else is left alone.
fn prepare(doors: &Doors, folder: &Path, max_epochs: u32) -> Result<()> {
    if folder.join(MARK).is_file() {
        (doors.free)(folder).with_context(|| {
            format!(
                "making the demo in {} anew; name another folder",
                folder.display()
            )
        })?;
        fs::remove_dir_all(folder)
            .with_context(|| format!("removing the earlier demo in {}", folder.display()))?;
    } else if folder.exists() {
        bail!(
            "{} is there and was not made by the demo; name another folder",
            folder.display()
        );
    }
    fs::create_dir_all(folder).with_context(|| format!("making folder {}", folder.display()))?;
    fs::write(folder.join(MARK), "")?;
    fs::write(folder.join(crate::settings::FILE), settings(max_epochs))?;
    Ok(())
}

fn say(session: &Session, words: &str) -> Result<()> {
    if session.json { Ok(()) } else { print(words) }
}

fn step(session: &Session, command: Command) -> Result<()> {
    match session.ask(command)? {
        Answer::Done(words) => say(session, &format!("   {words}")),
        other => bail!("the demo's step was answered by {other:?}"),
    }
}

fn name(index: u32) -> CaseId {
    CaseId::new(&format!("phantom-{index:02}")).expect("letters, a dash and digits")
}

fn import(session: &Session, folder: &Path) -> Result<()> {
    let mut items = Vec::new();
    for index in 0..LABELLED + UNLABELLED + HELD_OUT {
        let made = phantom(DATASET_SEED, index);
        let mut item = phantoms::write(folder, name(index), PhantomsName::Brain, &made)?;
        let pool = match index {
            0..LABELLED => Pool::Labelled,
            index if index < LABELLED + UNLABELLED => Pool::Unlabelled,
            _ => Pool::HeldOut,
        };
        item.pool = Some(pool);
        // The truth of these stays hidden until the stand-in annotator is asked.
        if let Some(mask) = item.mask.take_if(|_| pool == Pool::Unlabelled) {
            fs::remove_file(mask)?;
        }
        items.push(item);
    }
    match session.ask(Command::Import { items, pool: None })? {
        Answer::Imported { refused, .. } if refused.is_empty() => Ok(()),
        other => bail!("the phantoms could not be imported: {other:?}"),
    }
}

/// Hands out every case the open round asks for, and drops its truth into the inbox.
fn correct(session: &Session) -> Result<()> {
    let snapshot = session.snapshot()?;
    let asked = snapshot
        .open_round()
        .map(|round| round.queried.clone())
        .unwrap_or_default();
    for case in asked {
        let out = give(session, case.clone(), "stand-in annotator".into(), false)?;
        let index = (0..LABELLED + UNLABELLED).find(|&index| name(index) == case);
        let truth = phantom(
            DATASET_SEED,
            index.context("a phantom's name ends in its number")?,
        )
        .truth;
        let dropped = out.inbox.join(&out.reply_name);
        fs::write(&dropped, encode_labels(&truth, u16::from))?;
        for report in intake(session, Command::ScanInbox)? {
            if !matches!(report.outcome, Outcome::Accept | Outcome::Warn) {
                bail!("{} was {}: {}", report.file, report.outcome.word(), report.words);
            }
            say(session, &format!("   {case} {}", report.words))?;
        }
    }
    Ok(())
}
