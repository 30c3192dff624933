//! A surface's end: finding the engine of a project, and talking to it.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::unbounded;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, Signal, kill_process};

use super::{Hello, LONGEST_EVENT, LONGEST_GREETING, LONGEST_REQUEST, Welcome, build, is_of, place_of};
use crate::engine::EngineError;
use crate::protocol::{EngineHandle, Event, Request};
use crate::store::{FOLDER, holder};
use crate::worker::frames;

/// How long an engine may take to greet.
const GREETING: Duration = Duration::from_secs(10);

/// An engine of another process.
#[derive(Debug)]
pub struct Reached {
    /// The surface's end of the line.
    pub handle: EngineHandle,
    /// Ends when the engine has been sent everything: a process that exits earlier cuts it short.
    pub thread: JoinHandle<()>,
}

/// The engine that runs for a project, if one does; `who` is the account that commands are journalled under.
///
/// # Errors
/// [`EngineError`] where it does not let this surface in, or says nothing.
pub fn reach(project: &Path, who: String) -> Result<Option<Reached>, EngineError> {
    let Some((line, path)) = connect(project)? else {
        return Ok(None);
    };
    let failed = |source| EngineError::io("talking to the engine at", &path)(source);
    line.set_read_timeout(Some(GREETING)).map_err(failed)?;
    let hello = Hello {
        build: build(),
        who: who.clone(),
    };
    let greeted = frames::write(&line, &hello, LONGEST_GREETING)
        .and_then(|()| frames::read::<Welcome>(&line, LONGEST_GREETING));
    let welcome = match greeted {
        Ok(Some(welcome)) => welcome,
        // It was just ending.
        Ok(None) => return Ok(None),
        Err(error) if is_hung_up(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if let Some(why) = welcome.refused {
        return EngineError::refused(why);
    }
    line.set_read_timeout(None).map_err(failed)?;
    let (requests, to_write) = unbounded::<Request>();
    let (events, heard) = unbounded::<Event>();
    let out = line.try_clone().map_err(failed)?;
    let thread = thread::Builder::new()
        .name("requests".into())
        .spawn(move || {
            for request in to_write {
                if let Err(error) = frames::write(&out, &request, LONGEST_REQUEST) {
                    tracing::warn!(%error, "the engine does not hear");
                    break;
                }
            }
            // Nothing more is asked: the engine lets go of this surface.
            let _ = out.shutdown(Shutdown::Both);
        })
        .map_err(EngineError::thread)?;
    thread::Builder::new()
        .name("events".into())
        .spawn(move || {
            let mut line = std::io::BufReader::with_capacity(1 << 16, line);
            loop {
                match frames::read(&mut line, LONGEST_EVENT) {
                    Ok(Some(event)) => {
                        if events.send(event).is_err() {
                            return;
                        }
                    }
                    Ok(None) => return,
                    Err(error) => return tracing::warn!(%error, "the engine is not heard any more"),
                }
            }
        })
        .map_err(EngineError::thread)?;
    Ok(Some(Reached {
        handle: EngineHandle::new(requests, heard, who),
        thread,
    }))
}

/// Asks the engine of a project to end, whatever version it is; `false` where none runs.
///
/// # Errors
/// [`EngineError`] where it is another account's.
pub fn stop(project: &Path) -> Result<bool, EngineError> {
    let Some((line, path)) = connect(project)? else {
        return Ok(false);
    };
    let failed = |source| EngineError::io("ending the engine at", &path)(source);
    let engine = socket_peercred(&line).map_err(|error| failed(error.into()))?;
    let pid = Pid::from_raw(engine.pid.as_raw_nonzero().get())
        .filter(|pid| pid.as_raw_nonzero().get() > 1)
        .ok_or_else(|| failed(ErrorKind::NotFound.into()))?;
    kill_process(pid, Signal::TERM).map_err(|error| failed(error.into()))?;
    Ok(true)
}

/// Whether an error says that the other end has gone.
fn is_hung_up(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
    )
}

/// A line to the process that listens for a project, if one does: to that of the account that owns the project alone.
fn connect(project: &Path) -> Result<Option<(UnixStream, std::path::PathBuf)>, EngineError> {
    let Ok(place) = project.canonicalize() else {
        return Ok(None);
    };
    let named = holder(project).and_then(|holder| Some((holder.socket?, Some(holder.pid))));
    // A member of the project's group cannot read the lock, and finds the socket where it is then.
    let shared = || Some((place_of(&place, true), None)).filter(|(socket, _)| socket.exists());
    let Some((socket, pid)) = named.or_else(shared) else {
        return Ok(None);
    };
    if !is_of(&socket, &place) {
        return Ok(None);
    }
    let line = match UnixStream::connect(&socket) {
        Ok(line) => line,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(EngineError::io("reaching the engine at", &socket)(error)),
    };
    let store = project.join(FOLDER);
    let owner = std::fs::metadata(&store)
        .map_err(EngineError::io("looking at", &store))?
        .uid();
    let peer = socket_peercred(&line)
        .map_err(|error| EngineError::io("asking who listens at", &socket)(error.into()))?;
    if peer.uid.as_raw() != owner {
        return EngineError::refused(format!(
            "who listens at {} is the account with uid {}, but the project is that of {owner}",
            socket.display(),
            peer.uid.as_raw()
        ));
    }
    // Another project's engine may have been given its place.
    if pid.is_some_and(|pid| peer.pid.as_raw_nonzero().get() as u32 != pid) {
        return Ok(None);
    }
    Ok(Some((line, socket)))
}
