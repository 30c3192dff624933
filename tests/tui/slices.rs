//! The slices: scrolling, layers, what was asked of the engine.

use super::bench::{Bench, colour, project, slice, slice_of, with_correction};
use overtrace::imaging::Plane;
use overtrace::records::{Row, What};
use overtrace::tui::Keymap;
use ratatui::style::Color;

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
fn the_slice_is_still_there_after_a_look_at_the_queue() {
    let mut bench = Bench::on(project());
    bench.keys("enter");
    bench.answer_slice(slice("unsure", 4));
    bench.keys("1 2");
    assert!(
        bench.screen().contains("unsure  coronal slice 5 of 9"),
        "{}",
        bench.screen()
    );
    assert_eq!(bench.slice_requests().len(), 1);
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
