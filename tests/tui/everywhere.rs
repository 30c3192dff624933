//! What holds on every screen: help, messages, sizes, unsafe characters.

use super::bench::Bench;
use super::project::{project, view_of, with_correction, with_handout, with_held};
use super::rounds::training;
use super::scenes::selected;
use overtrace::protocol::{Answer, Command, Event, Snapshot};
use overtrace::records::{ModelId, What};
use overtrace::tui::{Keymap, Kind, MouseAction, PictureMode, Screen};

#[test]
fn a_missed_change_attaches_anew_and_shows_what_it_brings() {
    let mut bench = Bench::on(project());
    bench.change_at(99, What::CaseImported, Vec::new());
    let attached = |command: &&Command| matches!(command, Command::Attach { .. });
    assert_eq!(bench.sent_all().iter().filter(attached).count(), 2);
    let mut fresh = project();
    fresh.project.model = Some(ModelId(7));
    fresh.seq = 99;
    bench.answer(Ok(Answer::Snapshot(Box::new(fresh))));
    assert!(bench.screen().contains("stale: now m7"), "{}", bench.screen());
}

#[test]
fn the_first_screen_comes_with_the_cases_on_it_and_the_others_follow() {
    let whole = project();
    let mut bench = Bench::on(whole.beginning(2));
    let attached = |bench: &Bench| -> Vec<Command> {
        let is_attach = |command: &Command| matches!(command, Command::Attach { .. });
        bench.sent_all().into_iter().filter(is_attach).collect()
    };
    let [
        Command::Attach { cases: Some(first) },
        Command::Attach { cases: None },
    ] = attached(&bench)[..]
    else {
        panic!("{:?}", attached(&bench));
    };
    assert!(first >= 200, "more than a screen has rows: {first}");
    assert!(bench.screen().contains("unsure") && !bench.screen().contains("labelled_1"));
    assert!(
        bench.screen().contains("reading 3 more cases"),
        "{}",
        bench.screen()
    );
    bench.keys("j g r s");
    assert!(
        bench.screen().contains("not all cases are here yet"),
        "{}",
        bench.screen()
    );
    bench.keys("g q");
    bench.answer_case(view_of("unsure", false));
    bench.answer_case(view_of("middling", false));
    let opened = bench.opened();
    bench.attach(whole);
    assert_eq!(bench.opened(), opened, "what is here is not read again");
    assert!(bench.screen().contains("labelled_1"));
    assert!(
        bench.screen().contains("1 labelled, 3 unlabelled, 1 held out"),
        "{}",
        bench.screen()
    );
    // The cursor is where it was.
    selected(&bench, "middling");
    assert_eq!(attached(&bench).len(), 2, "and that is all");
}

#[test]
fn what_the_engine_cannot_do_is_said_with_the_wish_it_answers() {
    let mut bench = Bench::on(project());
    bench.keys("R");
    bench.answer(Err("there is no model yet".into()));
    assert!(
        bench.screen().contains("ranking: there is no model yet"),
        "{}",
        bench.screen()
    );
    bench.keys("esc");
    assert!(!bench.screen().contains("no model yet"));
}

#[test]
fn help_lists_the_keys_in_force() {
    let own = "[queue]\n\"Q\" = \"hand_out\"\n\"h\" = \"none\"\n";
    let keymap = Keymap::preset("default")
        .unwrap()
        .with(own, "my.toml".as_ref())
        .unwrap();
    let mut bench = Bench::with(project(), |setup| setup.keymap = keymap);
    bench.keys("?");
    let screen = bench.screen();
    let words = "write image and prediction for a person to correct";
    let line = screen.lines().find(|line| line.contains(words)).unwrap();
    assert!(line.trim_start().starts_with("Q "), "{line}");
    assert_eq!(bench.app.screen(), Screen::Help);
    bench.keys("?");
    assert_eq!(bench.app.screen(), Screen::Queue, "back where it was asked");
}

#[test]
fn a_number_before_a_key_is_a_count_in_every_preset() {
    for (preset, down) in [("default", "j"), ("vim", "j"), ("emacs", "ctrl-n")] {
        let mut bench = Bench::with(project(), |setup| setup.keymap = Keymap::preset(preset).unwrap());
        bench.keys(&format!("2 {down}"));
        selected(&bench, "certain");
        bench.keys(&format!("1 0 {down}"));
        selected(&bench, "labelled_1");
    }
}

#[test]
fn with_ascii_there_is_nothing_else_on_any_screen() {
    for screen in Screen::ALL {
        let mut bench = Bench::with(with_correction(project(), "middling"), |setup| {
            (setup.ascii, setup.picture) = (true, PictureMode::Only(Kind::Ascii));
        });
        bench.run(screen.action().entry().name);
        if screen == Screen::Slices {
            bench.answer_case(view_of("unsure", false));
        }
        if screen == Screen::Rounds {
            bench.say(Event::Activity(training(2)));
        }
        let text = bench.screen();
        assert!(text.is_ascii(), "{text}");
        assert!(text.contains('#') || screen != Screen::Queue, "bars: {text}");
    }
}

#[test]
fn vim_keys_take_counts_and_chords() {
    let mut bench = Bench::with(project(), |setup| setup.keymap = Keymap::preset("vim").unwrap());
    bench.keys("2 j");
    assert_eq!(bench.selected_line().split_whitespace().nth(1), Some("certain"));
    bench.keys("Q");
    assert!(
        bench.screen().contains("Q does nothing here; ? lists the keys"),
        "{}",
        bench.screen()
    );
    bench.keys("g");
    assert!(
        bench.line(bench.height() - 2).trim_end().ends_with('g'),
        "pending: {}",
        bench.screen()
    );
    bench.keys("r");
    assert_eq!(bench.app.screen(), Screen::Rounds);
}

#[test]
fn no_record_reaches_the_terminal_with_a_character_that_it_obeys() {
    let snapshot = with_held(
        with_handout(project(), "middling", "eve\u{1b}[2J\u{202e}x"),
        "unsure",
    );
    let mut bench = Bench::on(Snapshot {
        folder: "/data/p\u{1b}]0;x\u{7}".into(),
        ..snapshot
    });
    bench.say(Event::Notice("disk\u{9b}31m full\u{2066}".into()));
    for keys in ["j", "enter", "f4", "f2", "w"] {
        bench.keys(keys);
        let screen = bench.screen();
        let obeyed = screen
            .chars()
            .find(|&c| c != '\n' && (c.is_control() || "\u{202e}\u{2066}".contains(c)));
        assert_eq!(obeyed, None, "{screen:?}");
    }
    assert!(
        bench.screen().contains("eve\u{fffd}[2J\u{fffd}x"),
        "{}",
        bench.screen()
    );
}

#[test]
fn a_terminal_that_is_too_small_says_so_and_60x20_is_enough() {
    let mut bench = Bench::on(project());
    bench.resize(59, 20);
    assert!(
        bench
            .screen()
            .contains("overtrace needs 60x20 cells; this terminal has 59x20")
    );
    bench.resize(60, 20);
    let screen = bench.screen();
    assert!(
        screen.contains("Avg BvSB by m2") && screen.contains("0.4100"),
        "{screen}"
    );
    assert!(screen.contains("unlabelled"), "{screen}");
    for keys in ["f3", "f4", "?"] {
        bench.keys(keys);
    }
    bench.resize(1, 1);
    bench.resize(0, 0);
}

#[test]
fn a_chord_that_was_begun_shows_what_may_follow() {
    let mut bench = Bench::with(project(), |setup| setup.keymap = Keymap::preset("vim").unwrap());
    bench.keys("g");
    let screen = bench.screen();
    assert!(
        screen.contains("the first case: the one to ask for next"),
        "{screen}"
    );
    assert!(
        screen.contains("rounds, history and the running training"),
        "{screen}"
    );
    bench.keys("esc");
    assert!(!bench.screen().contains("the first case: the one to ask for next"));
}

#[test]
fn the_wheel_scrolls_and_clicks_select_and_nothing_of_it_answers_a_question() {
    let mut bench = Bench::at(project(), super::project::view("unsure"));
    bench.mouse(MouseAction::WheelDown, [5, 5]);
    assert!(bench.screen().contains("slice 6 of 9"), "{}", bench.screen());
    bench.mouse(MouseAction::WheelUp, [5, 5]);
    assert!(bench.screen().contains("slice 5 of 9"));
    bench.mouse(MouseAction::Press(2), [20, 10]);
    bench.mouse(MouseAction::Drag(2), [30, 10]);
    assert!(bench.line(1).contains("window -28 to 283"), "{}", bench.screen());
    bench.mouse(MouseAction::Release, [30, 10]);
    bench.mouse(MouseAction::Drag(2), [50, 10]);
    assert!(bench.line(1).contains("window -28 to 283"), "nothing is held");
    let place = bench.screen();
    bench.mouse(MouseAction::Press(0), [40, 14]);
    assert_ne!(bench.screen(), place, "the crosshair went there");
    bench.keys("f2");
    bench.mouse(MouseAction::Press(0), [10, 4]);
    assert!(bench.selected_line().contains("middling"), "{}", bench.screen());
    bench.keys("h");
    let asked = bench.screen();
    bench.mouse(MouseAction::WheelDown, [10, 4]);
    assert_eq!(bench.screen(), asked);
}
