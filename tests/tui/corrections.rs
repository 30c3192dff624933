//! Corrections and held files: keys act on the line that is selected, not on another one of its case.

use super::bench::Bench;
use super::project::{at, project, view_of, with_correction, with_held};
use super::scenes::shows;
use overtrace::protocol::{Command, Snapshot};
use overtrace::records::{CorrectionId, HeldId, ModelId, Row};

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
        assert_eq!(bench.sent()[1..], [Command::AcceptHeld { held: HeldId(held) }]);
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
        Some(Command::Open {
            case: super::project::case_id("middling"),
            beside: None,
            correction: Some(CorrectionId(1)),
        })
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
    other.model = ModelId(1);
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
