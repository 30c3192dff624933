//! The engine's end: who may come in, and a pair of threads for each that did.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use rustix::net::sockopt::socket_peercred;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{
    Hello, LONGEST_EVENT, LONGEST_GREETING, LONGEST_PATH, LONGEST_REQUEST, Welcome, build, folder_prefix,
    is_of, place_of,
};
use crate::engine::actor::{Actor, Message};
use crate::engine::project::Project;
use crate::engine::sharing::{Share, Sharing, name_of};
use crate::engine::surfaces::{Surface, SurfaceId};
use crate::engine::{EngineError, Options};
use crate::protocol::Request;
use crate::store::holder;
use crate::worker::frames;

/// Surfaces at a time.
const MOST_SURFACES: usize = 64;
/// How long a surface may take to say who it is.
const GREETING: Duration = Duration::from_secs(5);
/// How long a surface that does not read is waited for when the engine ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Opens a project and serves surfaces until it is told to stop, by one of them, by a signal, or because the project's
/// folder is gone. `ready` is called once, with what was mended while opening, when surfaces can come.
///
/// # Errors
/// [`EngineError`] where there is no project, another process holds it, its settings or journal do not hold, or no socket
/// can be made.
pub fn serve(folder: &Path, options: Options, ready: impl FnOnce(&[String])) -> Result<(), EngineError> {
    let last = holder(folder).and_then(|last| last.socket);
    let (project, notices) = Project::open(folder)?;
    let (messages, inbox) = channel();
    let mut signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(EngineError::io("hearing signals in", folder))?;
    let stop = messages.clone();
    let has_terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                // A terminal that hangs up takes along what was started in its foreground, and nothing else.
                if signal != SIGHUP || has_terminal {
                    let _ = stop.send(Message::Stop);
                }
            }
        })
        .map_err(EngineError::thread)?;
    let hall = Hall {
        is_shared: project.sharing.is_shared(),
        messages: messages.clone(),
        guests: Arc::default(),
    };
    let door = Door::open(&project.snapshot.folder, last.as_deref(), project.sharing, hall)?;
    project.store.announce(&door.path)?;
    door.listen()?;
    let mut actor = Actor::new(project, options, messages);
    ready(&notices);
    actor.run(&inbox);
    // Nobody comes in any more, then nobody is told anything any more, and then the next engine may begin.
    door.close();
    drop(actor);
    door.see_out();
    Ok(())
}

/// Threads of a surface that is here, and its line.
struct Guest {
    line: UnixStream,
    writer: JoinHandle<()>,
}

/// What the threads of all surfaces share.
#[derive(Clone)]
struct Hall {
    /// Members of a group may come in; the socket's mode keeps everybody else out.
    is_shared: bool,
    messages: Sender<Message>,
    guests: Arc<Mutex<BTreeMap<u64, Guest>>>,
}

impl Hall {
    fn guests(&self) -> MutexGuard<'_, BTreeMap<u64, Guest>> {
        self.guests
            .lock()
            .expect("no thread panics while it holds the list of guests")
    }
}

/// The socket, and who came in by it.
struct Door {
    path: PathBuf,
    /// The folder that was made for it, where the project's path is too long for a socket.
    folder: Option<PathBuf>,
    listener: UnixListener,
    hall: Hall,
    is_closed: Arc<AtomicBool>,
}

impl Door {
    /// Makes the socket; `last` is where that of the engine before was, which may be left over.
    fn open(project: &Path, last: Option<&Path>, sharing: Sharing, hall: Hall) -> Result<Door, EngineError> {
        if let Some(last) = last.filter(|last| is_of(last, project)) {
            forget(last);
        }
        let beside = place_of(project, sharing.is_shared());
        let is_short = beside.as_os_str().len() <= LONGEST_PATH;
        let bound = is_short.then(|| bind(&beside));
        let (listener, path, folder) = match bound {
            Some(Ok(listener)) => (listener, beside, None),
            // A path too long, or a file system without sockets.
            other => {
                if let Some(Err(error)) = other {
                    tracing::warn!(%error, path = %beside.display(), "no socket can be made here");
                }
                let folder = tempfile::Builder::new()
                    .prefix(&folder_prefix(project))
                    .tempdir()
                    .map_err(EngineError::io(
                        "making a folder for the socket in",
                        &std::env::temp_dir(),
                    ))?
                    .keep();
                let path = folder.join(super::NAME);
                let listener = bind(&path).map_err(EngineError::io("making the socket", &path))?;
                (listener, path, Some(folder))
            }
        };
        sharing.open(&path, Share::Talk)?;
        if let Some(folder) = &folder {
            sharing.open(folder, Share::Through)?;
        }
        Ok(Door {
            path,
            folder,
            listener,
            hall,
            is_closed: Arc::default(),
        })
    }

    /// Lets surfaces in, in a thread of its own.
    fn listen(&self) -> Result<(), EngineError> {
        let listener = self
            .listener
            .try_clone()
            .map_err(EngineError::io("listening at", &self.path))?;
        let (hall, is_closed) = (self.hall.clone(), Arc::clone(&self.is_closed));
        let listening = move || {
            for (id, line) in (1..).zip(listener.incoming()) {
                if is_closed.load(Ordering::Acquire) {
                    return;
                }
                match line {
                    Ok(line) => welcome(id, line, hall.clone()),
                    // Too many open files: those that are here may leave.
                    Err(error) => {
                        tracing::warn!(%error, "a surface could not be let in");
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        };
        thread::Builder::new()
            .name("door".into())
            .spawn(listening)
            .map(drop)
            .map_err(EngineError::thread)
    }

    /// Lets nobody in any more.
    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        // Wakes the thread that waits for somebody to come.
        let _ = UnixStream::connect(&self.path);
        let _ = fs::remove_file(&self.path);
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir(folder);
        }
    }

    /// Waits until everybody has been told everything; those that do not listen are hung up on.
    fn see_out(self) {
        let until = Instant::now() + FAREWELL;
        let guests = std::mem::take(&mut *self.hall.guests());
        for guest in guests.into_values() {
            while !guest.writer.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
            let _ = guest.line.shutdown(Shutdown::Both);
            let _ = guest.writer.join();
        }
    }
}

/// A socket; one that nobody listens at any more is replaced: the lock is ours.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

/// Removes the socket that an engine which was killed left behind, and the folder that was made for it.
fn forget(socket: &Path) {
    let _ = fs::remove_file(socket);
    let made = socket.parent().filter(|folder| {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        folder.parent() == Some(&std::env::temp_dir())
            && name.is_some_and(|name| name.starts_with("overtrace-"))
    });
    if let Some(folder) = made {
        let _ = fs::remove_dir(folder);
    }
}

/// Begins a surface's threads; whoever is slow to greet keeps nobody else waiting.
fn welcome(id: u64, line: UnixStream, hall: Hall) {
    let receiving = move || {
        if let Err(error) = receive(id, line, &hall) {
            tracing::warn!(%error, surface = id, "a surface was cut off");
        }
        // It was never here if it was not let in; then nobody minds.
        let _ = hall.messages.send(Message::SurfaceGone(SurfaceId(id)));
        hall.guests().remove(&id);
    };
    if let Err(error) = thread::Builder::new().name("surface".into()).spawn(receiving) {
        tracing::warn!(%error, "a surface could not be let in");
    }
}

/// Why somebody may not come in.
fn refusal(uid: u32, own_uid: u32, is_shared: bool, hello: &Hello, guests: usize) -> Option<String> {
    if uid != own_uid && !is_shared {
        return Some(format!(
            "the engine runs as the account with uid {own_uid}, and you are {uid}: use that account"
        ));
    }
    if hello.build != build() {
        return Some(format!(
            "the engine that runs is overtrace {}, and this is {}: end it with `overtrace engine stop` and start again",
            build(),
            hello.build
        ));
    }
    (guests >= MOST_SURFACES).then(|| format!("{guests} surfaces are attached already; leave one of them"))
}

/// Greets a surface and hands on what it sends until it leaves.
fn receive(id: u64, line: UnixStream, hall: &Hall) -> std::io::Result<()> {
    let peer = socket_peercred(&line)?;
    line.set_read_timeout(Some(GREETING))?;
    line.set_write_timeout(Some(GREETING))?;
    let Some(hello) = frames::read::<Hello>(&line, LONGEST_GREETING)? else {
        return Ok(());
    };
    let (uid, own_uid) = (peer.uid.as_raw(), rustix::process::geteuid().as_raw());
    let refused = refusal(uid, own_uid, hall.is_shared, &hello, hall.guests().len());
    let is_refused = refused.is_some();
    let build = build();
    frames::write(&line, &Welcome { build, refused }, LONGEST_GREETING)?;
    if is_refused {
        return Ok(());
    }
    line.set_read_timeout(None)?;
    line.set_write_timeout(None)?;
    let (events, to_write) = unbounded();
    let out = line.try_clone()?;
    let writer = thread::Builder::new().name("events".into()).spawn(move || {
        for event in to_write {
            if let Err(error) = frames::write(&out, &event, LONGEST_EVENT) {
                tracing::warn!(%error, surface = id, "a surface does not hear");
                break;
            }
        }
        let _ = out.shutdown(Shutdown::Both);
    })?;
    let guest = Guest {
        line: line.try_clone()?,
        writer,
    };
    hall.guests().insert(id, guest);
    let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).ok();
    // What another account is called, the system says.
    let other = (uid != own_uid).then(|| name_of(uid));
    let who = other.clone().unwrap_or(hello.who);
    let surface = Surface::new(events, who, pid);
    if hall
        .messages
        .send(Message::SurfaceCame(SurfaceId(id), surface))
        .is_err()
    {
        return Ok(());
    }
    let mut requests = std::io::BufReader::new(&line);
    while let Some(mut request) = frames::read::<Request>(&mut requests, LONGEST_REQUEST)? {
        if let Some(other) = &other {
            request.who.clone_from(other);
        }
        if hall
            .messages
            .send(Message::Request(SurfaceId(id), request))
            .is_err()
        {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_account_another_build_and_one_too_many_stay_outside() {
        let hello = |build: &str| Hello {
            build: build.into(),
            who: "ann".into(),
        };
        assert_eq!(refusal(1000, 1000, false, &hello(&build()), 0), None);
        let other = refusal(1001, 1000, false, &hello(&build()), 0).unwrap();
        assert!(other.contains("uid 1000"), "{other}");
        // Root has no business here either: what it wrote nobody else could change.
        assert!(refusal(0, 1000, false, &hello(&build()), 0).is_some());
        let old = refusal(1000, 1000, false, &hello("0.0.9 cafe"), 0).unwrap();
        assert!(
            old.contains("overtrace engine stop") && old.contains("0.0.9 cafe"),
            "{old}"
        );
        assert!(refusal(1000, 1000, false, &hello(&build()), MOST_SURFACES).is_some());
        // Whom the socket's mode has let in where the project is shared.
        assert_eq!(refusal(1001, 1000, true, &hello(&build()), 0), None);
        assert!(refusal(1001, 1000, true, &hello("0.0.9 cafe"), 0).is_some());
    }
}
