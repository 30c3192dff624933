//! The app on a pseudo-terminal and under tmux: however it ends or stops, the terminal is given back.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

#[path = "../support/console.rs"]
mod console;
mod hostile;
mod keys;
mod leaving;
mod pictures;
#[path = "../support/mod.rs"]
mod support;
mod tmux;

use std::path::Path;

use console::Console;
use overtrace::records::Pool;
use support::{Bench, Place, SMALL};

/// What every terminal answers: a VT220 without pictures, in order.
const PLAIN: &str = "\x1b[?62c";

/// A project of one case, for the app to open.
fn project() -> Place {
    let bench = Bench::new(SMALL);
    bench.import("brain_1", 0, Pool::Unlabelled);
    Place::of(bench)
}

/// The app on a terminal that has not answered yet, with the configuration of a folder.
fn open(folder: &Path) -> Console {
    open_with(folder, &[])
}

/// The same, with more arguments.
fn open_with(folder: &Path, more: &[&str]) -> Console {
    let (project, config) = (folder.join("project"), folder.join("config"));
    Console::start(
        Path::new(env!("CARGO_BIN_EXE_overtrace")),
        &[&["--project", project.to_str().unwrap()], more].concat(),
        &[("XDG_CONFIG_HOME", config.to_str().unwrap())],
        [100, 30],
    )
}

/// The app on a terminal that has answered, with its queue on the screen.
fn opened(folder: &Path, answer: &str) -> Console {
    let mut console = open(folder);
    console.prints("\x1b[c");
    console.send(answer);
    console.shows("brain_1");
    console
}
