//! What is kept: a changed byte is found, a lost index is made anew, a backup is the project.

#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use overtrace::engine::{self, history};
use overtrace::imaging::{Rng, encode_labels};
use overtrace::protocol::{Answer, Command};
use overtrace::records::{Hash, Pool};
use overtrace::store::{self, Blobs, Store, StoreError};
use support::{Bench, Place, SMALL, blobs, boxes, corrected, dose, id, verified};

/// A project that has been through a round: a model, a ranking, a correction with its saved effort.
fn place() -> Place {
    let bench = Bench::new(SMALL);
    bench.import("known", 1, Pool::Labelled);
    bench.import("asked", 2, Pool::Unlabelled);
    bench.import("later", 3, Pool::Unlabelled);
    bench.start_round();
    bench.start_round();
    bench.hand_out("asked");
    bench.drop_file("asked_corrected.nii", &corrected());
    assert!(bench.only_report().correction.is_some());
    Place::of(bench)
}

fn journal(project: &Path) -> PathBuf {
    project.join("store/journal/0001.jsonl")
}

#[test]
fn an_untouched_project_holds_and_everything_in_it_was_looked_at() {
    let place = place();
    let found = verified(&place.project);
    assert_eq!(found.problems, []);
    assert_eq!(found.corrections, 1);
    assert!(found.rankings >= 1 && found.predictions >= 2, "{found:?}");
    assert_eq!(found.blobs, blobs(&place.project).len(), "no blob is left out");
    assert_eq!(
        found.entries,
        store::read_elsewhere(&place.project).unwrap().len()
    );
}

#[test]
fn an_edited_or_removed_byte_line_or_tail_of_the_journal_is_found() {
    let place = place();
    let path = journal(&place.project);
    let whole = fs::read(&path).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|&b| b == b'\n').collect();
    let mut rng = Rng::new(5);
    let times = dose(120, 1000);
    for n in 0..times {
        let mut bytes = whole.clone();
        let at = match n % 4 {
            // The last line, too.
            0 => bytes.len() - 1 - rng.below(lines[lines.len() - 1].len()),
            _ => rng.below(bytes.len()),
        };
        let what = match n % 5 {
            0 | 1 => {
                bytes[at] ^= 1 << rng.below(8);
                "a bit"
            }
            2 => {
                bytes.remove(at);
                "a byte"
            }
            3 => {
                let line = if n % 2 == 0 {
                    lines.len() - 1
                } else {
                    rng.below(lines.len())
                };
                bytes = [&lines[..line], &lines[line + 1..]].concat().concat();
                "a line"
            }
            _ => {
                bytes.truncate(at);
                "the tail"
            }
        };
        fs::write(&path, &bytes).unwrap();
        let problem = store::walk(&place.project).unwrap().problem;
        assert!(problem.is_some(), "{what} at {at} was not found");
        // What is found is what is said, and nothing after it is relied on.
        if n % 20 == 0 {
            let found = verified(&place.project);
            assert_eq!(found.problems.last().unwrap().line, problem.unwrap().0);
        }
    }
    fs::write(&path, &whole).unwrap();
    let head = place.project.join("store/head");
    let said = fs::read(&head).unwrap();
    for at in 0..said.len() {
        let mut bytes = said.clone();
        bytes[at] ^= 1;
        fs::write(&head, bytes).unwrap();
        assert!(
            store::walk(&place.project).unwrap().problem.is_some(),
            "byte {at} of the head"
        );
    }
}

#[test]
fn a_changed_or_missing_blob_is_found_with_the_line_that_names_it() {
    let place = place();
    for path in blobs(&place.project) {
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let at = bytes.len() / 2;
        bytes[at] ^= 4;
        fs::write(&path, &bytes).unwrap();
        let found = verified(&place.project);
        assert!(!found.problems.is_empty(), "{}", path.display());
        fs::remove_file(&path).unwrap();
        let found = verified(&place.project);
        assert!(!found.problems.is_empty(), "{}", path.display());
        assert!(found.problems.iter().all(|problem| problem.line > 0));
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(verified(&place.project).problems, []);
}

/// Writes the journal's lines again with entries changed, the chain and the head made to fit.
fn forge(project: &Path, change: impl Fn(&str) -> String) {
    let text = fs::read_to_string(journal(project)).unwrap();
    let mut previous = Hash::ZERO.to_string();
    let (mut forged, mut seq) = (String::new(), 0);
    for line in text.lines() {
        let (hash, entry) = line[9..].split_once("\",\"entry\":").unwrap();
        let entry = &entry[..entry.len() - 1];
        let old = serde_json::from_str::<serde_json::Value>(entry).unwrap()["previous"]
            .as_str()
            .unwrap()
            .to_string();
        let entry = change(entry).replace(&old, &previous);
        previous = Blobs::hash(entry.as_bytes()).to_string();
        assert_eq!(hash.len(), previous.len());
        forged += &format!("{{\"hash\":\"{previous}\",\"entry\":{entry}}}\n");
        seq += 1;
    }
    fs::write(journal(project), forged).unwrap();
    fs::write(
        project.join("store/head"),
        format!("{{\"seq\":{seq},\"hash\":\"{previous}\"}}"),
    )
    .unwrap();
}

/// Who can write the whole folder can make a chain that holds; what the masks and sums give, he cannot change.
#[test]
fn a_saved_effort_or_a_ranking_that_was_forged_with_its_chain_is_found() {
    let place = place();
    forge(&place.project, str::to_string);
    assert_eq!(verified(&place.project).problems, [], "forging nothing");
    let text = fs::read(journal(&place.project)).unwrap();
    let shared = String::from_utf8_lossy(&text)
        .split("\"shared_px\":")
        .nth(1)
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .to_string();
    let better = shared.parse::<u64>().unwrap() + 1;
    forge(&place.project, |entry| {
        entry.replace(
            &format!("\"shared_px\":{shared}"),
            &format!("\"shared_px\":{better}"),
        )
    });
    let words: Vec<String> = verified(&place.project)
        .problems
        .into_iter()
        .map(|problem| problem.words)
        .collect();
    assert_eq!(words, ["c1: its saved effort is not what its masks give"]);
    fs::write(journal(&place.project), &text).unwrap();
    // One without its classes: the round's, and the correction's, which stands after it.
    for (is_round, words) in [(true, "r2: its saved effort"), (false, "c1: its saved effort")] {
        let effort = "\"effort\":[{";
        let find = |entry: &str| match is_round {
            true => entry.find(effort),
            false => entry.rfind(effort),
        };
        forge(&place.project, |entry| match find(entry) {
            Some(at) => {
                let end = at + entry[at..].find("}]").unwrap();
                format!("{}\"effort\":[{}", &entry[..at], &entry[end + 1..])
            }
            None => entry.to_string(),
        });
        let found = verified(&place.project);
        let is_found = found
            .problems
            .iter()
            .any(|problem| problem.words.starts_with(words));
        assert!(is_found, "{words}: {found:?}");
        fs::write(journal(&place.project), &text).unwrap();
    }
    forge(&place.project, |entry| {
        entry.replace(
            "\"strategy\":\"average-bvsb\",\"pixels\":\"all\"",
            "\"strategy\":\"entropy\",\"pixels\":\"all\"",
        )
    });
    let found = verified(&place.project);
    assert!(
        found
            .problems
            .iter()
            .any(|problem| problem.words.contains("its order is not what the sums give")),
        "{found:?}"
    );
}

#[test]
fn a_lost_or_garbled_index_is_made_anew_the_same() {
    let place = place();
    let seen = || {
        let started = support::start(&place.project, false);
        let seen = match started.handle.call(Command::Attach { cases: None }, drop) {
            Ok(Ok(Answer::Snapshot(snapshot))) => *snapshot,
            other => panic!("{other:?}"),
        };
        drop(started.handle);
        started.thread.join().unwrap();
        seen
    };
    let before = seen();
    let index = place.project.join("store/index");
    fs::remove_dir_all(&index).unwrap();
    assert_eq!(seen(), before);
    for file in fs::read_dir(&index).unwrap().map(|file| file.unwrap().path()) {
        if file.is_file() {
            let mut bytes = fs::read(&file).unwrap();
            bytes
                .iter_mut()
                .skip(16)
                .step_by(7)
                .for_each(|byte| *byte ^= 0x5a);
            fs::write(&file, bytes).unwrap();
        }
    }
    assert_eq!(seen(), before);
    // A program that another test is just starting holds this one's files for a moment.
    let rebuilt = loop {
        match Store::rebuild(&place.project) {
            Err(StoreError::Held { .. }) => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    assert!(rebuilt > 5);
    assert_eq!(seen(), before);
}

#[test]
fn a_backup_of_a_live_project_is_the_project_and_what_waits_in_its_inbox() {
    let place = place();
    let started = support::start(&place.project, false);
    fs::write(place.project.join("inbox/waits.nii.gz"), b"a mask").unwrap();
    fs::create_dir_all(place.project.join("inbox/held")).unwrap();
    fs::write(place.project.join("inbox/held/odd.nii.gz"), b"held").unwrap();
    let file = place.path().join("brains.tar");
    let made = engine::backup(&place.project, &file, &mut |_, _| {}).unwrap();
    assert_eq!((made.blobs, made.waiting), (blobs(&place.project).len(), 2));
    let copy = place.path().join("copy");
    let again = store::restore(&file, &copy).unwrap();
    assert_eq!(again.blobs, made.blobs);
    assert_eq!(again.entries, made.entries);
    drop(started);
    assert_eq!(history(&copy).unwrap(), history(&place.project).unwrap());
    assert_eq!(verified(&copy).problems, []);
    assert_eq!(fs::read(copy.join("inbox/held/odd.nii.gz")).unwrap(), b"held");
    assert_eq!(fs::read(copy.join("inbox/waits.nii.gz")).unwrap(), b"a mask");
    drop(support::start(&copy, false));
    // Neither goes over what is there.
    assert!(engine::backup(&place.project, &file, &mut |_, _| {}).is_err());
    assert!(store::restore(&file, &copy).is_err());
}

#[test]
fn an_archive_that_is_cut_off_changed_or_hostile_leaves_nothing() {
    let place = place();
    let file = place.path().join("brains.tar");
    engine::backup(&place.project, &file, &mut |_, _| {}).unwrap();
    let whole = fs::read(&file).unwrap();
    let into = place.path().join("into");
    let refused = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let error = store::restore(&file, &into).unwrap_err().to_string();
        assert!(!into.exists(), "{error}");
        let left = fs::read_dir(place.path()).unwrap().flatten();
        assert!(
            left.into_iter()
                .all(|item| !item.file_name().to_string_lossy().starts_with(".restoring")),
            "{error}"
        );
        error
    };
    // Between any two of its blocks, too.
    for blocks in (0..whole.len() / 512)
        .step_by(7)
        .chain([whole.len() / 512 - 2, whole.len() / 512 - 1])
    {
        refused(&whole[..blocks * 512]);
    }
    refused(b"no archive");
    let mut changed = whole.clone();
    let at = whole.len() / 2;
    changed[at] ^= 1;
    refused(&changed);
    for (path, kind) in [
        ("store/../../out", tar::EntryType::Regular),
        ("store/link", tar::EntryType::Symlink),
    ] {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_link_name("/etc/passwd").unwrap();
        header.set_size(0);
        header.set_cksum();
        let error = refused(&[header.as_bytes(), &[0; 1024][..]].concat());
        assert!(error.contains("has no place in it"), "{error}");
    }
}

#[test]
fn what_is_kept_is_looked_at_by_commands_beside_a_running_engine_and_without() {
    let place = place();
    let run = |args: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_overtrace"))
            .arg("--project")
            .arg(&place.project)
            .args(args)
            .output()
            .unwrap()
    };
    assert!(run(&["engine", "start"]).status.success());
    let said = run(&["verify"]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.status.success() && text.contains("1 saved efforts"),
        "{text}"
    );
    let all: serde_json::Value = serde_json::from_slice(&run(&["export", "--json"]).stdout).unwrap();
    assert!(all["entries"].as_array().unwrap().len() > 5);
    // The index is the engine's.
    assert_eq!(run(&["rebuild"]).status.code(), Some(3));
    let file = place.path().join("b.tar");
    assert!(run(&["backup", file.to_str().unwrap()]).status.success());
    assert!(run(&["engine", "stop"]).status.success());
    assert!(run(&["rebuild"]).status.success());
    let copy = place.path().join("copy");
    assert!(
        run(&["restore", file.to_str().unwrap(), copy.to_str().unwrap()])
            .status
            .success()
    );
    let first = &blobs(&place.project)[0];
    fs::write(first, b"changed").unwrap();
    let said = run(&["verify"]);
    assert_eq!(said.status.code(), Some(2));
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(words.contains("the first is line"), "{words}");
}

#[test]
fn an_agreement_of_two_people_that_was_forged_is_found() {
    let bench = Bench::new(SMALL);
    bench.import("brain", 0, Pool::Unlabelled);
    for (owner, seed) in [("bob", 0), ("eve", 1)] {
        let command = Command::HandOut {
            case: id("brain"),
            owner: owner.into(),
            again: false,
        };
        let Answer::HandedOut(out) = bench.ask(command).unwrap() else {
            panic!("no hand-out");
        };
        bench.drop_file(&out.reply_name, &encode_labels(&boxes(seed).1, u16::from));
        assert!(bench.only_report().correction.is_some());
    }
    let project = bench.project();
    assert_eq!(verified(&project).problems, []);
    forge(&project, |entry| {
        entry.replacen("\"classes\":[{\"dice\":0.", "\"classes\":[{\"dice\":0.9", 1)
    });
    let found = verified(&project).problems;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].words, "c2: its agreement is not what the masks give");
}
