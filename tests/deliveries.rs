//! Ways in which masks come: programs that copy, slowly and under other names first, and files that are there before they are
//! whole. None is taken in before its end, each is taken in once.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant};

use overtrace::imaging::{Rng, encode_labels, gunzip};
use overtrace::protocol::{IntakeReport, Outcome};
use overtrace::records::Pool;
use support::{Bench, SMALL, boxes};

const CASE: &str = "brain";

/// A project whose only case is out.
fn out() -> Bench {
    let bench = Bench::new(SMALL);
    bench.import(CASE, 1, Pool::Unlabelled);
    bench.hand_out(CASE);
    bench
}

/// A mask that takes a while to copy: noise does not pack.
fn mask() -> Vec<u8> {
    let (_, mut truth) = boxes(1);
    let mut rng = Rng::new(5);
    for voxel in &mut truth.voxels {
        *voxel = rng.below(4) as u8;
    }
    encode_labels(&truth, u16::from)
}

fn is_there(program: &str) -> bool {
    let found = Program::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_err() {
        eprintln!("notice: there is no {program}; what it delivers was not tried");
    }
    found.is_ok()
}

/// Looks into the inbox as often as it can until `program` has ended and the mask is in; how often there was nothing to take yet
/// while the program ran.
fn looked_at_while(bench: &Bench, mut program: Child) -> usize {
    let (began, mut early) = (Instant::now(), 0);
    let mut is_running = true;
    loop {
        let was_running = is_running;
        is_running = is_running && program.try_wait().unwrap().is_none();
        let taken: Vec<IntakeReport> = bench
            .scan()
            .into_iter()
            .filter(|report| report.outcome != Outcome::Wait)
            .collect();
        if let [report] = &taken[..] {
            assert!(report.correction.is_some(), "{report:?}");
            // Its last byte was there before the program saw to its end.
            assert!(program.wait().unwrap().success());
            return early;
        }
        assert_eq!(taken, []);
        early += usize::from(was_running && is_running);
        if !is_running {
            assert!(program.wait().unwrap().success());
        }
        assert!(began.elapsed() < Duration::from_secs(60), "a minute passed");
    }
}

fn holds(bench: &Bench, bytes: &[u8]) {
    let snapshot = bench.snapshot();
    assert_eq!(snapshot.corrections.len(), 1);
    let correction = snapshot.corrections.values().next().unwrap();
    assert_eq!(correction.file, overtrace::store::Blobs::hash(bytes));
    assert_eq!(bench.scan(), [], "once");
}

#[test]
fn rsync_delivers_whole_files_under_other_names_first_or_in_place() {
    if !is_there("rsync") {
        return;
    }
    for (way, name, bytes) in [
        ("--times", "brain_corrected.nii.gz", mask()),
        ("--inplace", "brain_corrected.nii.gz", mask()),
        (
            "--inplace",
            "brain_corrected.nii",
            gunzip(&mask(), 1 << 20).unwrap(),
        ),
        ("--append", "brain_corrected.nii.gz", mask()),
        (
            "--partial-dir=.partial",
            "brain_corrected.nii",
            gunzip(&mask(), 1 << 20).unwrap(),
        ),
    ] {
        let bench = out();
        let from = bench.folder.path().join(name);
        fs::write(&from, &bytes).unwrap();
        let rsync = Program::new("rsync")
            // Two kilobytes a second: half a second and more for these, so that it is looked at on a busy machine, too.
            .args(["--bwlimit=2", way])
            .arg(&from)
            .arg(bench.inbox())
            .spawn()
            .unwrap();
        let early = looked_at_while(&bench, rsync);
        assert!(early > 0, "{way}: it was not seen on its way");
        holds(&bench, &bytes);
    }
}

/// `scp` talks to a shell that stands in for the other machine.
#[test]
fn scp_delivers_files_that_grow_under_their_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let shell = folder.path().join("ssh");
    // What stands after the machine's name is what is to run there.
    fs::write(
        &shell,
        "#!/bin/sh\nwhile [ \"$1\" != there ]; do shift; done; shift\nexec sh -c \"$*\"\n",
    )
    .unwrap();
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o700)).unwrap();
    if Program::new("scp").stderr(Stdio::null()).status().is_err() {
        eprintln!("notice: there is no scp; what it delivers was not tried");
        return;
    }
    for (name, bytes) in [
        ("brain_corrected.nii.gz", mask()),
        ("brain_corrected.nii", gunzip(&mask(), 1 << 20).unwrap()),
    ] {
        let bench = out();
        let from = bench.folder.path().join(name);
        fs::write(&from, &bytes).unwrap();
        let scp = Program::new("scp")
            .args(["-O", "-q", "-l", "64", "-S"])
            .arg(&shell)
            .arg(&from)
            .arg(format!("there:{}", bench.inbox().display()))
            .spawn()
            .unwrap();
        looked_at_while(&bench, scp);
        holds(&bench, &bytes);
    }
}

#[test]
fn a_file_that_is_moved_or_copied_in_is_taken_in_once() {
    for program in ["mv", "cp"] {
        let bench = out();
        let from = bench.folder.path().join("brain_seg.nii.gz");
        fs::write(&from, mask()).unwrap();
        let running = Program::new(program)
            .arg(&from)
            .arg(bench.inbox())
            .spawn()
            .unwrap();
        looked_at_while(&bench, running);
        holds(&bench, &mask());
    }
}

/// A packed stream that ends early has no end; one that was given its length beforehand is whole when it is closed.
#[test]
fn a_file_is_waited_for_while_it_grows_is_opened_again_or_is_open() {
    let waits = |bench: &Bench, what: &str| {
        let reports = bench.look();
        assert!(
            reports
                .iter()
                .all(|report| (report.outcome, report.code.as_str()) == (Outcome::Wait, "S1")),
            "{what}: {reports:?}"
        );
        assert_eq!(bench.snapshot().corrections.len(), 0, "{what}");
    };
    let packed = mask();
    let bench = out();
    let path = bench.inbox().join("brain_corrected.nii.gz");
    for part in packed.chunks(packed.len() / 5 + 1) {
        waits(&bench, "before a part");
        let mut file = File::options().create(true).append(true).open(&path).unwrap();
        file.write_all(part).unwrap();
    }
    assert!(bench.only_report().correction.is_some());
    holds(&bench, &packed);

    let raw = gunzip(&packed, 1 << 20).unwrap();
    let bench = out();
    let mut file = File::create(bench.inbox().join("brain_corrected.nii")).unwrap();
    // All of it is there, as background; the voxels come later.
    file.write_all(&raw[..352]).unwrap();
    file.set_len(raw.len() as u64).unwrap();
    waits(&bench, "open");
    file.write_all(&raw[352..]).unwrap();
    waits(&bench, "still open");
    drop(file);
    assert!(bench.only_report().correction.is_some());
    holds(&bench, &raw);
}

/// S3: a mask that the engine may not read is waited for, then held with what to do; it is there, and is taken in when it can be
/// read.
#[test]
fn s3_a_file_that_cannot_be_read_waits_then_is_held_with_the_command_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    let is_root = uid() == 0;
    // Root reads everything: the project is another account's then.
    let overtrace = |args: &[&str]| -> (i32, serde_json::Value) {
        let mut program = Program::new(env!("CARGO_BIN_EXE_overtrace"));
        if is_root {
            program.uid(NOBODY).gid(NOBODY);
        }
        let out = program
            .env("HOME", folder.path())
            .arg("--json")
            .arg("--project")
            .arg(&project)
            .args(args)
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&out.stderr).into_owned();
        let json = serde_json::from_slice(&out.stdout).unwrap_or(serde_json::Value::String(words));
        (out.status.code().unwrap_or(-1), json)
    };
    let give = |path: &Path| {
        if is_root {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    };
    give(folder.path());
    let (code, said) = overtrace(&["init"]);
    if code != 0 {
        eprintln!("notice: no other account can run the program here ({said}); S3 was not tried");
        return;
    }
    let settings = project.join("overtrace.toml");
    fs::write(&settings, format!("{SMALL}incomplete_after_s = 600.0\n")).unwrap();
    let (image, truth) = boxes(1);
    let file = folder.path().join("brain.nii.gz");
    fs::write(&file, overtrace::imaging::encode_volume(&image)).unwrap();
    give(&file);
    assert_eq!(overtrace(&["import", file.to_str().unwrap()]).0, 0);
    assert_eq!(overtrace(&["handout", CASE]).0, 0);
    let dropped: PathBuf = project.join("inbox/brain_corrected.nii.gz");
    fs::write(&dropped, encode_labels(&truth, u16::from)).unwrap();
    give(&dropped);
    fs::set_permissions(&dropped, fs::Permissions::from_mode(0o000)).unwrap();
    let only = |said: &serde_json::Value| {
        let file = &said["files"][0];
        (
            file["outcome"].as_str().unwrap().to_string(),
            file["code"].as_str().unwrap().to_string(),
            file["words"].to_string(),
        )
    };
    let (_, said) = overtrace(&["inbox"]);
    let (outcome, code, _) = only(&said);
    assert_eq!((outcome.as_str(), code.as_str()), ("wait", "S3"), "{said}");
    assert!(dropped.exists());
    fs::write(&settings, format!("{SMALL}incomplete_after_s = 0.0\n")).unwrap();
    let (_, said) = overtrace(&["inbox"]);
    let (outcome, code, words) = only(&said);
    assert_eq!((outcome.as_str(), code.as_str()), ("hold", "S3"), "{said}");
    assert!(words.contains("chmod u+r"), "{words}");
    let held = project.join("inbox/held/f1-brain.nii.gz");
    fs::set_permissions(&held, fs::Permissions::from_mode(0o600)).unwrap();
    let (code, said) = overtrace(&["inbox", "accept", "f1"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said["files"][0]["correction"].is_string() || said["files"][0]["correction"].is_number(),
        "{said}"
    );
}

const NOBODY: u32 = 65534;

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
