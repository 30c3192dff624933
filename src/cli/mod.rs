//! Headless verbs: every action as a command, tables for people, `--json` for programs.
//!
//! A verb sends [`Command`]s through an [`EngineHandle`] and prints what comes back; it cannot tell whether the
//! engine is a thread or a process. Exit codes: 0 done, 1 nothing to do, 2 error, 3 the project is open elsewhere. Without a terminal there is no
//! colour and no bar. The room imports `protocol`, `records`, `settings` and `imaging` (the demo's phantoms),
//! never the engine: `main` hands it the [`Doors`].

mod args;
mod demo;
mod engine;
mod experiment;
mod import;
mod keeping;
mod phantoms;
mod progress;
mod tables;
mod verbs;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

pub use args::{Args, Verb};

use crate::protocol::{Answer, Command, EngineHandle, Snapshot};
use crate::records::{Archived, BenchRow, BenchTask, Machine, Verified};
use crate::settings::{Compute, Device};
use progress::Bars;

/// Hears what was timed.
type Found<'a> = &'a mut dyn FnMut(BenchRow);

/// How a verb reaches what it must not know.
#[derive(Debug, Clone, Copy)]
pub struct Doors {
    /// Makes a project folder.
    pub create: fn(&Path) -> Result<()>,
    /// Opens a project's engine.
    pub open: fn(&Path, Wanted) -> Result<EngineHandle>,
    /// The engine that runs for a project as a process of its own, if one does.
    pub reach: fn(&Path) -> Result<Option<EngineHandle>>,
    /// Is the engine of a project until it is told to end; detached from the terminal if so.
    pub serve: fn(&Path, bool) -> Result<()>,
    /// Ends the engine that runs for a project and waits until it has; `false` where none does.
    pub stop: fn(&Path) -> Result<bool>,
    /// Makes sure that nobody has the project in a folder open, if there is one.
    pub free: fn(&Path) -> Result<()>,
    /// Times this machine, a row after the other.
    pub bench: fn(&BenchTask, &Compute, Found<'_>) -> Result<Machine>,
    /// Does the task that comes through standard input on a device.
    pub compute: fn(Device) -> Result<()>,
    /// Reads volumes through standard input and output.
    pub parse: fn(&str) -> Result<()>,
    /// What is done about what is kept, whether an engine runs or not.
    pub keeping: Keeping,
    /// Opens the app on the engine of a project's folder; the flag says that the engine ends with it.
    pub app: fn(EngineHandle, &Path, &Args, bool) -> Result<()>,
}

/// Hears how much of how much is done.
pub type Done<'a, T> = &'a mut dyn FnMut(T, T);

/// The same, from several threads.
pub type DoneByAll<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// What is done about what a project's folder keeps. All but `rebuild` work beside an engine that runs.
#[derive(Debug, Clone, Copy)]
pub struct Keeping {
    /// Looks at everything again; hears how many blobs of how many were read.
    pub verify: fn(&Path, DoneByAll<'_>) -> Result<Verified>,
    /// Makes the index anew; how many rows it has.
    pub rebuild: fn(&Path) -> Result<usize>,
    /// The whole history.
    pub history: fn(&Path) -> Result<serde_json::Value>,
    /// Writes the project to a file; hears how many bytes of how many were written.
    pub backup: fn(&Path, &Path, Done<'_, u64>) -> Result<Archived>,
    /// Makes a project of such a file.
    pub restore: fn(&Path, &Path) -> Result<Archived>,
}

/// Which engine a surface wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The one that runs; where none does, one in this process that does what it is asked and no more.
    Any,
    /// The one that runs; where none does, one in this process that watches the inbox and trains by itself.
    Watching,
    /// The one that runs, as a process of its own; where none does, it is started.
    Process,
    /// One in this process, that watches the inbox and trains by itself.
    Own,
}

/// What a verb's exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Done,
    /// 1
    Nothing,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Nothing => 1,
        })
    }
}

/// Runs one verb.
///
/// # Errors
/// Whatever stopped it, in words for a person; `main` prints them and exits with 2.
pub fn run(args: &Args, doors: &Doors) -> Result<Exit> {
    let open = |wanted| Session::open(args, doors, wanted);
    match &args.verb {
        None => {
            app(args, doors, &args.project, args.in_process)?;
            Ok(Exit::Done)
        }
        Some(Verb::Init { folder }) => {
            let folder = folder.as_ref().unwrap_or(&args.project);
            (doors.create)(folder)?;
            say(
                args.json,
                &format!(
                    "project made in {}; its settings are in overtrace.toml",
                    folder.display()
                ),
            )
        }
        Some(Verb::Demo {
            folder,
            no_app,
            max_epochs,
        }) => demo::run(args, doors, folder, *no_app, *max_epochs),
        Some(Verb::Bench {
            networks,
            base_channels,
            batch,
            threads,
            runs,
            volume,
            device,
            precision,
        }) => {
            let task = BenchTask {
                networks: *networks,
                base_channels: base_channels.iter().map(|&base| base.into()).collect(),
                batch: (*batch).into(),
                threads: (*threads).into(),
                runs: (*runs).into(),
                volume: *volume,
                precision: *precision,
            };
            let compute = Compute {
                device: device.clone(),
                ..Compute::default()
            };
            bench(args.json, doors, &task, &compute)
        }
        Some(Verb::Worker { device }) => {
            (doors.compute)(*device)?;
            Ok(Exit::Done)
        }
        Some(Verb::Experiment(wish)) => experiment::run(doors, args.json, wish),
        Some(Verb::Parse { build }) => {
            (doors.parse)(build)?;
            Ok(Exit::Done)
        }
        Some(Verb::Inbox {
            action: None,
            watch: true,
        }) => verbs::watch(&open(Wanted::Watching)?),
        Some(Verb::Engine { action }) => engine::run(args, doors, action),
        Some(Verb::Verify) => keeping::verify(args.json, doors, &args.project),
        Some(Verb::Rebuild) => keeping::rebuild(args.json, doors, &args.project),
        Some(Verb::Backup { file }) => keeping::backup(args.json, doors, &args.project, file),
        Some(Verb::Restore { file, folder }) => keeping::restore(args.json, doors, file, folder),
        Some(Verb::Export { folder: None, .. }) => keeping::history(&doors.keeping, &args.project),
        Some(verb) => verbs::run(&open(Wanted::Any)?, verb),
    }
}

/// Opens the app on the project in `folder`, with an engine of its own if so.
fn app(args: &Args, doors: &Doors, folder: &Path, in_process: bool) -> Result<()> {
    let wanted = match in_process {
        true => Wanted::Own,
        false => Wanted::Process,
    };
    (doors.app)((doors.open)(folder, wanted)?, folder, args, in_process)
}

/// Times the machine: a line as each thing is known, then the machine; or one object.
fn bench(json: bool, doors: &Doors, task: &BenchTask, compute: &Compute) -> Result<Exit> {
    if json {
        let mut rows = Vec::new();
        let machine = (doors.bench)(task, compute, &mut |row| rows.push(row))?;
        print_json(
            &serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "machine": machine, "rows": rows }),
        )?;
        return Ok(Exit::Done);
    }
    print(&tables::bench_head())?;
    let mut printed = Ok(());
    let machine = (doors.bench)(task, compute, &mut |row| {
        if printed.is_ok() {
            printed = print(&tables::bench_row(&row));
        }
    })?;
    printed?;
    print(&tables::machine(&machine))?;
    Ok(Exit::Done)
}

/// Prints one sentence, or an object that holds it.
fn say(json: bool, words: &str) -> Result<Exit> {
    if json {
        print_json(&serde_json::json!({ "done": words }))?
    } else {
        print(words)?
    }
    Ok(Exit::Done)
}

/// Prints a line; a reader that has gone away is an end, not a panic.
fn print(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

fn print_json_line(value: &impl serde::Serialize) -> Result<()> {
    print(&serde_json::to_string(value)?)
}

/// A verb's line to its engine.
struct Session {
    handle: EngineHandle,
    json: bool,
}

impl Session {
    fn open(args: &Args, doors: &Doors, wanted: Wanted) -> Result<Session> {
        Ok(Session {
            handle: (doors.open)(&args.project, wanted)?,
            json: args.json,
        })
    }

    /// Asks, shows progress, and returns the answer.
    fn ask(&self, command: Command) -> Result<Answer> {
        let mut bars = Bars::new();
        let answer = self.handle.call(command, |event| bars.show(&event))?;
        bars.finish();
        answer.map_err(anyhow::Error::msg)
    }

    fn snapshot(&self) -> Result<Snapshot> {
        match self.ask(Command::Attach { cases: None })? {
            Answer::Snapshot(snapshot) => Ok(*snapshot),
            other => bail!("the engine answered {other:?} to an attach"),
        }
    }

    /// Prints an answer that is words.
    fn tell(&self, answer: Answer) -> Result<Exit> {
        match answer {
            Answer::Done(words) => say(self.json, &words),
            Answer::Nothing(words) => {
                if self.json {
                    print_json(&serde_json::json!({ "nothing": words }))?;
                } else {
                    print(&words)?;
                }
                Ok(Exit::Nothing)
            }
            other => bail!("the engine answered {other:?}, which this verb does not know"),
        }
    }
}
