//! What a person has to decide between: two readings of one file, two people's corrections of one case.
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;

use overtrace::engine;
use overtrace::imaging::{Affine, LabelMap, Volume, encode_labels, encode_volume, gunzip};
use overtrace::protocol::{
    Answer, Beside, CaseView, Command, HandedOut, ImportItem, IntakeReport, Outcome, Wanted,
};
use overtrace::records::{ClassAgreement, CorrectionId, Fix, HandoutEnd, HeldId, MaskOrigin, Pool, What};
use support::{Bench, SMALL, boxes, id};

/// A project with a model, and a case that it has drawn.
fn drawn() -> Bench {
    let bench = Bench::new(SMALL);
    bench.import("labelled", 1, Pool::Labelled);
    bench.import("brain", 0, Pool::Unlabelled);
    bench.start_round();
    bench.start_round();
    bench
}

fn packed(map: &LabelMap) -> Vec<u8> {
    encode_labels(map, u16::from)
}

fn hand_out_to(bench: &Bench, owner: &str, again: bool) -> HandedOut {
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

fn held(report: &IntakeReport, code: &str) -> HeldId {
    assert_eq!(
        (report.outcome, report.code.as_str()),
        (Outcome::Hold, code),
        "{report:?}"
    );
    report.held.unwrap()
}

fn fix(bench: &Bench, held: HeldId) -> IntakeReport {
    match bench.ask(Command::AcceptHeld { held, fix: true }).unwrap() {
        Answer::Intake(reports) => reports.into_iter().next().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn open(bench: &Bench, wanted: Wanted) -> CaseView {
    match bench.ask(Command::Open(wanted)).unwrap() {
        Answer::Case(view) => *view,
        other => panic!("{other:?}"),
    }
}

/// The voxels that a case trains with.
fn trains_with(bench: &Bench, case: &str) -> Vec<u8> {
    open(bench, Wanted::of(&id(case))).corrected.unwrap()
}

fn origin(bench: &Bench) -> MaskOrigin {
    bench.snapshot().cases[&id("brain")].mask.unwrap().origin
}

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

/// A mask that lost its header is read as the image's voxels lie, or as its own axes say.
#[test]
fn g4_a_lost_header_has_two_readings_and_both_are_shown() {
    let bench = Bench::new(SMALL);
    let (mut image, mut truth) = boxes(3);
    // The image runs from right to left: its own left is the other end.
    image.grid.affine = Affine([[-1.0, 0.0, 0.0, 19.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]]);
    let file = bench.folder.path().join("brain.nii.gz");
    fs::write(&file, encode_volume(&image)).unwrap();
    let item = ImportItem {
        id: id("brain"),
        images: vec![file],
        mask: None,
        pool: None,
    };
    let import = Command::Import {
        items: vec![item],
        pool: None,
    };
    bench.ask(import).unwrap();
    bench.hand_out("brain");
    truth.grid.affine = Affine::from_spacing([1.0; 3]);
    bench.drop_file("brain_corrected.nii.gz", &packed(&truth));
    let report = bench.only_report();
    let number = held(&report, "G4");
    assert_eq!(bench.snapshot().held[&number].fix, Some(Fix::Turn));
    let shown = open(
        &bench,
        Wanted {
            held: Some(number),
            beside: Some(Beside::OtherReading),
            ..Wanted::of(&id("brain"))
        },
    );
    assert_eq!(shown.corrected.unwrap(), truth.voxels);
    let turned = shown.beside.unwrap();
    assert_eq!(turned.by.to_string(), "read by its own axes");
    assert_eq!(turned.voxels, truth.flipped(0).voxels);
    assert_ne!(turned.voxels, truth.voxels);
    let report = fix(&bench, number);
    assert!(report.correction.is_some(), "{report:?}");
    assert_eq!(trains_with(&bench, "brain"), truth.flipped(0).voxels);
    let snapshot = bench.snapshot();
    assert_eq!(snapshot.held[&number].decided.as_deref(), Some("fixed"));
    let notes = &snapshot.corrections[&CorrectionId(1)].notes;
    assert!(
        notes[0].starts_with("G4: read by its own axes, as ann decided"),
        "{notes:?}"
    );
}

#[test]
fn g4_a_lost_header_that_fits_only_when_turned_cannot_be_accepted_as_it_is() {
    let bench = Bench::new(SMALL);
    let (mut image, _) = boxes(3);
    // The image's first axis runs upwards, and so on: 20 voxels up, 24 to the right, 4 to the front.
    image.grid.affine = Affine([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0], [1.0, 0.0, 0.0, 0.0]]);
    let file = bench.folder.path().join("brain.nii.gz");
    fs::write(&file, encode_volume(&image)).unwrap();
    let import = Command::Import {
        items: vec![ImportItem {
            id: id("brain"),
            images: vec![file],
            mask: None,
            pool: None,
        }],
        pool: None,
    };
    bench.ask(import).unwrap();
    bench.hand_out("brain");
    let grid = overtrace::imaging::Grid::new([24, 4, 20], [1.0; 3]);
    let mut mask = LabelMap::empty(grid);
    // 2 to the right, 1 to the front, 5 up.
    mask.voxels[2 + 24 * (1 + 4 * 5)] = 1;
    bench.drop_file("brain_corrected.nii.gz", &packed(&mask));
    let number = held(&bench.only_report(), "G4");
    let report = fix(&bench, number);
    assert!(report.correction.is_some(), "{report:?}");
    let voxels = trains_with(&bench, "brain");
    assert_eq!(
        voxels.iter().position(|&class| class == 1),
        Some(5 + 20 * (2 + 24))
    );
    // Of another shape altogether there is no reading.
    bench.hand_out("brain");
    let odd = LabelMap::empty(overtrace::imaging::Grid::new([24, 5, 20], [1.0; 3]));
    bench.drop_file("brain_h2_corrected.nii.gz", &packed(&odd));
    let report = bench.only_report();
    assert_eq!(
        (report.outcome, report.code.as_str()),
        (Outcome::Reject, "G2"),
        "{report:?}"
    );
}

/// A case that is out with the mask that it has.
fn out_again(bench: &Bench, case: &str, seed: u64) -> LabelMap {
    bench.import(case, seed, Pool::Labelled);
    bench.hand_out(case);
    boxes(seed).1
}

#[test]
fn p2_a_mix_up_is_undone_when_a_person_says_so() {
    let bench = Bench::new(SMALL);
    let truth = out_again(&bench, "brain", 3);
    // A correction that is a little different from what was handed out, or P3 would hold it.
    let mut meant = truth.clone();
    meant.voxels[1500] = 1;
    bench.drop_file("brain_corrected.nii.gz", &packed(&meant.flipped(0)));
    let number = held(&bench.only_report(), "P2");
    assert_eq!(bench.snapshot().held[&number].fix, Some(Fix::Mirror { axis: 0 }));
    assert!(fix(&bench, number).correction.is_some());
    assert_eq!(trains_with(&bench, "brain"), meant.voxels);

    let out = hand_out_to(&bench, "ann", false);
    meant.voxels[1501] = 1;
    let mut swapped = meant.clone();
    for class in &mut swapped.voxels {
        *class = [0, 1, 3, 2][usize::from(*class)];
    }
    bench.drop_file(&out.reply_name, &packed(&swapped));
    let number = held(&bench.only_report(), "P2");
    assert_eq!(
        bench.snapshot().held[&number].fix,
        Some(Fix::Exchange { classes: [2, 3] })
    );
    // Two people: the first one's mask goes on training.
    let report = fix(&bench, number);
    assert!(report.words.contains("kept beside c1"), "{report:?}");
    let hers = Wanted {
        correction: report.correction,
        ..Wanted::of(&id("brain"))
    };
    assert_eq!(open(&bench, hers).corrected.unwrap(), meant.voxels);

    // Another case's goes to that case.
    let out = hand_out_to(&bench, "ann", false);
    let mut other = out_again(&bench, "other", 0);
    other.voxels[1500] = 1;
    bench.drop_file(&out.reply_name, &packed(&other));
    let number = held(&bench.only_report(), "P2");
    assert_eq!(bench.snapshot().held[&number].fix, Some(Fix::Case(id("other"))));
    let report = fix(&bench, number);
    assert_eq!(report.case, Some(id("other")), "{report:?}");
    assert_eq!(trains_with(&bench, "other"), other.voxels);
    assert!(
        bench.snapshot().cases[&id("brain")].handout.is_some(),
        "it is still out"
    );
}

#[test]
fn what_can_be_read_one_way_only_is_not_fixed() {
    let bench = Bench::new(SMALL);
    bench.import("brain", 0, Pool::Unlabelled);
    bench.drop_file("brain.nii.gz", &packed(&boxes(0).1));
    let number = held(&bench.only_report(), "N4");
    let error = bench
        .ask(Command::AcceptHeld {
            held: number,
            fix: true,
        })
        .unwrap_err();
    assert!(error.contains("one way only"), "{error}");
    let wanted = Wanted {
        held: Some(number),
        ..Wanted::of(&id("brain"))
    };
    assert_eq!(open(&bench, wanted.clone()).corrected.unwrap(), boxes(0).1.voxels);
    let both = Wanted {
        beside: Some(Beside::OtherReading),
        ..wanted
    };
    assert!(
        bench
            .ask(Command::Open(both))
            .unwrap_err()
            .contains("no other way")
    );
}

/// A tool that numbers labels as it likes, and says how beside the mask.
#[test]
fn v5_a_table_beside_the_mask_says_what_its_values_are() {
    let renumbered = |map: &LabelMap| LabelMap {
        voxels: map
            .voxels
            .iter()
            .map(|&class| [0, 3, 1, 2][usize::from(class)])
            .collect(),
        ..map.clone()
    };
    let bids = "index\tname\tabbreviation\n0\tBackground\tBG\n1\tGM\tgm\n2\tWM\twm\n3\tcsf\tc\n";
    let itk = "# ITK-SnAP\n0 0 0 0 0 0 0 \"Clear Label\"\n1 1 1 1 1 1 1 \"GM\"\n2 1 1 1 1 1 1 \"WM\"\n3 1 1 1 1 1 1 \"CSF\"\n";
    for (table, text) in [("brain_dseg.tsv", bids), ("brain_dseg.txt", itk)] {
        let bench = Bench::new(SMALL);
        bench.import("brain", 0, Pool::Unlabelled);
        // The table alone waits, and is told of once.
        bench.drop_file(table, text.as_bytes());
        let report = bench.only_report();
        assert_eq!(
            (report.outcome, report.code.as_str()),
            (Outcome::Wait, "V5"),
            "{report:?}"
        );
        assert_eq!(bench.scan(), []);
        // The mask is held, table and all, because nobody had the case.
        bench.drop_file("brain_dseg.nii.gz", &packed(&renumbered(&boxes(0).1)));
        let report = bench.only_report();
        held(&report, "N4");
        assert!(!bench.inbox().join(table).exists());
        let report = bench.accept(&report);
        assert!(report.correction.is_some(), "{report:?}");
        assert_eq!(trains_with(&bench, "brain"), boxes(0).1.voxels, "{table}");
        let notes = &bench.snapshot().corrections[&CorrectionId(1)].notes;
        assert!(notes.iter().any(|note| note.starts_with("V5")), "{notes:?}");
        let done: Vec<_> = fs::read_dir(bench.inbox().join("done")).unwrap().collect();
        assert_eq!(done.len(), 2, "{done:?}");
    }
}

#[test]
fn v5_a_table_that_is_none_of_a_case_or_names_no_label_is_refused() {
    let bench = Bench::new(&SMALL.replace("stable_s = 0.0", "stable_s = 0.0\nincomplete_after_s = 0.0"));
    bench.import("brain", 0, Pool::Unlabelled);
    bench.hand_out("brain");
    bench.drop_file("shopping.txt", b"eggs");
    let report = bench.only_report();
    assert_eq!((report.outcome, report.code.as_str()), (Outcome::Reject, "N2"));
    bench.drop_file("brain_corrected.tsv", b"index\tname\n1\tGM\n");
    let report = bench.only_report();
    assert_eq!(
        (report.outcome, report.code.as_str()),
        (Outcome::Reject, "V5"),
        "no mask came"
    );
    bench.drop_file("brain_corrected.tsv", b"index\tname\n1\tTumour\n");
    bench.drop_file("brain_corrected.nii.gz", &packed(&boxes(0).1));
    let report = bench.only_report();
    assert_eq!((report.outcome, report.code.as_str()), (Outcome::Reject, "V5"));
    assert!(report.words.contains("Tumour"), "{report:?}");
    // Both lie there together, the table beside the one that came first.
    let quarantine = bench.inbox().join("quarantine");
    assert!(
        quarantine.join("2-brain_corrected.nii.gz").exists()
            && quarantine.join("2-brain_corrected.tsv").exists()
    );
}

/// The image is read by the same process: a volume that is none costs its item alone.
#[test]
fn an_image_that_cannot_be_read_leaves_the_others_to_be_imported() {
    let bench = Bench::new(SMALL);
    let (image, _) = boxes(0);
    let good = bench.folder.path().join("good.nii.gz");
    fs::write(&good, encode_volume(&image)).unwrap();
    let bad = bench.folder.path().join("bad.nii.gz");
    fs::write(&bad, b"no volume").unwrap();
    let nan = bench.folder.path().join("nan.nii.gz");
    let broken = Volume {
        voxels: vec![f32::NAN; image.grid.len()],
        ..image
    };
    fs::write(&nan, encode_volume(&broken)).unwrap();
    let item = |name: &str, file: &std::path::Path| ImportItem {
        id: id(name),
        images: vec![file.to_path_buf()],
        mask: None,
        pool: None,
    };
    let items = vec![item("bad", &bad), item("nan", &nan), item("good", &good)];
    let Answer::Imported { cases, refused, .. } = bench.ask(Command::Import { items, pool: None }).unwrap()
    else {
        panic!()
    };
    assert_eq!(cases, [id("good")]);
    assert!(
        refused[0].1.contains("stops after 9 bytes") && refused[1].1.contains("finite"),
        "{refused:?}"
    );
}
