//! Headers made by hand, damaged files, a file of another tool, and real volumes where they are at hand.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::imaging::{Affine, LabelMap};

const CAP: u64 = 1 << 20;

/// A 3 x 2 x 2 little-endian `.nii` of int16 0, 1, 2 .. 11 with spacing 1 x 2 x 3 mm as sform.
fn nii() -> Vec<u8> {
    let grid = Grid::new([3, 2, 2], [1.0, 2.0, 3.0]);
    let voxels: Vec<i16> = (0..12).collect();
    gzip::gunzip(&encode_shorts(&grid, &voxels), CAP).unwrap()
}

fn with(mut file: Vec<u8>, at: usize, field: &[u8]) -> Vec<u8> {
    file[at..at + field.len()].copy_from_slice(field);
    file
}

fn f32_at(at: usize, value: f32) -> Vec<u8> {
    with(nii(), at, &value.to_le_bytes())
}

fn i16_at(at: usize, value: i16) -> Vec<u8> {
    with(nii(), at, &value.to_le_bytes())
}

fn decode(file: &[u8]) -> Result<Scan, VolumeError> {
    decode_scan(file, CAP)
}

fn code(file: &[u8]) -> &'static str {
    decode(file).expect_err("a bad file").code()
}

/// The file with every number of header and voxels in the other byte order.
fn big_endian(mut file: Vec<u8>) -> Vec<u8> {
    let shorts = (40..56)
        .chain(68..76)
        .chain(120..122)
        .chain(252..256)
        .chain(352..376);
    let longs = (0..4)
        .chain(32..36)
        .chain(56..68)
        .chain(76..120)
        .chain(124..148)
        .chain(256..328);
    for at in shorts.step_by(2) {
        file.swap(at, at + 1);
    }
    for at in longs.step_by(4) {
        file[at..at + 4].reverse();
    }
    file
}

#[test]
fn either_byte_order_reads_the_same() {
    let little = decode(&nii()).unwrap();
    assert_eq!(
        little.volume.voxels,
        (0..12).map(|v| v as f32).collect::<Vec<_>>()
    );
    assert_eq!(little.volume.grid, Grid::new([3, 2, 2], [1.0, 2.0, 3.0]));
    assert!(little.is_integer && little.notes.is_empty());
    assert_eq!(decode(&big_endian(nii())).unwrap(), little);
}

#[test]
fn what_is_encoded_reads_back() {
    let slanted = Affine([[0.9, -0.3, 0.0, 5.0], [0.3, 0.9, 0.0, -7.0], [0.0, 0.2, 2.0, 1.0]]);
    for affine in [slanted, Affine::from_spacing([0.5, 1.0, 3.0])] {
        let grid = Grid {
            shape: [3, 2, 1],
            affine,
        };
        let map = LabelMap {
            grid,
            voxels: vec![0, 1, 2, 3, 2, 1],
        };
        let bytes = decode(&encode_labels(&map, |class| class.into())).unwrap();
        assert_eq!(bytes.volume.voxels, [0.0, 1.0, 2.0, 3.0, 2.0, 1.0]);
        assert!(bytes.is_integer && bytes.volume.grid.matches(&grid));
        let words = decode(&encode_labels(&map, |class| u16::from(class) * 20_000)).unwrap();
        assert_eq!(words.volume.voxels, [0.0, 20e3, 40e3, 60e3, 40e3, 20e3]);
        let image = Volume {
            grid,
            voxels: vec![-1.5, 0.0, 1e-3, 7.25, 1e6, f32::MIN_POSITIVE],
        };
        assert_eq!(
            decode(&encode_volume(&image)).unwrap().volume.voxels,
            image.voxels
        );
    }
}

#[test]
fn an_encoded_map_is_the_same_bytes_each_time() {
    let map = LabelMap::empty(Grid::new([4, 4, 4], [1.0; 3]));
    assert_eq!(encode_labels(&map, u16::from), encode_labels(&map, u16::from));
    assert_eq!(
        encode_labels(&map, u16::from),
        encode_bytes(&map.grid, &map.voxels)
    );
}

#[test]
fn every_senseless_header_field_is_refused() {
    let bad: &[(&str, Vec<u8>, &str)] = &[
        ("not a header at all", with(nii(), 0, &[9; 4]), "H1"),
        (
            "NIfTI-2 without its rest",
            with(nii(), 0, &540i32.to_le_bytes()),
            "C1",
        ),
        ("another magic", with(nii(), 344, b"what"), "H1"),
        ("half of a pair", with(nii(), 344, b"ni1\0"), "H1"),
        ("rank 2", i16_at(40, 2), "H1"),
        ("rank 8", i16_at(40, 8), "H1"),
        ("rank in the other byte order", i16_at(40, 0x300), "H1"),
        ("no voxel along i", i16_at(42, 0), "H1"),
        ("fewer than none along k", i16_at(46, -5), "H1"),
        ("a series", with(i16_at(40, 4), 48, &2i16.to_le_bytes()), "H1"),
        (
            "rank 4 of nothing",
            with(i16_at(40, 4), 48, &0i16.to_le_bytes()),
            "H1",
        ),
        ("no datatype", i16_at(70, 0), "H1"),
        ("colour", with(i16_at(70, 128), 72, &24i16.to_le_bytes()), "H1"),
        ("complex", with(i16_at(70, 32), 72, &64i16.to_le_bytes()), "H1"),
        ("16-bit numbers of 8 bits", i16_at(72, 8), "H1"),
        ("bits below zero", i16_at(72, -16), "H1"),
        ("voxels inside the header", f32_at(108, 0.0), "H1"),
        ("voxels before the file", f32_at(108, -352.0), "H1"),
        ("voxels at half a byte", f32_at(108, 352.5), "H1"),
        ("voxels nowhere", f32_at(108, f32::NAN), "H1"),
        ("voxels at infinity", f32_at(108, f32::INFINITY), "H1"),
        ("voxels past the end", f32_at(108, 400.0), "C1"),
        ("more voxels than bytes", i16_at(42, 4), "C1"),
        (
            "more voxels than the cap",
            with(nii(), 42, &[0xff, 0x7f, 0xff, 0x7f, 0xff, 0x7f]),
            "C3",
        ),
        ("half a header", nii()[..200].to_vec(), "C1"),
        ("nothing", vec![], "C1"),
    ];
    for (what, file, expected) in bad {
        assert_eq!(code(file), *expected, "{what}: {}", decode(file).unwrap_err());
    }
}

/// A header of NIfTI-2 is read as the NIfTI-1 that says the same; what that cannot say is refused.
#[test]
fn a_nifti_2_header_that_makes_no_sense_or_is_too_wide_is_refused() {
    let whole =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/masks/nifti2_big.nii")).unwrap();
    decode(&whole).unwrap();
    for (what, at, bytes, expected) in [
        ("another magic", 4, &b"n+3"[..], "H1"),
        ("a dim that no 16 bits hold", 24, &70_000i64.to_be_bytes(), "H1"),
        ("a negative dim", 24, &(-1i64).to_be_bytes(), "H1"),
        ("voxels in the header", 168, &348i64.to_be_bytes(), "H1"),
        ("voxels beyond the end", 168, &4000i64.to_be_bytes(), "C1"),
        ("an affine that is no number", 400, &f64::NAN.to_be_bytes(), "H2"),
    ] {
        assert_eq!(code(&with(whole.clone(), at, bytes)), expected, "{what}");
    }
    for length in 0..whole.len() {
        assert_eq!(code(&whole[..length]), "C1", "{length} bytes");
    }
}

#[test]
fn an_error_names_field_value_and_remedy() {
    assert_eq!(
        decode(&i16_at(72, 8)).unwrap_err().to_string(),
        "header field bitpix is 8 where datatype 4 has 16 bits, which has to be the size of the datatype"
    );
    assert_eq!(
        decode(&i16_at(42, 4)).unwrap_err().to_string(),
        "the voxel data stops after 376 bytes, 384 were announced; copy the file again"
    );
}

#[test]
fn bytes_after_the_voxels_and_trailing_ones_are_fine() {
    let mut file = with(i16_at(40, 5), 92, &0f32.to_le_bytes());
    file.extend_from_slice(b"more");
    assert_eq!(decode(&file).unwrap().volume, decode(&nii()).unwrap().volume);
}

/// vox_offset 368: an extension of 16 bytes lies between header and voxels.
#[test]
fn voxels_start_where_vox_offset_says() {
    let mut file = f32_at(108, 368.0);
    file.splice(352..352, [0xee; 16]);
    assert_eq!(decode(&file).unwrap().volume, decode(&nii()).unwrap().volume);
}

#[test]
fn every_scalar_datatype_reads() {
    let one: [(i16, &[u8]); 10] = [
        (2, &[200]),
        (4, &(-2i16).to_le_bytes()),
        (8, &(-70_000i32).to_le_bytes()),
        (16, &0.5f32.to_le_bytes()),
        (64, &0.25f64.to_le_bytes()),
        (256, &[0xff]),
        (512, &60_000u16.to_le_bytes()),
        (768, &3_000_000_000u32.to_le_bytes()),
        (1024, &(-5i64).to_le_bytes()),
        (1280, &(1u64 << 40).to_le_bytes()),
    ];
    let read = one.map(|(datatype, raw)| {
        let mut file = with(nii(), 42, &[1, 0, 1, 0, 1, 0]);
        file = with(file, 70, &datatype.to_le_bytes());
        file = with(file, 72, &(raw.len() as i16 * 8).to_le_bytes());
        file.truncate(352);
        file.extend_from_slice(raw);
        let scan = decode(&file).unwrap();
        assert_eq!(
            scan.is_integer,
            datatype != 16 && datatype != 64,
            "datatype {datatype}"
        );
        scan.volume.voxels[0]
    });
    let expected = [
        200.0,
        -2.0,
        -70e3,
        0.5,
        0.25,
        -1.0,
        60e3,
        3e9,
        -5.0,
        1_099_511_627_776.0,
    ];
    assert_eq!(read, expected);
}

#[test]
fn slope_and_intercept_are_applied_unless_they_say_nothing() {
    let scaled = |slope: f32, inter: f32| {
        let scan = decode(&with(f32_at(112, slope), 116, &inter.to_le_bytes())).unwrap();
        (scan.volume.voxels[3], scan.is_integer)
    };
    assert_eq!(scaled(0.5, 10.0), (11.5, false));
    assert_eq!(scaled(1.0, -3.0), (0.0, false));
    assert_eq!(scaled(2.0, f32::NAN), (6.0, false), "no intercept");
    for nothing in [
        (1.0, 0.0),
        (0.0, 7.0),
        (f32::NAN, 7.0),
        (f32::INFINITY, 7.0),
        (1.0, f32::NAN),
    ] {
        assert_eq!(scaled(nothing.0, nothing.1), (3.0, true), "{nothing:?}");
    }
}

#[test]
fn the_sform_is_preferred_and_the_qform_stands_in() {
    let moved = f32_at(280 + 12, 5.0);
    let scan = decode(&moved).unwrap();
    assert_eq!(scan.affine_source, AffineSource::Sform);
    assert_eq!(scan.volume.grid.affine.world_mm([0.0; 3]), [5.0, 0.0, 0.0]);

    let no_sform = decode(&with(moved.clone(), 254, &[0, 0])).unwrap();
    assert_eq!(no_sform.affine_source, AffineSource::Qform);
    assert_eq!(no_sform.volume.grid, Grid::new([3, 2, 2], [1.0, 2.0, 3.0]));
    assert!(no_sform.notes.is_empty());

    let neither = decode(&with(moved, 252, &[0; 4])).unwrap();
    assert_eq!(neither.affine_source, AffineSource::Pixdim);
    assert_eq!(neither.volume.grid, Grid::new([3, 2, 2], [1.0, 2.0, 3.0]));
}

#[test]
fn an_unsound_form_is_passed_over_with_a_note_or_refused() {
    let bad_sform = f32_at(280, f32::NAN);
    let scan = decode(&bad_sform).unwrap();
    assert_eq!(scan.affine_source, AffineSource::Qform);
    assert_eq!(
        scan.notes,
        ["the sform holds a number that is not finite; the qform was used"]
    );
    assert_eq!(
        code(&with(bad_sform.clone(), 252, &[0, 0])),
        "H2",
        "no qform to stand in"
    );
    assert_eq!(code(&with(bad_sform, 76, &[0; 4])), "H2", "qfac 0 beside it");

    for (what, at, value) in [
        ("qfac 0", 76, 0.0),
        ("qfac NaN", 76, f32::NAN),
        ("qfac 2", 76, 2.0),
        ("no voxel size", 84, 0.0),
        ("a quaternion of length 2", 256, 2.0),
        ("an infinite offset", 268, f32::INFINITY),
    ] {
        let file = f32_at(at, value);
        let scan = decode(&file).unwrap();
        assert_eq!(scan.affine_source, AffineSource::Sform, "{what}");
        assert_eq!(scan.notes.len(), 1, "{what}");
        assert_eq!(code(&with(file, 254, &[0, 0])), "H2", "{what}");
    }
    let flat = with(with(nii(), 252, &[0; 4]), 88, &[0; 4]);
    assert_eq!(code(&flat), "H2", "only a voxel size, and that is zero");
}

/// Rotations about every axis, mirrored and not: the qform says what the sform says.
#[test]
fn a_rotation_survives_the_quaternion() {
    let axes = [
        [0.0, 0.0, 1.0],
        [0.6, 0.8, 0.0],
        [-0.8, 0.0, 0.6],
        [0.0, 1.0, 0.0],
        [1.0, 0.0, 0.0],
    ];
    for axis in axes {
        for angle in [0.0f64, 0.3, 1.5, 3.0, std::f64::consts::PI, 4.0, 6.0] {
            for mirror in [1.0, -1.0] {
                let (half, [x, y, z]) = (angle / 2.0, axis);
                let turn = affine::rotation([half.cos(), x * half.sin(), y * half.sin(), z * half.sin()]);
                let affine = Affine(turn.map(|[i, j, k]| [i, 2.0 * j, 3.0 * mirror * k, 4.0]));
                let grid = Grid {
                    shape: [3, 2, 2],
                    affine,
                };
                let file = gzip::gunzip(&encode_bytes(&grid, &[0; 12]), CAP).unwrap();
                let by_qform = decode(&with(file, 254, &[0, 0])).unwrap();
                assert_eq!(by_qform.affine_source, AffineSource::Qform);
                let apart = grid.corner_distance_voxels(&by_qform.volume.grid).unwrap();
                assert!(
                    apart < 1e-4,
                    "axis {axis:?} angle {angle} mirror {mirror}: {apart} voxels"
                );
            }
        }
    }
}

/// As the IBSR volumes are: rank 4 with a trailing 1, pixdim[4] 0, slope 0, no qform, no units.
#[test]
fn a_header_as_ibsr_has_it_reads_without_a_note() {
    let mut file = i16_at(40, 4);
    for (at, bytes) in [(92, 4), (112, 4), (123, 1), (252, 2)] {
        file = with(file, at, &vec![0; bytes]);
    }
    let scan = decode(&file).unwrap();
    assert_eq!(scan.volume, decode(&nii()).unwrap().volume);
    assert!(scan.is_integer && scan.notes.is_empty());
}

/// Nothing in a gzip header but a name, a time and the like may change without being noticed.
#[test]
fn each_flipped_bit_is_refused_or_changes_nothing() {
    let packed = gzip::gzip(&[&nii()]);
    let whole = decode(&packed).unwrap();
    let mut refused = 0;
    for bit in 0..packed.len() * 8 {
        let mut flipped = packed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match decode(&flipped) {
            Ok(scan) => assert_eq!(scan, whole, "bit {bit}"),
            Err(_) => refused += 1,
        }
    }
    assert!(
        refused >= (packed.len() - 10) * 8,
        "{refused} of {}",
        packed.len() * 8
    );
}

#[test]
fn a_stream_of_several_members_is_one_file() {
    let file = nii();
    let members = [gzip::gzip(&[&file[..360]]), gzip::gzip(&[&file[360..]])].concat();
    assert_eq!(decode(&members).unwrap(), decode(&file).unwrap());
}

#[test]
fn a_pair_reads_by_either_name_and_is_kept_as_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for file in [nii(), big_endian(nii())] {
        let offset: &[u8] = if file == nii() {
            &[0, 0, 128, 64]
        } else {
            &[64, 128, 0, 0]
        };
        let hdr = with(with(file.clone(), 344, b"ni1\0"), 108, offset);
        std::fs::write(path("case.1.hdr"), &hdr[..348]).unwrap();
        std::fs::write(path("case.1.img.gz"), gzip::gzip(&[b"junk", &file[352..]])).unwrap();
        let expected = decode(&file).unwrap();
        for name in ["case.1.hdr", "case.1.img.gz"] {
            assert_eq!(read_scan(&path(name), CAP).unwrap(), expected, "{name}");
            let raw = RawVolume::read(&path(name), CAP).unwrap();
            assert_eq!(raw.decode(CAP).unwrap().0, file, "{name}");
        }
    }
    std::fs::remove_file(path("case.1.hdr")).unwrap();
    let error = read_scan(&path("case.1.img.gz"), CAP).unwrap_err();
    assert!(
        matches!(&error, VolumeError::HalfMissing { missing, .. } if *missing == path("case.1.hdr")),
        "{error}"
    );
}

#[test]
fn the_magic_number_beats_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.nii");
    std::fs::write(&path, gzip::gzip(&[&nii()])).unwrap();
    let scan = read_scan(&path, CAP).unwrap();
    assert_eq!(scan.volume, decode(&nii()).unwrap().volume);
    assert_eq!(
        scan.notes,
        ["the content is gzip though the name does not end in .gz"]
    );
    let path = folder.path().join("case.nii.GZ");
    std::fs::write(&path, nii()).unwrap();
    assert_eq!(
        read_scan(&path, CAP).unwrap().notes,
        ["the content is not gzip though the name ends in .gz"]
    );
}

#[test]
fn a_path_that_is_no_file_to_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path, cap| read_scan(path, cap).unwrap_err().code();
    assert_eq!(refused(folder.path(), CAP), "S2");
    assert_eq!(refused(&folder.path().join("absent.nii"), CAP), "S3");
    let path = folder.path().join("case.nii");
    std::fs::write(&path, nii()).unwrap();
    assert_eq!(refused(&path, 375), "C3");
    assert!(read_scan(&path, 376).is_ok());
}

/// The numbers are those nibabel 5.4.2 prints for the file; see fixtures/README.md.
#[test]
fn a_file_of_nibabel_reads_as_nibabel_reads_it() {
    let packed = include_bytes!("../../../fixtures/oblique.nii.gz");
    let scan = decode(packed).unwrap();
    assert_eq!(scan.volume.grid.shape, [4, 3, 2]);
    let values: Vec<f32> = (0..24).map(|v| v as f32 * 37.0 - 300.0).collect();
    assert_eq!(scan.volume.voxels, values);
    assert!(scan.is_integer && scan.notes.is_empty());
    let by_sform = [
        [-0.859802842, -0.318592429, 0.176132411, 10.0],
        [-0.265968174, 1.029922724, -0.569388211, -20.0],
        [0.0, 0.218536258, 2.940199852, 30.0],
    ];
    let by_qform = [
        [-0.859802834, -0.318592504, 0.176130543, 10.0],
        [-0.265968125, 1.029922723, -0.56938845, -20.0],
        [-0.000000557, 0.21853616, 2.940199793, 30.0],
    ];
    let without_sform = with(gzip::gunzip(packed, CAP).unwrap(), 254, &[0, 0]);
    let qform = decode(&without_sform).unwrap();
    assert_eq!(qform.affine_source, AffineSource::Qform);
    for (scan, printed) in [(scan, by_sform), (qform, by_qform)] {
        for (ours, theirs) in scan
            .volume
            .grid
            .affine
            .0
            .iter()
            .flatten()
            .zip(printed.iter().flatten())
        {
            assert!((ours - theirs).abs() < 2e-9, "{ours} is not {theirs}");
        }
    }
}

proptest! {
    /// Whatever stands in a header, the answer is a scan or an error.
    #[test]
    fn no_header_makes_the_reader_panic(
        changes in prop::collection::vec((0usize..376, any::<u8>()), 1..40),
        swapped: bool,
    ) {
        let mut file = if swapped { big_endian(nii()) } else { nii() };
        for (at, byte) in changes {
            file[at] = byte;
        }
        let _ = decode(&file);
        // Past the first checks too: the signature put back.
        file = with(with(file, 0, if swapped { &[0, 0, 1, 0x5c] } else { &[0x5c, 1, 0, 0] }), 344, b"n+1\0");
        let _ = decode(&file);
    }
}

/// The volumes of the IBSR, where they lie beside the checkout; they may not be passed on.
#[test]
fn real_brains_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/ibsr18");
    let Ok(cases) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: no real volumes in {}", folder.display());
        return;
    };
    let mut read = 0;
    for case in cases.filter_map(Result::ok).filter(|case| case.path().is_dir()) {
        let [image, label] = ["image.nii.gz", "label.nii.gz"].map(|name| {
            let started = std::time::Instant::now();
            let scan = read_scan(&case.path().join(name), 1 << 26).unwrap();
            eprintln!(
                "{} {name}: {} ms",
                case.file_name().display(),
                started.elapsed().as_millis()
            );
            scan
        });
        assert_eq!(image.volume.grid.shape, [256, 128, 256]);
        assert!(image.volume.grid.matches(&label.volume.grid));
        let [i, j, k] = image.volume.grid.spacing_mm();
        assert!([0.9375, 1.0, 0.837].iter().any(|mm| (i - mm).abs() < 1e-3) && j == 1.5 && i == k);
        assert!(image.is_integer && image.affine_source == AffineSource::Sform && image.notes.is_empty());
        assert!(
            label
                .volume
                .voxels
                .iter()
                .all(|&v| [0.0, 1.0, 2.0, 3.0].contains(&v))
        );
        assert!(
            [1.0, 2.0, 3.0]
                .iter()
                .all(|class| label.volume.voxels.contains(class))
        );
        read += 1;
    }
    assert_eq!(read, 15);
}

#[test]
fn a_name_loses_its_nifti_ending_in_any_letter_case() {
    assert_eq!(volume_stem("IBSR_01.nii.gz"), Some("IBSR_01"));
    assert_eq!(volume_stem("IBSR_01_seg.NII"), Some("IBSR_01_seg"));
    assert_eq!(volume_stem("IBSR_01.img"), Some("IBSR_01"));
    assert_eq!(volume_stem("IBSR_01.png"), None);
    assert_eq!(volume_stem("é.ni"), None, "an ending may not cut a letter in two");
}
