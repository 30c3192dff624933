//! The owner: one engine holds the store, the compute worker and the inbox of a project.
//!
//! [`start`] spawns the actor, a thread that takes one message at a time (a surface's request, the worker's
//! progress, a hint that the inbox changed) and answers through the [`EngineHandle`] it gives out. Whatever
//! becomes true is committed to the store first and told second. The actor never computes: training and
//! predicting are [`records::Task`](crate::records::Task)s for the [worker](crate::worker). An engine that was
//! [`start`]ed inside a surface's process ends with it; one that [`serve`]s surfaces at a socket stays until it is told to
//! stop, and is [`reach`]ed by them. Imports every room below it, and no surface.

mod actor;
mod cases;
mod control;
mod error;
mod forget;
mod gc;
mod handout;
mod history;
mod inbox;
mod masks;
mod models;
mod network;
mod project;
mod rounds;
mod sharing;
mod socket;
mod surfaces;
mod training;
mod verify;
mod view;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use crossbeam_channel::unbounded;

pub use error::EngineError;
pub use history::history;
pub use socket::{HELD, LaunchError, Reached, detach, launch, reach, say_ready, serve, stop};
pub use verify::verify;

use crate::protocol::{EngineHandle, Request};
use crate::records::Archived;
use crate::settings::{FILE, Settings, TEMPLATE};
use crate::store::{self, Store, private_folder};
use crate::worker::Programs;
use actor::{Actor, Message};
use project::Project;
use surfaces::{Surface, SurfaceId};

/// How an engine behaves for the surface that starts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The programs that compute.
    pub programs: Programs,
    /// Watch the inbox and start a round's training when the last queried case is back: for a surface that
    /// stays. A verb that runs once leaves both to its commands.
    pub watch: bool,
    /// Go on when nobody is attached, until told to stop or the project's folder is gone.
    pub stays: bool,
}

/// Makes a project folder: `overtrace.toml` with every key explained (an existing one is kept), the store, and
/// the inbox.
///
/// # Errors
/// [`EngineError`] where there is a project already, the settings do not hold, or a folder cannot be made.
pub fn create(folder: &Path, who: &str) -> Result<(), EngineError> {
    private_folder(folder)?;
    let file = folder.join(FILE);
    if !file.exists() {
        project::write_private(&file, TEMPLATE.as_bytes())?;
    }
    let settings = Settings::load(folder)?;
    network::check_place(folder, &settings)?;
    let store = Store::create(folder)?;
    let mut project = Project::new(folder, store, Vec::new(), settings)?;
    project.begin(who)
}

/// Writes a project to a file: what its store keeps, its settings, and what lies in its inbox but for the copies of what
/// was taken in. `report` hears how many bytes of how many are written.
///
/// # Errors
/// [`EngineError`]; there is no file then.
pub fn backup(project: &Path, to: &Path, report: &mut dyn FnMut(u64, u64)) -> Result<Archived, EngineError> {
    let inbox = Settings::load(project)?.inbox.folder;
    let mut also = vec![PathBuf::from(FILE)];
    if inbox.is_relative() {
        for folder in [
            inbox.clone(),
            inbox.join(inbox::HELD),
            inbox.join(inbox::QUARANTINE),
        ] {
            let items = std::fs::read_dir(project.join(&folder));
            also.extend(
                items
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|item| folder.join(item.file_name())),
            );
        }
    }
    Ok(store::backup(project, to, &also, report)?)
}

/// A running engine.
#[derive(Debug)]
pub struct Started {
    /// The surface's end of the line; the engine ends when it is dropped.
    pub handle: EngineHandle,
    /// What was mended while opening, in words.
    pub notices: Vec<String>,
    /// Ends when the engine has finished what it was at: a process that exits earlier cuts it short.
    pub thread: JoinHandle<()>,
}

/// Opens a project and starts its engine.
///
/// # Errors
/// [`EngineError`] where there is no project, another process holds it, or its settings or journal do not hold.
pub fn start(folder: &Path, who: String, options: Options) -> Result<Started, EngineError> {
    let (project, notices) = Project::open(folder)?;
    let (messages, inbox) = channel();
    let (events, surface_events) = unbounded();
    let (requests, surface_requests) = unbounded::<Request>();
    let mut actor = Actor::new(project, options, messages.clone());
    let only = SurfaceId(0);
    actor.surfaces.join(only, Surface::new(events, who.clone(), None));
    thread::Builder::new()
        .name("requests".into())
        .spawn(move || {
            for request in surface_requests {
                if messages.send(Message::Request(only, request)).is_err() {
                    return;
                }
            }
            // The surface let go; if the actor has gone too there is nobody left to tell.
            let _ = messages.send(Message::SurfaceGone(only));
        })
        .map_err(EngineError::thread)?;
    let thread = thread::Builder::new()
        .name("engine".into())
        .spawn(move || actor.run(&inbox))
        .map_err(EngineError::thread)?;
    Ok(Started {
        handle: EngineHandle::new(requests, surface_events, who),
        notices,
        thread,
    })
}
