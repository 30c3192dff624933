//! What happens between an engine and the people who correct.

use overtrace::imaging::{LabelMap, encode_labels};
use overtrace::protocol::{Answer, CaseView, Command, HandedOut, IntakeReport, Outcome, Wanted};
use overtrace::records::{HeldId, Pool};

use super::{Bench, SMALL, boxes, id};

/// A project with a model, and a case that it has drawn.
pub fn drawn() -> Bench {
    let bench = Bench::new(SMALL);
    bench.import("labelled", 1, Pool::Labelled);
    bench.import("brain", 0, Pool::Unlabelled);
    bench.start_round();
    bench.start_round();
    bench
}

pub fn packed(map: &LabelMap) -> Vec<u8> {
    encode_labels(map, u16::from)
}

pub fn hand_out_to(bench: &Bench, owner: &str, again: bool) -> HandedOut {
    let command = Command::HandOut {
        case: id("brain"),
        owner: owner.into(),
        again,
    };
    match bench.ask(command).unwrap() {
        Answer::HandedOut(out) => out,
        other => panic!("{other:?}"),
    }
}

pub fn held(report: &IntakeReport, code: &str) -> HeldId {
    assert_eq!(
        (report.outcome, report.code.as_str()),
        (Outcome::Hold, code),
        "{report:?}"
    );
    report.held.unwrap()
}

pub fn fix(bench: &Bench, held: HeldId) -> IntakeReport {
    match bench.ask(Command::AcceptHeld { held, fix: true }).unwrap() {
        Answer::Intake(reports) => reports.into_iter().next().unwrap(),
        other => panic!("{other:?}"),
    }
}

pub fn open(bench: &Bench, wanted: Wanted) -> CaseView {
    match bench.ask(Command::Open(wanted)).unwrap() {
        Answer::Case(view) => *view,
        other => panic!("{other:?}"),
    }
}

/// The voxels that a case trains with.
pub fn trains_with(bench: &Bench, case: &str) -> Vec<u8> {
    open(bench, Wanted::of(&id(case))).corrected.unwrap()
}

/// A case that is out with the mask that it has.
pub fn out_again(bench: &Bench, case: &str, seed: u64) -> LabelMap {
    bench.import(case, seed, Pool::Labelled);
    bench.hand_out(case);
    boxes(seed).1
}
