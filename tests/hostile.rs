//! Files that nobody should drop, masks of something else, and very many files at once.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use overtrace::imaging::{LabelMap, Rng, decode_scan, encode_labels};
use overtrace::protocol::{Answer, Command, Outcome};
use overtrace::records::Pool;
use support::{Bench, Place, SMALL, boxes, dose, id, until};

fn fixtures() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/masks");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    paths.retain(|path| {
        let name = path.to_string_lossy();
        [".nii", ".gz", ".nrrd"].iter().any(|end| name.ends_with(end))
    });
    paths.sort();
    assert!(paths.len() >= 8);
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The most memory this process has held, in MB.
fn peak_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Bytes that were changed, cut, doubled, or put together from two files.
fn malformed(files: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = files[rng.below(files.len())].clone();
    for _ in 0..1 + rng.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.below(bytes.len());
        match rng.below(7) {
            0 => bytes[at] = rng.next_u64() as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => bytes.truncate(at),
            3 => {
                let other = &files[rng.below(files.len())];
                let from = rng.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            4 => {
                // Numbers that are far too large, or negative, where numbers stand.
                let number = [0xff, 0x7f, 0x80, 0x00][rng.below(4)];
                let end = (at + 1 + rng.below(8)).min(bytes.len());
                bytes[at..end].fill(number);
            }
            5 => {
                let end = (at + rng.below(64)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let text = [&b"99999999999"[..], b"-1", b"nan", b"1e999", b"\n\n", b"(("][rng.below(6)];
                let end = (at + text.len()).min(bytes.len());
                bytes.splice(at..end, text.iter().copied());
            }
        }
    }
    bytes
}

/// No panic, no abort, no hang, and no memory for what is only announced.
#[test]
fn ten_thousand_malformed_volumes_are_errors_or_volumes() {
    const CAP: u64 = 64 << 20;
    let files = fixtures();
    let mut rng = Rng::new(3);
    let (mut refused, mut longest) = (0, Duration::ZERO);
    let times = dose(4000, 10_000);
    for _ in 0..times {
        let bytes = malformed(&files, &mut rng);
        let began = Instant::now();
        match decode_scan(&bytes, CAP) {
            Ok(scan) => assert_eq!(scan.volume.voxels.len(), scan.volume.grid.len()),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
        longest = longest.max(began.elapsed());
    }
    assert!(refused * 2 > times, "{refused} of {times} were refused");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    assert!(peak_mb() < 512 + (CAP >> 20), "{} MB", peak_mb());
}

#[test]
fn a_flipped_bit_in_a_packed_mask_never_changes_a_voxel_unseen() {
    let (_, truth) = boxes(1);
    let packed = encode_labels(&truth, u16::from);
    let whole = decode_scan(&packed, 1 << 20).unwrap().volume;
    let mut rng = Rng::new(7);
    let mut found = 0;
    let times = dose(1000, 5000);
    for _ in 0..times {
        let bit = rng.below(packed.len() * 8);
        let mut bytes = packed.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match decode_scan(&bytes, 1 << 20) {
            // The file's name, time and system are in a gzip header; they change nothing.
            Ok(scan) => assert_eq!(scan.volume, whole, "bit {bit}"),
            Err(_) => found += 1,
        }
    }
    assert!(found * 10 > times * 9, "{found} of {times}");
}

/// A case that is out with the mask that it has, and the map of it.
fn out_again(bench: &Bench, case: &str, seed: u64) -> LabelMap {
    bench.import(case, seed, Pool::Labelled);
    bench.hand_out(case);
    boxes(seed).1
}

#[test]
fn p2_a_mask_that_is_mirrored_mixed_up_or_of_another_case_is_held_with_what_it_agrees_with() {
    let bench = Bench::new(SMALL);
    let mut truth = out_again(&bench, "brain", 3);
    // Something on one side alone.
    let held = |what: &str, map: &LabelMap, words: &str| {
        bench.drop_file("brain_corrected.nii.gz", &encode_labels(map, u16::from));
        let report = bench.only_report();
        assert_eq!(
            (report.outcome, report.code.as_str()),
            (Outcome::Hold, "P2"),
            "{what}: {report:?}"
        );
        assert!(report.words.contains(words), "{what}: {report:?}");
        let why = "a test".into();
        let held = report.held.unwrap();
        bench.done(Command::RefuseHeld { held, why });
    };
    held("mirrored", &truth.flipped(0), "with left and right exchanged");
    let swapped = LabelMap {
        grid: truth.grid,
        voxels: truth
            .voxels
            .iter()
            .map(|&class| [0, 1, 3, 2][usize::from(class)])
            .collect(),
    };
    held("labels", &swapped, "with GM and WM exchanged");
    let other = out_again(&bench, "other", 0);
    held("another case's", &other, "with what was drawn of other");
    // A correction is none of these.
    truth.voxels[1500] = 1;
    bench.drop_file("brain_corrected.nii.gz", &encode_labels(&truth, u16::from));
    let report = bench.only_report();
    assert!(report.correction.is_some(), "{report:?}");
}

/// A file that is being written is waited for, whatever part of it is there.
#[test]
fn a_half_written_file_is_never_taken_in() {
    let times = dose(60, 1000);
    let (_, truth) = boxes(1);
    let packed = encode_labels(&truth, u16::from);
    let bench = Bench::new(SMALL);
    bench.import("brain", 1, Pool::Unlabelled);
    bench.hand_out("brain");
    let mut rng = Rng::new(9);
    let path = bench.inbox().join("brain_corrected.nii.gz");
    for _ in 0..times {
        fs::write(&path, &packed[..1 + rng.below(packed.len() - 1)]).unwrap();
        for report in bench.scan() {
            assert_eq!(report.outcome, Outcome::Wait, "{report:?}");
        }
        assert!(path.exists());
    }
    fs::write(&path, &packed).unwrap();
    assert!(bench.only_report().correction.is_some());
}

/// A mask of its own for each of some hundred thousand cases: the first rows of a slice are background.
fn mask(n: usize) -> Vec<u8> {
    let (_, mut truth) = boxes(1);
    let mut rest = n;
    for voxel in &mut truth.voxels[..20] {
        *voxel = u8::from(rest % 2 == 1);
        rest /= 2;
    }
    encode_labels(&truth, u16::from)
}

/// Thousands of masks dropped at once: each is taken in once, with the inbox watched, looked into on request, and by an engine
/// that is killed in the middle.
#[test]
fn a_burst_of_masks_is_taken_in_once_each() {
    for (how, count) in [
        ("on request", dose(60, 5000)),
        ("watched", dose(60, 20_000)),
        ("killed", dose(60, 5000)),
    ] {
        let bench = Bench::new(&format!("{SMALL}[query]\ntrain_when_complete = false\n"));
        for n in 0..count {
            bench.import(&format!("case{n}"), n as u64, Pool::Unlabelled);
            bench.hand_out(&format!("case{n}"));
        }
        let place = Place::of(bench);
        let inbox = place.project.join("inbox");
        let running = (how != "on request").then(|| support::engine_process(&place.project));
        for n in 0..count {
            fs::write(inbox.join(format!("case{n}_corrected.nii.gz")), mask(n)).unwrap();
            if how == "watched" && n % 3 == 0 {
                // As rsync does it: a name that is left alone, then the right one.
                let (part, whole) = (
                    inbox.join(".part"),
                    inbox.join(format!("case{n}_corrected.nii.gz")),
                );
                if fs::rename(&whole, &part).is_ok() {
                    fs::rename(&part, &whole).unwrap();
                }
            }
        }
        let taken = || fs::read_dir(inbox.join("done")).map_or(0, Iterator::count);
        if let Some(mut running) = running {
            let enough = if how == "killed" { count / 2 } else { count };
            // However slow the machine is, it gets on.
            let (mut last, mut since) = (0, Instant::now());
            while last < enough {
                let now = taken();
                if now > last {
                    (last, since) = (now, Instant::now());
                }
                assert!(
                    since.elapsed() < Duration::from_secs(120),
                    "{how}: {now} of {count}"
                );
                std::thread::yield_now();
            }
            running.kill().unwrap();
            running.wait().unwrap();
            until("its lock is free", || {
                !overtrace::store::is_held(&place.project).unwrap()
            });
        }
        let started = support::start(&place.project, false);
        let ask = |command| started.handle.call(command, drop).unwrap().unwrap();
        ask(Command::ScanInbox);
        let Answer::Snapshot(known) = ask(Command::Attach { cases: None }) else {
            panic!("no snapshot");
        };
        assert_eq!(known.corrections.len(), count, "{how}");
        for n in 0..count {
            let case = id(&format!("case{n}"));
            let mask = known.cases[&case].mask.unwrap();
            assert_eq!(mask.version, 1, "{how}: {case}");
        }
        assert_eq!(taken(), count, "{how}");
        drop(started.handle);
        started.thread.join().unwrap();
    }
}
