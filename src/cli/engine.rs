//! `overtrace engine`: the process that has a project open, and its log.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::args::{Args, EngineAction};
use super::{Doors, Exit, Session, Wanted, print, print_json, say, tables};
use crate::protocol::{Answer, Command, EngineStatus};
use crate::records::printable;

/// Runs one of them.
pub fn run(args: &Args, doors: &Doors, action: &EngineAction) -> Result<Exit> {
    match action {
        EngineAction::Start { foreground: true } => (doors.serve)(&args.project, false).map(|()| Exit::Done),
        EngineAction::Serve => (doors.serve)(&args.project, true).map(|()| Exit::Done),
        EngineAction::Start { foreground: false } => {
            let session = Session::open(args, doors, Wanted::Process)?;
            status(&session)
        }
        EngineAction::Status => match (doors.reach)(&args.project)? {
            Some(handle) => status(&Session {
                handle,
                json: args.json,
            }),
            None => nothing(args),
        },
        EngineAction::Stop => {
            if !(doors.stop)(&args.project)? {
                return nothing(args);
            }
            say(args.json, "the engine has ended")
        }
        EngineAction::Logs { lines, follow } => logs(&args.project.join("logs"), *lines, *follow),
    }
}

fn nothing(args: &Args) -> Result<Exit> {
    let words = "no engine runs for this project";
    match args.json {
        true => print_json(&serde_json::json!({ "nothing": words }))?,
        false => print(words)?,
    }
    Ok(Exit::Nothing)
}

fn status(session: &Session) -> Result<Exit> {
    let engine: EngineStatus = match session.ask(Command::Engine)? {
        Answer::Engine(engine) => engine,
        other => bail!("the engine answered {other:?} where it was asked who it is"),
    };
    let snapshot = session.snapshot()?;
    if session.json {
        let activity = &snapshot.activity;
        print_json(&serde_json::json!({ "engine": engine, "activity": activity }))?;
    } else {
        print(&tables::engine(&engine, &snapshot))?;
    }
    Ok(Exit::Done)
}

/// The last lines of the engine's log, and with `follow` those that come.
fn logs(folder: &Path, lines: usize, follow: bool) -> Result<Exit> {
    let Some(mut path) = newest(folder)? else {
        bail!("{} has no log of an engine yet", folder.display());
    };
    let reading = |path: &Path| format!("reading {}", path.display());
    let mut file = BufReader::new(File::open(&path).with_context(|| reading(&path))?);
    let mut last = VecDeque::with_capacity(lines.min(10_000));
    while let Some(line) = line(&mut file).with_context(|| reading(&path))? {
        if last.len() == lines {
            last.pop_front();
        }
        last.push_back(line);
    }
    for line in last {
        print(&line)?;
    }
    if !follow {
        return Ok(Exit::Done);
    }
    loop {
        std::thread::sleep(Duration::from_millis(300));
        while let Some(line) = line(&mut file).with_context(|| reading(&path))? {
            print(&line)?;
        }
        // A new day has a new file.
        if let Some(next) = newest(folder)?.filter(|next| *next != path) {
            file = BufReader::new(File::open(&next).with_context(|| reading(&next))?);
            path = next;
        }
    }
}

/// The next whole line, ready for a terminal.
fn line(file: &mut BufReader<File>) -> std::io::Result<Option<String>> {
    let at = file.stream_position()?;
    let mut bytes = Vec::new();
    file.read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        // It is still being written.
        file.seek(std::io::SeekFrom::Start(at))?;
        return Ok(None);
    }
    Ok(Some(printable(&String::from_utf8_lossy(&bytes))))
}

/// Names of logs end in their day.
fn newest(folder: &Path) -> Result<Option<PathBuf>> {
    let files = match std::fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("looking into {}", folder.display())),
    };
    let is_log = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("engine.log"))
    };
    Ok(files.flatten().map(|file| file.path()).filter(is_log).max())
}
