//! The screens, driven by keys: what the engine says, keys, the screen after. No terminal, no clock, no sleep.
#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped fails its test")]

mod tui_bench;

use overtrace::imaging::Plane;
use overtrace::protocol::{Answer, Command, Event, Snapshot};
use overtrace::records::{CaseId, HeldId, ModelId, Row, What};
use overtrace::tui::{Keymap, Screen};
use ratatui::style::Color;
use tui_bench::{Bench, colour, project, slice, slice_of, with_correction, with_handout, with_held};

fn case(name: &str) -> CaseId {
    CaseId::new(name).unwrap()
}

#[test]
fn the_queue_is_in_order_of_rank_and_names_the_model_of_its_scores() {
    let bench = Bench::on(project());
    let screen = bench.screen();
    assert!(
        screen.contains("ranked by Average BvSB of m2, over all pixels"),
        "{screen}"
    );
    assert!(screen.contains("Avg BvSB by m2"), "{screen}");
    assert!(!screen.contains("stale"), "{screen}");
    let order = ["unsure", "middling", "certain"].map(|name| bench.row_of(name));
    assert!(order.is_sorted(), "{order:?}\n{screen}");
    let first = bench.line(order[0]);
    assert!(
        first.contains("1     unsure") && first.contains("0.4100"),
        "{first}"
    );
    assert!(
        first.contains("12.0") && first.contains("m2"),
        "the predicted ml of GM, and by whom: {first}"
    );
    assert!(
        screen.contains("1 labelled, 3 unlabelled, 1 held out"),
        "{screen}"
    );
}

#[test]
fn a_ranking_by_an_older_model_is_marked_stale() {
    let mut snapshot = project();
    snapshot.project.model = Some(ModelId(3));
    let mut bench = Bench::on(snapshot);
    for width in [120, 60] {
        bench.resize(width, 20);
        let screen = bench.screen();
        assert!(screen.contains("of m2 (stale: now m3; R ranks anew)"), "{screen}");
        assert!(
            screen.contains("Avg BvSB by m2"),
            "the scores still name their own model: {screen}"
        );
        assert!(screen.contains("m3  ranking stale"), "on every screen: {screen}");
    }
}

#[test]
fn a_score_without_a_model_is_not_shown() {
    let mut snapshot = project();
    for ranking in snapshot.rankings.values_mut() {
        ranking.model = None;
    }
    let screen = Bench::on(snapshot).screen();
    assert!(!screen.contains("0.4100"), "{screen}");
}

#[test]
fn keys_move_the_selection_and_it_stays_on_its_case_when_the_order_changes() {
    let mut bench = Bench::on(project());
    bench.keys("j j k k");
    assert_eq!(bench.selected_line().split_whitespace().nth(1), Some("unsure"));
    let mut order = bench.snapshot().order.clone();
    order.reverse();
    bench.change(What::PoolRanked, Vec::new(), Some(order));
    let selected = bench.selected_line();
    assert!(selected.starts_with("3     unsure"), "{selected}");
    bench.keys("g g");
    assert_eq!(bench.selected_line().split_whitespace().nth(1), Some("certain"));
}

#[test]
fn ten_thousand_cases_scroll_and_only_those_on_the_screen_are_drawn() {
    let mut snapshot = project();
    let model = snapshot.cases[&case("unsure")].clone();
    for n in 0..10_000 {
        let id = case(&format!("case{n:05}"));
        let row = overtrace::records::Case {
            id: id.clone(),
            ..model.clone()
        };
        snapshot.cases.insert(id, row);
    }
    let mut bench = Bench::on(snapshot);
    bench.keys("G");
    assert!(bench.selected_line().contains("labelled_1"), "{}", bench.screen());
    bench.keys("k k k");
    assert!(bench.selected_line().contains("case09998"), "{}", bench.screen());
    bench.keys("pageup");
    assert!(bench.selected_line().contains("case09978"), "{}", bench.screen());
    assert!(!bench.screen().contains("case00000"));
}

#[test]
fn enter_opens_the_slices_and_keys_scroll_and_turn_the_volume() {
    let mut bench = Bench::on(project());
    bench.keys("enter");
    let asked = bench.slice_requests();
    assert_eq!(
        (asked.len(), asked[0].case.as_str(), asked[0].index),
        (1, "unsure", None)
    );
    bench.answer_slice(slice("unsure", 4));
    let screen = bench.screen();
    assert!(screen.contains("unsure  coronal slice 5 of 9"), "{screen}");
    assert!(screen.contains("drawn by m2"), "{screen}");
    assert!(screen.contains("Avg BvSB 0.4100 by m2"), "{screen}");
    bench.keys("j");
    assert_eq!(bench.slice_requests().pop().unwrap().index, Some(5));
    bench.answer_slice(slice("unsure", 5));
    assert!(bench.screen().contains("slice 6 of 9"));
    bench.keys("p");
    let asked = bench.slice_requests().pop().unwrap();
    assert_eq!((asked.plane, asked.index), (Some(Plane(2)), None));
}

#[test]
fn while_a_slice_is_under_way_only_the_newest_wish_is_kept() {
    let mut bench = Bench::on(project());
    bench.keys("enter");
    bench.answer_slice(slice("unsure", 4));
    bench.keys("j");
    bench.keys("j");
    bench.keys("j");
    let asked: Vec<_> = bench
        .slice_requests()
        .iter()
        .map(|request| request.index)
        .collect();
    assert_eq!(asked, [None, Some(5)], "6 and 7 wait");
    bench.answer_slice(slice("unsure", 5));
    let asked: Vec<_> = bench
        .slice_requests()
        .iter()
        .map(|request| request.index)
        .collect();
    assert_eq!(asked, [None, Some(5), Some(7)], "6 is never asked for");
    assert!(
        bench.screen().contains("slice 6 of 9"),
        "what came is shown under its own number"
    );
}

#[test]
fn a_slice_of_a_case_that_was_left_is_dropped() {
    let mut bench = Bench::on(project());
    bench.keys("enter");
    bench.keys("n");
    bench.answer_slice(slice("unsure", 4));
    let screen = bench.screen();
    assert!(
        screen.contains("middling") && screen.contains("reading the slice"),
        "{screen}"
    );
    assert_eq!(bench.slice_requests().pop().unwrap().case.as_str(), "middling");
    bench.answer_slice(slice("middling", 2));
    assert!(bench.screen().contains("middling  coronal slice 3 of 9"));
}

#[test]
fn a_slice_that_cannot_be_read_says_why_and_is_not_asked_for_again() {
    let mut bench = Bench::on(project());
    bench.keys("enter");
    bench.refuse_slice("reading the image of unsure: the gzip checksum is wrong");
    assert!(bench.screen().contains("the gzip checksum is wrong"));
    assert_eq!(bench.slice_requests().len(), 1);
    bench.keys("n");
    assert_eq!(bench.slice_requests().len(), 2);
}

#[test]
fn the_overlay_goes_off_and_on_without_asking_the_engine() {
    let gm = colour(0x57, 0xc7, 0x85);
    let mut bench = Bench::on(project());
    bench.keys("enter");
    bench.answer_slice(slice("unsure", 4));
    assert!(bench.has_colour(gm), "contours of GM in GM's colour");
    bench.keys("o");
    assert!(!bench.has_colour(gm));
    assert!(bench.screen().contains("o overlay: off"), "{}", bench.screen());
    bench.keys("o c");
    // 100 x 0.6 + GM's colour x 0.4
    assert!(bench.has_colour(colour(95, 140, 113)), "filled");
    bench.keys("c l");
    assert!(!bench.has_colour(gm), "CSF alone");
    assert_eq!(bench.slice_requests().len(), 1);
}

#[test]
fn the_margin_map_shows_where_the_model_is_unsure() {
    let mut bench = Bench::on(project());
    bench.keys("enter");
    bench.answer_slice(slice("unsure", 4));
    // Margin 0 on grey 100: 0.15 x 100 + 0.85 x (255, 60, 200).
    let hot = colour(232, 66, 185);
    assert!(!bench.has_colour(hot));
    bench.keys("m");
    assert!(bench.has_colour(hot));
    assert!(bench.screen().contains("unsure, by m2"), "{}", bench.screen());
}

#[test]
fn after_hand_in_the_difference_is_dull_red_blue_and_yellow() {
    let (common, predicted, corrected) = (colour(140, 60, 60), colour(60, 110, 255), colour(255, 220, 40));
    let mut bench = Bench::on(with_correction(project(), "unsure"));
    bench.keys("enter");
    bench.answer_slice(slice_of("unsure", 4, true));
    bench.keys("d");
    for (name, colour) in [
        ("common", common),
        ("predicted", predicted),
        ("corrected", corrected),
    ] {
        assert!(bench.has_colour(colour), "{name}\n{}", bench.screen());
    }
    let screen = bench.screen();
    assert!(screen.contains("saved effort of m2"), "{screen}");
    assert!(
        screen.contains("GM          75.0 %   50.0 %"),
        "this slice 6 of 8, the case 4 of 8: {screen}"
    );
    assert!(
        screen.contains("WM             n/a      n/a"),
        "nothing to draw: {screen}"
    );
    bench.keys("d");
    assert!(!bench.has_colour(corrected));
}

#[test]
fn the_difference_of_a_case_without_a_mask_says_why_there_is_none() {
    let mut bench = Bench::on(project());
    bench.keys("enter");
    bench.answer_slice(slice("unsure", 4));
    bench.keys("d");
    assert!(
        bench
            .screen()
            .contains("once the case has a prediction and a mask")
    );
}

#[test]
fn a_hand_in_while_its_slice_is_open_fetches_the_slice_anew() {
    let mut bench = Bench::on(project());
    bench.keys("enter");
    bench.answer_slice(slice("unsure", 4));
    let after = with_correction(project(), "unsure");
    let correction = after.corrections.values().next().unwrap().clone();
    bench.change(What::CorrectionAccepted, vec![Row::Correction(correction)], None);
    assert_eq!(bench.slice_requests().len(), 2);
    assert_eq!(bench.slice_requests()[1].index, Some(4));
}

#[test]
fn handing_out_asks_for_the_owner_and_sends_the_case() {
    let mut bench = Bench::on(project());
    bench.keys("h");
    assert!(
        bench.screen().contains("hand unsure out to"),
        "{}",
        bench.screen()
    );
    assert!(bench.screen().contains("> ada"), "the account is the first guess");
    bench.keys("ctrl-u e v e enter");
    let owner = "eve".to_string();
    assert_eq!(
        bench.sent(),
        [Command::HandOut {
            case: case("unsure"),
            owner
        }]
    );
}

#[test]
fn a_case_that_is_out_is_not_handed_out_twice_and_can_be_withdrawn() {
    let mut bench = Bench::on(with_handout(project(), "unsure", "eve"));
    assert!(bench.screen().contains("out eve 2 h 00"), "{}", bench.screen());
    bench.keys("h");
    assert!(
        bench.screen().contains("unsure is out to eve; withdraw it first"),
        "{}",
        bench.screen()
    );
    bench.keys("w i l l enter");
    let why = "ill".to_string();
    assert_eq!(
        bench.sent(),
        [Command::Withdraw {
            case: case("unsure"),
            why
        }]
    );
}

#[test]
fn a_held_file_is_accepted_or_refused_by_a_key() {
    let mut bench = Bench::on(with_held(project(), "unsure"));
    assert!(bench.screen().contains("held K7"), "{}", bench.screen());
    assert!(
        bench.screen().contains("a accepts, r refuses"),
        "{}",
        bench.screen()
    );
    bench.keys("a");
    assert!(
        bench.screen().contains("GM is nowhere in it"),
        "why it is held: {}",
        bench.screen()
    );
    bench.keys("y");
    assert_eq!(bench.sent(), [Command::AcceptHeld { held: HeldId(1) }]);
    bench.keys("r");
    bench.keys("enter");
    assert!(
        bench.screen().contains("a reason is needed"),
        "{}",
        bench.screen()
    );
    bench.keys("n o enter");
    let refusal = Command::RefuseHeld {
        held: HeldId(1),
        why: "no".into(),
    };
    assert_eq!(bench.sent()[1..], [refusal]);
    bench.keys("j a");
    assert!(
        bench.screen().contains("no file of middling waits"),
        "{}",
        bench.screen()
    );
}

#[test]
fn a_missed_change_attaches_anew_and_shows_what_it_brings() {
    let mut bench = Bench::on(project());
    bench.change_at(99, What::CaseImported, Vec::new());
    assert_eq!(bench.sent_all(), [Command::Attach, Command::Attach]);
    let mut fresh = project();
    fresh.project.model = Some(ModelId(7));
    fresh.seq = 99;
    bench.answer(Ok(Answer::Snapshot(Box::new(fresh))));
    assert!(bench.screen().contains("stale: now m7"), "{}", bench.screen());
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
    let mut bench = Bench::with(project(), keymap, true);
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
fn vim_keys_take_counts_and_chords() {
    let mut bench = Bench::with(project(), Keymap::preset("vim").unwrap(), true);
    bench.keys("2 j");
    assert_eq!(bench.selected_line().split_whitespace().nth(1), Some("certain"));
    bench.keys("z");
    assert!(
        bench.screen().contains("z does nothing here; ? lists the keys"),
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
    for keys in ["j", "enter", "3", "1", "w"] {
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
    for keys in ["2", "3", "?"] {
        bench.keys(keys);
    }
    bench.resize(1, 1);
    bench.resize(0, 0);
}

#[test]
fn without_colour_letters_carry_the_classes() {
    let mut bench = Bench::with(project(), Keymap::preset("default").unwrap(), false);
    bench.keys("enter");
    bench.answer_slice(slice("unsure", 4));
    let screen = bench.screen();
    assert!(screen.lines().any(|line| line.contains("GGG")), "{screen}");
    assert!(
        bench.colours().iter().all(|colour| *colour == Color::Reset),
        "{:?}",
        bench.colours()
    );
}
