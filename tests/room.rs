//! Room on the disk: what goes and what stays, a case that is forgotten, a disk that is full.

#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use overtrace::engine::{self, history};
use overtrace::protocol::{Answer, Beside, Command, ImportItem, Outcome, Wanted};
use overtrace::records::{Hash, ModelId, Pool};
use overtrace::store::Blobs;
use support::{Bench, Place, SMALL, blobs, corrected, dose, id, verified};

/// A bench on a project that has been through two rounds, with the maps of both models.
fn two_models() -> Bench {
    // Of two channels one is often dead, and then all that is drawn is alike.
    let bench = Bench::new(&SMALL.replace("base_channels = 2", "base_channels = 4"));
    bench.import("known", 1, Pool::Labelled);
    bench.import("asked", 2, Pool::Unlabelled);
    bench.import("later", 3, Pool::Unlabelled);
    bench.start_round();
    bench.start_round();
    bench.hand_out("asked");
    bench.drop_file("asked_corrected.nii", &corrected());
    bench.only_report();
    bench.done(Command::Train);
    bench
}

#[test]
fn what_is_not_kept_for_ever_goes_and_the_project_holds() {
    let bench = two_models();
    let project = bench.project();
    let gc = |dry_run| bench.ask(Command::Gc { dry_run }).unwrap();
    let before = blobs(&project).len();
    let said = bench.done(Command::Gc { dry_run: true });
    // The first model's maps of what it drew, but for the pre-annotation that was corrected.
    assert!(
        said.contains("would be removed: 3 label maps and margins"),
        "{said}"
    );
    assert_eq!(blobs(&project).len(), before);
    let first = bench.snapshot().predictions[&id("later")].clone();
    assert_eq!(first.model.0, 2);
    bench.done(Command::Gc { dry_run: false });
    // And the list of what went is kept.
    assert_eq!(blobs(&project).len(), before - 3 + 1);
    assert!(matches!(gc(false), Answer::Nothing(_)), "there is nothing more");
    let open = Command::Open(Wanted::of(&id("later")));
    bench.ask(open).unwrap();
    // What the first model drew of a case that is labelled since is not missed.
    for case in ["asked", "known"] {
        let open = Command::Open(Wanted::of(&id(case)));
        bench.ask(open).unwrap();
        bench.ask(Command::Export { case: id(case) }).unwrap();
    }
    let beside = Command::Open(Wanted {
        beside: Some(Beside::Model(ModelId(1))),
        correction: None,
        ..Wanted::of(&id("later"))
    });
    let words = bench.ask(beside).unwrap_err();
    assert!(words.contains("was not kept"), "{words}");
    // What a crash left behind goes, too.
    let stray = Blobs::hash(b"stray").to_string();
    let shelf = project.join("store/blobs").join(&stray[..2]);
    fs::create_dir_all(&shelf).unwrap();
    fs::write(shelf.join(&stray), b"stray").unwrap();
    fs::write(shelf.join("half.new"), b"ha").unwrap();
    assert!(
        bench
            .done(Command::Gc { dry_run: false })
            .contains("1 blobs that nothing names")
    );
    assert!(fs::read_dir(&shelf).unwrap().all(|file| {
        let name = file.unwrap().file_name().to_string_lossy().into_owned();
        name.parse::<Hash>().is_ok() && name != stray
    }));
    let place = Place::of(bench);
    let found = verified(&place.project);
    assert_eq!((found.problems, found.taken_away), (vec![], 3));
    // A map that goes without a word is missed.
    fs::remove_file(&blobs(&place.project)[0]).unwrap();
    assert!(!verified(&place.project).problems.is_empty());
}

#[test]
fn a_forgotten_case_leaves_its_name_a_tombstone_and_nothing_else() {
    let bench = two_models();
    let project = bench.project();
    bench.hand_out("later");
    let snapshot = bench.snapshot();
    let [image, mask] = {
        let case = &snapshot.cases[&id("asked")];
        [case.images[0], case.mask.unwrap().blob]
    };
    let names = |hash: Hash| {
        blobs(&project)
            .iter()
            .any(|path| path.ends_with(hash.to_string()))
    };
    assert!(names(image) && names(mask));
    let forget = |case: &str| Command::Forget {
        case: id(case),
        why: "consent withdrawn".into(),
    };
    let words = bench.done(forget("asked"));
    assert!(words.contains("m2 learnt from it"), "{words}");
    assert!(!words.contains("m1"), "{words}");
    assert!(!names(image) && !names(mask));
    let left = |folder: &str| -> Vec<String> {
        let items = fs::read_dir(project.join(folder)).unwrap();
        items
            .map(|item| item.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    };
    assert_eq!(left("handouts"), ["later-h2"]);
    assert_eq!(left("inbox/done"), Vec::<String>::new());
    // The next start, too, knows nothing of it.
    let bench = bench.restart();
    assert!(!bench.snapshot().predictions.contains_key(&id("asked")));
    for command in [
        Command::Include { case: id("asked") },
        Command::HandOut {
            case: id("asked"),
            owner: "bob".into(),
            again: false,
        },
        Command::Export { case: id("asked") },
    ] {
        bench.ask(command).unwrap_err();
    }
    assert!(matches!(bench.ask(forget("asked")).unwrap(), Answer::Nothing(_)));
    // One that is out is taken back with it, and what others have stays.
    bench.done(forget("later"));
    assert_eq!(left("handouts"), Vec::<String>::new());
    bench.ask(Command::Export { case: id("known") }).unwrap();
    // The same images may come again, under another name, and stay then.
    bench.import("asked_again", 2, Pool::Unlabelled);
    bench.ask(Command::Gc { dry_run: false }).unwrap();
    let again = bench.snapshot().cases[&id("asked_again")].images[0];
    assert_eq!(again, image);
    assert!(names(again), "gc took an image that is used");
    // A mask that comes late is erased.
    bench.drop_file("asked_corrected.nii", &corrected());
    let report = bench.only_report();
    assert_eq!(
        (report.outcome, report.code.as_str()),
        (Outcome::Reject, "N4"),
        "{report:?}"
    );
    let files = |folder: &str| {
        fs::read_dir(project.join(folder)).map_or(0, |items| {
            items.flatten().filter(|item| item.path().is_file()).count()
        })
    };
    assert_eq!(["inbox", "inbox/quarantine", "inbox/held"].map(files), [0; 3]);
    let place = Place::of(bench);
    assert!(history(&place.project).is_ok());
    let found = verified(&place.project);
    assert_eq!(found.problems, []);
    assert!(found.taken_away > 5);
    fs::remove_file(
        blobs(&place.project)
            .iter()
            .find(|path| path.ends_with(image.to_string()))
            .unwrap(),
    )
    .unwrap();
    assert!(
        !verified(&place.project).problems.is_empty(),
        "it is missed again"
    );
    // Bytes of somebody who withdrew are missed when they are there.
    let name = mask.to_string();
    let folder = place.project.join("store/blobs").join(&name[..2]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(&name), corrected()).unwrap();
    let problems = verified(&place.project).problems;
    let told = problems
        .iter()
        .any(|problem| problem.words.contains("`overtrace forget asked` erases them"));
    assert!(told, "{problems:?}");
}

/// Runs `work` on a file system of its own of 16 MB, where one can be mounted here.
fn on_small_disk(work: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let run = |program: &str, args: &[&str]| {
        std::process::Command::new(program)
            .args(args)
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !run("mount", &["-t", "tmpfs", "-o", "size=16m", "overtrace"]) {
        println!("no file system can be mounted here: a full disk was not tried");
        assert!(
            std::env::var_os("OVERTRACE_FULL").is_none(),
            "the full dose needs one"
        );
        return;
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(folder.path())));
    run("umount", &["-l"]);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_full_disk_is_said_at_once_and_nothing_is_lost_and_it_works_again() {
    on_small_disk(|disk| {
        let project = disk.join("project");
        fs::create_dir(&project).unwrap();
        fs::write(
            project.join("overtrace.toml"),
            format!("{SMALL}[store]\nmin_free_mb = 0\n"),
        )
        .unwrap();
        engine::create(&project, "ann").unwrap();
        let open = || support::start(&project, false);
        let ask = |started: &engine::Started, command| started.handle.call(command, drop).unwrap();
        let files = tempfile::tempdir().unwrap();
        let import = |n: usize| {
            let file = files.path().join(format!("case{n}.nii.gz"));
            fs::write(
                &file,
                overtrace::imaging::encode_volume(&support::boxes(n as u64).0),
            )
            .unwrap();
            Command::Import {
                items: vec![ImportItem {
                    id: id(&format!("case{n}")),
                    images: vec![file],
                    mask: None,
                    pool: None,
                }],
                pool: None,
            }
        };
        let mut started = open();
        let (mut taken, mut refused) = (Vec::new(), 0);
        let times = dose(12, 50);
        for n in 0..times {
            // A filler leaves room for some steps of the next import, and not for all: each time another.
            let filler = disk.join("filler");
            let mut file = fs::File::create(&filler).unwrap();
            let block = [0; 4096];
            while std::io::Write::write_all(&mut file, &block).is_ok() {}
            let full = fs::metadata(&filler).unwrap().len();
            file.set_len(full.saturating_sub(4096 * (n as u64 % 6))).unwrap();
            drop(file);
            let began = std::time::Instant::now();
            match ask(&started, import(n)) {
                Ok(Answer::Imported { cases, .. }) if cases.len() == 1 => taken.push(n),
                Ok(other) => panic!("{other:?}"),
                Err(words) => {
                    assert!(words.contains("make room"), "{words}");
                    refused += 1;
                }
            }
            assert!(began.elapsed() < std::time::Duration::from_secs(5));
            if n % 4 == 3 {
                // It opens on a full disk, too, and shows what there is.
                drop(started.handle);
                started.thread.join().unwrap();
                started = open();
            }
            let held = match ask(&started, Command::Attach { cases: None }) {
                Ok(Answer::Snapshot(snapshot)) => *snapshot,
                other => panic!("{other:?}"),
            };
            for n in &taken {
                assert!(
                    held.cases.contains_key(&id(&format!("case{n}"))),
                    "case{n} is lost"
                );
            }
            fs::remove_file(&filler).unwrap();
            // With room again, the same works.
            if !taken.contains(&n) {
                match ask(&started, import(n)).unwrap() {
                    Answer::Imported { cases, .. } => assert_eq!(cases.len(), 1),
                    other => panic!("{other:?}"),
                }
                taken.push(n);
            }
        }
        drop(started.handle);
        started.thread.join().unwrap();
        assert_eq!(verified(&project).problems, []);
        assert!(
            refused * 4 >= times,
            "the disk was full {refused} times of {times}"
        );
    });
}

#[test]
fn little_room_is_refused_before_anything_is_written() {
    let bench = Bench::new(&format!("{SMALL}[store]\nmin_free_mb = 1000000000\n"));
    let entries = bench.snapshot().seq;
    let (image, _) = support::boxes(1);
    let file = bench.folder.path().join("a.nii.gz");
    fs::write(&file, overtrace::imaging::encode_volume(&image)).unwrap();
    let items = vec![ImportItem {
        id: id("a"),
        images: vec![file],
        mask: None,
        pool: None,
    }];
    let words = bench.ask(Command::Import { items, pool: None }).unwrap_err();
    assert!(
        words.contains("MB are left on its disk") && words.contains("store.min_free_mb"),
        "{words}"
    );
    assert_eq!(bench.snapshot().seq, entries);
    assert_eq!(blobs(&bench.project()), Vec::<PathBuf>::new());
}

/// What makes room has to work where there is none.
#[test]
fn gc_and_forget_work_below_the_reserve() {
    let bench = two_models();
    let settings = format!("{SMALL}[store]\nmin_free_mb = 1000000000\n");
    fs::write(bench.project().join("overtrace.toml"), settings).unwrap();
    let bench = bench.restart();
    assert!(bench.done(Command::Gc { dry_run: false }).starts_with("removed"));
    bench.done(Command::Forget {
        case: id("asked"),
        why: "withdrawn".into(),
    });
}
