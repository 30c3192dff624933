//! Volumes from outside are read by a process with limits: what it says is what reading here says, and one that hangs, eats
//! memory or dies costs a file, never the engine.
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use overtrace::imaging::{
    Grid, RawVolume, VolumeError, encode_bytes, encode_labels, encode_volume, gunzip, split_pair,
};
use overtrace::worker::Parser;
use support::boxes;

const CAP: u64 = 1 << 20;

fn parser() -> Parser {
    Parser::new(env!("CARGO_BIN_EXE_overtrace").into())
}

/// A program that does what `script` says instead of reading.
fn program(folder: &Path, script: &str) -> PathBuf {
    let file = folder.join("program");
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
    file
}

fn raw(bytes: &[u8]) -> RawVolume {
    RawVolume {
        parts: vec![bytes.to_vec()],
        notes: Vec::new(),
    }
}

#[test]
fn it_says_what_reading_here_says_file_after_file() {
    let (image, mask) = boxes(1);
    let parser = parser();
    let image = encode_volume(&image);
    let mask = encode_labels(&mask, u16::from);
    let mut cut = mask.clone();
    cut.truncate(mask.len() / 2);
    let pair = {
        let (hdr, img) = split_pair(&gunzip(&mask, CAP).unwrap());
        RawVolume {
            parts: vec![hdr, img],
            notes: Vec::new(),
        }
    };
    let files = [raw(&image), raw(b"no volume"), pair, raw(&cut), raw(&mask)];
    for (n, file) in files.into_iter().enumerate() {
        let here = file.clone().decode(CAP).map_err(|error| error.to_string());
        let there = parser.parse(file, CAP, 1.0).map_err(|error| error.to_string());
        assert_eq!(here, there, "file {n}");
    }
    parser.rest();
    assert!(parser.parse(raw(&image), CAP, 1.0).is_ok(), "it is started again");
}

#[test]
fn a_reader_that_hangs_is_ended_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let parser = Parser::new(program(folder.path(), "exec sleep 1000"));
    let began = Instant::now();
    let error = parser.parse(raw(b"x"), CAP, 0.05).unwrap_err();
    assert!(matches!(error, VolumeError::Slow { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_reader_that_dies_costs_its_file_alone_and_not_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (this, runs) = (env!("CARGO_BIN_EXE_overtrace"), folder.path().join("runs"));
    let mask = encode_labels(&boxes(1).1, u16::from);
    // Dies at its first starts, reads at the next.
    let dies = |times: usize| {
        let runs = runs.display();
        let script = format!(
            "echo >> {runs}; if [ $(wc -l < {runs}) -le {times} ]; then kill -6 $$; fi; exec {this} \"$@\""
        );
        Parser::new(program(folder.path(), &script))
    };
    // Others may have taken the memory: it is asked once more.
    assert!(dies(1).parse(raw(&mask), CAP, 1.0).is_ok());
    fs::remove_file(&runs).unwrap();
    let parser = dies(2);
    let error = parser.parse(raw(&mask), CAP, 1.0).unwrap_err();
    assert!(
        matches!(&error, VolumeError::Deadly { how } if how.contains('6')),
        "{error}"
    );
    assert_eq!(error.code(), "C3");
    assert!(parser.parse(raw(&mask), CAP, 1.0).is_ok());
}

/// A program of another version is not asked at all, and no file is at fault.
#[test]
fn a_reader_of_another_version_reads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("exec {} parse --build older", env!("CARGO_BIN_EXE_overtrace"));
    let parser = Parser::new(program(folder.path(), &script));
    let error = parser.parse(raw(b"x"), CAP, 1.0).unwrap_err();
    assert!(
        matches!(&error, VolumeError::NoReader { why } if why.contains("another version")),
        "{error}"
    );
}

/// A question as the engine asks it: the limits, then the length of the one part.
fn question(memory_bytes: u32, part: &[u8]) -> Vec<u8> {
    let number = |n: u32| [&[252][..], &n.to_le_bytes()].concat();
    let body = [
        number(400 << 20),
        number(memory_bytes),
        // Seconds.
        vec![60],
        vec![1],
        number(part.len() as u32),
    ]
    .concat();
    [&(body.len() as u32).to_le_bytes()[..], &body, part].concat()
}

/// 120 million voxels of a byte each, packed into little: what unpacks it needs half a gigabyte for the intensities alone.
#[test]
fn a_reader_has_no_more_memory_than_it_was_given() {
    let grid = Grid::new([1000, 1000, 120], [1.0; 3]);
    let bomb = encode_bytes(&grid, &vec![0; grid.len()]);
    let answer = |memory_bytes| {
        let mut reader = Command::new(env!("CARGO_BIN_EXE_overtrace"))
            .args(["parse", "--build", &overtrace::worker::frames::build()])
            .env("MIMALLOC_ARENA_RESERVE", "16384")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // One that is gone already reads nothing more.
        let _ = reader
            .stdin
            .take()
            .unwrap()
            .write_all(&question(memory_bytes, &bomb));
        reader.wait_with_output().unwrap()
    };
    let enough = answer(2 << 30);
    assert!(
        enough.status.success() && enough.stdout.len() > grid.len() * 4,
        "{:?}",
        enough.status
    );
    let scant = answer(400 << 20);
    assert!(
        !scant.status.success() && scant.stdout.is_empty(),
        "{:?}",
        scant.status
    );
}
