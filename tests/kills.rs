//! `kill -9` at any moment, while opening too: what was acknowledged is there, and no mask is taken in twice or lost.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use overtrace::engine::verify;
use overtrace::imaging::{Rng, encode_labels};
use overtrace::protocol::{Answer, Command, Snapshot};
use overtrace::records::Pool;
use support::{Bench, Place, SMALL, boxes, dose, id, until};

/// An engine that looks into its inbox as often as it can, and trains nothing.
fn settings() -> String {
    format!("{SMALL}rescan_s = 0.2\n[query]\ntrain_when_complete = false\n")
}

fn snapshot(project: &Path) -> Snapshot {
    let started = support::start(project, false);
    let answer = started.handle.call(Command::Attach { cases: None }, drop);
    let Ok(Ok(Answer::Snapshot(snapshot))) = answer else {
        panic!("{answer:?}")
    };
    drop(started.handle);
    started.thread.join().unwrap();
    *snapshot
}

/// Waits without letting go of the processor: the moment of a kill is to be any.
fn spin(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[test]
fn a_killed_engine_loses_nothing_that_it_acknowledged_and_takes_every_mask_in_once() {
    let times = dose(30, 300);
    let bench = Bench::new(&settings());
    for n in 0..times {
        bench.import(&format!("case{n}"), n as u64, Pool::Unlabelled);
    }
    let place = Place::of(bench);
    let mut rng = Rng::new(11);
    let (mut acknowledged, mut dropped, mut while_opening) = (BTreeSet::new(), BTreeSet::new(), 0);
    let (mut how_long, mut hand_out) = (Duration::from_millis(40), Duration::from_millis(10));
    for n in 0..times {
        let began = Instant::now();
        let mut engine = support::engine_process(&place.project);
        if rng.below(10) < 3 {
            // Somewhere between its first instruction and where it can be reached.
            while_opening += 1;
            spin(how_long.mul_f64(rng.uniform()));
        } else {
            let handle = support::reached(&place.project);
            how_long = began.elapsed();
            let case = format!("case{n}");
            // A mask of its own: the same one of another case is refused.
            let (_, mut truth) = boxes(n as u64);
            // The first rows of a slice are background.
            truth.voxels[n % 60] = 1;
            truth.voxels[480 + n / 60] = 1;
            let command = Command::HandOut {
                case: id(&case),
                owner: "bob".into(),
                again: false,
            };
            let number = handle.send(command).unwrap();
            // Killed while the case is being handed out, or while its mask is being taken in, or after.
            let file = place
                .project
                .join("inbox")
                .join(format!("{case}_corrected.nii.gz"));
            let until_kill = (4 * hand_out).mul_f64(rng.uniform());
            let sent = Instant::now();
            let mut is_out = false;
            // The first is waited for, and says how long one takes on this machine.
            while acknowledged.is_empty() || sent.elapsed() < until_kill {
                let event = handle.receive(Duration::from_micros(200));
                if let Ok(Some(overtrace::protocol::Event::Answer { request, result })) = event
                    && request == number
                {
                    result.unwrap();
                    acknowledged.insert(case.clone());
                    hand_out = hand_out.max(sent.elapsed());
                    is_out = true;
                    break;
                }
            }
            if is_out {
                fs::write(&file, encode_labels(&truth, u16::from)).unwrap();
                dropped.insert(case);
                spin(until_kill.saturating_sub(sent.elapsed()));
            }
        }
        engine.kill().unwrap();
        engine.wait().unwrap();
        until("its lock is free", || {
            !overtrace::store::is_held(&place.project).unwrap()
        });
        if n % 10 == 9 {
            let known = snapshot(&place.project);
            for case in &acknowledged {
                let is_there = known.handouts.values().any(|handout| handout.case == id(case));
                assert!(is_there, "the hand-out of {case} was acknowledged and is lost");
            }
        }
    }
    assert!(
        while_opening * 5 >= times,
        "{while_opening} of {times} while opening"
    );
    assert!(dropped.len() * 4 > times, "{} masks", dropped.len());
    // What is left in the inbox is taken in now.
    let started = support::start(&place.project, false);
    let scanned = started.handle.call(Command::ScanInbox, drop).unwrap();
    assert!(scanned.is_ok(), "{scanned:?}");
    drop(started.handle);
    started.thread.join().unwrap();
    let known = snapshot(&place.project);
    for case in &dropped {
        let corrections = known.corrections.values().filter(|done| done.case == id(case));
        assert_eq!(corrections.count(), 1, "corrections of {case}");
    }
    assert_eq!(known.corrections.len(), dropped.len());
    let done = fs::read_dir(place.project.join("inbox/done")).unwrap().count();
    assert_eq!(done, dropped.len());
    assert_eq!(verify(&place.project, &|_, _| {}).unwrap().problems, []);
}

/// Held with its label table, accepted, and killed somewhere on the way.
#[test]
fn a_killed_engine_loses_no_held_file_and_takes_none_in_twice_or_without_its_table() {
    let times = dose(12, 150);
    let bench = Bench::new(&settings());
    for n in 0..times {
        bench.import(&format!("case{n}"), n as u64, Pool::Unlabelled);
    }
    let place = Place::of(bench);
    let inbox = place.project.join("inbox");
    let mut rng = Rng::new(12);
    // CSF and WM are exchanged, and the table says so.
    let table = b"index\tname\n1\tWM\n2\tGM\n3\tCSF\n";
    let mask = |n: usize| {
        let (_, mut truth) = boxes(n as u64);
        truth.voxels[n % 60] = 1;
        truth.voxels[480 + n / 60] = 1;
        encode_labels(&truth, u16::from)
    };
    let mut left_waiting = 0;
    let mut how_long = Duration::ZERO;
    for n in 0..times {
        let case = format!("case{n}");
        let mut engine = support::engine_process(&place.project);
        let handle = support::reached(&place.project);
        // Nobody has the case: its mask is held.
        fs::write(inbox.join(format!("{case}_dseg.tsv")), table).unwrap();
        fs::write(inbox.join(format!("{case}_dseg.nii.gz")), mask(n)).unwrap();
        // The first is waited for, and says how long one takes on this machine.
        let dropped = Instant::now();
        let until_kill = match n {
            0 => Duration::from_secs(60),
            _ => (2 * how_long).mul_f64(rng.uniform()),
        };
        let mut accept = None;
        while dropped.elapsed() < until_kill && accept.is_none() {
            let Ok(Ok(Answer::Snapshot(known))) = handle.call(Command::Attach { cases: None }, drop) else {
                panic!("no snapshot")
            };
            let held = known
                .waiting()
                .find(|held| held.case == id(&case))
                .map(|held| held.id);
            accept = held.map(|held| handle.send(Command::AcceptHeld { held, fix: false }).unwrap());
        }
        // Some are killed as they are accepted, some afterwards.
        spin(
            Duration::from_millis(30)
                .mul_f64(rng.uniform())
                .min(until_kill.saturating_sub(dropped.elapsed())),
        );
        if accept.is_some() {
            how_long = dropped.elapsed();
        }
        assert!(!how_long.is_zero(), "nothing was held in a minute");
        engine.kill().unwrap();
        engine.wait().unwrap();
        until("its lock is free", || {
            !overtrace::store::is_held(&place.project).unwrap()
        });
    }
    // What is left is taken in now: first what lies in the inbox, then what waits.
    let started = support::start(&place.project, false);
    started.handle.call(Command::ScanInbox, drop).unwrap().unwrap();
    let Ok(Ok(Answer::Snapshot(known))) = started.handle.call(Command::Attach { cases: None }, drop) else {
        panic!("no snapshot")
    };
    for held in known.waiting() {
        left_waiting += 1;
        let accept = Command::AcceptHeld {
            held: held.id,
            fix: false,
        };
        let taken = started.handle.call(accept, drop).unwrap();
        assert!(taken.is_ok(), "{taken:?}");
    }
    drop(started.handle);
    started.thread.join().unwrap();
    let known = snapshot(&place.project);
    assert_eq!(known.waiting().count(), 0, "of {left_waiting}");
    for n in 0..times {
        let of_case = known
            .corrections
            .values()
            .filter(|done| done.case == id(&format!("case{n}")));
        let of_case: Vec<_> = of_case.collect();
        let [only] = of_case[..] else {
            panic!("case{n}: {of_case:?}")
        };
        assert_eq!(only.file, overtrace::store::Blobs::hash(&mask(n)), "case{n}");
        assert_eq!(only.table, Some(overtrace::store::Blobs::hash(table)), "case{n}");
    }
    assert_eq!(verify(&place.project, &|_, _| {}).unwrap().problems, []);
}
