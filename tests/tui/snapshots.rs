//! Every screen at three sizes, in colour and without, as it was when somebody last looked at it.
//!
//! `OVERTRACE_WRITE_SCREENS=1 cargo test --test tui snapshots` writes `fixtures/screens/` anew; look at what changed.

use std::fs;
use std::path::PathBuf;

use super::bench::Bench;
use super::project::{project, view_of, with_correction, with_held};
use overtrace::protocol::{Answer, Command, Event, Snapshot};
use overtrace::records::{Entry, Hash, ModelId, Row, What};
use overtrace::tui::{Depth, Screen};
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};

const SIZES: [(u16, u16); 3] = [(60, 20), (80, 24), (200, 60)];

/// A held file, a correction, two models.
fn full() -> Snapshot {
    let mut snapshot = with_held(with_correction(project(), "middling"), "certain");
    let mut older = snapshot.models[&ModelId(2)].clone();
    (older.id, older.parent) = (ModelId(1), None);
    snapshot.put(Row::Model(older));
    snapshot
}

fn entry(seq: u64, what: What, why: Option<&str>) -> Entry {
    Entry {
        seq,
        at: jiff::Timestamp::from_second(3600 + seq as i64).unwrap(),
        who: "ada".into(),
        what,
        why: why.map(String::from),
        rows: Vec::new(),
        previous: Hash::ZERO,
    }
}

fn scene(screen: Screen, (width, height): (u16, u16), colour: bool) -> Bench {
    let mut snapshot = full();
    snapshot.seq = 2;
    let mut bench = Bench::with(snapshot, |setup| {
        if !colour {
            setup.depth = Depth::Mono;
        }
    });
    bench.resize(width, height);
    bench.run(screen.action().entry().name);
    if matches!(bench.sent_all().last(), Some(Command::Open { .. })) {
        bench.answer_case(view_of("unsure", false));
    }
    if screen == Screen::Log {
        let entries = vec![
            entry(1, What::CaseExcluded, Some("moved\u{1b}[2J")),
            entry(2, What::PoolRanked, None),
        ];
        bench.answer(Ok(Answer::Journal(entries)));
    }
    bench
}

/// Its text, then how each run of cells is drawn that is neither plain nor a picture's.
fn spelled(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let (mut text, mut styles) = (String::new(), String::new());
    for (y, row) in buffer.content.chunks(width).enumerate() {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        text += line.trim_end();
        text.push('\n');
        let style = |x: usize| match row[x].symbol() {
            "\u{2580}" => None,
            _ => Some(row[x].style()).filter(|style| *style != plain()),
        };
        let mut x = 0;
        while x < width {
            let run = (x..width).take_while(|&at| style(at) == style(x)).count();
            if let Some(style) = style(x) {
                let [fg, bg] = [style.fg, style.bg].map(|colour| match colour {
                    None | Some(Color::Reset) => "-".into(),
                    Some(colour) => colour.to_string(),
                });
                styles += &format!("{y}:{x}+{run} {fg} {bg} {:?}\n", style.add_modifier);
            }
            x += run;
        }
    }
    format!("{text}\n{styles}")
}

fn plain() -> Style {
    let cell = ratatui::buffer::Cell::default();
    debug_assert_eq!(cell.modifier, Modifier::empty());
    cell.style()
}

/// What lies over a screen, or is on it for a while.
fn moments(colour: bool) -> Vec<(&'static str, Bench)> {
    let on = |screen| scene(screen, (80, 24), colour);
    let mut difference = on(Screen::Corrections);
    difference.answer_if_open(Err("not now".into()));
    difference.keys("G enter");
    difference.answer_case(view_of("middling", true));
    let mut question = on(Screen::Queue);
    question.keys("h");
    let mut chord = on(Screen::Queue);
    chord.keys("g");
    let mut command = on(Screen::Queue);
    command.keys(": s o r");
    let mut training = on(Screen::Rounds);
    training.say(Event::Activity(super::rounds::training(3)));
    let mut comparison = on(Screen::Models);
    comparison.keys("j c");
    let order = |model| {
        let mut order = full().order;
        order.rotate_left(model as usize);
        (ModelId(model), order)
    };
    comparison.answer(Ok(Answer::Orders([1, 2].map(order).into())));
    vec![
        ("difference", difference),
        ("question", question),
        ("chord", chord),
        ("command", command),
        ("training", training),
        ("comparison", comparison),
    ]
}

#[test]
fn every_screen_is_as_it_was_when_somebody_last_looked_at_it() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/screens");
    let writes = std::env::var_os("OVERTRACE_WRITE_SCREENS").is_some();
    let mut scenes = Vec::new();
    for (colour, word) in [(true, "colour"), (false, "mono")] {
        for (moment, bench) in moments(colour) {
            scenes.push((format!("{moment}-80x24-{word}.txt"), bench));
        }
    }
    let mut changed = Vec::new();
    for screen in Screen::ALL {
        for size in SIZES {
            for (colour, word) in [(true, "colour"), (false, "mono")] {
                let name = format!("{}-{}x{}-{word}.txt", screen.word(), size.0, size.1);
                scenes.push((name, scene(screen, size, colour)));
            }
        }
    }
    for (name, bench) in scenes {
        let now = spelled(bench.buffer());
        let path = folder.join(&name);
        if writes {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, now).unwrap();
        } else if fs::read_to_string(&path).ok().as_ref() != Some(&now) {
            changed.push(format!("{name}:\n{now}"));
        }
    }
    assert!(
        changed.is_empty(),
        "{} screens have changed; OVERTRACE_WRITE_SCREENS=1 writes them anew, for you to look at:\n{}",
        changed.len(),
        changed.concat()
    );
}
