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
/// The table of a mask whose values are the project's own.
const SAME: &[u8] = b"index\tname\n1\tCSF\n2\tGM\n3\tWM\n";

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
    /// The table of the correction that it becomes, where it becomes one and has one.
    correction: Option<Option<&'static [u8]>>,
    /// A call that is among its steps.
    call: &'static str,
}

impl Hand {
    /// Whether the engine was there to answer, whatever it said.
    fn ask(&self, command: Command) -> bool {
        self.handle.call(command, drop).is_ok()
    }

    /// `None` where the engine was killed meanwhile.
    fn snapshot(&self) -> Option<Snapshot> {
        match self.handle.call(Command::Attach { cases: None }, drop) {
            Ok(Ok(Answer::Snapshot(snapshot))) => Some(*snapshot),
            _ => None,
        }
    }

    /// The case whose drawing lies where this one's should.
    fn other(&self) -> CaseId {
        id(&format!("other-{}", self.case))
    }

    /// A mask of its own: the first rows of a slice are background.
    fn mask_of(&self, seed: u64) -> Vec<u8> {
        let (_, mut truth) = boxes(seed);
        truth.voxels[self.n % 60] = 1;
        truth.voxels[480 + self.n / 60] = 1;
        encode_labels(&truth, u16::from)
    }

    fn mask(&self) -> Vec<u8> {
        self.mask_of(0)
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

    /// Another case's mask.
    fn send_other(&self) -> bool {
        self.drop_file(".tsv", SAME);
        self.drop_file(".nii.gz", &self.mask_of(3));
        self.ask(Command::ScanInbox)
    }

    fn send_pair_with_table(&self) -> bool {
        self.drop_file(".tsv", TABLE);
        self.send_pair()
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
        self.hand_out_of(self.case.clone());
    }

    fn hand_out_of(&self, case: CaseId) {
        let command = Command::HandOut {
            case,
            owner: "bob".into(),
            again: false,
        };
        assert!(self.handle.call(command, drop).unwrap().is_ok());
    }

    fn waiting(&self) -> Option<HeldId> {
        let snapshot = self.snapshot().expect("the engine runs");
        let of_case = snapshot.waiting().find(|held| held.case == self.case);
        of_case.map(|held| held.id)
    }

    /// Decides about what waits, if anything does; whether the engine lived.
    fn decide(&self, decision: impl FnOnce(HeldId) -> Command) -> bool {
        let Some(snapshot) = self.snapshot() else {
            return false;
        };
        let held = snapshot.waiting().find(|held| held.case == self.case);
        held.is_none_or(|held| self.ask(decision(held.id)))
    }

    fn accept(&self) -> bool {
        self.decide(|held| Command::AcceptHeld { held, fix: false })
    }

    fn fix(&self) -> bool {
        self.decide(|held| Command::AcceptHeld { held, fix: true })
    }

    fn refuse(&self) -> bool {
        let why = String::from("not this one");
        self.decide(|held| Command::RefuseHeld { held, why })
    }

    fn forget(&self) -> bool {
        self.ask(Command::Forget {
            case: self.case.clone(),
            why: "withdrew".into(),
        })
    }

    fn corrections(&self) -> Vec<Correction> {
        let corrections = self
            .snapshot()
            .expect("the engine runs")
            .corrections
            .into_values();
        corrections
            .filter(|done| done.case.as_str().contains(self.case.as_str()))
            .collect()
    }
}

/// A mask with its table that is asked for, and what most ways share with it.
const TAKEN_IN: Way = Way {
    name: "taken-in",
    before: Hand::hand_out,
    then: Hand::send,
    after: |_| {},
    done: &[".nii.gz", ".tsv"],
    quarantine: &[],
    correction: Some(Some(TABLE)),
    call: "rename",
};

/// A mask that becomes none.
const REFUSED: Way = Way {
    name: "refused",
    then: Hand::send_wrong,
    done: &[],
    quarantine: &[".nii.gz", ".nii.gz.reason.json", ".tsv"],
    correction: None,
    ..TAKEN_IN
};

/// Nobody has the case: its mask is held.
fn is_held(hand: &Hand) {
    assert!(hand.send() && hand.waiting().is_some());
}

fn is_taken_in(hand: &Hand) {
    hand.hand_out();
    assert!(hand.send() && hand.corrections().len() == 1);
}

const WAYS: &[Way] = &[
    TAKEN_IN,
    REFUSED,
    Way {
        name: "pair",
        then: Hand::send_pair,
        done: &[".hdr", ".img"],
        correction: Some(None),
        ..TAKEN_IN
    },
    Way {
        name: "held",
        before: |_| {},
        after: |hand| assert!(hand.accept()),
        ..TAKEN_IN
    },
    Way {
        name: "pair-held",
        before: |_| {},
        then: Hand::send_pair_with_table,
        after: |hand| assert!(hand.accept()),
        done: &[".hdr", ".img", ".nii", ".tsv"],
        ..TAKEN_IN
    },
    Way {
        name: "let-pass",
        before: is_held,
        then: Hand::accept,
        after: |hand| assert!(hand.accept()),
        ..TAKEN_IN
    },
    Way {
        name: "turned-away",
        before: is_held,
        then: Hand::refuse,
        after: |hand| assert!(hand.refuse()),
        ..REFUSED
    },
    Way {
        name: "fixed",
        before: |hand| {
            hand.hand_out();
            hand.hand_out_of(hand.other());
            assert!(hand.send_other() && hand.waiting().is_some());
        },
        then: Hand::fix,
        after: |hand| assert!(hand.fix()),
        correction: Some(Some(SAME)),
        ..TAKEN_IN
    },
    Way {
        name: "known",
        before: is_taken_in,
        done: &[".nii.gz", ".nii.gz", ".tsv", ".tsv"],
        ..TAKEN_IN
    },
    Way {
        name: "forgotten",
        before: |hand| {
            is_taken_in(hand);
            // Its next mask is held.
            let (_, truth) = boxes(3);
            hand.drop_file(".nii.gz", &encode_labels(&truth, u16::from));
            assert!(hand.ask(Command::ScanInbox) && hand.waiting().is_some());
        },
        then: Hand::forget,
        // Killed before the journal said so, it is not forgotten.
        after: |hand| {
            let snapshot = hand.snapshot().unwrap();
            if snapshot.cases[&hand.case].forgotten.is_none() {
                assert!(hand.forget());
            }
        },
        done: &[],
        call: "unlink",
        ..TAKEN_IN
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
            assert!(std::env::var_os("OVERTRACE_FULL").is_none(), "cc: {error}");
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
    if let Some(held) = hand.waiting() {
        panic!("{what} {:?}", hand.snapshot().unwrap().held[&held]);
    }
    match (way.correction, &hand.corrections()[..]) {
        (None, []) => {}
        (Some(table), [only]) => assert_eq!(only.table, table.map(Blobs::hash), "{what}"),
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
            let name = format!("{}-{at:03}", way.name);
            if way.name == "fixed" {
                bench.import(&name, seed, Pool::Labelled);
                bench.import(&format!("other-{name}"), seed + 3, Pool::Labelled);
            } else {
                bench.import(&name, seed, Pool::Unlabelled);
            }
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
        let steps = fs::read_to_string(place.path().join("steps-from")).unwrap();
        assert!(
            steps.lines().any(|step| step == way.call),
            "{}: {steps}",
            way.name
        );
    }
    assert_eq!(verify(&place.project, &|_, _| {}).unwrap().problems, []);
}

/// What an engine left is told from what people left: a table, or half of a pair, that waits for its mask goes on waiting.
#[test]
fn what_waits_for_its_mask_stays_though_masks_of_its_name_came_before() {
    let bench = Bench::new(SMALL);
    bench.import("brain", 0, Pool::Unlabelled);
    bench.hand_out("brain");
    let (_, truth) = boxes(0);
    bench.drop_file("brain_seg.TSV", SAME);
    bench.drop_file("brain_seg.nii.gz", &encode_labels(&truth, u16::from));
    bench.scan();
    bench.drop_file("brain_seg.nii.gz", b"no mask");
    bench.scan();
    assert_eq!(bench.snapshot().corrections.len(), 1);
    for name in ["brain_seg.tsv", "brain_seg.label", "brain_seg.img"] {
        bench.drop_file(name, SAME);
    }
    let bench = bench.restart();
    bench.scan();
    for name in ["brain_seg.tsv", "brain_seg.label", "brain_seg.img"] {
        assert!(bench.inbox().join(name).exists(), "{name}");
    }
}
