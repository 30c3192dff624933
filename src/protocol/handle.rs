//! A surface's end of the line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde::{Deserialize, Serialize};

use super::{Answer, Command, Event};

/// A command on its way, with the number its answer will carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Counts up in each surface.
    pub id: u64,
    /// The account it is sent under.
    pub who: String,
    /// The wish.
    pub command: Command,
}

/// The engine ended while a surface was waiting for it.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the engine has ended; `overtrace engine logs` says why")]
pub struct EngineGone;

/// Sends commands to an engine and receives its events.
#[derive(Debug)]
pub struct EngineHandle {
    sender: EngineSender,
    receiver: EngineReceiver,
}

/// The half of a handle that sends.
#[derive(Debug)]
pub struct EngineSender {
    requests: Sender<Request>,
    who: String,
    next: AtomicU64,
}

/// The half of a handle that receives; it may wait in a thread of its own.
#[derive(Debug)]
pub struct EngineReceiver {
    events: Receiver<Event>,
}

impl EngineSender {
    /// The account that commands are journalled under.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// Sends a command without waiting; returns the number its answer will carry.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub fn send(&self, command: Command) -> Result<u64, EngineGone> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let request = Request {
            id,
            who: self.who.clone(),
            command,
        };
        self.requests.send(request).map_err(|_| EngineGone)?;
        Ok(id)
    }
}

impl EngineReceiver {
    /// The next event, or `None` when `timeout` passes without one.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub fn receive(&self, timeout: Duration) -> Result<Option<Event>, EngineGone> {
        match self.events.recv_timeout(timeout) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(EngineGone),
        }
    }

    /// The next event, however long it takes.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub fn wait(&self) -> Result<Event, EngineGone> {
        self.events.recv().map_err(|_| EngineGone)
    }
}

impl EngineHandle {
    /// A handle over the two ends; `who` is the account that its commands are journalled under.
    pub fn new(requests: Sender<Request>, events: Receiver<Event>, who: String) -> Self {
        EngineHandle {
            sender: EngineSender {
                requests,
                who,
                next: AtomicU64::new(1),
            },
            receiver: EngineReceiver { events },
        }
    }

    /// The two halves, for a surface that waits for events and keys at once.
    pub fn split(self) -> (EngineSender, EngineReceiver) {
        (self.sender, self.receiver)
    }

    /// The account that commands are journalled under.
    pub fn who(&self) -> &str {
        self.sender.who()
    }

    /// Sends a command without waiting; returns the number its answer will carry.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub fn send(&self, command: Command) -> Result<u64, EngineGone> {
        self.sender.send(command)
    }

    /// The next event, or `None` when `timeout` passes without one.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub fn receive(&self, timeout: Duration) -> Result<Option<Event>, EngineGone> {
        self.receiver.receive(timeout)
    }

    /// The next event, however long it takes.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub fn wait(&self) -> Result<Event, EngineGone> {
        self.receiver.wait()
    }

    /// Sends a command and waits for its answer; other events go to `meanwhile`.
    ///
    /// # Errors
    /// [`EngineGone`]; the inner error is the engine's own: why the command could not be done.
    pub fn call(
        &self,
        command: Command,
        mut meanwhile: impl FnMut(Event),
    ) -> Result<Result<Answer, String>, EngineGone> {
        let id = self.send(command)?;
        loop {
            match self.wait()? {
                Event::Answer { request, result } if request == id => return Ok(result),
                event => meanwhile(event),
            }
        }
    }
}
