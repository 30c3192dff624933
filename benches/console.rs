//! What a person at a terminal waits for, with 100,000 cases and while a round trains: `cargo bench --bench console`.
//!
//! The program runs on a pseudo-terminal of 160 x 50 cells, as over SSH; a frame's time is that of its last byte. The
//! engine is a part of the program: its start opens the store too. For the app on an engine that runs, the bench is a
//! program itself, which opens the store, waits, and then shows the screens. `OVERTRACE_CASES` is another number of cases.
#![cfg(target_os = "linux")]

#[path = "../tests/support/console.rs"]
mod console;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use console::Console;
use overtrace::imaging::{DATASET_SEED, Grid, LabelMap, Volume, encode_labels, encode_volume, phantom};
use overtrace::protocol::{Answer, Command, ImportItem, Snapshot};
use overtrace::records::{Pool, Row, Scored, What};
use overtrace::store::Store;
use rustix::process::Signal;
use support::{Bench, id};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZE: [u16; 2] = [160, 50];
/// The case that is scrolled through.
const LARGE: [usize; 3] = [256, 256, 128];
/// A terminal that knows synchronized frames, whose ends can be told; no pictures.
const ANSWER: &str = "\x1b[?2026;2$y\x1b[?62c";
/// Keys pressed for each figure.
const KEYS: usize = 400;
/// As a held key repeats.
const REPEAT: Duration = Duration::from_millis(30);
const PATIENCE: Duration = Duration::from_secs(20);

fn main() {
    if let Some(project) = std::env::args().nth(1).filter(|word| Path::new(word).is_dir()) {
        return app_on_engine(Path::new(&project));
    }
    let cases = std::env::var("OVERTRACE_CASES").map_or(100_000, |n| n.parse().expect("a number"));
    println!("making a project of {cases} cases, one of them {LARGE:?} voxels, which a small network draws");
    let folder = project(cases);
    let project = folder.path().join("project");
    let mut table = Table::default();

    let starts: Vec<Duration> = (0..5).map(|_| start_on_engine(&project)).collect();
    table.row(
        "start to first full screen, engine running",
        "median of 5",
        &starts,
        0.5,
        "150 ms",
    );
    let starts: Vec<Duration> = (0..5)
        .map(|_| {
            let (console, took) = start(&project);
            end(console);
            took
        })
        .collect();
    table.row(
        "the same, the engine starting as well",
        "median of 5",
        &starts,
        0.5,
        "-",
    );

    let (mut console, _) = start(&project);
    println!("idle for 60 s ..");
    while console.hear(Duration::from_secs(2)).is_some() {}
    let before = ticks(&console);
    let until = Instant::now() + Duration::from_secs(60);
    let mut bytes = 0;
    while let Some((_, heard)) = console.hear(until.saturating_duration_since(Instant::now())) {
        bytes += heard;
    }
    table.plain("bytes written in 60 s idle", &bytes.to_string(), "0");
    table.plain(
        "CPU ticks of 10 ms in 60 s idle",
        &(ticks(&console) - before).to_string(),
        "0",
    );

    println!("keys while nothing trains ..");
    let keys = queue_keys(&mut console);
    table.row("queue key to frame, idle", "p50", &keys, 0.5, "16 ms");
    table.row("", "p99", &keys, 0.99, "16 ms");
    let keys = slice_keys(&mut console);
    table.row("next slice to frame, idle", "p50", &keys, 0.5, "33 ms");
    table.row("", "p99", &keys, 0.99, "33 ms");
    let with_case = resident_mb(console.pid().as_raw_nonzero().get());

    println!("keys while a round trains on every core ..");
    console.send("grt");
    console.shows("train round r2 now?");
    console.send("y");
    console.shows("training epoch");
    console.send("gq");
    console.shows("ranked by");
    let keys = queue_keys(&mut console);
    assert!(
        console.screen().contains("training epoch"),
        "{}",
        console.screen()
    );
    table.row("queue key to frame, while training", "p50", &keys, 0.5, "16 ms");
    table.row("", "p99", &keys, 0.99, "16 ms");
    let keys = slice_keys(&mut console);
    assert!(
        console.screen().contains("training epoch"),
        "{}",
        console.screen()
    );
    table.row("next slice to frame, while training", "p50", &keys, 0.5, "33 ms");
    table.row("", "p99", &keys, 0.99, "33 ms");
    end(console);

    let alone = engine_mb(&project);
    table.plain(
        "memory with one case open, beyond the engine",
        &format!("{:.0} MB ({with_case:.0} - {alone:.0})", with_case - alone),
        "300 MB",
    );
    table.print();
}

/// The rows of what was measured.
#[derive(Default)]
struct Table(Vec<[String; 3]>);

impl Table {
    fn row(&mut self, what: &str, which: &str, times: &[Duration], share: f64, most: &str) {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1;
        let found = format!("{:.1} ms ({which})", sorted[at].as_secs_f64() * 1e3);
        self.plain(what, &found, most);
    }

    fn plain(&mut self, what: &str, found: &str, most: &str) {
        self.0.push([what.into(), found.into(), most.into()]);
    }

    fn print(&self) {
        println!("\n{:<48}{:<26}{:>10}", "what", "found", "at most");
        for [what, found, most] in &self.0 {
            println!("{what:<48}{found:<26}{most:>10}");
        }
    }
}

/// The app on the project, and how long it took to its first full screen.
fn start(project: &Path) -> (Console, Duration) {
    let began = Instant::now();
    let program = Path::new(env!("CARGO_BIN_EXE_overtrace"));
    let project = project.to_str().expect("a name");
    let mut console = Console::start(program, &["--project", project], &[], SIZE);
    console.until("the queue", shows_queue);
    let took = began.elapsed();
    console.send(ANSWER);
    (console, took)
}

/// The program that [`start_on_engine`] times.
fn app_on_engine(project: &Path) {
    let started = support::start(project, true);
    println!("the engine runs");
    std::io::stdin().read_line(&mut String::new()).expect("a line");
    overtrace::tui::run(started.handle, overtrace::tui::Options::default()).expect("the screens");
}

/// How long the app takes to its first full screen on an engine that runs.
fn start_on_engine(project: &Path) -> Duration {
    let this = std::env::current_exe().expect("this program");
    let project = project.to_str().expect("a name");
    let mut console = Console::start(&this, &[project], &[], SIZE);
    console.shows("the engine runs");
    let began = Instant::now();
    console.send("\r");
    console.until("the queue", shows_queue);
    let took = began.elapsed();
    end(console);
    took
}

/// Ends the app, and waits until it has let go of the project.
fn end(mut console: Console) {
    console.signal(Signal::TERM);
    console.ended();
}

fn shows_queue(console: &Console) -> bool {
    let screen = console.screen();
    screen.contains("large") && screen.contains("case_00030")
}

/// Keys through the queue, down and up: from the key to the end of the frame that shows another row chosen.
fn queue_keys(console: &mut Console) -> Vec<Duration> {
    let chosen = |console: &Console| {
        let row = (2..SIZE[1]).find(|&row| console.is_reversed(4, row));
        row.map(|row| console.screen().lines().nth(row.into()).map(str::to_string))
    };
    (0..KEYS)
        .map(|n| {
            while console.frame(REPEAT).is_some() {}
            let before = chosen(console);
            let pressed = Instant::now();
            console.send(if n % 100 < 70 { "j" } else { "k" });
            loop {
                let (at, _) = console.frame(PATIENCE).expect("a frame");
                if chosen(console) != before {
                    return at - pressed;
                }
            }
        })
        .collect()
}

/// Keys through the slices of the large case: from the key to the end of the frame that changes half-blocks.
fn slice_keys(console: &mut Console) -> Vec<Duration> {
    console.send("gqgg\r");
    console.shows("of 128");
    // The first and the last slices are black.
    console.send("gg39j");
    console.shows("slice 40 of");
    let times = (0..KEYS)
        .map(|n| {
            while console.frame(REPEAT).is_some() {}
            let pressed = Instant::now();
            console.send(if n % 100 < 50 { "j" } else { "k" });
            loop {
                let (at, frame) = console.frame(PATIENCE).expect("a frame");
                if frame.contains(['\u{2580}', '\u{2584}']) {
                    return at - pressed;
                }
            }
        })
        .collect();
    console.send("gq");
    console.shows("ranked by");
    times
}

/// Time that the program has computed, in 100ths of a second.
fn ticks(console: &Console) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", console.pid())).expect("a process");
    let after_name = stat.rsplit(')').next().expect("a name");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    [11, 12]
        .map(|at| fields[at].parse::<u64>().expect("a number"))
        .iter()
        .sum()
}

/// Memory that a process has in use.
fn resident_mb(pid: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("a line");
    let kb = line.split_whitespace().nth(1).expect("a number");
    kb.parse::<f64>().expect("a number") / 1024.0
}

/// Memory of an engine without the app.
fn engine_mb(project: &Path) -> f64 {
    let mut engine = Process::new(env!("CARGO_BIN_EXE_overtrace"))
        .args(["--project", project.to_str().expect("a name"), "inbox", "--watch"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut first = [0];
    // It says so when it watches.
    std::io::Read::read_exact(engine.stdout.as_mut().expect("a pipe"), &mut first).expect("its first word");
    let found = resident_mb(engine.id() as i32);
    engine.kill().expect("it runs");
    engine.wait().expect("it ended");
    found
}

/// A phantom brought to another shape, every voxel with noise of its own.
fn large(seed: u64) -> (Volume, LabelMap) {
    let small = phantom(DATASET_SEED, 0);
    let from = small.image.grid.shape;
    let grid = Grid::new(LARGE, [0.9, 0.9, 1.2]);
    let mut noise = overtrace::imaging::Rng::new(seed);
    let (mut image, mut labels) = (Vec::with_capacity(grid.len()), Vec::with_capacity(grid.len()));
    for z in 0..LARGE[2] {
        for y in 0..LARGE[1] {
            for x in 0..LARGE[0] {
                let at = [0, 1, 2].map(|axis| [x, y, z][axis] * from[axis] / LARGE[axis]);
                let voxel = (at[2] * from[1] + at[1]) * from[0] + at[0];
                let bright = small.image.voxels[voxel];
                image.push(bright * (0.85 + 0.3 * noise.uniform() as f32));
                labels.push(small.truth.voxels[voxel]);
            }
        }
    }
    (Volume { grid, voxels: image }, LabelMap { grid, voxels: labels })
}

/// A project with a round that waits for one case and can train, and `cases` cases that are copies of a small one.
fn project(cases: usize) -> tempfile::TempDir {
    let settings = |epochs: usize| {
        format!(
            "[model]\nbase_channels = 8\n[training]\nmax_epochs = {epochs}\npatience = {epochs}\n[query]\nbudget = 1\n"
        )
    };
    let bench = Bench::new(&settings(1));
    let file = |name: &str| bench.folder.path().join(name);
    for (seed, name, pool) in [(1, "known", Pool::Labelled), (2, "large", Pool::Unlabelled)] {
        let (image, truth) = large(seed);
        fs::write(file("large.nii.gz"), encode_volume(&image)).expect("a file");
        fs::write(file("truth.nii.gz"), encode_labels(&truth, u16::from)).expect("a file");
        let item = ImportItem {
            id: id(name),
            images: vec![file("large.nii.gz")],
            mask: (pool == Pool::Labelled).then(|| file("truth.nii.gz")),
            pool: Some(pool),
        };
        let (items, pool) = (vec![item], None);
        let answer = bench.ask(Command::Import { items, pool }).expect("an import");
        assert!(
            matches!(&answer, Answer::Imported { cases, .. } if cases.len() == 1),
            "{answer:?}"
        );
    }
    bench.import("case_00000", 1, Pool::Unlabelled);
    bench.import("asked", 2, Pool::Unlabelled);
    bench.start_round();
    fs::write(bench.project().join("overtrace.toml"), settings(1000)).expect("a file");
    let bench = bench.restart();
    bench.start_round();
    let snapshot = bench.snapshot();
    let Bench { folder, handle } = bench;
    drop(handle);
    multiply(&folder.path().join("project"), &snapshot, cases);
    folder
}

/// Copies a case, with its prediction, into the pool many times, and ranks them.
fn multiply(project: &Path, snapshot: &Snapshot, cases: usize) {
    let mut store = loop {
        match Store::open(project) {
            Ok(opened) => break opened.store,
            // The engine is about to let go of it.
            Err(overtrace::store::StoreError::Held { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    let now = jiff::Timestamp::now();
    let (case, prediction) = (
        &snapshot.cases[&id("case_00000")],
        &snapshot.predictions[&id("case_00000")],
    );
    let names: Vec<_> = (1..cases).map(|n| id(&format!("case_{n:05}"))).collect();
    for names in names.chunks(1000) {
        let mut rows = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let mut prediction = prediction.clone();
            prediction.case = name.clone();
            prediction.sums.margin *= 1.0 - n as f64 / 2000.0;
            let mut case = case.clone();
            (case.id, case.queried) = (name.clone(), None);
            rows.extend([Row::Case(case), Row::Prediction(prediction)]);
        }
        store
            .commit(now, "bench", What::CaseImported, None, rows)
            .expect("a commit");
    }
    let mut order = vec![Scored {
        case: id("large"),
        score: Some(0.1),
    }];
    order.extend(names.iter().enumerate().map(|(n, name)| Scored {
        case: name.clone(),
        score: Some(0.2 + 0.7 * n as f64 / cases as f64),
    }));
    let mut ranking = snapshot.ranking().expect("the round ranked").clone();
    ranking.id.0 += 1;
    ranking.cases = order.len();
    ranking.order = store.blobs().put_json(&order).expect("a blob");
    let mut row = snapshot.project.clone();
    row.ranking = Some(ranking.id);
    let rows = vec![Row::Ranking(ranking), Row::Project(row)];
    store
        .commit(now, "bench", What::PoolRanked, None, rows)
        .expect("a commit");
}
