//! Reads the terminal in a thread of its own, and sleeps while nothing comes.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::tui::wire::{Capabilities, Input, Parser};

/// How long the rest of a sequence may take to come after its ESC, which is otherwise the key.
const PATIENCE: Duration = Duration::from_millis(40);
/// The same while answers are still to come: the network may have split one right after its ESC.
const LONG_PATIENCE: Duration = Duration::from_millis(400);

/// What the thread tells.
pub enum Read {
    /// Something came in.
    Input(Input),
    /// An answer said something new.
    Terminal(Capabilities),
}

/// Reads `terminal` until it ends or `tell` says so.
///
/// # Errors
/// What the system says; an end of the terminal among it.
pub fn read(terminal: impl AsFd, mut tell: impl FnMut(Read) -> bool) -> io::Result<()> {
    let (mut parser, mut known) = (Parser::default(), Capabilities::default());
    let mut buffer = [0; 4096];
    loop {
        let patience = match known.is_complete {
            true => PATIENCE,
            false => LONG_PATIENCE,
        };
        let mut inputs = Vec::new();
        let limit = parser.is_waiting().then(|| Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(patience.subsec_nanos()),
        });
        let mut wanted = [PollFd::new(&terminal, PollFlags::IN)];
        match poll(&mut wanted, limit.as_ref()) {
            Ok(0) => parser.settle(&mut inputs),
            Ok(_) => match rustix::io::read(&terminal, &mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => parser.feed(&buffer[..n], &mut inputs),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            },
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for input in inputs {
            let read = match input {
                Input::Answer(sequence) => {
                    let before = known;
                    known.hear(&sequence);
                    if known.is_complete {
                        parser.has_all_answers();
                    }
                    if known == before {
                        continue;
                    }
                    Read::Terminal(known)
                }
                input => Read::Input(input),
            };
            if !tell(read) {
                return Ok(());
            }
        }
    }
}
