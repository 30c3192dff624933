//! Ends, stops and new sizes.

use super::console::Console;
use super::support::{self, Bench, Place, dose};
use super::{PLAIN, open, opened, project};
use overtrace::records::Pool;
use rustix::process::Signal;

/// Ctrl-Z and back.
pub fn suspend_and_resume(console: &mut Console) {
    console.send("\x1a");
    console.shows("stopped; fg goes on; the log is in");
    assert_eq!(console.changed().stopping_signal(), Some(Signal::STOP.as_raw()));
    assert!(console.is_sane());
    console.signal(Signal::CONT);
    console.prints("\x1b[?1049h");
    assert!(!console.is_sane());
}

#[test]
fn sigterm_sighup_and_q_give_the_terminal_back() {
    let folder = project();
    for (how, last_words) in [
        (Some(Signal::TERM), "ended by SIGTERM; the log is in"),
        (Some(Signal::HUP), "ended by SIGHUP; the log is in"),
        (None, ""),
    ] {
        let mut console = opened(folder.path(), PLAIN);
        assert!(!console.is_sane(), "{how:?}");
        match how {
            Some(signal) => console.signal(signal),
            None => console.send("q"),
        }
        assert_eq!(console.ended(), Some(0), "{how:?}");
        assert!(console.is_sane(), "{how:?}");
        assert!(console.screen().contains(last_words), "{}", console.screen());
        assert!(!console.screen().contains("brain_1"), "{}", console.screen());
    }
    // The log is where it was said to be.
    let logs = folder.path().join("project/logs");
    assert!(logs.read_dir().unwrap().next().is_some());
}

/// A signal that comes while the terminal is still being asked what it can show, and does not answer.
#[test]
fn sigterm_gives_the_terminal_back_from_the_first_moment_on() {
    let folder = project();
    let mut console = open(folder.path());
    console.prints("\x1b[?1049h");
    console.signal(Signal::TERM);
    assert_eq!(console.ended(), Some(0));
    assert!(console.is_sane());
}

#[test]
fn ctrl_z_stops_on_a_sane_terminal_and_the_app_comes_back_and_follows_a_new_size() {
    let folder = project();
    let mut console = opened(folder.path(), PLAIN);
    suspend_and_resume(&mut console);
    console.shows("brain_1");
    // Too small a window says so, and one that is large enough again shows everything again.
    console.resize([40, 10]);
    console.shows("overtrace needs 60x20 cells");
    console.resize([60, 20]);
    console.shows("brain_1");
    console.send("q");
    assert_eq!(console.ended(), Some(0));
    assert!(console.is_sane());
}

/// SIGTSTP from elsewhere stops the app as its key does.
#[test]
fn a_stop_from_outside_gives_the_terminal_back_too() {
    let folder = project();
    let mut console = opened(folder.path(), PLAIN);
    console.signal(Signal::TSTP);
    console.shows("stopped; fg goes on");
    assert!(console.changed().stopped());
    assert!(console.is_sane());
    console.signal(Signal::CONT);
    console.shows("brain_1");
    console.send("q");
    assert_eq!(console.ended(), Some(0));
}

/// SIGKILL cannot be heard: the store is whole all the same, and the next start needs no help.
#[test]
fn a_killed_app_leaves_a_project_that_opens_again() {
    let folder = project();
    let mut console = opened(folder.path(), PLAIN);
    console.signal(Signal::KILL);
    assert_eq!(console.ended(), None);
    let mut console = opened(folder.path(), PLAIN);
    console.send("q");
    assert_eq!(console.ended(), Some(0));
}

/// However the app ends, what trains goes on, and the next app shows it.
#[test]
fn a_round_goes_on_when_the_app_is_hung_up_on_ended_killed_or_left() {
    let bench = Bench::new(
        &support::long()
            .replace("= 400", "= 5000")
            .replace("= 2000", "= 5000"),
    );
    bench.import("brain_1", 0, Pool::Unlabelled);
    bench.import("known", 1, Pool::Labelled);
    let place = Place::of(bench);
    let mut console = opened(place.path(), PLAIN);
    console.send("grs");
    console.shows("y");
    console.send("y");
    // The question speaks of training, too.
    support::epochs(&support::reach(&place.project), 1);
    console.shows("training");
    for n in 0..dose(4, 20) {
        let app = console.pid().as_raw_nonzero().get() as u32;
        match n % 4 {
            0 => console.signal(Signal::HUP),
            1 => console.signal(Signal::TERM),
            2 => console.signal(Signal::KILL),
            _ => console.send("Q"),
        }
        console.ended();
        let handle = support::reach(&place.project);
        support::epochs(&handle, 3);
        drop(handle);
        support::until("the engine has let go of the app", || {
            support::attached(&place.project)
                .iter()
                .all(|one| one.pid != Some(app))
        });
        console = opened(place.path(), PLAIN);
        console.shows("training");
    }
    console.send("Q");
    console.ended();
}
