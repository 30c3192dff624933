//! Hints that something changed in the inbox.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::engine::actor::Message;

/// A watcher on the inbox; where the system has none to give, the regular look goes on alone.
#[derive(Debug)]
pub struct Watch {
    messages: Sender<Message>,
    watcher: Option<(RecommendedWatcher, PathBuf, u64)>,
}

impl Watch {
    /// A watcher that watches nothing yet.
    pub fn new(messages: Sender<Message>) -> Watch {
        Watch {
            messages,
            watcher: None,
        }
    }

    /// Watches `folder`; begins anew where it is another folder than before, by path or by inode.
    pub fn keep_on(&mut self, folder: &Path) {
        let Ok(inode) = std::fs::metadata(folder).map(|meta| meta.ino()) else {
            self.watcher = None;
            return;
        };
        if self
            .watcher
            .as_ref()
            .is_some_and(|(_, path, was)| path == folder && *was == inode)
        {
            return;
        }
        let messages = self.messages.clone();
        // An error is as good a reason to look as an event; the actor may be gone, then nobody needs the hint.
        let hint = move |event: notify::Result<notify::Event>| {
            let is_reading = event.is_ok_and(|event| event.kind.is_access());
            if !is_reading {
                let _ = messages.send(Message::InboxHint);
            }
        };
        let made = notify::recommended_watcher(hint).and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        self.watcher = match made {
            Ok(watcher) => Some((watcher, folder.to_path_buf(), inode)),
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "no watcher; the regular look goes on alone");
                None
            }
        };
    }
}
