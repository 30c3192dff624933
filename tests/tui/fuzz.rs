//! Random keys, sizes, events and answers: nothing panics, a list never loses its selection, and Esc leads home.

use super::bench::Bench;
use super::project::{at, case_id, project, view, view_of, with_correction, with_handout, with_held};
use overtrace::imaging::Rng;
use overtrace::protocol::{Activity, Answer, Command, Event, Stage, Wanted};
use overtrace::records::{Case, DeviceUse, Entry, EpochReport, Hash, ModelId, Pool, Row, What};
use overtrace::tui::{Capabilities, Depth, Keymap, MouseAction, Msg, Screen};

/// Keys that a person may press, more often those that do something.
const KEYS: &str = "j k g G n N h w a r t x i R s / > < ! space * v u e E p b H L K J X z Z = ctrl-left ctrl-right ctrl-up \
    ctrl-down ] [ } { W C o c m d l y + - enter esc tab backtab 1 2 3 4 5 6 ? : q Q ctrl-c ctrl-z ctrl-l up down left right \
    home end pageup pagedown backspace delete f1 f5 alt-x é 中 0 7 9 S f \
    ctrl-n ctrl-g ctrl-x ctrl-s alt-< alt-> k o ctrl-p ctrl-y ctrl-t f2 f3 f4 f6 f7";

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.below(from.len())]
}

/// What the engine may say by itself.
fn event(bench: &mut Bench, rng: &mut Rng) {
    let name = *pick(
        rng,
        &["unsure", "middling", "certain", "labelled_1", "new_1", "new_2"],
    );
    match rng.below(8) {
        0 => {
            let known = bench.snapshot().cases[&case_id("unsure")].clone();
            let case = Case {
                id: case_id(name),
                pool: *pick(rng, &[Pool::Unlabelled, Pool::Labelled, Pool::HeldOut]),
                excluded: (rng.below(3) == 0).then(|| "why".into()),
                ..known
            };
            bench.change(What::CaseImported, vec![Row::Case(case)], None);
        }
        1 => {
            let mut order = bench.snapshot().order.clone();
            order.truncate(rng.below(4));
            bench.change(What::PoolRanked, Vec::new(), Some(order));
        }
        2 => {
            let done = with_correction(project(), "unsure");
            let rows = done.corrections.values().cloned().map(Row::Correction).collect();
            bench.change(What::CorrectionAccepted, rows, None);
        }
        3 => {
            let held = with_held(project(), "unsure");
            let mut file = held.held.values().next().unwrap().clone();
            file.decided = (rng.below(2) == 0).then(|| "accepted".into());
            bench.change(What::FileHeld, vec![Row::Held(file)], None);
        }
        4 => bench.say(Event::Activity(Activity {
            stage: *pick(rng, &[Stage::Idle, Stage::Training, Stage::Predicting]),
            done: rng.below(5),
            of: rng.below(5),
            epoch: rng.below(3),
            max_epochs: 3,
            curve: (0..rng.below(3))
                .map(|epoch| EpochReport {
                    epoch: epoch + 1,
                    loss: 1.0,
                    dice: vec![Some(0.5), None, Some(f64::NAN)],
                    best_epoch: 1,
                    seconds: 1.0,
                })
                .collect(),
            since: None,
            devices: Vec::from_iter((rng.below(2) == 0).then(|| DeviceUse {
                device: "a \u{1b}[31m card (0)".into(),
                used_bytes: u64::MAX,
                total_bytes: 0,
                busy_percent: None,
            })),
        })),
        5 => bench.say(Event::Notice("a \u{1b}[31m notice\n of two lines".into())),
        6 => bench.say(Event::Refresh),
        _ => bench.change_at(rng.below(100_000) as u64, What::CaseImported, Vec::new()),
    }
}

/// What the engine may answer to what it was asked last.
fn answer(bench: &mut Bench, rng: &mut Rng) {
    let Some(command) = bench.sent_last() else { return };
    let result = match command {
        _ if rng.below(10) == 0 => Err("it cannot be done".to_string()),
        Command::Attach { cases } => {
            let snapshot = match rng.below(4) {
                0 => with_handout(project(), "middling", "eve"),
                1 => with_held(project(), "unsure"),
                2 => with_correction(project(), "unsure"),
                _ => project(),
            };
            let most = cases.map_or(usize::MAX, |_| rng.below(6));
            Ok(Answer::Snapshot(Box::new(snapshot.beginning(most))))
        }
        Command::Open(Wanted { case, .. }) => {
            let mut view = if rng.below(2) == 0 {
                view(case.as_str())
            } else {
                view_of(case.as_str(), true)
            };
            if rng.below(4) == 0 {
                (view.predicted, view.margins, view.scores) = (None, None, Vec::new());
            }
            Ok(Answer::Case(Box::new(view)))
        }
        Command::Curve { .. } => Ok(Answer::Curve(Vec::new())),
        Command::Journal { from } => Ok(Answer::Journal(
            (from..from + rng.below(4) as u64)
                .map(|seq| Entry {
                    seq,
                    at: at(seq as i64),
                    who: "a \u{202e}who".into(),
                    what: What::RoundStarted,
                    why: Some("why\u{1b}[0m".into()),
                    rows: Vec::new(),
                    previous: Hash::ZERO,
                })
                .collect(),
        )),
        Command::Orders => {
            let mut order = project().order;
            let orders = [1, 2].map(|model| {
                order.rotate_left(rng.below(3));
                order.truncate(1 + rng.below(3));
                (ModelId(model), order.clone())
            });
            Ok(Answer::Orders(orders.into()))
        }
        _ => Ok(Answer::Done("done".into())),
    };
    bench.answer_if_open(result);
}

/// What comes from the terminal and the system besides keys.
fn other(bench: &mut Bench, rng: &mut Rng) {
    let cell = [rng.below(220) as u16, rng.below(70) as u16];
    let actions = [
        MouseAction::Press(0),
        MouseAction::Press(2),
        MouseAction::Drag(0),
        MouseAction::Drag(2),
        MouseAction::Release,
        MouseAction::WheelUp,
        MouseAction::WheelDown,
    ];
    match rng.below(5) {
        0 => bench.hear(Msg::Paste("a \u{1b}[31m\u{202e} paste\n".into())),
        1 => bench.hear(Msg::Resumed(bench.size())),
        2 => bench.hear(Msg::Terminal(Capabilities {
            kitty: rng.below(3) == 0,
            sixel: rng.below(3) == 0,
            iterm2: rng.below(4) == 0,
            cell: (rng.below(2) == 0).then_some([1 + rng.below(12) as u16, 1 + rng.below(24) as u16]),
            is_light: *pick(rng, &[None, Some(true), Some(false)]),
            ..Capabilities::default()
        })),
        _ => bench.mouse(*pick(rng, &actions), cell),
    }
}

/// Esc, again and again, ends on the queue with nothing open.
fn leads_home(bench: &mut Bench) {
    (0..12).for_each(|_| bench.keys("esc"));
    assert_eq!(bench.app.screen(), Screen::Queue, "{}", bench.screen());
    let screen = bench.screen();
    assert!(
        !screen.contains("esc: leave it") && !screen.contains("n or esc: leave it"),
        "{screen}"
    );
}

fn run(seed: u64, steps: usize) {
    let mut rng = Rng::new(seed);
    let preset = *pick(&mut rng, &["default", "vim", "emacs"]);
    let mut bench = Bench::with(project(), |setup| {
        setup.keymap = Keymap::preset(preset).unwrap();
        if rng.below(4) == 0 {
            setup.depth = Depth::Mono;
        }
        setup.ascii = rng.below(4) == 0;
    });
    let keys: Vec<&str> = KEYS.split_whitespace().collect();
    for step in 0..steps {
        match rng.below(100) {
            0..2 => bench.resize(rng.below(220) as u16, rng.below(70) as u16),
            2..8 => event(&mut bench, &mut rng),
            21..24 => other(&mut bench, &mut rng),
            8..20 => answer(&mut bench, &mut rng),
            20 => leads_home(&mut bench),
            _ => bench.press(keys[rng.below(keys.len())]),
        }
        if step % 8 == 0 {
            bench.draw();
            assert!(bench.is_sound(), "seed {seed}, step {step}\n{}", bench.screen());
        }
    }
    leads_home(&mut bench);
}

/// In parts, each from its own seed, so that a failure is found again in little time.
#[test]
fn a_hundred_thousand_random_steps_break_nothing() {
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || (0..50).for_each(|n| run(half * 50 + n, 1000)));
        }
    });
}
