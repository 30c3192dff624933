//! Starting an engine as a process of its own, out of a surface's.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::engine::EngineError;

/// The line that says that surfaces can come.
const READY: &str = "ready";

/// Why no engine was started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The system refused.
    #[error("starting an engine for {project}: {source}")]
    Io {
        /// The project.
        project: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Another process has the project: perhaps an engine that is just starting, or a verb that will be done soon.
    #[error("{0}")]
    Held(String),
    /// The engine's own words.
    #[error("{0}")]
    Failed(String),
}

/// The exit code of a program that found the project held by another.
pub const HELD: u8 = 3;

/// Starts `program` as the engine of a project, in a session of its own; returns when surfaces can come, with what the
/// engine had to say.
///
/// # Errors
/// [`LaunchError`]; nothing runs then.
pub fn launch(program: &Path, project: &Path) -> Result<Vec<String>, LaunchError> {
    let failed = |source| LaunchError::Io {
        project: project.to_path_buf(),
        source,
    };
    let project = project.canonicalize().map_err(failed)?;
    let mut child = Command::new(program)
        .arg("--project")
        .arg(&project)
        .args(["engine", "serve"])
        .current_dir(&project)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (Some(output), Some(mut errors)) = (child.stdout.take(), child.stderr.take()) else {
        unreachable!("both were asked for");
    };
    // It lets go of both when it is ready.
    let words = thread::spawn(move || {
        let mut words = Vec::new();
        let _ = errors.read_to_end(&mut words);
        String::from_utf8_lossy(&words).into_owned()
    });
    let first = BufReader::new(output).lines().next();
    let is_ready = matches!(first, Some(Ok(line)) if line == READY);
    let words = words.join().unwrap_or_default();
    let words: Vec<String> = words
        .lines()
        .map(|line| line.trim_start_matches("overtrace: ").to_string())
        .collect();
    if is_ready {
        // Whoever started it sees to it that it leaves nothing behind when it ends.
        thread::spawn(move || child.wait());
        return Ok(words);
    }
    let status = child.wait().map_err(failed)?;
    let words = words.join("\n");
    Err(match status.code() {
        Some(code) if code == i32::from(HELD) => LaunchError::Held(words),
        _ if words.is_empty() => LaunchError::Failed(format!("the engine ended at once ({status})")),
        _ => LaunchError::Failed(words),
    })
}

/// Leaves the terminal and the session that this process was started in.
///
/// # Errors
/// The system's.
pub fn detach() -> Result<(), EngineError> {
    rustix::process::setsid()
        .map(drop)
        .map_err(|error| EngineError::io("leaving the session of", Path::new("the terminal"))(error.into()))
}

/// Bytes after which what was printed is begun anew.
const LONGEST_PRINTED: u64 = 1 << 20;

/// Says to who [`launch`]ed this process that surfaces can come; what is printed from now on goes to the end of `file`.
///
/// # Errors
/// The file cannot be written.
pub fn say_ready(file: &Path) -> Result<(), EngineError> {
    let printed = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .and_then(|printed| match printed.metadata()?.len() {
            // Little is printed after the start; of very many starts the last ones are enough.
            LONGEST_PRINTED.. => printed.set_len(0).map(|()| printed),
            _ => Ok(printed),
        })
        // Without room for it what is printed is lost; the log is another file.
        .or_else(|_| std::fs::OpenOptions::new().append(true).open("/dev/null"))
        .map_err(EngineError::io("opening", file))?;
    // Who started it may be gone.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
    rustix::stdio::dup2_stdout(printed.as_fd())
        .and_then(|()| rustix::stdio::dup2_stderr(printed.as_fd()))
        .map_err(|error| EngineError::io("writing to", file)(error.into()))
}
