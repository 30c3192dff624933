//! The engine as a process of its own: it outlives its surfaces, is found by them, and goes on where a killed one stopped.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Output};
use std::time::{Duration, Instant};

use overtrace::engine::{self, LaunchError};
use overtrace::protocol::{Answer, Command, EngineHandle, EngineStatus, Event, Snapshot, Wanted};
use overtrace::records::{CaseId, ModelId, Pool, RoundState, What};
use rustix::process::{Pid, Signal, kill_process};
use support::{Bench, Place, SMALL, attached, dose, epochs, hear, id, long, reach, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_overtrace");
/// One labelled case and two to ask for.
fn place(settings: &str) -> Place {
    let bench = Bench::new(settings);
    bench.import("known", 0, Pool::Labelled);
    bench.import("first", 1, Pool::Unlabelled);
    bench.import("second", 2, Pool::Unlabelled);
    Place::of(bench)
}

fn run(place: &Place, args: &[&str]) -> Output {
    Program::new(PROGRAM)
        .arg("--project")
        .arg(&place.project)
        .args(args)
        .output()
        .unwrap()
}

fn socket(project: &Path) -> PathBuf {
    overtrace::store::holder(project).unwrap().socket.unwrap()
}

/// Starts an engine process; a lock goes with the last thread of a killed one, which takes a moment.
fn launch(project: &Path) -> EngineHandle {
    until("it can be started", || {
        match engine::launch(Path::new(PROGRAM), project) {
            Ok(_) => true,
            Err(LaunchError::Held(_)) => false,
            Err(error) => panic!("{error}"),
        }
    });
    reach(project)
}

fn ask(handle: &EngineHandle, command: Command) -> Answer {
    handle.call(command, drop).unwrap().unwrap()
}

fn status(handle: &EngineHandle) -> EngineStatus {
    match ask(handle, Command::Engine) {
        Answer::Engine(status) => status,
        other => panic!("{other:?}"),
    }
}

fn snapshot(handle: &EngineHandle) -> Snapshot {
    match ask(handle, Command::Attach { cases: None }) {
        Answer::Snapshot(snapshot) => *snapshot,
        other => panic!("{other:?}"),
    }
}

fn start_training(handle: &EngineHandle) {
    handle
        .send(Command::StartRound {
            from_scratch: false,
            budget: None,
            strategy: None,
        })
        .unwrap();
}

/// Kills a process and waits until it has ended.
fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    until("it has ended", || !is_alive(pid));
}

fn is_alive(pid: u32) -> bool {
    // The state stands behind the name, which is in brackets: Z has ended.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with('Z'))
}

#[test]
fn those_who_are_attached_see_each_other_and_each_other_s_claims() {
    let place = place(SMALL);
    let (ann, bob) = (launch(&place.project), reach(&place.project));
    let pids = || -> Vec<Option<u32>> { status(&ann).attached.iter().map(|one| one.pid).collect() };
    until("both have come", || pids() == [Some(std::process::id()); 2]);
    assert!(status(&ann).stays && status(&ann).watches);
    snapshot(&bob);
    ask(
        &ann,
        Command::HandOut {
            case: id("first"),
            owner: "ann".into(),
            again: false,
        },
    );
    let claimed = hear(&bob, |event| match event {
        Event::Changed(change) if change.what == What::HandedOut => Some(change),
        _ => None,
    });
    assert_eq!(claimed.seq, snapshot(&ann).seq);
    // A verb of the command line is a third one; it goes away again.
    let listed = run(&place, &["status"]);
    assert!(listed.status.success(), "{listed:?}");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("first"));
    drop(bob);
    until("bob has left", || attached(&place.project).len() == 2);
    let mode = fs::metadata(socket(&place.project)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_engine_is_started_named_and_ended_by_commands() {
    let place = place(SMALL);
    assert_eq!(run(&place, &["engine", "status"]).status.code(), Some(1));
    assert_eq!(run(&place, &["engine", "stop"]).status.code(), Some(1));
    let text = |output: Output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let started = text(run(&place, &["engine", "start"]));
    assert!(started.contains("at work     idle"), "{started}");
    let pid = status(&reach(&place.project)).pid;
    assert!(text(run(&place, &["engine", "start"])).contains(&format!("pid {pid},")));
    let json: serde_json::Value =
        serde_json::from_str(&text(run(&place, &["engine", "status", "--json"]))).unwrap();
    assert_eq!(json["engine"]["pid"], pid);
    // It is nobody's child, and in a session of its own.
    let session = rustix::process::getsid(Pid::from_raw(pid as i32)).unwrap();
    assert_eq!(session.as_raw_nonzero().get(), pid as i32);
    let logged = text(run(&place, &["engine", "logs"]));
    assert!(logged.contains("the engine begins"), "{logged}");
    assert!(text(run(&place, &["engine", "stop"])).contains("has ended"));
    until("its process has ended", || !is_alive(pid));
    assert!(!place.project.join("store/engine.sock").exists());
    // Verbs do without.
    assert!(text(run(&place, &["status"])).contains("first"));
}

#[test]
fn a_round_goes_on_when_its_surface_is_gone_and_where_a_killed_engine_stopped() {
    let at_once = place(&long());
    start_training(&launch(&at_once.project));
    let kept = |place: &Place, model: u32| {
        let handle = reach(&place.project);
        let held = snapshot(&handle);
        if !held.models.contains_key(&ModelId(model)) {
            hear(&handle, |event| match event {
                Event::Changed(change) if change.what == What::ModelTrained => Some(()),
                _ => None,
            });
        }
        snapshot(&handle).models[&ModelId(model)].clone()
    };
    let whole = kept(&at_once, 1);
    let in_parts = place(&long());
    let handle = launch(&in_parts.project);
    start_training(&handle);
    epochs(&handle, 5);
    let pid = status(&handle).pid;
    drop(handle);
    until("the surface has left", || attached(&in_parts.project).len() == 1);
    let mut pid = pid;
    for _ in 0..dose(3, 20) {
        let handle = reach(&in_parts.project);
        let done = epochs(&handle, 5);
        kill(pid);
        drop(handle);
        let began = Instant::now();
        let handle = launch(&in_parts.project);
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "a lock goes with its process"
        );
        pid = status(&handle).pid;
        // It takes the round up by itself. How long an epoch took is different each time it is done: those that are the
        // same are the same ones.
        let now = epochs(&handle, done.len());
        let known = done.iter().zip(&now).take_while(|(a, b)| a == b).count();
        let again: f64 = done[known..].iter().map(|epoch| epoch.seconds).sum();
        assert!(known > 0 && again < 5.0, "{known} of {} were kept", done.len());
    }
    let parts = kept(&in_parts, 1);
    assert_eq!(parts.epochs, dose(400, 2000));
    assert_eq!(
        parts.weights, whole.weights,
        "the weights are those of a training in one go"
    );
    let work = in_parts.project.join("work");
    until("the training's state is gone", || {
        fs::read_dir(&work)
            .unwrap()
            .flatten()
            .all(|item| !item.path().is_dir())
    });
}

#[test]
fn a_stopped_engine_leaves_a_round_that_the_next_one_goes_on_with() {
    let place = place(&long());
    let handle = launch(&place.project);
    start_training(&handle);
    epochs(&handle, 5);
    let words = match ask(&handle, Command::Stop) {
        Answer::Done(words) => words,
        other => panic!("{other:?}"),
    };
    assert!(words.contains("goes on with round r1"), "{words}");
    until("the lock is free", || {
        !overtrace::store::is_held(&place.project).unwrap()
    });
    let handle = launch(&place.project);
    epochs(&handle, 2);
    let rounds = snapshot(&handle).rounds;
    assert!(rounds.values().all(|round| round.state == RoundState::Training));
}

#[test]
fn of_two_engines_that_start_at_once_one_has_the_store_and_both_surfaces_reach_it() {
    let place = place(SMALL);
    for _ in 0..dose(10, 100) {
        let start = || {
            Program::new(PROGRAM)
                .arg("--project")
                .arg(&place.project)
                .args(["engine", "start", "--json"])
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        };
        let pids = [start(), start()].map(|started| {
            let output = started.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            json["engine"]["pid"].as_u64().unwrap()
        });
        assert_eq!(pids[0], pids[1]);
        // Half of them are killed and leave socket and lock behind.
        if pids[0] % 2 == 0 {
            kill(pids[0] as u32);
        } else {
            assert!(run(&place, &["engine", "stop"]).status.success());
        }
    }
}

#[test]
fn a_project_in_this_process_is_said_to_be_open_elsewhere() {
    let place = place(SMALL);
    let inside = support::start(&place.project, false);
    let output = run(&place, &["--json", "engine", "start"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains(&format!("pid {}", std::process::id())), "{words}");
    drop(inside);
}

#[test]
fn a_socket_that_the_project_s_path_is_too_long_for_lies_elsewhere() {
    let place = place(SMALL);
    let deep = place.path().join("d".repeat(60)).join("e".repeat(60));
    fs::create_dir_all(&deep).unwrap();
    let moved = deep.join("project");
    fs::rename(&place.project, &moved).unwrap();
    launch(&moved);
    let first = socket(&moved);
    assert!(!first.starts_with(&moved));
    let folder = first.parent().unwrap();
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    let pid = status(&reach(&moved)).pid;
    kill(pid);
    // What it left behind, the next one takes away.
    launch(&moved);
    assert!(!folder.exists());
    let next = socket(&moved);
    assert!(engine::stop(&moved).unwrap());
    until("its socket's folder is gone", || !next.parent().unwrap().exists());
}

/// A greeting as another program would send it: its length, then two texts with theirs.
fn greeting(build: &str) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let body = [text(build), text("eve")].concat();
    [&(body.len() as u32).to_le_bytes(), &body[..]].concat()
}

#[test]
fn another_version_is_told_so_and_what_is_no_greeting_at_all_hurts_nobody() {
    let place = place(SMALL);
    let handle = launch(&place.project);
    let say = |bytes: &[u8]| {
        let mut line = UnixStream::connect(socket(&place.project)).unwrap();
        line.write_all(bytes).unwrap();
        line.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // It may hang up before everything was read.
        let _ = line.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = say(&greeting("0.0.9 cafe"));
    assert!(
        answer.contains("overtrace engine stop") && answer.contains("0.0.9 cafe"),
        "{answer}"
    );
    for bytes in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 4],
        &[0xff; 64],
        &[3, 0, 0, 0, 1],
        &[1, 0, 0, 0, 0xfd],
        // A text that says it is 2^44 bytes long.
        &[9, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0, 16, 0, 0],
        &[0; 4096],
    ] {
        say(bytes);
    }
    assert_eq!(status(&handle).attached.len(), 1);
}

/// A copy of a project has the lock that names the original's engine.
#[test]
fn a_copied_project_has_an_engine_of_its_own() {
    let place = place(SMALL);
    let pid = status(&launch(&place.project)).pid;
    let copy = Place::beside(&place, "copy");
    let copied = Program::new("cp")
        .arg("-a")
        .args([&place.project, &copy.project])
        .output()
        .unwrap();
    // The socket itself may not be copied.
    assert!(copy.project.join("store/lock").exists(), "{copied:?}");
    assert!(!engine::stop(&copy.project).unwrap());
    let other = status(&launch(&copy.project)).pid;
    assert_ne!(other, pid);
    assert_eq!(
        status(&reach(&place.project)).pid,
        pid,
        "the original is reached still"
    );
}

#[test]
fn an_engine_whose_project_is_gone_ends() {
    let place = place(SMALL);
    let pid = status(&launch(&place.project)).pid;
    fs::remove_dir_all(&place.project).unwrap();
    until("it has ended", || !is_alive(pid));
}

#[test]
fn a_case_asked_for_over_the_socket_is_the_case_that_is_kept() {
    let place = place(SMALL);
    let handle = launch(&place.project);
    let open = |handle: &EngineHandle| {
        let command = Command::Open(Wanted::of(&CaseId::new("known").unwrap()));
        match ask(handle, command) {
            Answer::Case(view) => view,
            other => panic!("{other:?}"),
        }
    };
    let over_socket = open(&handle);
    ask(&handle, Command::Stop);
    until("the lock is free", || {
        !overtrace::store::is_held(&place.project).unwrap()
    });
    let inside = support::start(&place.project, false);
    assert_eq!(open(&inside.handle), over_socket);
}

/// A member of the project's group attaches, reads what was handed out and drops a mask; another account does none of it.
#[test]
fn a_project_that_is_shared_is_open_to_its_group_and_to_nobody_else() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: another account was not tried");
        return;
    }
    let place = place(&format!("{SMALL}[store]\nshare_group = \"users\"\n"));
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o711)).unwrap();
    // The program has to be where others can run it.
    let program = place.path().join("overtrace");
    fs::copy(PROGRAM, &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let handle = launch(&place.project);
    let Answer::HandedOut(out) = ask(
        &handle,
        Command::HandOut {
            case: id("first"),
            owner: "ann".into(),
            again: false,
        },
    ) else {
        panic!("no hand-out");
    };
    let as_account = |group: &str, args: &[&str]| {
        Program::new("setpriv")
            .args(["--reuid", "65534", "--regid", group, "--clear-groups", "--"])
            .args(args)
            .env("USER", "somebody else")
            .output()
            .unwrap()
    };
    let project = place.project.to_str().unwrap();
    let verb = |group: &str, verb: &[&str]| {
        let args = [&[program.to_str().unwrap(), "--project", project], verb].concat();
        as_account(group, &args)
    };
    let (member, stranger) = ("100", "65534");
    if !verb(member, &["--version"]).status.success() {
        println!("no setpriv here: another account was not tried");
        return;
    }
    let listed = verb(member, &["status"]);
    assert!(listed.status.success(), "{listed:?}");
    // The journal has the name that the system gives, not the one that the member says.
    let excluded = verb(member, &["exclude", "second", "--why", "blurred"]);
    assert!(excluded.status.success(), "{excluded:?}");
    let who = overtrace::store::read_elsewhere(&place.project)
        .unwrap()
        .pop()
        .unwrap()
        .who;
    assert!(who != "somebody else" && who != "ann", "{who}");
    let mask = out.mask.to_str().unwrap();
    assert!(as_account(member, &["cat", mask]).status.success());
    let dropped = place.project.join("inbox/first_corrected.nii.gz");
    let copy = ["cp", mask, dropped.to_str().unwrap()];
    assert!(as_account(member, &copy).status.success());
    for (path, mode) in [
        ("", 0o710),
        ("inbox", 0o2770),
        ("handouts", 0o750),
        ("handouts/first-h1", 0o750),
        ("handouts/first-h1/first_seg.nii.gz", 0o640),
        ("engine.sock", 0o660),
        ("store", 0o700),
        ("logs", 0o700),
    ] {
        let found = fs::metadata(place.project.join(path))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(found & 0o7777, mode, "{path}");
    }
    for args in [
        &["cat", mask][..],
        &copy,
        &["ls", place.project.join("inbox").to_str().unwrap()],
        &[program.to_str().unwrap(), "--project", project, "status"],
    ] {
        let output = as_account(stranger, args);
        assert!(!output.status.success(), "{args:?}");
    }
    for inside in ["store/journal/0001.jsonl", "store/lock"] {
        let path = place.project.join(inside);
        assert!(
            !as_account(member, &["cat", path.to_str().unwrap()])
                .status
                .success(),
            "{inside}"
        );
    }
}
