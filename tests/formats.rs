//! Masks written by the tools that people use (`fixtures/masks/make.py`) are taken in, each to the same voxels.

#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use overtrace::imaging::{Affine, Grid, LabelMap, Volume, decode_scan, encode_labels, encode_volume, gunzip};
use overtrace::protocol::{Answer, Command, ImportItem, Outcome};
use overtrace::records::Pool;
use support::{Bench, SMALL, id};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/masks")
        .join(name)
}

/// The image's grid and the mask's classes, as the script had them.
fn expected() -> (Grid, Vec<u8>) {
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(fixture("expected.json")).unwrap()).unwrap();
    let grid = Grid {
        shape: serde_json::from_value(json["shape"].clone()).unwrap(),
        affine: Affine(serde_json::from_value(json["affine"].clone()).unwrap()),
    };
    (grid, serde_json::from_value(json["voxels"].clone()).unwrap())
}

/// A project with one case on that grid, handed out.
fn bench() -> Bench {
    let bench = Bench::new(SMALL);
    let (grid, voxels) = expected();
    let voxels = voxels.iter().map(|&class| 10.0 + f32::from(class)).collect();
    let file = bench.folder.path().join("image.nii.gz");
    fs::write(&file, encode_volume(&Volume { grid, voxels })).unwrap();
    import(&bench, "brain", file);
    bench.hand_out("brain");
    bench
}

fn import(bench: &Bench, name: &str, file: PathBuf) {
    let items = vec![ImportItem {
        id: id(name),
        images: vec![file],
        mask: None,
        pool: Some(Pool::Unlabelled),
    }];
    match bench.ask(Command::Import { items, pool: None }).unwrap() {
        Answer::Imported { refused, .. } => assert_eq!(refused, []),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_form_of_the_same_mask_becomes_the_same_voxels() {
    for (file, ending, code) in [
        ("nifti1.nii.gz", "nii.gz", "K1"),
        ("nifti2.nii.gz", "nii.gz", "K1"),
        ("nifti2_big.nii", "nii", "K1"),
        ("members.nii.gz", "nii.gz", "K1"),
        ("sitk.nii.gz", "nii.gz", "K1"),
        ("sitk.nrrd", "nrrd", "K1"),
        ("sitk_float.nrrd", "NRRD", "K1"),
        ("turned.nii.gz", "nii.gz", "G1"),
        ("slicer.seg.nrrd", "seg.nrrd", "G1"),
        ("slicer_layers.seg.nrrd", "seg.nrrd", "G1"),
        ("nifti2_pair.hdr", "hdr", "K1"),
    ] {
        let bench = bench();
        if let Some(stem) = file.strip_suffix(".hdr") {
            fs::copy(
                fixture(&format!("{stem}.img")),
                bench.inbox().join("brain_corrected.img"),
            )
            .unwrap();
        }
        bench.drop_file(
            &format!("brain_corrected.{ending}"),
            &fs::read(fixture(file)).unwrap(),
        );
        let reports = bench.scan();
        let report = reports
            .iter()
            .find(|report| report.outcome != Outcome::Ignore)
            .unwrap();
        assert_eq!(report.code, code, "{file}: {report:?}");
        assert!(report.correction.is_some(), "{file}: {report:?}");
        let Answer::File(kept) = bench.ask(Command::Export { case: id("brain") }).unwrap() else {
            panic!("no file");
        };
        let kept = decode_scan(&kept, 1 << 20).unwrap();
        let (grid, voxels) = expected();
        let classes: Vec<u8> = kept.volume.voxels.iter().map(|&value| value as u8).collect();
        assert_eq!(classes, voxels, "{file}");
        assert!(kept.volume.grid.matches(&grid), "{file}");
    }
}

#[test]
fn a_segmentation_that_says_something_else_than_the_project_is_refused_and_nothing_is_guessed() {
    let bench = bench();
    let text = fs::read(fixture("slicer.seg.nrrd")).unwrap();
    for (what, from, to, code, words) in [
        ("a segment that is no label", "_Name:=GM", "_Name:=XX", "V5", "XX"),
        (
            "a part that lies elsewhere than its header",
            "1 1 1",
            "0 1 1",
            "G2",
            "cropped",
        ),
        (
            "a part without a word of that",
            "Segmentation_R",
            "Segmentatiom_R",
            "G2",
            "cropped",
        ),
    ] {
        let at = text
            .windows(from.len())
            .position(|window| window == from.as_bytes())
            .unwrap();
        let mut changed = text.clone();
        changed[at..at + from.len()].copy_from_slice(to.as_bytes());
        bench.drop_file("brain_corrected.seg.nrrd", &changed);
        let report = bench.only_report();
        let verdict = (report.outcome, report.code.as_str());
        assert_eq!(verdict, (Outcome::Reject, code), "{what}: {report:?}");
        assert!(report.words.contains(words), "{what}: {report:?}");
    }
}

#[test]
fn images_of_every_form_are_handed_out_under_a_name_that_says_what_they_are() {
    let bench = Bench::new(SMALL);
    for (file, name) in [
        ("sitk.nrrd", "image.nrrd"),
        ("nifti2.nii.gz", "image.nii.gz"),
        ("nifti2_big.nii", "image.nii"),
    ] {
        let case = file.split('.').next().unwrap();
        import(&bench, case, fixture(file));
        let out = bench.hand_out(case);
        let image = out.folder.join(format!("{case}_{name}"));
        assert_eq!(fs::read(&image).unwrap(), fs::read(fixture(file)).unwrap());
        assert!(
            bench.snapshot().cases[&id(case)].grid.matches(&expected().0),
            "{file}"
        );
    }
}

/// The bytes of an unpacked `.nii` of this project's own, for a test to change.
fn nii(voxel_bytes: usize, datatype: i16, voxel: impl Fn(u8) -> Vec<u8>) -> Vec<u8> {
    let (grid, classes) = expected();
    let map = LabelMap {
        grid,
        voxels: classes.clone(),
    };
    let mut bytes = gunzip(&encode_labels(&map, u16::from), 1 << 20).unwrap();
    bytes.truncate(352);
    bytes[70..72].copy_from_slice(&datatype.to_le_bytes());
    bytes[72..74].copy_from_slice(&((8 * voxel_bytes) as i16).to_le_bytes());
    for class in classes {
        bytes.extend(voxel(class));
    }
    bytes
}

fn verdict_of(bytes: &[u8]) -> (Outcome, String, Option<Vec<u8>>) {
    let bench = bench();
    bench.drop_file("brain_corrected.nii", bytes);
    let report = bench.only_report();
    let kept = report.correction.map(|_| {
        let Answer::File(kept) = bench.ask(Command::Export { case: id("brain") }).unwrap() else {
            panic!("no file");
        };
        let voxels = decode_scan(&kept, 1 << 20).unwrap().volume.voxels;
        voxels.into_iter().map(|value| value as u8).collect()
    });
    (report.outcome, report.code, kept)
}

/// V1 and V3: any whole-number type, and values that slope and intercept make labels of; a slope that is none counts as 1.
#[test]
fn v1_v3_every_type_of_whole_numbers_is_taken_as_scaled() {
    let classes = || Some(expected().1);
    let accepted = |what: &str, bytes: Vec<u8>| {
        assert_eq!(
            verdict_of(&bytes),
            (Outcome::Accept, "K1".into(), classes()),
            "{what}"
        );
    };
    accepted("int8", nii(1, 256, |k| vec![k]));
    accepted("int16", nii(2, 4, |k| i16::from(k).to_le_bytes().into()));
    accepted("uint16", nii(2, 512, |k| u16::from(k).to_le_bytes().into()));
    accepted("int32", nii(4, 8, |k| i32::from(k).to_le_bytes().into()));
    accepted("uint32", nii(4, 768, |k| u32::from(k).to_le_bytes().into()));
    accepted("int64", nii(8, 1024, |k| i64::from(k).to_le_bytes().into()));
    accepted("uint64", nii(8, 1280, |k| u64::from(k).to_le_bytes().into()));
    let scaled = |slope: f32, inter: f32, voxel: fn(u8) -> u8| {
        let mut bytes = nii(1, 2, |k| vec![voxel(k)]);
        bytes[112..116].copy_from_slice(&slope.to_le_bytes());
        bytes[116..120].copy_from_slice(&inter.to_le_bytes());
        bytes
    };
    accepted("a slope", scaled(0.5, 0.0, |k| 2 * k));
    accepted("an intercept", scaled(1.0, -1.0, |k| k + 1));
    accepted("no slope", scaled(f32::NAN, 0.0, |k| k));
    // 0.4, 0.8 and 1.2 are no labels.
    let (outcome, code, _) = verdict_of(&scaled(0.4, 0.0, |k| k));
    assert_eq!((outcome, code.as_str()), (Outcome::Reject, "V2"));
}

/// H2: a form of the header that cannot be believed, where the other can.
#[test]
fn h2_a_header_with_one_sound_form_is_taken_with_a_note() {
    let mut bytes = nii(1, 2, |k| vec![k]);
    // qform_code 1, and a quaternion that is none.
    bytes[252..254].copy_from_slice(&1i16.to_le_bytes());
    bytes[256..260].copy_from_slice(&f32::NAN.to_le_bytes());
    let with_a_note = (Outcome::Warn, "H2".to_string(), Some(expected().1));
    assert_eq!(verdict_of(&bytes), with_a_note, "the affine itself is sound");
    // The affine is none, and the quaternion says where the voxels lie.
    let (grid, _) = expected();
    let mut bytes = nii(1, 2, |k| vec![k]);
    bytes[280..284].copy_from_slice(&f32::NAN.to_le_bytes());
    bytes[252..254].copy_from_slice(&1i16.to_le_bytes());
    let spacing = grid.affine.spacing_mm();
    for (at, number) in [(76, 1.0), (80, spacing[0]), (84, spacing[1]), (88, spacing[2])] {
        bytes[at..at + 4].copy_from_slice(&(number as f32).to_le_bytes());
    }
    for (axis, at) in [268, 272, 276].into_iter().enumerate() {
        bytes[at..at + 4].copy_from_slice(&(grid.affine.0[axis][3] as f32).to_le_bytes());
    }
    // The fixture's axes run along the world's, as quaternion 0 has them.
    assert_eq!(verdict_of(&bytes), with_a_note);
}
