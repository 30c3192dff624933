//! A thread of the app that panics: the terminal is given back for its words, and the app goes on.
//!
//! The program is its own app: with a project as its argument it shows the screens, with a thread that panics on SIGUSR1.
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

#[path = "support/console.rs"]
mod console;
mod support;

use std::path::Path;

use console::Console;
use overtrace::records::Pool;
use overtrace::tui;
use rustix::process::Signal;
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::Signals;
use support::{Bench, SMALL};

fn main() {
    match std::env::args().nth(1) {
        Some(project) if Path::new(&project).is_dir() => app(Path::new(&project)),
        _ => {
            if cfg!(target_os = "linux") {
                the_terminal_is_given_back_for_the_words_of_a_panic();
                println!("test the_terminal_is_given_back_for_the_words_of_a_panic ... ok");
            }
        }
    }
}

fn app(project: &Path) {
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    std::thread::spawn(move || {
        signals.forever().next();
        panic!("a wheel came off");
    });
    let started = support::start(project, false);
    let options = tui::Options {
        logs: project.join("logs"),
        ..tui::Options::default()
    };
    tui::run(started.handle, options).unwrap();
}

fn the_terminal_is_given_back_for_the_words_of_a_panic() {
    let bench = Bench::new(SMALL);
    bench.import("brain_1", 0, Pool::Unlabelled);
    let project = bench.project();
    let Bench { folder, handle } = bench;
    drop(handle);
    let this = std::env::current_exe().unwrap();
    let mut console = Console::start(&this, &[project.to_str().unwrap()], &[], [100, 30]);
    console.prints("\x1b[c");
    console.send("\x1b[?62c");
    console.shows("brain_1");
    console.signal(Signal::USR1);
    // In this order: given back, the words, where the log is, taken again.
    let log = format!("overtrace: the log is in {}", project.join("logs").display());
    for words in ["\x1b[?1049l", "a wheel came off", &log, "\x1b[?1049h"] {
        console.prints(words);
    }
    console.shows("a part of overtrace failed; the log is in");
    console.shows("brain_1");
    console.send("q");
    assert_eq!(console.ended(), Some(0));
    assert!(console.is_sane());
    drop(folder);
}
