//! The inbox with real files: each row of the hand-in rules that is built, by its code.
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use overtrace::imaging::{Affine, LabelMap, Volume, encode_labels, encode_volume};
use overtrace::protocol::{Answer, Command, IntakeReport, Outcome, Status};
use overtrace::records::{HeldId, Pool};
use support::{Bench, SMALL, boxes, id};

/// A project with one unlabelled case that is out with somebody, drawn by nobody.
fn out_without_a_model(settings: &str) -> Bench {
    let bench = Bench::new(settings);
    bench.import("brain_1", 0, Pool::Unlabelled);
    bench.hand_out("brain_1");
    bench
}

/// A project whose case was drawn by a model.
fn out_with_a_model() -> Bench {
    let bench = Bench::new(SMALL);
    bench.import("labelled", 1, Pool::Labelled);
    bench.import("brain_1", 0, Pool::Unlabelled);
    bench.start_round();
    bench.start_round();
    bench.hand_out("brain_1");
    bench
}

fn truth() -> Vec<u8> {
    encode_labels(&boxes(0).1, u16::from)
}

fn verdict(report: &IntakeReport) -> (Outcome, &str) {
    (report.outcome, report.code.as_str())
}

/// Drops `bytes` for a case that is out and says what became of them.
fn verdict_of(name: &str, bytes: &[u8]) -> (Outcome, String, String) {
    let bench = out_without_a_model(SMALL);
    bench.drop_file(name, bytes);
    let report = bench.only_report();
    (report.outcome, report.code, report.words)
}

fn refused(name: &str, bytes: &[u8], code: &str, words: &str) {
    let bench = out_without_a_model(SMALL);
    bench.drop_file(name, bytes);
    let report = bench.only_report();
    assert_eq!(verdict(&report), (Outcome::Reject, code), "{}", report.words);
    assert!(report.words.contains(words), "{}", report.words);
    assert!(!bench.inbox().join(name).exists(), "it is moved away");
    assert_eq!(
        fs::read(bench.inbox().join("quarantine").join(name)).unwrap(),
        bytes,
        "and not deleted"
    );
    let reason = bench
        .inbox()
        .join("quarantine")
        .join(format!("{name}.reason.json"));
    let reason: serde_json::Value = serde_json::from_slice(&fs::read(reason).unwrap()).unwrap();
    assert_eq!(
        (reason["code"].as_str(), reason["file"].as_str()),
        (Some(code), Some(name))
    );
    assert!(reason["reason"].as_str().unwrap().contains(words));
    assert!(bench.snapshot().corrections.is_empty(), "never half-taken");
}

#[test]
fn k1_a_good_mask_is_taken_measured_and_moved_and_the_case_is_labelled() {
    let bench = out_with_a_model();
    bench.drop_file("brain_1_corrected.nii.gz", &truth());
    let report = bench.only_report();
    assert_eq!(verdict(&report), (Outcome::Accept, "K1"), "{}", report.words);
    assert_eq!(report.effort.len(), 3);
    assert!(
        report.effort.iter().all(|class| class.saved().is_some()),
        "{:?}",
        report.effort
    );
    let snapshot = bench.snapshot();
    let case = &snapshot.cases[&id("brain_1")];
    assert_eq!(
        (case.pool, case.mask_versions, case.handout),
        (Pool::Labelled, 1, None)
    );
    let correction = &snapshot.corrections[&report.correction.unwrap()];
    assert_eq!(
        (correction.who.as_str(), correction.effort.clone()),
        ("bob", report.effort.clone())
    );
    assert_eq!(snapshot.open_round().unwrap().returned, 1);
    assert!(bench.inbox().join("done/brain_1_corrected.nii.gz").exists());
    assert!(bench.scan().is_empty());
    let bench = bench.restart();
    assert_eq!(
        bench.snapshot().corrections.len(),
        1,
        "it is there at the next start"
    );
}

#[test]
fn effort_is_measured_against_what_was_handed_out_and_not_a_later_model_s_drawing() {
    let bench = out_with_a_model();
    let handed_out = bench.snapshot().handouts.values().next_back().unwrap().clone();
    // The round goes on without the case; a later model draws it anew.
    bench.ask(Command::Train).unwrap();
    let snapshot = bench.snapshot();
    assert_ne!(snapshot.project.model, handed_out.model, "there is a later model");
    bench.drop_file("brain_1_corrected.nii.gz", &truth());
    let report = bench.only_report();
    let correction = bench.snapshot().corrections[&report.correction.unwrap()].clone();
    assert_eq!(correction.model, handed_out.model);
    assert_eq!(correction.pre_annotation, handed_out.pre_annotation);
    assert_eq!(
        correction.round, None,
        "the round that asked has closed without it"
    );
}

#[test]
fn without_a_model_saved_effort_is_not_applicable() {
    let bench = out_without_a_model(SMALL);
    bench.drop_file("brain_1.nii.gz", &truth());
    let report = bench.only_report();
    assert_eq!((report.outcome, report.effort.len()), (Outcome::Accept, 0));
    assert!(report.words.contains("n/a"), "{}", report.words);
}

#[test]
fn n1_what_copying_programs_leave_is_left_alone() {
    let bench = out_without_a_model(SMALL);
    for name in [
        ".brain_1.nii.gz.X1",
        "brain_1.nii.gz.filepart",
        "~$x",
        "Thumbs.db",
        "._brain_1.nii.gz",
    ] {
        bench.drop_file(name, b"x");
    }
    assert!(bench.scan().is_empty());
    assert!(bench.inbox().join("Thumbs.db").exists());
}

#[test]
fn n2_names_in_any_letter_case_with_the_usual_suffixes_are_taken() {
    for name in [
        "brain_1.nii.gz",
        "BRAIN_1_SEG.NII.GZ",
        "brain_1_mask.nii.gz",
        "brain_1_dseg.nii.gz",
    ] {
        assert_eq!(verdict_of(name, &truth()).0, Outcome::Accept, "{name}");
    }
    refused("brain_1.png", b"x", "N2", "NIfTI");
}

#[test]
fn n3_a_name_that_is_no_case_gets_the_nearest_ones() {
    refused("brain_7.nii.gz", &truth(), "N3", "brain_1");
    refused("brain_1_0000.nii.gz", &truth(), "N3", "not a mask");
}

#[test]
fn n3_a_name_that_could_be_any_of_several_cases_is_refused_unless_it_is_exactly_one_s() {
    let bench = Bench::new(SMALL);
    bench.import("brain_1", 0, Pool::Unlabelled);
    bench.import("Brain_1", 1, Pool::Unlabelled);
    bench.hand_out("Brain_1");
    bench.drop_file("BRAIN_1_seg.nii.gz", &truth());
    let report = bench.only_report();
    assert_eq!(verdict(&report), (Outcome::Reject, "N3"), "{}", report.words);
    assert!(report.words.contains("any of several"), "{}", report.words);
    bench.drop_file("Brain_1_seg.nii.gz", &truth());
    assert_eq!(bench.only_report().case, Some(id("Brain_1")));
}

#[test]
fn n3_a_name_cannot_write_to_the_terminal() {
    let (outcome, _, words) = verdict_of("\u{1b}[2J.nii.gz", &truth());
    assert_eq!(outcome, Outcome::Reject);
    assert!(!words.contains('\u{1b}'), "{words:?}");
}

#[test]
fn n4_a_case_that_nobody_has_is_held_and_can_be_accepted_or_refused() {
    for accept in [true, false] {
        let bench = Bench::new(SMALL);
        bench.import("brain_1", 0, Pool::Unlabelled);
        bench.drop_file("brain_1.nii.gz", &truth());
        let report = bench.only_report();
        assert_eq!(verdict(&report), (Outcome::Hold, "N4"));
        let held = report.held.unwrap();
        assert_eq!(
            bench.snapshot().queue()[0].status,
            Status::Held { code: "N4".into() }
        );
        let bench = bench.restart();
        if accept {
            let Answer::Intake(reports) = bench.ask(Command::AcceptHeld { held, fix: false }).unwrap() else {
                panic!()
            };
            assert_eq!(verdict(&reports[0]), (Outcome::Warn, "N4"));
            let snapshot = bench.snapshot();
            let correction = snapshot.corrections.values().next().unwrap();
            assert!(correction.notes[0].starts_with("N4"), "{:?}", correction.notes);
            assert_eq!(snapshot.cases[&id("brain_1")].pool, Pool::Labelled);
        } else {
            bench.done(Command::RefuseHeld {
                held,
                why: "not ours".into(),
            });
            assert_eq!(bench.snapshot().cases[&id("brain_1")].pool, Pool::Unlabelled);
            assert!(
                bench
                    .inbox()
                    .join("quarantine/f1-brain_1.nii.gz.reason.json")
                    .exists()
            );
        }
        assert_eq!(bench.snapshot().waiting().count(), 0);
        assert!(
            bench
                .ask(Command::AcceptHeld { held, fix: false })
                .unwrap_err()
                .contains("already")
        );
    }
}

#[test]
fn a_held_file_that_was_changed_meanwhile_is_not_accepted() {
    let bench = Bench::new(SMALL);
    bench.import("brain_1", 0, Pool::Unlabelled);
    bench.drop_file("brain_1.nii.gz", &truth());
    bench.only_report();
    fs::write(
        bench.inbox().join("held/f1-brain_1.nii.gz"),
        encode_labels(&boxes(3).1, u16::from),
    )
    .unwrap();
    let error = bench
        .ask(Command::AcceptHeld {
            held: HeldId(1),
            fix: false,
        })
        .unwrap_err();
    assert!(error.contains("not the file that was held"), "{error}");
}

#[test]
fn s1_a_file_that_just_changed_or_is_not_complete_waits_and_is_refused_in_time() {
    let bench = out_without_a_model(&SMALL.replace("stable_s = 0.0", "stable_s = 600.0"));
    bench.drop_file("brain_1.nii.gz", &truth());
    assert_eq!(verdict(&bench.only_report()), (Outcome::Wait, "S1"));
    assert!(bench.scan().is_empty(), "told of once");
    let status = |bench: &Bench| bench.snapshot().queue()[0].status.clone();
    assert_eq!(status(&bench).word(), "in inbox");
    fs::remove_file(bench.inbox().join("brain_1.nii.gz")).unwrap();
    bench.scan();
    assert_eq!(status(&bench).word(), "out");

    let bytes = truth();
    let half = &bytes[..bytes.len() / 2];
    let (outcome, code, _) = verdict_of("brain_1.nii.gz", half);
    assert_eq!((outcome, code.as_str()), (Outcome::Wait, "S1"));

    let bench = out_without_a_model(&SMALL.replace("stable_s", "incomplete_after_s = 0.0\nstable_s"));
    bench.drop_file("brain_1.nii.gz", half);
    let report = bench.only_report();
    assert_eq!(verdict(&report), (Outcome::Reject, "S1"));
    assert!(report.words.starts_with("incomplete"), "{}", report.words);
}

#[test]
fn s2_links_are_never_followed() {
    let bench = out_without_a_model(SMALL);
    let outside = bench.folder.path().join("outside.nii.gz");
    fs::write(&outside, truth()).unwrap();
    symlink(&outside, bench.inbox().join("brain_1.nii.gz")).unwrap();
    assert_eq!(verdict(&bench.only_report()), (Outcome::Reject, "S2"));
    fs::hard_link(&outside, bench.inbox().join("brain_1_seg.nii.gz")).unwrap();
    assert_eq!(verdict(&bench.only_report()), (Outcome::Reject, "S2"));
    fs::create_dir(bench.inbox().join("brain_1")).unwrap();
    assert_eq!(verdict(&bench.only_report()), (Outcome::Reject, "S2"));
}

#[test]
fn c1_a_flipped_bit_is_refused() {
    let mut bytes = truth();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    refused("brain_1.nii.gz", &bytes, "C1", "gzip");
}

#[test]
fn c2_a_name_that_does_not_say_what_the_file_is_gets_a_note() {
    let (outcome, code, _) = verdict_of("brain_1.nii", &truth());
    assert_eq!((outcome, code.as_str()), (Outcome::Warn, "C2"));
}

#[test]
fn c3_a_file_that_unpacks_to_far_too_much_is_refused_before_it_is_held_in_memory() {
    let grid = overtrace::imaging::Grid::new([512, 512, 64], [1.0, 1.0, 3.0]);
    refused(
        "brain_1.nii.gz",
        &encode_labels(&LabelMap::empty(grid), u16::from),
        "C3",
        "more than",
    );
}

#[test]
fn h1_a_header_that_makes_no_sense_is_refused() {
    refused("brain_1.nii", &[0x5c; 400], "H1", "sizeof_hdr");
}

#[test]
fn g2_another_shape_is_refused() {
    let grid = overtrace::imaging::Grid::new([20, 24, 5], [1.0, 1.0, 3.0]);
    refused(
        "brain_1.nii.gz",
        &encode_labels(&LabelMap::empty(grid), u16::from),
        "G2",
        "20 x 24 x 5",
    );
}

#[test]
fn g3_a_mask_moved_a_little_gets_a_note_and_one_moved_further_is_refused() {
    let moved = |mm: f64| {
        let mut mask = boxes(0).1;
        mask.grid.affine.0[0][3] += mm;
        encode_labels(&mask, u16::from)
    };
    let (outcome, code, _) = verdict_of("brain_1.nii.gz", &moved(0.05));
    assert_eq!((outcome, code.as_str()), (Outcome::Warn, "G3"));
    refused("brain_1.nii.gz", &moved(0.5), "G3", "moved");
}

#[test]
fn g4_a_lost_header_is_held_and_accepting_it_reads_it_on_the_image_s_grid() {
    let bench = out_without_a_model(SMALL);
    let mut mask = boxes(0).1;
    mask.grid.affine = Affine::from_spacing([1.0; 3]);
    bench.drop_file("brain_1.nii.gz", &encode_labels(&mask, u16::from));
    let report = bench.only_report();
    assert_eq!(verdict(&report), (Outcome::Hold, "G4"));
    let accepted = bench.accept(&report);
    assert_eq!(verdict(&accepted), (Outcome::Warn, "G4"), "{}", accepted.words);
}

#[test]
fn v2_near_whole_floats_are_rounded_and_interpolated_ones_refused() {
    let floats = |off: f32| {
        let mask = boxes(0).1;
        let voxels = mask
            .voxels
            .iter()
            .map(|&class| f32::from(class) + if class > 0 { off } else { 0.0 });
        encode_volume(&Volume {
            grid: mask.grid,
            voxels: voxels.collect(),
        })
    };
    let (outcome, code, _) = verdict_of("brain_1.nii.gz", &floats(-0.0005));
    assert_eq!((outcome, code.as_str()), (Outcome::Warn, "V2"));
    refused("brain_1.nii.gz", &floats(0.4), "V2", "interpolated");
}

#[test]
fn v4_a_value_that_is_no_label_is_refused_with_its_count() {
    let mut mask = boxes(0).1;
    mask.voxels[..7].fill(9);
    refused(
        "brain_1.nii.gz",
        &encode_labels(&mask, u16::from),
        "V4",
        "9 (7 voxels)",
    );
}

#[test]
fn v4_a_mask_of_0_and_255_is_held_and_cannot_be_accepted_where_nothing_says_which_label_is_meant() {
    let bench = out_without_a_model(SMALL);
    let mut mask = boxes(0).1;
    mask.voxels
        .iter_mut()
        .for_each(|class| *class = 255 * u8::from(*class == 1));
    bench.drop_file("brain_1.nii.gz", &encode_labels(&mask, u16::from));
    let report = bench.only_report();
    assert_eq!(verdict(&report), (Outcome::Hold, "V4"), "{}", report.words);
    assert_eq!(verdict(&bench.accept(&report)), (Outcome::Reject, "V4"));
    // A table beside it says which.
    bench.drop_file("brain_1.tsv", b"index\tname\n255\tCSF\n");
    bench.drop_file("brain_1.nii.gz", &encode_labels(&mask, u16::from));
    assert!(bench.only_report().correction.is_some());
}

#[test]
fn p1_an_empty_mask_is_held() {
    let (outcome, code, _) = verdict_of(
        "brain_1.nii.gz",
        &encode_labels(&LabelMap::empty(boxes(0).1.grid), u16::from),
    );
    assert_eq!((outcome, code.as_str()), (Outcome::Hold, "P1"));
}

#[test]
fn p3_an_unchanged_pre_annotation_is_held() {
    let bench = Bench::new(SMALL);
    bench.import("brain_1", 0, Pool::Labelled);
    let out = bench.hand_out("brain_1");
    fs::copy(&out.mask, out.inbox.join(&out.reply_name)).unwrap();
    assert_eq!(verdict(&bench.only_report()), (Outcome::Hold, "P3"));
}

#[test]
fn p4_the_same_content_again_is_one_record_and_for_another_case_it_is_refused() {
    let bench = out_without_a_model(SMALL);
    bench.import("brain_2", 2, Pool::Unlabelled);
    bench.hand_out("brain_2");
    bench.drop_file("brain_1.nii.gz", &truth());
    assert_eq!(bench.only_report().outcome, Outcome::Accept);
    bench.drop_file("brain_1.nii.gz", &truth());
    assert_eq!(verdict(&bench.only_report()), (Outcome::Warn, "P4"));
    assert_eq!(bench.snapshot().corrections.len(), 1);
    bench.drop_file("brain_2.nii.gz", &truth());
    assert_eq!(verdict(&bench.only_report()), (Outcome::Reject, "P4"));
}

#[test]
fn what_the_engine_writes_is_nobody_else_s() {
    let bench = out_with_a_model();
    bench.drop_file("brain_1.nii.gz", &truth());
    bench.only_report();
    let mut open = Vec::new();
    let mut folders = vec![bench.project().join("store"), bench.project().join("handouts")];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).unwrap().map(|item| item.unwrap()) {
            let meta = item.metadata().unwrap();
            // sled makes its own files by the process's umask, which the program sets and a test does not.
            let is_index = item.path().components().any(|part| part.as_os_str() == "index");
            if meta.permissions().mode() & 0o077 != 0 && !is_index {
                open.push(item.path());
            }
            if meta.is_dir() {
                folders.push(item.path());
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_held_pair_is_kept_whole_and_can_be_accepted() {
    let bench = Bench::new(SMALL);
    bench.import("brain_1", 0, Pool::Unlabelled);
    let single = overtrace::imaging::gunzip(&truth(), 1 << 20).unwrap();
    let mut header = single[..348].to_vec();
    header[344..348].copy_from_slice(b"ni1\0");
    header[108..112].copy_from_slice(&0f32.to_le_bytes());
    bench.drop_file("brain_1.img", &single[352..]);
    bench.drop_file("brain_1.hdr", &header);
    let report = bench.only_report();
    assert_eq!(verdict(&report), (Outcome::Hold, "N4"), "{}", report.words);
    let accepted = bench.accept(&report);
    assert_eq!(verdict(&accepted), (Outcome::Warn, "N4"), "{}", accepted.words);
    assert!(
        bench.inbox().join("done/brain_1.hdr").exists() && bench.inbox().join("done/brain_1.img").exists()
    );
}

#[test]
fn a_held_file_never_overwrites_one_that_a_crash_left_without_a_record() {
    let bench = Bench::new(SMALL);
    bench.import("brain_1", 0, Pool::Unlabelled);
    fs::create_dir(bench.inbox().join("held")).unwrap();
    fs::write(bench.inbox().join("held/f1-brain_1.nii.gz"), b"an hour of work").unwrap();
    bench.drop_file("brain_1.nii.gz", &truth());
    assert_eq!(bench.only_report().held, Some(HeldId(2)));
    assert_eq!(
        fs::read(bench.inbox().join("held/f1-brain_1.nii.gz")).unwrap(),
        b"an hour of work"
    );
}

#[test]
fn labels_that_were_exchanged_under_existing_masks_stop_the_inbox() {
    let bench = out_with_a_model();
    let swapped = "labels = [{ value = 2, name = \"CSF\", color = \"#111111\" }, \
                   { value = 1, name = \"GM\", color = \"#222222\" }, { value = 3, name = \"WM\", color = \"#333333\" }]\n";
    fs::write(
        bench.project().join("overtrace.toml"),
        format!("{swapped}{SMALL}"),
    )
    .unwrap();
    let bench = bench.restart();
    bench.drop_file("brain_1_corrected.nii.gz", &truth());
    let error = bench.ask(Command::ScanInbox).unwrap_err();
    assert!(error.contains("labels are [2 CSF, 1 GM, 3 WM] now"), "{error}");
    assert!(
        bench.inbox().join("brain_1_corrected.nii.gz").exists(),
        "it waits until they are put back"
    );
}

#[test]
fn a_round_is_complete_without_a_case_that_was_excluded() {
    let bench = Bench::new(&format!("{SMALL}[query]\nbudget = 2\n"));
    bench.import("brain_1", 0, Pool::Unlabelled);
    bench.import("brain_2", 1, Pool::Unlabelled);
    bench.start_round();
    bench.hand_out("brain_1");
    bench.drop_file("brain_1.nii.gz", &truth());
    bench.only_report();
    assert!(!bench.snapshot().is_complete());
    bench.done(Command::Exclude {
        case: id("brain_2"),
        why: "w".repeat(70_000),
    });
    assert!(bench.snapshot().is_complete());
    let why = bench.restart().snapshot().cases[&id("brain_2")]
        .excluded
        .clone()
        .unwrap();
    assert_eq!(why.len(), 500, "a long reason is cut, and the project opens");
}

#[test]
fn p1_a_class_that_is_gone_is_held_by_name() {
    let bench = out_with_a_model();
    let drawn = bench.snapshot().predictions[&id("brain_1")].class_voxels.clone();
    let Some(gone) = (1..drawn.len()).find(|&class| drawn[class] > 50) else {
        panic!("the model drew nothing: {drawn:?}")
    };
    let (_, mut map) = boxes(0);
    map.voxels
        .iter_mut()
        .filter(|class| usize::from(**class) == gone)
        .for_each(|class| *class = 0);
    bench.drop_file("brain_1.nii.gz", &encode_labels(&map, u16::from));
    let report = bench.only_report();
    assert_eq!(verdict(&report), (Outcome::Hold, "P1"));
    assert!(report.words.contains("voxels were drawn"), "{}", report.words);
}

#[test]
fn n4_a_held_out_case_is_not_corrected() {
    let bench = out_with_a_model();
    bench.import("test", 2, Pool::HeldOut);
    bench.drop_file("test.nii.gz", &truth());
    assert_eq!(verdict(&bench.only_report()), (Outcome::Reject, "N4"));
}

/// Journalled, but the machine stopped before the file was moved: the next look moves it to the row that waits for it.
#[test]
fn a_file_that_was_journalled_as_held_and_not_moved_is_held_once() {
    let bench = out_without_a_model(SMALL);
    bench.drop_file(
        "brain_1.nii.gz",
        &encode_labels(&LabelMap::empty(boxes(0).1.grid), u16::from),
    );
    assert_eq!(verdict(&bench.only_report()), (Outcome::Hold, "P1"));
    let held = fs::read_dir(bench.inbox().join("held"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::rename(&held, bench.inbox().join("brain_1.nii.gz")).unwrap();
    let bench = bench.restart();
    assert_eq!(verdict(&bench.only_report()), (Outcome::Hold, "P1"));
    assert_eq!(bench.snapshot().held.len(), 1);
    assert!(held.exists());
}

#[test]
fn a_held_file_is_not_decided_about_while_the_folder_of_all_of_them_is_elsewhere() {
    let bench = out_without_a_model(SMALL);
    bench.drop_file(
        "brain_1.nii.gz",
        &encode_labels(&LabelMap::empty(boxes(0).1.grid), u16::from),
    );
    let held = bench.only_report().held.unwrap();
    fs::rename(bench.inbox().join("held"), bench.inbox().join("../elsewhere")).unwrap();
    let command = Command::RefuseHeld {
        held,
        why: "empty".into(),
    };
    assert!(bench.ask(command).unwrap_err().contains("inbox.folder"));
    assert_eq!(bench.snapshot().waiting().count(), 1);
}
