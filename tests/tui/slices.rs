//! The slices: moving through a case, layers, what was asked of the engine.

use super::bench::Bench;
use super::project::{colour, project, view, view_of, with_correction};
use super::scenes::shows;
use overtrace::protocol::Beside;
use overtrace::records::{Row, What};
use overtrace::tui::Depth;
use ratatui::style::Color;

#[test]
fn enter_opens_the_case_at_its_most_uncertain_slice_and_keys_move_and_turn_it() {
    let mut bench = Bench::on(project());
    bench.keys("enter");
    assert_eq!(bench.opened(), [("unsure".to_string(), None)]);
    assert!(bench.screen().contains("opening the case"), "{}", bench.screen());
    bench.answer_case(view("unsure"));
    let screen = bench.screen();
    assert!(screen.contains("unsure  coronal slice 5 of 9"), "{screen}");
    assert!(screen.contains("drawn by m2"), "{screen}");
    assert!(screen.contains("Avg BvSB 0.4100 by m2"), "{screen}");
    for (keys, place) in [
        ("j", "coronal slice 6 of 9"),
        ("j j j j j", "coronal slice 9 of 9"),
        ("k", "coronal slice 8 of 9"),
        ("g g", "coronal slice 1 of 9"),
        ("u", "coronal slice 5 of 9"),
        ("p", "axial slice 7 of 12"),
        ("p", "sagittal slice 7 of 12"),
        ("p G", "coronal slice 9 of 9"),
    ] {
        bench.keys(keys);
        assert!(
            bench.screen().contains(place),
            "{keys}: {place}\n{}",
            bench.screen()
        );
    }
    assert_eq!(bench.opened().len(), 1, "all of it was here");
}

#[test]
fn while_a_case_is_under_way_only_the_newest_wish_is_kept() {
    let mut bench = Bench::on(project());
    bench.keys("j");
    bench.keys("j");
    assert_eq!(bench.opened(), [("unsure".to_string(), None)], "the preview's");
    bench.answer_case(view("unsure"));
    let opened = bench.opened();
    assert_eq!(
        opened[1..],
        [("certain".to_string(), None)],
        "middling is never asked for"
    );
    bench.answer_case(view("certain"));
    bench.keys("home enter");
    assert_eq!(bench.opened().len(), 2, "the case before is still here");
    assert!(bench.screen().contains("unsure  coronal slice 5 of 9"));
}

#[test]
fn a_case_that_was_left_is_not_shown_under_another_name() {
    let mut bench = Bench::on(project());
    bench.keys("enter n");
    bench.answer_case(view("unsure"));
    let screen = bench.screen();
    assert!(
        screen.contains("middling") && screen.contains("opening the case"),
        "{screen}"
    );
    bench.answer_case(view("middling"));
    assert!(bench.screen().contains("middling  coronal slice 5 of 9"));
}

#[test]
fn a_case_that_cannot_be_read_says_why_in_place_of_the_picture_and_is_not_asked_for_again() {
    let mut bench = Bench::on(project());
    bench.keys("enter");
    bench.refuse_case("reading the image of unsure: the gzip checksum is wrong");
    assert!(bench.screen().contains("the gzip checksum is wrong"));
    bench.keys("j k");
    assert_eq!(bench.opened().len(), 1);
    bench.keys("n");
    assert_eq!(bench.opened().len(), 2);
}

#[test]
fn layers_go_off_and_on_without_asking_the_engine() {
    let gm = colour(0x57, 0xc7, 0x85);
    let mut bench = Bench::at(project(), view("unsure"));
    assert!(bench.has_colour(gm), "contours of GM in GM's colour");
    bench.keys("o");
    assert!(!bench.has_colour(gm));
    assert!(bench.screen().contains("o overlay: off"), "{}", bench.screen());
    bench.keys("o c");
    // Half of 100, half of GM's colour.
    assert!(bench.has_colour(colour(94, 150, 117)), "filled");
    bench.keys("c l l y");
    assert!(bench.screen().contains(">G GM (hidden)"), "{}", bench.screen());
    assert!(!bench.has_colour(gm));
    bench.keys("y - - -");
    assert!(bench.screen().contains(">G GM 70 %"), "{}", bench.screen());
    assert!(!bench.has_colour(gm));
    bench.keys("+ + +");
    assert!(bench.has_colour(gm));
    assert_eq!(bench.opened().len(), 1);
}

#[test]
fn the_margin_map_shows_where_the_model_is_unsure() {
    let mut bench = Bench::at(project(), view("unsure"));
    // Margin 0 on grey 100: 0.15 x 100 + 0.85 x (255, 60, 200).
    let hot = colour(232, 66, 185);
    assert!(!bench.has_colour(hot));
    bench.keys("m");
    assert!(bench.has_colour(hot));
    assert!(bench.screen().contains("unsure, by m2"), "{}", bench.screen());
}

#[test]
fn after_hand_in_the_difference_is_dull_red_blue_and_yellow_with_c_and_l() {
    let (common, predicted, corrected) = (colour(140, 60, 60), colour(60, 110, 255), colour(255, 220, 40));
    let mut bench = Bench::at(with_correction(project(), "unsure"), view_of("unsure", true));
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
    // The squares' rims are 12 pixels; moved by one, 6 of them lie on the other's rim.
    assert!(screen.contains("GM        6   12  50 %  50 %"), "{screen}");
    assert!(
        screen.contains("WM        0    0   n/a   n/a"),
        "nothing to draw: {screen}"
    );
    bench.keys("d");
    assert!(!bench.has_colour(corrected));
}

#[test]
fn disagreements_are_gone_through_and_nothing_to_compare_says_so() {
    let mut bench = Bench::at(project(), view("unsure"));
    bench.keys("d");
    assert!(
        bench
            .screen()
            .contains("once the case has a prediction and a mask")
    );
    bench.keys("e");
    assert!(
        bench.screen().contains("nothing to disagree with"),
        "{}",
        bench.screen()
    );
    let mut other = view_of("unsure", true);
    let (predicted, mut mask) = (other.predicted.clone().unwrap().voxels, vec![0; 0]);
    mask.extend(&predicted);
    // Voxel (0, 7, 0) alone: coronal slice 8.
    mask[12 * 7] = 3;
    other.corrected = Some(mask);
    let mut bench = Bench::at(with_correction(project(), "unsure"), other);
    for (keys, place) in [
        ("e", "slice 8 of 9"),
        ("g g E", "slice 8 of 9"),
        ("e", "slice 8 of 9"),
    ] {
        bench.keys(keys);
        assert!(bench.screen().contains(place), "{keys}\n{}", bench.screen());
    }
}

#[test]
fn three_cuts_share_a_crosshair_that_says_what_lies_under_it() {
    let mut bench = Bench::at(project(), view("unsure"));
    let line = colour(60, 220, 160);
    assert!(!bench.has_colour(line));
    bench.keys("v");
    assert!(bench.has_colour(line));
    let screen = bench.screen();
    assert!(screen.contains("voxel 6 4 6, value 100"), "{screen}");
    assert!(screen.contains("6.0 6.0 6.0 mm (RAS)"), "{screen}");
    assert!(screen.contains("GM, margin 1.00"), "{screen}");
    // The patient's right is on the left: i grows to the left.
    bench.keys("H H K");
    assert!(bench.screen().contains("voxel 8 4 7"), "{}", bench.screen());
    assert!(
        bench.screen().contains("background, margin 1.00"),
        "{}",
        bench.screen()
    );
}

#[test]
fn side_by_side_are_the_drawing_and_what_it_is_held_against() {
    let mut snapshot = project();
    let mut older = snapshot.models.values().next().unwrap().clone();
    older.id = overtrace::records::ModelId(1);
    snapshot.put(Row::Model(older));
    let mut bench = Bench::at(snapshot, view("unsure"));
    bench.keys("v v");
    assert!(
        bench.screen().contains("right: nothing; b shows another"),
        "{}",
        bench.screen()
    );
    bench.keys("b");
    let beside = Some(Beside::Model(overtrace::records::ModelId(1)));
    assert_eq!(bench.opened().pop(), Some(("unsure".to_string(), beside)));
    let mut both = view("unsure");
    both.beside = Some(overtrace::protocol::Drawing {
        by: overtrace::protocol::Maker::Model(overtrace::records::ModelId(1)),
        voxels: vec![3; both.grid.len()],
    });
    bench.answer_case(both);
    assert!(bench.screen().contains("right: m1"), "{}", bench.screen());
    assert!(
        bench.screen().contains("m1 WM"),
        "under the crosshair: {}",
        bench.screen()
    );
    bench.keys("b");
    assert_eq!(bench.opened().len(), 2, "the case alone is still here");
}

#[test]
fn contrast_zoom_and_colours_are_named_while_they_are_not_as_at_first() {
    let mut bench = Bench::at(project(), view("unsure"));
    let words =
        |bench: &Bench, what: &str| assert!(bench.line(1).contains(what), "{what}\n{}", bench.screen());
    bench.keys("o");
    assert!(bench.has_colour(colour(100, 100, 100)));
    bench.keys("] ] ] ]");
    words(&bench, "window 44 to 211");
    assert!(bench.has_colour(colour(86, 86, 86)), "(100 - 43.8) / 167.3");
    bench.keys("W W");
    words(&bench, "CT brain 0 to 80");
    assert!(bench.has_colour(colour(255, 255, 255)));
    bench.keys("C");
    words(&bench, "inverted");
    bench.keys("z z");
    words(&bench, "zoom 2.2");
    bench.keys("=");
    assert!(!bench.line(1).contains("zoom"));
}

#[test]
fn a_hand_in_while_its_case_is_open_opens_it_anew() {
    let mut bench = Bench::at(project(), view("unsure"));
    bench.keys("j");
    let after = with_correction(project(), "unsure");
    let correction = after.corrections.values().next().unwrap().clone();
    bench.change(What::CorrectionAccepted, vec![Row::Correction(correction)], None);
    assert_eq!(bench.opened().len(), 2);
    bench.answer_case(view_of("unsure", true));
    assert!(
        bench.screen().contains("slice 6 of 9"),
        "where it was: {}",
        bench.screen()
    );
}

#[test]
fn without_colour_letters_carry_the_classes() {
    let mut bench = Bench::with(project(), |setup| setup.depth = Depth::Mono);
    bench.keys("enter");
    bench.answer_case(view("unsure"));
    let screen = bench.screen();
    assert!(screen.lines().any(|line| line.contains("GGG")), "{screen}");
    assert!(
        bench.colours().iter().all(|colour| *colour == Color::Reset),
        "{:?}",
        bench.colours()
    );
}

#[test]
fn counts_are_times_and_a_class_that_is_not_there_is_said() {
    let mut bench = Bench::at(project(), view("unsure"));
    bench.keys("9 y");
    shows(&bench, "there are the classes 1 to 3, and no class 9");
    bench.run("toggle_class 0");
    shows(&bench, "no class 0");
    bench.keys("2 y");
    shows(&bench, "GM (hidden)");
    bench.keys("2 y 3 -");
    shows(&bench, "GM 70 %");
    // Three times is once, three times.
    bench.keys("3 ]");
    let three = bench.screen();
    bench.run("next_window");
    let mut other = Bench::at(project(), view("unsure"));
    other.keys("2 y 2 y 3 - ] ] ]");
    let title = |screen: &str| {
        screen
            .lines()
            .find(|line| line.contains("window"))
            .map(str::to_string)
    };
    assert_eq!(title(&three), title(&other.screen()));
    assert!(title(&three).is_some(), "{three}");
}

#[test]
fn the_margin_map_is_not_left_on_where_there_is_none() {
    let mut without = view("unsure");
    (without.margins, without.scores) = (None, Vec::new());
    let mut bench = Bench::at(project(), without);
    bench.keys("m");
    shows(&bench, "margin map: off");
    // Before the slices have been looked at nothing is said of them.
    bench.keys("u");
    shows(&bench, "no model has drawn this case");
}

/// The keys of panning, three eighths of what is shown at a time: each shows what lay there and was out of sight.
#[test]
fn panning_goes_where_it_says_and_no_further_than_the_edge() {
    // Brighter to the left of the picture, and further down.
    let mut case = view("unsure");
    let shape = case.grid.shape;
    case.image.values = (0..case.grid.len())
        .map(|at| (100 + at % shape[0] + 10 * (shape[2] - 1 - at / (shape[0] * shape[1]))) as u16)
        .collect();
    (case.predicted, case.margins) = (None, None);
    let mean = |bench: &Bench| -> f64 {
        let greys: Vec<f64> = bench
            .picture()
            .into_iter()
            .filter_map(|(colour, _)| match colour {
                Color::Rgb(r, g, b) if r == g && g == b && r > 0 => Some(f64::from(r)),
                _ => None,
            })
            .collect();
        greys.iter().sum::<f64>() / greys.len() as f64
    };
    let seen = |keys: &str| {
        let mut bench = Bench::at(project(), case.clone());
        bench.keys("z z z");
        bench.keys(keys);
        mean(&bench)
    };
    let middle = seen("");
    assert!(seen("3 ctrl-down") > middle && seen("3 ctrl-up") < middle);
    let (left, right) = (seen("3 ctrl-left"), seen("3 ctrl-right"));
    assert!((left > middle) != (right > middle), "{left} {middle} {right}");
    // At the edge the first step back is seen.
    assert_ne!(seen("9 9 ctrl-down"), seen("9 9 ctrl-down ctrl-up"));
    assert_eq!(seen("9 9 ctrl-down"), seen("9 9 ctrl-down ctrl-down"));
}

/// Typed faster than frames are drawn.
#[test]
fn keys_that_follow_the_one_that_opens_a_case_are_not_lost() {
    let mut bench = Bench::on(project());
    bench.answer_case(view("unsure"));
    bench.together("enter G");
    shows(&bench, "coronal slice 9 of 9");
}
