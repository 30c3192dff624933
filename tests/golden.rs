//! Stores that older versions wrote are read for ever: one archive a format in `fixtures/stores`, with what was in it.
//!
//! `OVERTRACE_WRITE_GOLDEN=1 cargo test --test golden` writes that of this version; one that was released is never written
//! again.

#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use overtrace::engine::{self, verify};
use overtrace::imaging::{encode_labels, gunzip};
use overtrace::protocol::{Answer, Command, Snapshot};
use overtrace::records::{CorrectionId, Pool};
use overtrace::store;
use serde_json::{Value, json};
use support::{Bench, Place, SMALL, boxes, id};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stores")
}

/// What a store holds, in words that no version changes.
fn facts(snapshot: &Snapshot, entries: usize) -> Value {
    let correction = &snapshot.corrections[&CorrectionId(1)];
    json!({
        "entries": entries,
        "cases": snapshot.cases.iter().map(|(id, case)| (id.to_string(), case.pool.word())).collect::<Vec<_>>(),
        "models": snapshot.models.len(),
        "rounds": snapshot.rounds.values().map(|round| round.state.word()).collect::<Vec<_>>(),
        "order": snapshot.order.iter().map(|scored| scored.case.to_string()).collect::<Vec<_>>(),
        "held": snapshot.waiting().count(),
        "corrected": correction.case.to_string(),
        "by": correction.who,
        "minutes": correction.minutes,
        "contours": correction.effort.iter().map(|class| [class.corrected_px, class.shared_px]).collect::<Vec<_>>(),
        "excluded": snapshot.cases[&id("left_out")].excluded,
    })
}

fn snapshot(project: &Path) -> Snapshot {
    let started = support::start(project, false);
    let Ok(Ok(Answer::Snapshot(snapshot))) = started.handle.call(Command::Attach { cases: None }, drop)
    else {
        panic!("no snapshot");
    };
    drop(started.handle);
    started.thread.join().unwrap();
    *snapshot
}

/// Everything that a project can hold, in little.
fn write(name: &str) {
    let bench = Bench::new(SMALL);
    bench.import("known", 1, Pool::Labelled);
    bench.import("test", 4, Pool::HeldOut);
    bench.import("asked", 2, Pool::Unlabelled);
    bench.import("later", 3, Pool::Unlabelled);
    bench.import("left_out", 5, Pool::Unlabelled);
    bench.start_round();
    bench.start_round();
    let asked = bench.snapshot().order[0].case.to_string();
    bench.hand_out(&asked);
    let seed = if asked == "asked" { 2 } else { 3 };
    let mut truth = boxes(seed).1;
    truth.voxels[700] = 1;
    // Not packed, as another program may write it.
    let file = gunzip(&encode_labels(&truth, u16::from), 1 << 20).unwrap();
    bench.drop_file(&format!("{asked}_corrected.nii"), &file);
    assert!(bench.only_report().correction.is_some());
    bench.done(Command::NoteMinutes {
        case: id(&asked),
        minutes: 42.0,
    });
    bench.drop_file(
        &format!("{asked}_seg.nii.gz"),
        &encode_labels(&boxes(0).1, u16::from),
    );
    bench.scan();
    bench.done(Command::Exclude {
        case: id("left_out"),
        why: "moved \u{201c}twice\u{201d}".into(),
    });
    let place = Place::of(bench);
    fs::create_dir_all(folder()).unwrap();
    let archive = folder().join(format!("{name}.tar"));
    let _ = fs::remove_file(&archive);
    engine::backup(&place.project, &archive, &mut |_, _| {}).unwrap();
    let entries = store::read_elsewhere(&place.project).unwrap().len();
    let facts = serde_json::to_string_pretty(&facts(&snapshot(&place.project), entries)).unwrap();
    fs::write(folder().join(format!("{name}.json")), facts + "\n").unwrap();
}

#[test]
fn stores_of_every_version_are_read_and_hold() {
    if std::env::var_os("OVERTRACE_WRITE_GOLDEN").is_some() {
        write(env!("CARGO_PKG_VERSION"));
    }
    let mut tried = 0;
    for file in fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "tar") {
            continue;
        }
        let place = tempfile::tempdir().unwrap();
        let project = place.path().join("project");
        store::restore(&file, &project).unwrap();
        let found = verify(&project, &|_, _| {}).unwrap();
        assert_eq!(found.problems, [], "{}", file.display());
        let known: Value = serde_json::from_slice(&fs::read(file.with_extension("json")).unwrap()).unwrap();
        assert_eq!(
            facts(&snapshot(&project), found.entries),
            known,
            "{}",
            file.display()
        );
        tried += 1;
    }
    assert!(tried >= 1);
}
