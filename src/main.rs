//! The program: reads the command line, sets up the log, and hands verbs and screens the doors to the engine.

use std::fs;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use overtrace::cli::{Args, Doors, Keeping, Wanted};
use overtrace::engine::{self, EngineError, LaunchError, Options};
use overtrace::protocol::EngineHandle;
use overtrace::records::{BenchRow, BenchTask, Machine, Progress, Task, TaskResult, printable};
use overtrace::settings::{Compute, Device};
use overtrace::store::{Store, StoreError};
use overtrace::tui::{Kind, PictureMode};
use overtrace::worker::{self, Programs};
use overtrace::{effort, tui};
use tracing_appender::non_blocking::WorkerGuard;

/// Keeps freed memory for the next tensor: with the system's allocator, which gives large blocks back at once, page
/// faults of fresh ones cost more than small networks' arithmetic.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Patient data: what this process creates is nobody else's, whatever the login's umask says.
    // SAFETY: umask only swaps a number of this process; no thread runs yet.
    unsafe { libc::umask(0o077) };
    let args = Args::parse();
    let doors = Doors {
        create,
        open,
        reach,
        serve,
        stop,
        free,
        keeping: Keeping {
            verify: |project, report| Ok(engine::verify(project, report)?),
            rebuild: |project| Ok(Store::rebuild(project)?),
            history: |project| Ok(engine::history(project)?),
            backup: |project, to, report| Ok(engine::backup(project, to, report)?),
            restore: |from, project| Ok(overtrace::store::restore(from, project)?),
        },
        bench,
        compute,
        parse,
        app,
    };
    // A panic ends the program after its words are in the log.
    let result = catch_unwind(AssertUnwindSafe(|| overtrace::cli::run(&args, &doors)));
    wait_for_engines();
    // What the log still holds is written before the process ends.
    drop(
        LOG.lock()
            .expect("no thread panics while it holds the log")
            .take(),
    );
    match result.unwrap_or_else(|panic| resume_unwind(panic)) {
        Ok(exit) => exit.into(),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overtrace: {}", printable_lines(&words(&error)));
            ExitCode::from(if is_held(&error) { engine::HELD } else { 2 })
        }
    }
}

/// An error and its causes; one that the words before it end in already is not said twice.
fn words(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |words, cause| {
        let cause = cause.to_string();
        match words.as_str() {
            "" => cause,
            known if known.ends_with(&cause) => words,
            known => format!("{known}: {cause}"),
        }
    })
}

/// Escapes what a terminal would obey, but keeps the lines of a settings error apart.
fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// `overtrace .. | head` is no error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Whether another process has the project open.
fn is_held(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(EngineError::is_held)
        || matches!(error.downcast_ref(), Some(StoreError::Held { .. }))
        || matches!(error.downcast_ref(), Some(LaunchError::Held(_)))
}

/// The account that commands are journalled under.
fn who() -> String {
    let name = ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    name.map(|name| printable(&name))
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".into())
}

fn create(folder: &Path) -> Result<()> {
    Ok(engine::create(folder, &who())?)
}

/// How long a project that another process has open is waited for: an engine may be just starting, or a verb about done.
const PATIENCE: Duration = Duration::from_secs(5);

fn open(folder: &Path, wanted: Wanted) -> Result<EngineHandle> {
    if folder.join(overtrace::store::FOLDER).is_dir() {
        log_to(&logs(folder), "overtrace.log")?;
    }
    // A surface that lets go of one engine and opens another finds the store free.
    wait_for_engines();
    let until = Instant::now() + PATIENCE;
    loop {
        if wanted != Wanted::Own
            && let Some(handle) = reach(folder)?
        {
            return Ok(handle);
        }
        let held: anyhow::Error = match wanted {
            Wanted::Process => {
                let this = std::env::current_exe().context("finding the engine's program")?;
                match engine::launch(&this, folder) {
                    Ok(notices) => {
                        notices
                            .iter()
                            .for_each(|notice| eprintln!("overtrace: {}", printable(notice)));
                        match reach(folder)? {
                            Some(handle) => return Ok(handle),
                            None => anyhow!("the engine ended at once; `overtrace engine logs` says why"),
                        }
                    }
                    Err(held @ LaunchError::Held(_)) => held.into(),
                    Err(error) => return Err(error.into()),
                }
            }
            Wanted::Any | Wanted::Watching | Wanted::Own => {
                let options = options(wanted != Wanted::Any, false)?;
                match engine::start(folder, who(), options) {
                    Ok(started) => {
                        tell(&started.notices);
                        wait_for(started.thread);
                        return Ok(started.handle);
                    }
                    Err(held) if held.is_held() && wanted != Wanted::Own => held.into(),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        if Instant::now() >= until {
            return Err(held);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Says what was mended.
fn tell(notices: &[String]) {
    for notice in notices {
        tracing::warn!(notice);
        eprintln!("overtrace: {}", printable(notice));
    }
}

fn reach(folder: &Path) -> Result<Option<EngineHandle>> {
    let reached = engine::reach(folder, who())?;
    Ok(reached.map(|reached| {
        wait_for(reached.thread);
        reached.handle
    }))
}

fn serve(folder: &Path, detached: bool) -> Result<()> {
    if folder.join(overtrace::store::FOLDER).is_dir() {
        log_to(&logs(folder), "engine.log")?;
    }
    if detached {
        engine::detach()?;
    }
    let mut printed = Ok(());
    engine::serve(folder, options(true, true)?, |notices| {
        tell(notices);
        tracing::info!(pid = std::process::id(), "the engine begins");
        if detached {
            printed = engine::say_ready(&logs(folder).join("engine.out"));
        } else {
            println!(
                "the engine of {} runs; end it with Ctrl-C",
                printable(&folder.display().to_string())
            );
        }
    })?;
    tracing::info!("the engine ends");
    Ok(printed?)
}

fn stop(folder: &Path) -> Result<bool> {
    /// The worker ends at its next step.
    const PATIENCE: Duration = Duration::from_secs(60);
    if !engine::stop(folder)? {
        return Ok(false);
    }
    let until = Instant::now() + PATIENCE;
    while overtrace::store::is_held(folder)? {
        if Instant::now() >= until {
            bail!("the engine was told to end and has not yet; `overtrace engine logs` says what it is at");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

fn bench(task: &BenchTask, compute: &Compute, found: &mut dyn FnMut(BenchRow)) -> Result<Machine> {
    let compute = compute.clone();
    let (rows, heard) = channel();
    let (programs, asked) = (programs()?, Task::Bench(task.clone()));
    let timing = std::thread::spawn(move || {
        worker::run(&programs, &compute, asked, &mut |progress| match progress {
            // Nobody listens any more where the rows could not be printed.
            Progress::Timed(row) => match rows.send(row) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            },
            Progress::Notice(words) => {
                eprintln!("overtrace: {}", printable(&words));
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Continue(()),
        })
    });
    heard.into_iter().for_each(&mut *found);
    let machine = match timing.join() {
        Ok(TaskResult::Timed(machine)) => machine,
        Ok(TaskResult::Failed(why)) => bail!("{why}"),
        Ok(TaskResult::Cancelled) => bail!("the rows could not be printed"),
        other => bail!("the worker answered a bench by {other:?}"),
    };
    if task.runs > 0 {
        found(effort::bench(task.runs));
    }
    Ok(machine)
}

/// The programs that compute: this one, and the one beside it that knows CUDA.
fn programs() -> Result<Programs> {
    let this = std::env::current_exe().context("finding the worker's program beside this one")?;
    Ok(Programs::beside(&this))
}

fn compute(device: Device) -> Result<()> {
    worker::serve(device, std::io::stdin(), std::io::stdout()).context("working")
}

fn parse(build: &str) -> Result<()> {
    if !worker::understands(build) {
        std::process::exit(worker::OTHER_BUILD);
    }
    worker::parse(std::io::stdin(), std::io::stdout()).context("reading volumes")
}

fn options(watch: bool, stays: bool) -> Result<Options> {
    Ok(Options {
        watch,
        stays,
        programs: programs()?,
    })
}

/// Ends the project's engine and opens the project for a moment: that fails while another process has it.
fn free(folder: &Path) -> Result<()> {
    if folder.join(overtrace::store::FOLDER).is_dir() {
        stop(folder)?;
        let started = engine::start(folder, who(), options(false, false)?)?;
        drop(started.handle);
        // One that panicked holds nothing any more either.
        let _ = started.thread.join();
    }
    Ok(())
}

/// Threads of the engines that this process has started, and of the lines to those that it reached; it does not exit before
/// they have finished what they were at.
static ENGINES: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

fn wait_for(thread: JoinHandle<()>) {
    ENGINES
        .lock()
        .expect("no thread panics while it holds the list")
        .push(thread);
}

fn wait_for_engines() {
    for engine in ENGINES
        .lock()
        .expect("no thread panics while it holds the list")
        .drain(..)
    {
        if engine.join().is_err() {
            eprintln!("overtrace: the engine panicked; the log in the project's logs folder says where");
        }
    }
}

fn app(handle: EngineHandle, project: &Path, args: &Args, engine_ends: bool) -> Result<()> {
    let options = tui::Options {
        keymap: args.keymap.clone(),
        user_keymap: own_file("keymap.toml"),
        theme: args.theme.clone(),
        user_theme: own_file("theme.toml"),
        engine_ends,
        logs: logs(project),
        picture: match args.ascii && args.picture == "auto" {
            true => PictureMode::Only(Kind::Ascii),
            false => args.picture.parse().map_err(anyhow::Error::msg)?,
        },
        ascii: args.ascii,
        mouse: !args.no_mouse,
        colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    tui::run(handle, options)?;
    if !engine_ends {
        println!("the engine goes on; `overtrace engine stop` in the project's folder ends it");
    }
    Ok(())
}

/// A file of the user's own: `overtrace/NAME` in the configuration folder.
fn own_file(name: &str) -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let folder = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(folder.join("overtrace").join(name))
}

/// The folder of a project's log.
fn logs(project: &Path) -> PathBuf {
    project.join("logs")
}

/// Writes the log in the background; it flushes when it is dropped.
static LOG: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Days whose logs are kept.
const LOG_DAYS: usize = 30;

/// One file a day; the level comes from `OVERTRACE_LOG`, and is `info` without it.
fn log_to(folder: &Path, name: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making folder {}", folder.display()))?;
    let file = tracing_appender::rolling::Builder::new()
        .rotation(tracing_appender::rolling::Rotation::DAILY)
        .filename_prefix(name)
        .max_log_files(LOG_DAYS)
        .build(folder);
    // A member of the group that a project is shared with has no log there.
    let Ok(file) = file else { return Ok(()) };
    let (writer, guard) = tracing_appender::non_blocking(file);
    let mut log = LOG.lock().expect("no thread panics while it holds the log");
    if log.is_none() {
        *log = Some(guard);
        let filter = tracing_subscriber::EnvFilter::try_from_env("OVERTRACE_LOG")
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .with_writer(writer)
            .with_ansi(false)
            .with_env_filter(filter)
            .init();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            tracing::error!(%info, "panic");
            before(info);
        }));
    }
    Ok(())
}
