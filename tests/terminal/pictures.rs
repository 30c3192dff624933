//! Terminals with pictures of their own: what was sent once is sent again when somebody else had the terminal.

use super::console::Console;
use super::leaving::suspend_and_resume;
use super::{opened, project};
use rustix::process::Signal;

/// Goes through everything that a terminal lives through, with the bytes that begin a picture.
fn live_through(answer: &str, kind: &str, picture: &str) {
    let folder = project();
    let mut console = opened(folder.path(), answer);
    console.shows(kind);
    console.send("\r");
    console.prints(picture);
    // Another slice of this case is the same picture; zoomed in it is another.
    console.send("z");
    console.prints(picture);
    suspend_and_resume(&mut console);
    console.prints(picture);
    console.resize([80, 24]);
    console.prints(picture);
    // Ctrl-L: whatever the terminal shows, it is drawn anew.
    console.send("\x0c");
    console.prints(picture);
    console.signal(Signal::TERM);
    console.shows("ended by SIGTERM");
    assert_eq!(console.ended(), Some(0));
    assert!(console.is_sane());
}

#[test]
fn kitty_pictures_survive_a_stop_and_a_new_size() {
    live_through("\x1b_Gi=31;OK\x1b\\\x1b[6;20;10t\x1b[?62c", "kitty", "\x1b_G");
}

#[test]
fn sixels_survive_a_stop_and_a_new_size() {
    live_through("\x1b[6;20;10t\x1b[?62;4c", "sixel", ";0q\"");
}

#[test]
fn iterm2_pictures_survive_a_stop_and_a_new_size() {
    live_through(
        "\x1b]1337;ReportCellSize=20;10;1\x1b\\\x1b[?62c",
        "iterm2",
        "\x1b]1337;File=",
    );
}

/// mosh answers DA1 for itself and swallows the questions about pictures; the app must then never send one.
#[test]
fn a_terminal_that_names_no_pictures_never_gets_any() {
    let folder = project();
    let mut console: Console = opened(folder.path(), "\x1b[?62c");
    console.send("\r");
    console.shows("axial");
    console.shows("half");
    console.send("jjkk");
    console.send("q");
    console.send("q");
    assert_eq!(console.ended(), Some(0));
    let printed = console.printed();
    for picture in ["\x1b_Ga=T", "\x1b_Gq=2", ";0q\"", "\x1b]1337;File="] {
        assert!(!printed.contains(picture), "{picture:?}");
    }
}
