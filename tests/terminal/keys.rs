//! Keys, what is none, and keys of a person's own.

use super::{PLAIN, open, open_with, opened, project};

#[test]
fn keys_scroll_through_the_slices_and_back() {
    let folder = project();
    let mut console = opened(folder.path(), PLAIN);
    console.send("\r");
    console.shows("axial slice 3 of 4");
    console.send("G");
    console.shows("axial slice 4 of 4");
    console.send("2k");
    console.shows("axial slice 2 of 4");
    // The wheel as well.
    console.send("\x1b[<65;20;10M");
    console.shows("axial slice 3 of 4");
    console.send("\x1b");
    console.shows("not ranked yet");
    console.send("q");
    assert_eq!(console.ended(), Some(0));
}

/// The image is gone from the store: the picture's place says so, and what to do.
#[test]
fn a_case_whose_file_has_vanished_says_why_in_place_of_the_picture() {
    let folder = project();
    let blobs = folder.path().join("project/store/blobs");
    std::fs::remove_dir_all(&blobs).unwrap();
    std::fs::create_dir(&blobs).unwrap();
    let mut console = opened(folder.path(), PLAIN);
    console.send("\r");
    // The preview says so as well, beside the queue.
    console.until("the slices, and why they are not there", |console| {
        let screen = console.screen();
        screen.contains("cannot be read: No such file") && !screen.contains("not ranked yet")
    });
    console.send("\x1b");
    console.shows("not ranked yet");
    console.send("q");
    assert_eq!(console.ended(), Some(0));
}

/// Answers that come late, and in pieces that begin right after an ESC: no key among them, and pictures get better.
#[test]
fn a_late_answer_is_never_taken_for_keys_and_upgrades_the_pictures() {
    let folder = project();
    let mut console = open(folder.path());
    // The first screen does not wait for answers, and keys work meanwhile.
    console.shows("half");
    console.send("?");
    console.shows("(first_case)");
    for part in [
        "\x1b",
        "_Gi=31;OK\x1b",
        "\\\x1b[6;20;10t\x1b]11;rgb:0000/0000/00",
        "00\x1b\\",
        "\x1b[?62c",
    ] {
        console.send(part);
    }
    console.shows("kitty");
    console.send("\x1b");
    console.shows("brain_1");
    let printed = console.printed();
    assert!(!printed.contains("does nothing here"), "{printed}");
    console.send("q");
    assert_eq!(console.ended(), Some(0));
}

#[test]
fn keys_and_looks_that_do_not_hold_are_left_out_and_said() {
    let folder = project();
    let own = folder.path().join("config/overtrace");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("keymap.toml"), "[queue]\n\"j\" = \"next_cse\"\n").unwrap();
    std::fs::write(
        own.join("theme.toml"),
        "[styles]\nwarn = \"bold\"\ntitle = \"cyna\"\n",
    )
    .unwrap();
    let mut console = opened(folder.path(), PLAIN);
    console.shows("your looks are left out");
    console.shows("theme.toml:3:");
    // The message has room for one of them, the log for both, and all of the one that is selected.
    console.send("glj");
    console.shows("next_case");
    assert!(
        console.screen().contains("keymap.toml:2:"),
        "{}",
        console.screen()
    );
    console.send("qq");
    assert_eq!(console.ended(), Some(0));
    // Who asks for the looks that do not hold gets the others, too.
    let mut console = open_with(folder.path(), &["--theme", "own"]);
    console.shows("theme.toml:3:");
    console.send(PLAIN);
    console.send("q");
    assert_eq!(console.ended(), Some(0));
    // Where there are none, that is a slip on the command line, whatever the keys are.
    std::fs::remove_file(own.join("theme.toml")).unwrap();
    let mut console = open_with(folder.path(), &["--theme", "own"]);
    assert_eq!(console.ended(), Some(2));
    assert!(
        console.screen().contains("there is none of that name"),
        "{}",
        console.screen()
    );
}
