//! Names, headers and reasons that would give the terminal orders.

use std::process::Command;

use super::support::{Bench, Place, SMALL, id};
use super::{PLAIN, opened};
use overtrace::protocol::Command as Wish;
use overtrace::records::Pool;

/// A window title, a cleared screen, text that runs the other way, a C1 control, a link.
const ORDERS: [&str; 5] = [
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[1;1Howned",
    "\u{202e}denwo",
    "\u{9b}31mowned",
    "\x1b]8;;http://owned\x07",
];

/// Whether something that was printed holds one of them as it is.
fn obeys(printed: &str) -> Option<&'static str> {
    ORDERS
        .into_iter()
        .find(|order| printed.contains(order))
        .or_else(|| printed.contains('\u{202e}').then_some("a bidi control"))
        .or_else(|| printed.contains('\u{9b}').then_some("a C1 control"))
}

#[test]
fn nothing_that_comes_from_outside_gives_the_terminal_orders() {
    let bench = Bench::new(SMALL);
    bench.import("brain_1", 0, Pool::Unlabelled);
    for order in ORDERS {
        // A file's name; one without a slash.
        let name = order.replace('/', "_");
        bench.drop_file(&format!("{name}.nii.gz"), b"no mask");
        bench.drop_file(&format!("{name}.txt"), b"no mask");
        // A segment's name, a reason, a person.
        let header = format!(
            "NRRD0005\ntype: uint8\ndimension: 3\nspace: RAS\nsizes: 1 1 1\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n\
             encoding: raw\nspace origin: (0,0,0)\nSegment0_Name:={order}\nSegment0_LabelValue:=1\n\n\u{1}"
        );
        bench.drop_file("brain_1_corrected.seg.nrrd", header.as_bytes());
        let why = order.to_string();
        bench.done(Wish::Exclude {
            case: id("brain_1"),
            why,
        });
        bench.scan();
        bench.done(Wish::Include { case: id("brain_1") });
        bench.drop_file(&format!("again{name}.nii"), b"no mask");
    }
    let why = ORDERS.concat();
    bench.done(Wish::Exclude {
        case: id("brain_1"),
        why,
    });
    let place = Place::of(bench);
    let mut console = opened(place.path(), PLAIN);
    for keys in ["\r", "gr", "gc", "gm", "gl", "?", "gq", "h", "\x1b"] {
        console.send(keys);
        while console.hear(std::time::Duration::from_millis(60)).is_some() {}
    }
    console.send("Q");
    console.ended();
    assert_eq!(obeys(&console.printed()), None);
    assert!(
        console.printed().contains("owned"),
        "the words themselves are shown"
    );
    for verb in [
        &["status"][..],
        &["inbox"],
        &["history", "--journal"],
        &["engine", "logs"],
        &["engine", "status"],
        &["handout", "brain_1"],
        &["verify"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_overtrace"))
            .arg("--project")
            .arg(&place.project)
            .args(verb)
            .env("USER", ORDERS.concat())
            .output()
            .unwrap();
        for printed in [output.stdout, output.stderr] {
            assert_eq!(obeys(&String::from_utf8_lossy(&printed)), None, "{verb:?}");
        }
    }
}
