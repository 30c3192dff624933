//! An engine that others talk to: a Unix socket in the project's folder, open to the account that owns the project.
//!
//! Both ends say first which build they are (a [`Hello`], answered by a [`Welcome`]; both are texts, so that every
//! version can read every other's), then the surface sends [`Request`](crate::protocol::Request)s and the engine
//! [`Event`](crate::protocol::Event)s, each in a frame of its length and its bytes. Who is at the other end the kernel says
//! (SO_PEERCRED), not the messages.

mod launch;
mod reach;
mod serve;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use launch::{HELD, LaunchError, detach, launch, say_ready};
pub use reach::{Reached, reach, stop};
pub use serve::serve;

/// The socket's name in the store's folder.
const NAME: &str = "engine.sock";
/// Longest path that a socket's address holds, in bytes.
const LONGEST_PATH: usize = 107;
/// Bytes of a greeting at most.
const LONGEST_GREETING: u32 = crate::worker::frames::SHORT;
/// Bytes of a request at most: the paths of some hundred thousand images.
const LONGEST_REQUEST: u32 = crate::worker::frames::LONGEST;
/// Bytes of an event at most: a large case with all its maps, or a hundred thousand cases' rows several times.
const LONGEST_EVENT: u32 = 2 << 30;

/// What a surface says first. Never changed: it is what versions tell each other apart by.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Hello {
    /// [`build`] of its program.
    build: String,
    /// The account that it is used by, as its environment says.
    who: String,
}

/// What the engine answers. Never changed.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Welcome {
    /// [`build`] of its program.
    build: String,
    /// Why the surface may not come in, if so.
    refused: Option<String>,
}

/// Everything that messages are made of: what changes one of them changes the [`build`].
const MESSAGES: &[&str] = &[
    include_str!("mod.rs"),
    include_str!("../../imaging/geometry.rs"),
    include_str!("../../imaging/plane.rs"),
    include_str!("../../protocol/command.rs"),
    include_str!("../../protocol/event.rs"),
    include_str!("../../protocol/handle.rs"),
    include_str!("../../protocol/queue.rs"),
    include_str!("../../protocol/snapshot.rs"),
    include_str!("../../protocol/view.rs"),
    include_str!("../../records/bench.rs"),
    include_str!("../../records/case.rs"),
    include_str!("../../records/effort.rs"),
    include_str!("../../records/entry.rs"),
    include_str!("../../records/ids.rs"),
    include_str!("../../records/model.rs"),
    include_str!("../../records/round.rs"),
    include_str!("../../records/task.rs"),
    include_str!("../../records/verified.rs"),
    include_str!("../../settings/compute.rs"),
    include_str!("../../settings/labels.rs"),
    include_str!("../../settings/mod.rs"),
];

/// The version of this program and of the messages it understands.
fn build() -> String {
    let hash = blake3::hash(MESSAGES.concat().as_bytes()).to_hex();
    format!("{} {}", env!("CARGO_PKG_VERSION"), &hash[..8])
}

/// Where an engine of this project listens if the path is short enough: in the folder that nobody else can enter, or, where
/// the project is shared, in the one that its group can pass through.
fn place_of(project: &Path, is_shared: bool) -> PathBuf {
    match is_shared {
        true => project.join(NAME),
        false => project.join(crate::store::FOLDER).join(NAME),
    }
}

/// How the private folder of a socket is called whose project's path is too long.
fn folder_prefix(project: &Path) -> String {
    let hash = blake3::hash(project.as_os_str().as_encoded_bytes()).to_hex();
    format!("overtrace-{}-", &hash[..12])
}

/// Whether a socket that a lock names is this project's: a copy of a project has the lock of the original.
fn is_of(socket: &Path, project: &Path) -> bool {
    let is_private = |folder: &Path| {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.starts_with(&folder_prefix(project)))
    };
    let places = [false, true].map(|is_shared| place_of(project, is_shared));
    places.iter().any(|place| place == socket) || socket.parent().is_some_and(is_private)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_file_that_messages_are_made_of_counts() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for room in ["protocol", "records"] {
            for file in fs::read_dir(src.join(room)).unwrap() {
                let path = file.unwrap().path();
                let text = fs::read_to_string(&path).unwrap();
                let has_messages = text.contains("derive(") && text.contains("Serialize, Deserialize");
                assert!(
                    !has_messages || MESSAGES.contains(&text.as_str()),
                    "{} is not among MESSAGES",
                    path.display()
                );
            }
        }
    }
}
