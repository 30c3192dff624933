//! Corrections and held files: keys act on the line that is selected, not on another one of its case.

use super::bench::Bench;
use super::project::{at, project, view_of, with_correction, with_held};
use super::scenes::shows;
use overtrace::protocol::{Beside, Command, Maker, Snapshot, Wanted};
use overtrace::records::{CorrectionId, Hash, HeldId, Mask, MaskOrigin, ModelId, Row, What};

/// Two held files of one case, and two corrections of another, f2 and c2 the newer ones.
fn two_of_each() -> Snapshot {
    let mut snapshot = with_correction(with_held(project(), "unsure"), "middling");
    let mut file = snapshot.held[&HeldId(1)].clone();
    (file.id, file.at) = (HeldId(2), at(10));
    snapshot.put(Row::Held(file));
    let mut again = snapshot.corrections[&CorrectionId(1)].clone();
    (again.id, again.at, again.model, again.effort) = (CorrectionId(2), at(90), None, Vec::new());
    again.notes = vec!["K9: looks odd".into()];
    snapshot.put(Row::Correction(again));
    snapshot
}

#[test]
fn the_selected_held_file_is_decided_and_not_the_oldest_of_its_case() {
    for (keys, held) in [("", 2), ("j", 1)] {
        let mut bench = Bench::on(two_of_each());
        bench.keys("f5");
        bench.keys(keys);
        bench.keys("r");
        shows(&bench, &format!("refuse f{held} "));
        bench.keys("x enter");
        let refused = Command::RefuseHeld {
            held: HeldId(held),
            why: "x".into(),
        };
        assert_eq!(bench.sent(), [refused]);
        bench.keys("a y");
        assert_eq!(
            bench.sent()[1..],
            [Command::AcceptHeld {
                held: HeldId(held),
                fix: false
            }]
        );
    }
    let mut bench = Bench::on(two_of_each());
    bench.keys("f5 G a");
    shows(&bench, "c1 was taken in already");
}

#[test]
fn the_selected_correction_is_opened_and_not_the_last_of_its_case() {
    let mut bench = Bench::on(two_of_each());
    bench.answer_case(view_of("unsure", false));
    bench.keys("f5 G enter");
    let last = bench.sent_all().pop();
    assert_eq!(
        last,
        Some(Command::Open(Wanted {
            beside: None,
            correction: Some(CorrectionId(1)),
            ..Wanted::of(&super::project::case_id("middling"))
        }))
    );
    bench.answer_case(view_of("middling", true));
    shows(&bench, "c1: saved effort of m2");
    // Its neighbours are those of the queue.
    bench.keys("n");
    shows(&bench, "certain");
    bench.answer_case(view_of("certain", false));
    bench.keys("f5 k enter");
    bench.answer_case(view_of("middling", false));
    shows(&bench, "c2: no saved effort, nothing was drawn");
    // Minutes are noted for the last one.
    bench.keys("esc G t");
    shows(&bench, "c2 came after it");
}

#[test]
fn what_there_is_to_read_about_a_line_is_signed_without_colour() {
    let bench = {
        let mut bench = Bench::on(two_of_each());
        bench.keys("f5");
        bench
    };
    let signed = |words: &str| {
        let row = bench.line(bench.row_of(words));
        row.trim_start().starts_with('!')
    };
    assert!(signed("f2") && signed("f1"), "{}", bench.screen());
    let rows: Vec<bool> = (0..30)
        .map(|row| bench.line(row))
        .filter(|line| line.contains("middling") && line.contains("eve"))
        .map(|line| line.trim_start().starts_with('!'))
        .collect();
    assert_eq!(rows, [true, false], "only c2 has a note: {}", bench.screen());
}

#[test]
fn another_model_s_drawing_is_shown_beside_a_case_that_has_a_mask() {
    let mut snapshot = super::scenes::with_two_models();
    snapshot = with_correction(snapshot, "unsure");
    let mut bench = Bench::at(snapshot, view_of("unsure", true));
    shows(&bench, "c1: saved effort of m2");
    bench.keys("b");
    let mut view = view_of("unsure", true);
    let mut other = view.predicted.clone().unwrap();
    other.by = Maker::Model(ModelId(1));
    other.voxels.fill(0);
    view.beside = Some(other);
    bench.answer_case(view);
    shows(&bench, "right: m1");
    // The slices differ from the other model's, which drew nothing, and not only from the mask.
    bench.keys("d");
    shows(&bench, "the other model alone");
    bench.keys("b");
    shows(&bench, "right: the mask");
}

/// Both readings of a file are looked at before one of them is taken in.
#[test]
fn a_held_file_is_shown_and_its_other_reading_beside_it() {
    let mut bench = Bench::on(with_held(project(), "unsure"));
    bench.answer_case(view_of("unsure", false));
    bench.keys("f5 enter");
    let wanted = |beside| {
        Command::Open(Wanted {
            held: Some(HeldId(1)),
            beside,
            ..Wanted::of(&super::project::case_id("unsure"))
        })
    };
    assert_eq!(bench.sent_all().pop(), Some(wanted(None)));
    bench.answer_case(view_of("unsure", true));
    shows(&bench, "held: K7");
    shows(&bench, "f fixes it: with left and right");
    assert!(
        !bench.screen().contains("saved effort"),
        "there is no correction yet"
    );
    bench.keys("b");
    assert_eq!(bench.sent_all().pop(), Some(wanted(Some(Beside::OtherReading))));
    let mut view = view_of("unsure", true);
    let mut other = view.predicted.clone().unwrap();
    other.by = Maker::Reading("mirrored\u{202e} back".into());
    view.beside = Some(other);
    bench.answer_case(view);
    shows(&bench, "beside mirrored");
    assert!(!bench.screen().contains('\u{202e}'));
    bench.keys("b");
    assert_eq!(bench.sent(), [], "the first reading is still here");
    bench.keys("f y");
    let fix = Command::AcceptHeld {
        held: HeldId(1),
        fix: true,
    };
    assert_eq!(bench.sent(), [fix]);
    // Decided about, the case itself is shown.
    let mut held = with_held(project(), "unsure").held[&HeldId(1)].clone();
    held.decided = Some("fixed".into());
    bench.change(What::CorrectionAccepted, vec![Row::Held(held)], None);
    assert_eq!(
        bench.sent_all().pop(),
        Some(Command::Open(Wanted::of(&super::project::case_id("unsure"))))
    );
}

#[test]
fn what_cannot_be_fixed_or_chosen_is_told_and_not_asked() {
    let mut snapshot = with_held(project(), "unsure");
    let mut held = snapshot.held[&HeldId(1)].clone();
    held.fix = None;
    snapshot.put(Row::Held(held));
    let mut bench = Bench::on(snapshot);
    bench.keys("f5 f");
    shows(&bench, "one way only");
    bench.keys("c");
    shows(&bench, "f1 waits for a decision");
    let mut snapshot = with_correction(project(), "unsure");
    let mut case = snapshot.cases[&super::project::case_id("unsure")].clone();
    case.mask = Some(Mask {
        version: 1,
        blob: Hash::ZERO,
        origin: MaskOrigin::Correction(CorrectionId(1)),
    });
    snapshot.put(Row::Case(case));
    let mut bench = Bench::on(snapshot);
    bench.keys("f5 c");
    shows(&bench, "unsure trains with c1 already");
    assert_eq!(bench.sent(), []);
}
