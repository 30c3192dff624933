//! What a person has to decide between: two readings of one file, one decision after the other.
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;

use overtrace::imaging::{Affine, LabelMap, Volume, encode_volume, gunzip};
use overtrace::protocol::{Answer, Beside, Command, ImportItem, Outcome, Wanted};
use overtrace::records::{CorrectionId, Fix, Pool};
use support::hands::{drawn, fix, hand_out_to, held, open, out_again, packed, trains_with};
use support::{Bench, SMALL, boxes, id};

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
    // Accepted as it is it would be none; it stays where it is.
    let accept = Command::AcceptHeld {
        held: number,
        fix: false,
    };
    assert!(bench.ask(accept).unwrap_err().contains("resampled"));
    assert_eq!(bench.snapshot().waiting().count(), 1);
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
    // She was given his mask to look over: hers trains.
    let report = fix(&bench, number);
    assert!(report.words.contains("a revision of c1 of bob"), "{report:?}");
    assert_eq!(trains_with(&bench, "brain"), meant.voxels);

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
    let name = format!("done/{number}-other.nii.gz");
    assert!(
        bench.inbox().join(name).exists(),
        "it lies under its own case's name"
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
    // Before the mask in the alphabet, after it, and in large letters.
    for (table, text) in [
        ("brain_dseg.tsv", bids),
        ("brain_dseg.txt", itk),
        ("brain_dseg.label", itk),
        ("brain_dseg.TSV", bids),
    ] {
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

/// Both dropped while nobody looked, long ago: the table is never gone before its mask is read.
#[test]
fn v5_a_table_waits_for_its_mask_however_long_and_one_that_is_none_holds_it() {
    let bench = Bench::new(&SMALL.replace("stable_s = 0.0", "stable_s = 0.0\nincomplete_after_s = 0.0"));
    bench.import("brain", 0, Pool::Unlabelled);
    bench.hand_out("brain");
    bench.drop_file("shopping.txt", b"eggs");
    let report = bench.only_report();
    assert_eq!((report.outcome, report.code.as_str()), (Outcome::Reject, "N2"));
    bench.drop_file("brain_corrected.label", b"index\tname\n1\tGM\n2\tWM\n3\tCSF\n");
    let report = bench.only_report();
    assert_eq!((report.outcome, report.code.as_str()), (Outcome::Wait, "V5"));
    bench.drop_file("brain_corrected.nii.gz", &packed(&boxes(0).1));
    let report = bench.only_report();
    assert!(report.correction.is_some(), "{report:?}");
    let named: Vec<u8> = boxes(0)
        .1
        .voxels
        .iter()
        .map(|&class| [0, 2, 3, 1][usize::from(class)])
        .collect();
    assert_eq!(trains_with(&bench, "brain"), named);
    // The same bytes without the table, or with another, are another mask: once more, and they are known.
    let sent = |table: Option<&[u8]>| {
        if let Some(table) = table {
            bench.drop_file("brain_corrected.tsv", table);
        }
        bench.drop_file("brain_corrected.nii.gz", &packed(&boxes(0).1));
        bench.only_report()
    };
    let report = sent(Some(b"index\tname\n1\tCSF\n2\tGM\n3\tWM\n"));
    held(&report, "N4");
    assert!(bench.accept(&report).correction.is_some());
    assert_eq!(trains_with(&bench, "brain"), boxes(0).1.voxels);
    let report = sent(Some(b"index\tname\n1\tCSF\n2\tGM\n3\tWM\n"));
    assert_eq!(
        (report.outcome, report.code.as_str()),
        (Outcome::Warn, "P4"),
        "{report:?}"
    );
    // A name that is no label is refused; a table that is none holds the mask.
    let report = sent(Some(b"index\tname\n1\tTumour\n"));
    assert_eq!(report.code, "N4", "by its name it answers what has come back");
    let report = bench.accept(&report);
    assert_eq!((report.outcome, report.code.as_str()), (Outcome::Reject, "V5"));
    assert!(report.words.contains("Tumour"), "{report:?}");
    let number = held(&sent(Some(b"notes on this case")), "V5");
    let place = bench.inbox().join("held");
    assert!(
        place.join(format!("{number}-brain.nii.gz")).exists()
            && place.join(format!("{number}-brain.tsv")).exists()
    );
    // Without the table it came with it is not what was held.
    let away = bench.folder.path().join("away");
    fs::rename(place.join(format!("{number}-brain.tsv")), &away).unwrap();
    let accept = || {
        bench.ask(Command::AcceptHeld {
            held: number,
            fix: false,
        })
    };
    assert!(accept().unwrap_err().contains("is not the one beside"));
    fs::rename(&away, place.join(format!("{number}-brain.tsv"))).unwrap();
    let Answer::Intake(reports) = accept().unwrap() else {
        panic!()
    };
    assert_eq!(
        reports[0].code, "N4",
        "what else is odd is decided about for itself: {reports:?}"
    );
}

/// One decision lets one thing pass.
#[test]
fn a_held_file_that_is_odd_in_two_ways_waits_for_two_decisions() {
    let bench = drawn();
    bench.drop_file("brain.nii.gz", &packed(&LabelMap::empty(boxes(0).1.grid)));
    let first = bench.only_report();
    let number = held(&first, "N4");
    let again = bench.accept(&first);
    assert_eq!(
        (again.code.as_str(), again.held),
        ("P1", Some(number)),
        "{again:?}"
    );
    let row = bench.snapshot().held[&number].clone();
    assert_eq!(
        (row.code.as_str(), row.passed.as_slice()),
        ("P1", &["N4".to_string()][..])
    );
    let bench = bench.restart();
    let last = bench.accept(&again);
    assert!(last.correction.is_some(), "{last:?}");
    let notes = &bench.snapshot().corrections[&CorrectionId(1)].notes;
    assert!(
        notes.iter().any(|note| note.starts_with("N4")) && notes.iter().any(|note| note.starts_with("P1")),
        "{notes:?}"
    );
}

/// A pair that could not be read is held whole, and so is one whose image is packed.
#[test]
fn a_pair_is_never_torn() {
    let bench = Bench::new(SMALL);
    bench.import("brain", 0, Pool::Unlabelled);
    let (hdr, img) = overtrace::imaging::split_pair(&gunzip(&packed(&boxes(0).1), 1 << 20).unwrap());
    // The reader of volumes kills itself over this one.
    let dying = bench.folder.path().join("dying");
    fs::write(&dying, "#!/bin/sh\nkill -6 $$\n").unwrap();
    fs::set_permissions(&dying, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let bench = bench.restart_reading_with(&dying);
    bench.drop_file("brain_corrected.hdr", &hdr);
    bench.drop_file("brain_corrected.img.gz", &gzip(&img));
    let report = bench.only_report();
    let number = held(&report, "C3");
    let place = bench.inbox().join("held");
    assert!(
        place.join(format!("{number}-brain.hdr")).exists()
            && place.join(format!("{number}-brain.img.gz")).exists()
    );
    let bench = bench.restart();
    let report = bench.accept(&report);
    held(&report, "N4");
    assert!(bench.accept(&report).correction.is_some());
    assert_eq!(trains_with(&bench, "brain"), boxes(0).1.voxels);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// Held unread, with something beside it that is no label table: looked at, it says so.
#[test]
fn what_is_held_before_it_was_read_can_be_looked_at_without_harm() {
    let bench = Bench::new(SMALL);
    bench.import("brain", 0, Pool::Unlabelled);
    bench.hand_out("brain");
    let dying = bench.folder.path().join("dying");
    fs::write(&dying, "#!/bin/sh\nkill -6 $$\n").unwrap();
    fs::set_permissions(&dying, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let bench = bench.restart_reading_with(&dying);
    bench.drop_file("brain_corrected.txt", b"notes on this case");
    bench.drop_file("brain_corrected.nii.gz", &packed(&boxes(0).1));
    let reports = bench.scan();
    let report = reports
        .iter()
        .find(|report| report.outcome == Outcome::Hold)
        .unwrap();
    let number = held(report, "C3");
    let bench = bench.restart();
    let wanted = Wanted {
        held: Some(number),
        ..Wanted::of(&id("brain"))
    };
    let words = bench.ask(Command::Open(wanted)).unwrap_err();
    assert!(words.contains("label table"), "{words}");
    let again = bench.accept(report);
    assert_eq!(again.code, "V5", "{again:?}");
    assert!(bench.accept(&again).correction.is_some());
}

/// Somebody took the file out of the folder: it can be settled all the same.
#[test]
fn a_held_file_that_is_nowhere_can_be_refused() {
    let bench = Bench::new(SMALL);
    bench.import("brain", 0, Pool::Unlabelled);
    bench.drop_file("brain_seg.nii.gz", &packed(&boxes(0).1));
    let number = held(&bench.only_report(), "N4");
    fs::remove_file(bench.inbox().join(format!("held/{number}-brain.nii.gz"))).unwrap();
    let accept = Command::AcceptHeld {
        held: number,
        fix: false,
    };
    bench.ask(accept).unwrap_err();
    let words = bench.done(Command::RefuseHeld {
        held: number,
        why: "it is gone".into(),
    });
    assert!(words.contains("was not at"), "{words}");
    assert_eq!(bench.snapshot().waiting().count(), 0);
}

/// The same bytes with another table are another mask, also while the first one waits.
#[test]
fn a_table_belongs_to_the_file_that_it_came_with() {
    let bench = Bench::new(SMALL);
    bench.import("brain", 0, Pool::Unlabelled);
    let sent = |table: &[u8]| {
        bench.drop_file("brain_dseg.tsv", table);
        bench.drop_file("brain_dseg.nii.gz", &packed(&boxes(0).1));
        bench.only_report()
    };
    let wrong = sent(b"index\tname\n1\tGM\n2\tCSF\n3\tWM\n");
    let right = sent(b"index\tname\n1\tCSF\n2\tGM\n3\tWM\n");
    assert_ne!(held(&wrong, "N4"), held(&right, "N4"));
    assert!(bench.accept(&right).correction.is_some());
    assert_eq!(trains_with(&bench, "brain"), boxes(0).1.voxels);
}

/// What is no file is refused and never opened: a pipe beside a mask would keep the engine waiting.
#[test]
fn s2_a_pipe_that_is_called_like_a_label_table_is_refused_with_its_mask() {
    let bench = Bench::new(SMALL);
    bench.import("brain", 0, Pool::Unlabelled);
    bench.hand_out("brain");
    let pipe = bench.inbox().join("brain_corrected.tsv");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    bench.drop_file("brain_corrected.nii.gz", &packed(&boxes(0).1));
    let report = bench.only_report();
    assert_eq!(
        (report.outcome, report.code.as_str()),
        (Outcome::Reject, "S2"),
        "{report:?}"
    );
}

/// A file of the same name as one whose place was lost is not put aside before it rests.
#[test]
fn s1_what_still_changes_is_waited_for_though_a_row_waits_for_its_name() {
    let bench = Bench::new(SMALL);
    bench.import("brain", 0, Pool::Unlabelled);
    let dying = bench.folder.path().join("dying");
    fs::write(&dying, "#!/bin/sh\nkill -6 $$\n").unwrap();
    fs::set_permissions(&dying, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let bench = bench.restart_reading_with(&dying);
    bench.drop_file("brain_corrected.nii.gz", b"unread");
    let number = held(&bench.only_report(), "C3");
    fs::remove_file(bench.inbox().join(format!("held/{number}-brain.nii.gz"))).unwrap();
    let settings = bench.project().join("overtrace.toml");
    fs::write(settings, SMALL.replace("stable_s = 0.0", "stable_s = 600.0")).unwrap();
    let bench = bench.restart();
    bench.drop_file("brain_corrected.nii.gz", b"half a ma");
    let report = bench.only_report();
    assert_eq!(
        (report.outcome, report.code.as_str()),
        (Outcome::Wait, "S1"),
        "{report:?}"
    );
    assert!(bench.inbox().join("brain_corrected.nii.gz").exists());
}

/// A reader that cannot be started is nobody's file's fault.
#[test]
fn without_a_reader_files_wait() {
    let bench = Bench::new(SMALL);
    bench.import("brain", 0, Pool::Unlabelled);
    bench.hand_out("brain");
    let bench = bench.restart_reading_with(std::path::Path::new("/nowhere/overtrace"));
    bench.drop_file("brain_corrected.nii.gz", &packed(&boxes(0).1));
    let report = bench.only_report();
    assert_eq!(
        (report.outcome, report.code.as_str()),
        (Outcome::Wait, "S3"),
        "{report:?}"
    );
    assert!(!report.words.contains("chmod"), "{report:?}");
    let bench = bench.restart();
    assert!(bench.only_report().correction.is_some());
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
