//! `kill -9` before each single step from a file's arrival to where it ends: nothing is lost, taken in twice or left over.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use overtrace::engine::verify;
use overtrace::imaging::{encode_labels, gunzip, split_pair};
use overtrace::protocol::{Answer, Command, EngineHandle, Snapshot};
use overtrace::records::{CaseId, Correction, HeldId, Pool};
use overtrace::store::Blobs;
use support::{Bench, Place, SMALL, boxes, id, start, until};

/// CSF and WM are exchanged, and the table says so.
const TABLE: &[u8] = b"index\tname\n1\tWM\n2\tGM\n3\tCSF\n";

/// Who sends and decides: one case of the project, and a line to the engine, which may be killed at any moment.
struct Hand {
    handle: EngineHandle,
    project: PathBuf,
    case: CaseId,
    /// Makes the case's mask one of its own.
    n: usize,
}

/// One way of a file: what is done before the steps are counted, what is done then (whether the engine lived), and what a
/// person does after the crash.
struct Way {
    name: &'static str,
    before: fn(&Hand),
    then: fn(&Hand) -> bool,
    after: fn(&Hand),
    /// Endings of what lies there in the end.
    done: &'static [&'static str],
    quarantine: &'static [&'static str],
    /// Whether it becomes a correction, and one with the table.
    correction: Option<bool>,
}

impl Hand {
    /// Whether the engine was there to answer, whatever it said.
    fn ask(&self, command: Command) -> bool {
        self.handle.call(command, drop).is_ok()
    }

    fn snapshot(&self) -> Snapshot {
        match self.handle.call(Command::Attach { cases: None }, drop) {
            Ok(Ok(Answer::Snapshot(snapshot))) => *snapshot,
            other => panic!("{other:?}"),
        }
    }

    fn mask(&self) -> Vec<u8> {
        let (_, mut truth) = boxes(0);
        // The first rows of a slice are background.
        truth.voxels[self.n % 60] = 1;
        truth.voxels[480 + self.n / 60] = 1;
        encode_labels(&truth, u16::from)
    }

    fn drop_file(&self, ending: &str, bytes: &[u8]) {
        let name = format!("{}_corrected{ending}", self.case);
        fs::write(self.project.join("inbox").join(name), bytes).unwrap();
    }

    /// The table first: the engine may look at any moment.
    fn send(&self) -> bool {
        self.drop_file(".tsv", TABLE);
        self.drop_file(".nii.gz", &self.mask());
        self.ask(Command::ScanInbox)
    }

    fn send_pair(&self) -> bool {
        let (hdr, img) = split_pair(&gunzip(&self.mask(), 1 << 20).unwrap());
        self.drop_file(".img", &img);
        self.drop_file(".hdr", &hdr);
        self.ask(Command::ScanInbox)
    }

    /// A mask with a value that is no label.
    fn send_wrong(&self) -> bool {
        let (_, mut truth) = boxes(0);
        truth.voxels[self.n] = 9;
        self.drop_file(".tsv", TABLE);
        self.drop_file(".nii.gz", &encode_labels(&truth, u16::from));
        self.ask(Command::ScanInbox)
    }

    fn hand_out(&self) {
        let command = Command::HandOut {
            case: self.case.clone(),
            owner: "bob".into(),
            again: false,
        };
        assert!(self.handle.call(command, drop).unwrap().is_ok());
    }

    fn waiting(&self) -> Option<HeldId> {
        let snapshot = self.snapshot();
        let of_case = snapshot.waiting().find(|held| held.case == self.case);
        of_case.map(|held| held.id)
    }

    fn accept(&self) -> bool {
        let waiting = self.waiting();
        waiting.is_none_or(|held| self.ask(Command::AcceptHeld { held, fix: false }))
    }

    fn refuse(&self) -> bool {
        let why = String::from("not this one");
        let waiting = self.waiting();
        waiting.is_none_or(|held| self.ask(Command::RefuseHeld { held, why }))
    }

    fn forget(&self) -> bool {
        self.ask(Command::Forget {
            case: self.case.clone(),
            why: "withdrew".into(),
        })
    }

    fn corrections(&self) -> Vec<Correction> {
        let corrections = self.snapshot().corrections.into_values();
        corrections.filter(|done| done.case == self.case).collect()
    }
}

const WAYS: &[Way] = &[
    Way {
        name: "accepted",
        before: Hand::hand_out,
        then: Hand::send,
        after: |_| {},
        done: &[".nii.gz", ".tsv"],
        quarantine: &[],
        correction: Some(true),
    },
    Way {
        name: "pair",
        before: Hand::hand_out,
        then: Hand::send_pair,
        after: |_| {},
        done: &[".hdr", ".img"],
        quarantine: &[],
        correction: Some(false),
    },
    Way {
        name: "held",
        before: |_| {},
        then: Hand::send,
        after: |hand| assert!(hand.accept()),
        done: &[".nii.gz", ".tsv"],
        quarantine: &[],
        correction: Some(true),
    },
    Way {
        name: "let-pass",
        before: |hand| assert!(hand.send() && hand.waiting().is_some()),
        then: Hand::accept,
        after: |hand| assert!(hand.accept()),
        done: &[".nii.gz", ".tsv"],
        quarantine: &[],
        correction: Some(true),
    },
    Way {
        name: "turned-away",
        before: |hand| assert!(hand.send() && hand.waiting().is_some()),
        then: Hand::refuse,
        after: |hand| assert!(hand.refuse()),
        done: &[],
        quarantine: &[".nii.gz", ".nii.gz.reason.json", ".tsv"],
        correction: None,
    },
    Way {
        name: "refused",
        before: Hand::hand_out,
        then: Hand::send_wrong,
        after: |_| {},
        done: &[],
        quarantine: &[".nii.gz", ".nii.gz.reason.json", ".tsv"],
        correction: None,
    },
    Way {
        name: "forgotten",
        before: |hand| {
            hand.hand_out();
            assert!(hand.send() && hand.corrections().len() == 1);
            // Its next mask is held.
            let (_, truth) = boxes(3);
            hand.drop_file(".nii.gz", &encode_labels(&truth, u16::from));
            assert!(hand.ask(Command::ScanInbox) && hand.waiting().is_some());
        },
        then: Hand::forget,
        after: |hand| assert!(hand.forget()),
        done: &[],
        quarantine: &[],
        correction: Some(true),
    },
];

/// The endings of a case's files in a folder of the inbox.
fn endings(project: &Path, folder: &str, case: &CaseId) -> Vec<String> {
    let items = fs::read_dir(project.join("inbox").join(folder))
        .into_iter()
        .flatten();
    let names = items.map(|item| item.unwrap().file_name().into_string().unwrap());
    let of_case = names.filter(|name| name.contains(case.as_str()));
    let mut endings: Vec<String> = of_case
        .map(|name| name[name.find('.').unwrap_or(name.len())..].to_string())
        .collect();
    endings.sort();
    endings
}

/// The library that kills; `None` where nothing compiles it.
fn library(folder: &Path) -> Option<PathBuf> {
    let library = folder.join("kill_before_step.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/kill_before_step.c");
    let compiled = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    match compiled {
        Ok(status) => assert!(status.success(), "{status}"),
        Err(error) => {
            eprintln!("NOT TESTED, kills before each step: cc: {error}");
            return None;
        }
    }
    Some(library)
}

/// One file on its way, with a kill before step `at`; whether the engine came to the end all the same.
fn killed_before(place: &Place, library: &Path, way: &Way, n: usize, at: usize) -> bool {
    let (project, from) = (&place.project, place.path().join("steps-from"));
    let _ = fs::remove_file(&from);
    let case = id(&format!("{}-{at:03}", way.name));
    let hand = |handle| Hand {
        handle,
        project: project.clone(),
        case: case.clone(),
        n,
    };
    let mut engine = support::engine_process_with(
        project,
        &[
            ("LD_PRELOAD", library.as_os_str()),
            ("STEPS_FROM", from.as_os_str()),
            ("KILL_BEFORE_STEP", at.to_string().as_ref()),
        ],
    );
    let before = hand(support::reached(project));
    (way.before)(&before);
    fs::write(&from, "").unwrap();
    let lived = (way.then)(&before);
    drop(before);
    engine.kill().unwrap();
    engine.wait().unwrap();
    until("its lock is free", || {
        !overtrace::store::is_held(project).unwrap()
    });
    let started = start(project, false);
    let hand = hand(started.handle);
    assert!(hand.ask(Command::ScanInbox));
    (way.after)(&hand);
    let what = format!("{case}: {:?}", hand.corrections());
    assert_eq!(hand.waiting(), None, "{what}");
    match (way.correction, &hand.corrections()[..]) {
        (None, []) => {}
        (Some(with_table), [only]) => {
            let table = with_table.then(|| Blobs::hash(TABLE));
            assert_eq!(only.table, table, "{what}");
        }
        _ => panic!("{what}"),
    }
    drop(hand);
    started.thread.join().unwrap();
    for (folder, wanted) in [("done", way.done), ("quarantine", way.quarantine), ("held", &[])] {
        assert_eq!(endings(project, folder, &case), wanted, "{folder}, {what}");
    }
    let left = endings(project, "", &case);
    assert_eq!(left, [] as [&str; 0], "the inbox, {what}");
    lived
}

#[test]
fn a_kill_before_any_single_step_leaves_nothing_lost_doubled_or_lying_about() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = library(folder.path()) else {
        return;
    };
    let most = 80;
    let settings = format!("{SMALL}rescan_s = 60.0\n[query]\ntrain_when_complete = false\n");
    let bench = Bench::new(&settings);
    for (which, way) in WAYS.iter().enumerate() {
        for at in 1..=most {
            // Images that differ, of one anatomy.
            let seed = 4 * (which * most + at) as u64;
            bench.import(&format!("{}-{at:03}", way.name), seed, Pool::Unlabelled);
        }
    }
    let place = Place::of(bench);
    let mut n = 0;
    for way in WAYS {
        let (mut kills, mut lived) = (0, 0);
        for at in 1..=most {
            n += 1;
            // Another thread may be at a step, too.
            match killed_before(&place, &library, way, n, at) {
                true => lived += 1,
                false => (kills, lived) = (kills + 1, 0),
            }
            if lived == 3 {
                break;
            }
        }
        eprintln!("{}: {kills} kills", way.name);
        assert!(kills > 0 && lived == 3, "{}: {kills} kills", way.name);
    }
    assert_eq!(verify(&place.project, &|_, _| {}).unwrap().problems, []);
}
