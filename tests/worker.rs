//! The worker's process: one or several, one that cannot start, one that dies, one that is told to stop.
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};

use overtrace::imaging::{Plane, encode_labels, encode_volume};
use overtrace::protocol::{Command, Event};
use overtrace::records::{
    Architecture, BenchTask, Pool, PredictCase, PredictTask, Progress, Task, TaskResult, TrainCase, TrainTask,
};
use overtrace::settings::{Compute, Drawing, Intensity, Networks, Precision, Training};
use overtrace::worker::frames::{self, Said};
use overtrace::worker::{Programs, run};
use support::{Bench, SMALL, boxes};

/// A program that does what `script` says instead of computing.
fn program(folder: &Path, script: &str) -> PathBuf {
    let file = folder.join("program");
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
    file
}

fn programs() -> Programs {
    Programs::beside(Path::new(env!("CARGO_BIN_EXE_overtrace")))
}

fn on(device: &str) -> Compute {
    Compute {
        device: device.parse().unwrap(),
        ..Compute::default()
    }
}

/// Bytes of what a worker on the CPU says first, Ready: a length, a variant, a build's length, its version and hash, no GPUs.
const READY: usize = 4 + 1 + 1 + env!("CARGO_PKG_VERSION").len() + 1 + 8 + 1;

/// Something to do that takes a moment, three times or many.
fn bench(runs: usize) -> Task {
    Task::Bench(BenchTask {
        networks: Networks::default(),
        base_channels: vec![2; 3],
        batch: 1,
        threads: 1,
        runs,
        volume: false,
        precision: Precision::F32,
    })
}

/// A drawing of no case by weights that are not there: it fails as soon as it begins.
fn predict_nothing() -> PredictTask {
    PredictTask {
        architecture: Architecture {
            networks: Networks::default(),
            channels: 1,
            classes: 4,
            base_channels: 2,
            slices: 1,
            deep_supervision: false,
        },
        weights: "/nowhere".into(),
        cases: Vec::new(),
        intensity: Intensity::Zscore,
        precision: Precision::F32,
        batch: 1,
        drawing: Drawing::default(),
        threads: 1,
        folder: PathBuf::new(),
    }
}

/// The result, and the notices on the way.
fn result_of(programs: &Programs, compute: &Compute) -> (TaskResult, Vec<String>) {
    let mut notices = Vec::new();
    let result = run(programs, compute, bench(1), &mut |progress| {
        if let Progress::Notice(words) = progress {
            notices.push(words);
        }
        ControlFlow::Continue(())
    });
    (result, notices)
}

#[test]
fn a_gpu_s_program_that_cannot_start_leaves_the_work_to_the_cpu_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let loader = "echo 'error while loading shared libraries: libcuda.so.1' >&2; exit 127";
    let cuda = program(folder.path(), loader);
    let broken = Programs {
        cuda: cuda.clone(),
        ..programs()
    };
    let (result, notices) = result_of(&broken, &on("auto"));
    assert!(matches!(result, TaskResult::Timed(machine) if machine.gpu.is_none()));
    let [notice] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert!(
        notice.starts_with("computing on the CPU: ") && notice.contains("libcuda.so.1"),
        "{notice}"
    );
    // The settings' own program goes before the one beside.
    let compute = Compute {
        cuda_worker: cuda,
        ..on("auto")
    };
    assert_eq!(result_of(&programs(), &compute).1.len(), 1);
    // One that is not there is not passed over.
    let compute = Compute {
        cuda_worker: "/nowhere/mistyped".into(),
        ..on("auto")
    };
    let (_, notices) = result_of(&programs(), &compute);
    assert_eq!(
        notices,
        ["computing on the CPU: no GPU: there is no program /nowhere/mistyped"]
    );
}

#[test]
fn a_gpu_is_missed_only_by_who_asked_for_it() {
    let programs = Programs {
        cuda: "/nowhere/overtrace-cuda".into(),
        ..programs()
    };
    for device in ["auto", "cpu"] {
        let (result, notices) = result_of(&programs, &on(device));
        assert!(matches!(result, TaskResult::Timed(_)), "{result:?}");
        assert_eq!(notices, Vec::<String>::new(), "{device}");
    }
    // What is no bench goes on without it, and says so.
    let folder = tempfile::tempdir().unwrap();
    let nothing = PredictTask {
        folder: folder.path().to_path_buf(),
        ..predict_nothing()
    };
    let mut notices = Vec::new();
    run(
        &programs,
        &on("cuda:2,cpu"),
        Task::Predict(nothing),
        &mut |progress| {
            if let Progress::Notice(words) = progress {
                notices.push(words);
            }
            ControlFlow::Continue(())
        },
    );
    let [notice] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert!(
        notice.starts_with("computing on the CPU: no cuda:2: there is no program /nowhere/overtrace-cuda"),
        "{notice}"
    );
}

/// The program without CUDA, asked for a GPU, refuses in its own words; of another version it is not spoken to.
#[test]
fn a_program_that_does_not_fit_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let this = env!("CARGO_BIN_EXE_overtrace");
    if cfg!(not(feature = "cuda")) {
        let cuda = program(folder.path(), &format!("exec {this} \"$@\""));
        let (result, _) = result_of(&Programs { cuda, ..programs() }, &on("cuda:0"));
        assert!(
            matches!(&result, TaskResult::Failed(why) if why.contains("computes on the CPU alone")),
            "{result:?}"
        );
    }
    // Ready { build: "older", gpus: [0] }: variant 0, five letters, one number.
    let older = r"printf '\011\000\000\000\000\005older\001\000'; cat >/dev/null";
    let cuda = program(folder.path(), older);
    let (result, notices) = result_of(&Programs { cuda, ..programs() }, &on("auto"));
    assert!(matches!(result, TaskResult::Timed(_)), "{result:?}");
    assert!(notices[0].contains("is older, this is"), "{notices:?}");
}

/// A worker says that it has cuda:1 of two; what it is, is a worker on the CPU. cuda:0 is broken.
#[test]
fn a_first_gpu_that_cannot_be_had_leaves_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let this = env!("CARGO_BIN_EXE_overtrace");
    // Its length, what lies between, and two numbers instead of none.
    let between = READY - 4 - 1;
    let script = format!(
        "case $3 in cuda:0) echo broken >&2; exit 2;; esac
printf '\\{:03o}\\000\\000\\000'
{this} worker --device cpu </dev/null | tail -c +5 | head -c {between}
printf '\\002\\001\\000'
{this} worker --device cpu | dd bs=1 skip={READY} status=none",
        between + 3,
    );
    let cuda = program(folder.path(), &script);
    let task = training(folder.path(), "weights");
    let draw = drawing(folder.path(), &task);
    let programs = Programs { cuda, ..programs() };
    let mut notices = Vec::new();
    let mut drawn = 0;
    for (what, expected) in [
        (
            Task::Train(task),
            vec!["computing on the others: no GPU before cuda:1"],
        ),
        (
            Task::Predict(draw),
            vec!["computing on the others: no cuda:0: broken"],
        ),
    ] {
        let result = run(&programs, &on("auto"), what, &mut |progress| {
            match progress {
                Progress::Notice(words) => notices.push(words),
                Progress::Case(_) => drawn += 1,
                _ => {}
            }
            ControlFlow::Continue(())
        });
        assert!(
            matches!(result, TaskResult::Trained(_) | TaskResult::Predicted),
            "{result:?}"
        );
        assert_eq!(std::mem::take(&mut notices), expected);
    }
    assert_eq!(drawn, 4);
}

/// It starts as it should, and is gone in the middle of a message; it has said much.
#[test]
fn a_worker_that_dies_is_a_failed_task_with_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let this = env!("CARGO_BIN_EXE_overtrace");
    let much = "head -c 300000 /dev/zero | tr '\\0' x >&2; echo >&2";
    let dies = format!(
        "{this} \"$@\" | dd bs=1 count=40 status=none; {much}; printf 'out of \\033[31mmemory\\n' >&2; kill -9 $$"
    );
    let cpu = program(folder.path(), &dies);
    let (result, _) = result_of(&Programs { cpu, ..programs() }, &on("cpu"));
    let TaskResult::Failed(why) = result else {
        panic!("{result:?}")
    };
    assert!(
        why.contains("out of")
            && why.contains("memory")
            && why.contains("SIGKILL")
            && !why.contains('\u{1b}'),
        "{why}"
    );
    assert!(why.len() < 20_000, "{} bytes", why.len());
    let cpu = "/nowhere/overtrace".into();
    let (result, _) = result_of(&Programs { cpu, ..programs() }, &on("cpu"));
    assert!(matches!(result, TaskResult::Failed(why) if why.contains("cannot be started")));
}

/// It starts as it should; then comes a length that no message has.
#[test]
fn a_worker_that_talks_nonsense_is_told_of_as_that() {
    let folder = tempfile::tempdir().unwrap();
    let this = env!("CARGO_BIN_EXE_overtrace");
    let script = format!(
        "{this} \"$@\" </dev/null | dd bs=1 count={READY} status=none; printf '\\377\\377\\377\\377'; cat"
    );
    let cpu = program(folder.path(), &script);
    let (result, _) = result_of(&Programs { cpu, ..programs() }, &on("cpu"));
    assert!(
        matches!(&result, TaskResult::Failed(why) if why.contains("no message") && why.contains("4294967295 bytes")),
        "{result:?}"
    );
    // As its first word too.
    let cpu = program(folder.path(), "printf '\\377\\377\\377\\377'; cat");
    let (result, _) = result_of(&Programs { cpu, ..programs() }, &on("cpu"));
    assert!(
        matches!(&result, TaskResult::Failed(why) if why.contains("no message")),
        "{result:?}"
    );
}

/// Times of another device would be taken for those of the one that was asked for.
#[test]
fn a_bench_of_a_device_that_is_not_there_fails() {
    let cuda = "/nowhere/overtrace-cuda".into();
    let (result, _) = result_of(&Programs { cuda, ..programs() }, &on("cuda:2"));
    assert!(
        matches!(&result, TaskResult::Failed(why) if why.contains("cuda:2") && why.contains("/nowhere/overtrace-cuda")),
        "{result:?}"
    );
}

/// A worker that says nothing at all is asked to stop, and the task ends.
#[test]
fn a_task_is_cancelled_while_its_worker_says_nothing() {
    let mut asked = 0;
    let task = Task::Bench(BenchTask {
        networks: Networks::default(),
        base_channels: vec![32],
        batch: 16,
        threads: 1,
        runs: 1000,
        volume: false,
        precision: Precision::F32,
    });
    let result = run(&programs(), &on("cpu"), task, &mut |progress| {
        asked += 1;
        assert_eq!(progress, Progress::Waiting);
        ControlFlow::Break(())
    });
    assert_eq!(result, TaskResult::Cancelled);
    assert!(asked > 0);
}

#[test]
fn a_cancelled_task_stops_before_its_end() {
    let mut heard = 0;
    let result = run(&programs(), &on("cpu"), bench(200), &mut |progress| {
        heard += usize::from(matches!(progress, Progress::Timed(_)));
        ControlFlow::Break(())
    });
    assert_eq!(result, TaskResult::Cancelled);
    assert!(heard < 6, "{heard} rows");
}

/// Two workers draw the pool: the order is the one that a single worker finds.
#[test]
fn two_workers_rank_the_pool_as_one_does() {
    let ranked = |device: &str| {
        let bench = Bench::new(&format!("{SMALL}[compute]\ndevice = \"{device}\"\n"));
        bench.import("lab", 0, Pool::Labelled);
        bench.start_round();
        for (name, seed) in [("a", 1), ("b", 2), ("c", 3), ("d", 5), ("e", 6)] {
            bench.import(name, seed, Pool::Unlabelled);
        }
        let mut counts = Vec::new();
        let command = Command::Rank {
            strategy: None,
            pixels: None,
        };
        let answer = bench.handle.call(command, |event| {
            if let Event::Activity(activity) = event {
                counts.push((activity.done, activity.of));
            }
        });
        answer.unwrap().unwrap();
        counts.dedup();
        let one_by_one = [1, 2, 3, 4, 5].map(|done| (done, 5));
        assert!(counts.windows(5).any(|some| some == one_by_one), "{counts:?}");
        // Of scores and their order.
        bench.snapshot().ranking().unwrap().order
    };
    assert_eq!(ranked("cpu,cpu"), ranked("cpu"));
}

/// A program that computes on the CPU, but whose first `deaths` runs are gone after having said `bytes` bytes; each run leaves a line in
/// `runs`.
fn dying(folder: &Path, deaths: usize, bytes: usize) -> Programs {
    let (this, runs) = (env!("CARGO_BIN_EXE_overtrace"), folder.join("runs"));
    let runs = runs.display();
    let worker = format!("{this} worker --device cpu");
    let dies = format!("{worker} | (dd bs=1 count={bytes} status=none; kill -9 $$)");
    let script =
        format!("echo >> {runs}\nif [ $(wc -l < {runs}) -le {deaths} ]; then {dies}; fi\nexec {worker}");
    let cpu = program(folder, &script);
    Programs { cpu, ..programs() }
}

fn runs(folder: &Path) -> usize {
    fs::read_to_string(folder.join("runs")).unwrap().lines().count()
}

/// Cases of boxes to learn from or to draw, as files.
fn training(folder: &Path, weights: &str) -> TrainTask {
    let case = |n: u64| {
        let (image, truth) = boxes(n);
        let file = |end: &str| folder.join(format!("{n}{end}.nii.gz"));
        fs::write(file(""), encode_volume(&image)).unwrap();
        fs::write(file("_truth"), encode_labels(&truth, u16::from)).unwrap();
        TrainCase {
            id: format!("c{n}").parse().unwrap(),
            images: vec![file("")],
            mask: file("_truth"),
            plane: Plane::named("axial", &image.grid).unwrap(),
        }
    };
    TrainTask {
        architecture: Architecture {
            networks: Networks::default(),
            channels: 1,
            classes: 4,
            base_channels: 2,
            slices: 1,
            deep_supervision: false,
        },
        start: None,
        cases: (0..4).map(case).collect(),
        training: Training {
            max_epochs: 6,
            threads: 1,
            ..Training::default()
        },
        intensity: Intensity::Zscore,
        precision: Precision::F32,
        weights: folder.join(weights),
        resume: Some(folder.join(format!("{weights}.state"))),
    }
}

/// The drawing of a training's cases with what it learnt.
fn drawing(folder: &Path, task: &TrainTask) -> PredictTask {
    let cases = task.cases.iter().map(|case| PredictCase {
        id: case.id.clone(),
        images: case.images.clone(),
        plane: case.plane,
        mask: None,
    });
    PredictTask {
        cases: cases.collect(),
        architecture: task.architecture,
        weights: task.weights.clone(),
        folder: folder.to_path_buf(),
        ..predict_nothing()
    }
}

/// The same of cases that were learnt from just now.
fn learnt(folder: &Path) -> PredictTask {
    let task = training(folder, "weights");
    let draw = drawing(folder, &task);
    let result = run(&programs(), &on("cpu"), Task::Train(task), &mut |_| {
        ControlFlow::Continue(())
    });
    assert!(matches!(result, TaskResult::Trained(_)), "{result:?}");
    draw
}

/// What came of a drawing, and the cases that were drawn on the way, sorted.
fn drawn_by(programs: &Programs, compute: &Compute, draw: PredictTask) -> (TaskResult, Vec<String>) {
    let mut drawn = Vec::new();
    let result = run(programs, compute, Task::Predict(draw), &mut |progress| {
        if let Progress::Case(predicted) = progress {
            drawn.push(predicted.case.to_string());
        }
        ControlFlow::Continue(())
    });
    drawn.sort();
    (result, drawn)
}

/// Each of the cases once.
fn all_drawn() -> (TaskResult, Vec<String>) {
    let cases = ["c0", "c1", "c2", "c3"].map(String::from);
    (TaskResult::Predicted, cases.into())
}

/// The first of two has no time for a single case.
#[test]
fn a_worker_draws_as_many_cases_as_it_has_time_for() {
    let folder = tempfile::tempdir().unwrap();
    let this = env!("CARGO_BIN_EXE_overtrace");
    let draw = learnt(folder.path());
    // Done: a length, a variant, drawn.
    let done = r"\002\000\000\000\002\001";
    let script =
        format!("{this} worker --device cpu </dev/null | head -c {READY}; printf '{done}'; cat >/dev/null");
    let cuda = program(folder.path(), &script);
    let programs = Programs { cuda, ..programs() };
    assert_eq!(drawn_by(&programs, &on("cuda:0,cpu"), draw), all_drawn());
}

/// Of two the first, which dies in the middle of what it says, is started again with the other one.
#[test]
fn of_two_workers_one_may_die() {
    let folder = tempfile::tempdir().unwrap();
    let draw = learnt(folder.path());
    let cuda = dying(folder.path(), 1, 300).cpu;
    let programs = Programs { cuda, ..programs() };
    assert_eq!(drawn_by(&programs, &on("cuda:0,cpu"), draw), all_drawn());
    assert_eq!(runs(folder.path()), 2);
}

/// Nobody answers a worker that asks for its first case.
#[test]
fn a_drawing_that_is_cancelled_before_its_first_case_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let task = Task::Predict(learnt(folder.path()));
    let mut worker = Program::new(env!("CARGO_BIN_EXE_overtrace"))
        .args(["worker", "--device", "cpu"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The input ends behind the task.
    frames::write(worker.stdin.take().unwrap(), &task, frames::LONGEST).unwrap();
    let mut output = worker.stdout.take().unwrap();
    let said = std::iter::from_fn(|| frames::read(&mut output, frames::LONGEST).unwrap());
    let said: Vec<Said> = said.collect();
    assert!(worker.wait().unwrap().success());
    assert!(
        matches!(
            &said[..],
            [Said::Ready { .. }, .., Said::Done(TaskResult::Cancelled)]
        ),
        "{said:?}"
    );
}

#[test]
fn for_a_worker_that_dies_another_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let whole = training(folder.path(), "whole");
    let mut go_on = |_| ControlFlow::Continue(());
    let result = run(&programs(), &on("cpu"), Task::Train(whole.clone()), &mut go_on);
    assert!(matches!(result, TaskResult::Trained(_)), "{result:?}");

    // It learns to the same weights.
    let torn = training(folder.path(), "torn");
    let mut notices = 0;
    let result = run(
        &dying(folder.path(), 2, 250),
        &on("cpu"),
        Task::Train(torn.clone()),
        &mut |progress| {
            notices += usize::from(matches!(progress, Progress::Notice(_)));
            ControlFlow::Continue(())
        },
    );
    assert!(
        matches!(&result, TaskResult::Trained(trained) if trained.curve.len() == 6),
        "{result:?}"
    );
    assert_eq!((notices, runs(folder.path())), (2, 3));
    assert_eq!(
        fs::read(&whole.weights).unwrap(),
        fs::read(&torn.weights).unwrap()
    );

    // And draws what is left.
    fs::remove_file(folder.path().join("runs")).unwrap();
    let draw = drawing(folder.path(), &torn);
    let programs = dying(folder.path(), 1, 900);
    assert_eq!(drawn_by(&programs, &on("cpu"), draw), all_drawn());
    assert_eq!(runs(folder.path()), 2);
}

#[test]
fn a_worker_that_dies_again_and_again_is_a_failed_task() {
    let folder = tempfile::tempdir().unwrap();
    let task = Task::Train(training(folder.path(), "never"));
    let result = run(&dying(folder.path(), 100, 60), &on("cpu"), task, &mut |_| {
        ControlFlow::Continue(())
    });
    assert!(
        matches!(&result, TaskResult::Failed(why) if why.contains("SIGKILL")),
        "{result:?}"
    );
    assert_eq!(runs(folder.path()), 3);
}
