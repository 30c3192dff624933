//! Two people and one case: both corrections are kept, each is its sender's, and one of them trains.
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;

use overtrace::engine;
use overtrace::imaging::{LabelMap, gunzip};
use overtrace::protocol::{Answer, Command, HandedOut, Outcome, Wanted};
use overtrace::records::{ClassAgreement, CorrectionId, Fix, HandoutEnd, MaskOrigin, Pool, What};
use support::hands::{drawn, hand_out_to, held, open, out_again, packed, trains_with};
use support::{Bench, SMALL, boxes, id};

#[test]
fn two_people_s_corrections_are_both_kept_and_which_one_trains_is_a_recorded_choice() {
    let bench = drawn();
    let first = hand_out_to(&bench, "bob", false);
    bench.drop_file(&first.reply_name, &packed(&boxes(0).1));
    assert_eq!(bench.only_report().outcome, Outcome::Accept);
    // The second reader gets what the first one got, under another name.
    let second = hand_out_to(&bench, "eve", true);
    assert_ne!(second.reply_name, first.reply_name);
    assert_eq!(second.model, first.model);
    let given = |out: &HandedOut| gunzip(&fs::read(&out.mask).unwrap(), 1 << 20).unwrap();
    assert_eq!(given(&second), given(&first));
    // She draws one voxel of CSF fewer: it has 6 x 10 of them in each of four slices, the rest of it is GM's and WM's.
    let mut theirs = boxes(0).1;
    let (csf, count) = {
        let of_csf: Vec<usize> = (0..theirs.voxels.len())
            .filter(|&at| theirs.voxels[at] == 1)
            .collect();
        (of_csf[0], of_csf.len() as f64)
    };
    theirs.voxels[csf] = 3;
    bench.drop_file(&second.reply_name, &packed(&theirs));
    let report = bench.only_report();
    assert!(
        report.words.contains("kept beside c1 of bob, which trains"),
        "{report:?}"
    );
    let snapshot = bench.snapshot();
    let correction = &snapshot.corrections[&CorrectionId(2)];
    assert_eq!((correction.who.as_str(), correction.effort.len()), ("eve", 3));
    let agreement = correction.agreement.clone().unwrap();
    assert_eq!(agreement.with, CorrectionId(1));
    let [csf_class, gm, wm] = agreement.classes[..] else {
        panic!()
    };
    let dice = 2.0 * (count - 1.0) / (2.0 * count - 1.0);
    assert!((csf_class.dice.unwrap() - dice).abs() < 1e-12, "{csf_class:?}");
    // The corner is gone, and its two neighbours are on the contour as before.
    let contour = csf_class.contour.unwrap();
    assert!(contour < 1.0 && contour > 0.9, "{contour}");
    let same = ClassAgreement {
        dice: Some(1.0),
        contour: Some(1.0),
    };
    assert_eq!((gm, wm.dice < Some(1.0)), (same, true));
    assert_eq!(origin(&bench), MaskOrigin::Correction(CorrectionId(1)));
    assert_eq!(trains_with(&bench, "brain"), boxes(0).1.voxels);
    // Either is shown, and chosen.
    let hers = Wanted {
        correction: Some(CorrectionId(2)),
        ..Wanted::of(&id("brain"))
    };
    assert_eq!(open(&bench, hers).corrected.unwrap(), theirs.voxels);
    let choose = |correction| {
        bench.ask(Command::ChooseCorrection {
            correction: CorrectionId(correction),
            why: "a neurologist".into(),
        })
    };
    choose(9).unwrap_err();
    assert!(matches!(choose(1).unwrap(), Answer::Nothing(_)));
    assert!(matches!(choose(2).unwrap(), Answer::Done(words) if words.contains("c2 of eve")));
    assert_eq!(trains_with(&bench, "brain"), theirs.voxels);
    assert_eq!(bench.snapshot().cases[&id("brain")].mask_versions, 2);
    let Answer::Journal(entries) = bench.ask(Command::Journal { from: 0 }).unwrap() else {
        panic!()
    };
    let last = entries.last().unwrap();
    assert_eq!(
        (last.what, last.why.as_deref()),
        (What::MaskChosen, Some("a neurologist"))
    );
    // The agreement is derived again.
    let project = bench.project();
    let verified = engine::verify(&project, &|_, _| {}).unwrap();
    assert_eq!(verified.problems, []);
    // What the same person sends again takes the place of what she sent before.
    let third = hand_out_to(&bench, "eve", false);
    bench.drop_file(&third.reply_name, &packed(&boxes(3).1));
    assert!(!bench.only_report().words.contains("kept beside"));
    assert_eq!(trains_with(&bench, "brain"), boxes(3).1.voxels);
}

#[test]
fn what_comes_from_somebody_who_had_the_case_before_is_his_and_not_the_new_owner_s() {
    let bench = drawn();
    let first = hand_out_to(&bench, "bob", false);
    let Answer::HandedOut(second) = bench
        .ask(Command::TakeOver {
            case: id("brain"),
            owner: "eve".into(),
            why: "bob is ill".into(),
        })
        .unwrap()
    else {
        panic!()
    };
    bench.drop_file(
        "brain_CORRECTED.nii",
        &gunzip(&packed(&boxes(0).1), 1 << 20).unwrap(),
    );
    let report = bench.only_report();
    assert!(
        report.words.contains("h1 to bob was taken back (bob is ill)"),
        "{report:?}"
    );
    assert!(report.words.contains("brain is with eve now"), "{report:?}");
    held(&report, "N4");
    bench.accept(&report);
    let snapshot = bench.snapshot();
    assert_eq!(snapshot.corrections[&CorrectionId(1)].who, "bob");
    assert_eq!(snapshot.corrections[&CorrectionId(1)].handout, first.id);
    assert_eq!(
        snapshot.cases[&id("brain")].handout,
        Some(second.id),
        "eve still has it"
    );
    // A name of one's own is for who has it.
    bench.drop_file("brain_seg.nii.gz", &packed(&boxes(2).1));
    let report = bench.only_report();
    assert!(report.correction.is_some(), "{report:?}");
    let snapshot = bench.snapshot();
    assert_eq!(snapshot.corrections[&CorrectionId(2)].who, "eve");
    let ended = snapshot.handouts[&second.id].end.clone();
    assert_eq!(ended, Some(HandoutEnd::Corrected(CorrectionId(2))));
    assert_eq!(
        origin(&bench),
        MaskOrigin::Correction(CorrectionId(1)),
        "the first one trains"
    );
}

/// Whose a file is is as it was when it came, whoever has the case when somebody decides.
#[test]
fn a_held_file_answers_the_hand_out_of_when_it_came() {
    let bench = drawn();
    let first = hand_out_to(&bench, "bob", false);
    bench.drop_file("brain_seg.nii.gz", &packed(&LabelMap::empty(boxes(0).1.grid)));
    let report = bench.only_report();
    held(&report, "P1");
    let take_over = Command::TakeOver {
        case: id("brain"),
        owner: "eve".into(),
        why: "bob is ill".into(),
    };
    bench.ask(take_over).unwrap();
    let report = bench.accept(&report);
    assert_eq!(report.code, "N4", "he has it no more");
    assert!(bench.accept(&report).correction.is_some());
    let correction = bench.snapshot().corrections[&CorrectionId(1)].clone();
    assert_eq!((correction.who.as_str(), correction.handout), ("bob", first.id));
    assert!(
        bench.snapshot().cases[&id("brain")].handout.is_some(),
        "eve still has it"
    );
}

/// A nightly copy of everything brings the first reader's file again, while the second one is at it.
#[test]
fn p4_what_came_before_is_not_the_second_reader_s() {
    let bench = drawn();
    hand_out_to(&bench, "bob", false);
    bench.drop_file("brain_seg.nii.gz", &packed(&boxes(0).1));
    assert!(bench.only_report().correction.is_some());
    let second = hand_out_to(&bench, "eve", true);
    bench.drop_file("brain_seg.nii.gz", &packed(&boxes(0).1));
    let report = bench.only_report();
    assert_eq!(
        (report.outcome, report.code.as_str()),
        (Outcome::Warn, "P4"),
        "{report:?}"
    );
    assert_eq!(bench.snapshot().corrections.len(), 1);
    // Under the name that she was asked for she may mean it.
    bench.drop_file(&second.reply_name, &packed(&boxes(0).1));
    let report = bench.only_report();
    held(&report, "P4");
    assert!(report.words.contains("c1 by bob"), "{report:?}");
    let report = bench.accept(&report);
    assert!(report.correction.is_some(), "{report:?}");
    assert_eq!(bench.snapshot().corrections[&CorrectionId(2)].who, "eve");
}

#[test]
fn a_second_reading_that_is_taken_over_stays_one() {
    let bench = drawn();
    let first = hand_out_to(&bench, "bob", false);
    bench.drop_file(&first.reply_name, &packed(&boxes(0).1));
    bench.only_report();
    let second = hand_out_to(&bench, "eve", true);
    let Answer::HandedOut(third) = bench
        .ask(Command::TakeOver {
            case: id("brain"),
            owner: "mia".into(),
            why: "eve is ill".into(),
        })
        .unwrap()
    else {
        panic!()
    };
    let handouts = bench.snapshot().handouts;
    assert_eq!(
        handouts[&third.id].pre_annotation,
        handouts[&second.id].pre_annotation
    );
    assert_eq!(third.model, first.model);
}

/// There was nothing in it, the first reader said of an empty drawing: that is his mask, and the second one's drawing, too.
#[test]
fn a_second_reading_of_an_approved_empty_drawing_revises_nothing() {
    let bench = Bench::new(SMALL);
    bench.import("brain", 0, Pool::Unlabelled);
    let first = hand_out_to(&bench, "bob", false);
    bench.drop_file(&first.reply_name, &packed(&LabelMap::empty(boxes(0).1.grid)));
    let mut report = bench.only_report();
    while report.outcome == Outcome::Hold {
        report = bench.accept(&report);
    }
    hand_out_to(&bench, "eve", true);
    // Another takes it over: it stays a second reading.
    let take_over = Command::TakeOver {
        case: id("brain"),
        owner: "mia".into(),
        why: "eve is ill".into(),
    };
    let Answer::HandedOut(second) = bench.ask(take_over).unwrap() else {
        panic!()
    };
    bench.drop_file(&second.reply_name, &packed(&boxes(0).1));
    let report = bench.only_report();
    assert!(
        report.words.contains("kept beside c1 of bob, which trains"),
        "{report:?}"
    );
    // Asked to look it over, she revises it.
    let third = hand_out_to(&bench, "mia", false);
    let mut theirs = boxes(0).1;
    theirs.voxels[0] = 1;
    bench.drop_file(&third.reply_name, &packed(&theirs));
    let report = bench.only_report();
    assert!(report.words.contains("a revision of c1 of bob"), "{report:?}");
}

#[test]
fn a_case_that_is_called_like_another_s_answer_gets_its_own_masks() {
    let bench = Bench::new(SMALL);
    for (name, seed) in [("a", 0), ("a_h2", 1), ("a_corrected", 2)] {
        bench.import(name, seed, Pool::Unlabelled);
    }
    let first = bench.hand_out("a");
    assert_eq!(
        first.reply_name, "a_h1_corrected.nii.gz",
        "a_corrected is another case"
    );
    bench.drop_file(&first.reply_name, &packed(&boxes(0).1));
    assert_eq!(bench.only_report().case, Some(id("a")));
    let second = bench.hand_out("a");
    assert_eq!(second.reply_name, "a.nii.gz", "a_h2_corrected is another's");
    bench.drop_file(&second.reply_name, &packed(&boxes(3).1));
    assert_eq!(bench.only_report().case, Some(id("a")));
    let other = bench.hand_out("a_h2");
    assert_eq!(other.reply_name, "a_h2_corrected.nii.gz");
}

/// What is forgotten is forgotten with tables, held files and both corrections.
#[test]
fn a_case_is_forgotten_with_all_that_two_readers_sent() {
    let bench = Bench::new(SMALL);
    let other = out_again(&bench, "other", 0);
    let truth = out_again(&bench, "brain", 3);
    let mut meant = truth.clone();
    for (owner, at) in [("bob", 1500), ("eve", 1501)] {
        let out = match owner {
            "bob" => None,
            _ => Some(hand_out_to(&bench, owner, true)),
        };
        meant.voxels[at] = 1;
        let name = out.map_or("brain_corrected.nii.gz".to_string(), |out| out.reply_name);
        bench.drop_file(&name, &packed(&meant));
        assert!(bench.only_report().correction.is_some());
    }
    // One of them lies in another case's name, held.
    let mut mixed = meant.clone();
    mixed.voxels[1502] = 1;
    hand_out_to(&bench, "mia", true);
    bench.drop_file("other_corrected.nii.gz", &packed(&mixed));
    let number = held(&bench.only_report(), "P2");
    assert_eq!(bench.snapshot().held[&number].fix, Some(Fix::Case(id("brain"))));
    let forget = Command::Forget {
        case: id("brain"),
        why: "withdrawn".into(),
    };
    bench.ask(forget).unwrap();
    assert!(!bench.inbox().join(format!("held/{number}-other.nii.gz")).exists());
    assert_eq!(bench.snapshot().waiting().count(), 0);
    let mut left = Vec::new();
    for folder in ["", "done", "held", "quarantine"] {
        let items = fs::read_dir(bench.inbox().join(folder))
            .into_iter()
            .flatten()
            .flatten();
        left.extend(
            items
                .filter(|item| item.path().is_file())
                .map(|item| item.file_name()),
        );
    }
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
    let verified = engine::verify(&bench.project(), &|_, _| {}).unwrap();
    assert_eq!(verified.problems, []);
    assert_eq!(trains_with(&bench, "other"), other.voxels);
}

fn origin(bench: &Bench) -> MaskOrigin {
    bench.snapshot().cases[&id("brain")].mask.unwrap().origin
}
