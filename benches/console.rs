//! What a person at a terminal waits for, with 100,000 cases and while a round trains: `cargo bench --bench console`.
//!
//! The program runs on a pseudo-terminal of 160 x 50 cells, as over SSH; a frame's time is that of its last byte. The
//! engine is a process of its own. `OVERTRACE_CASES` is another number of cases.
#![cfg(target_os = "linux")]

#[path = "../tests/support/console.rs"]
mod console;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command as Process;
use std::time::{Duration, Instant};

use console::Console;
use overtrace::imaging::{DATASET_SEED, Grid, LabelMap, Volume, encode_labels, encode_volume, phantom};
use overtrace::protocol::{Answer, Command, ImportItem, Snapshot};
use overtrace::records::{Pool, Row, Scored, What};
use overtrace::store::Store;
use rustix::process::Signal;
use support::{Bench, Place, id};

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
    let cases = std::env::var("OVERTRACE_CASES").map_or(100_000, |n| n.parse().expect("a number"));
    println!("making a project of {cases} cases, one of them {LARGE:?} voxels, which a small network draws");
    let place = project(cases);
    let project = &place.project;
    let mut table = Table::default();

    engine(project, "start");
    let starts = [0; 5].map(|_| {
        // It answers when it has done what the app before had asked for.
        engine(project, "status");
        let (console, took) = start(project);
        end(console);
        took
    });
    table.median("start to first full screen, engine running", &starts, "150 ms");
    let starts = [0; 5].map(|_| {
        engine(project, "stop");
        let (console, took) = start(project);
        end(console);
        took
    });
    table.median("the same, the engine starting as well", &starts, "-");

    engine(project, "stop");
    let began = Instant::now();
    let rows = Store::rebuild(project).expect("an index");
    let took = began.elapsed().as_secs_f64();
    table.row(
        "the index made anew",
        format!("{took:.1} s ({rows} rows)"),
        "60 s",
    );

    let (mut console, _) = start(project);
    println!("idle for 60 s ..");
    while console.hear(Duration::from_secs(2)).is_some() {}
    let app = console.pid().as_raw_nonzero().get();
    let owner = overtrace::store::holder(project).expect("an engine").pid as i32;
    let before = [app, owner].map(ticks);
    let until = Instant::now() + Duration::from_secs(60);
    let mut bytes = 0;
    while let Some((_, heard)) = console.hear(until.saturating_duration_since(Instant::now())) {
        bytes += heard;
    }
    table.row("bytes written in 60 s idle", bytes.to_string(), "0");
    let [of_app, of_engine] = [0, 1].map(|at| ticks([app, owner][at]) - before[at]);
    table.row(
        "CPU ticks of 10 ms in 60 s idle: app; engine",
        format!("{of_app}; {of_engine}"),
        "0",
    );

    println!("keys while nothing trains ..");
    table.keys("queue key to frame, idle", &queue_keys(&mut console), "16 ms");
    table.keys("next slice to frame, idle", &slice_keys(&mut console), "33 ms");
    let [of_app, of_engine] = [app, owner].map(resident_mb);
    table.row(
        "memory with one case open: app",
        format!("{of_app:.0} MB"),
        "300 MB",
    );
    table.row("the same: engine", format!("{of_engine:.0} MB"), "-");

    println!("keys while a round trains on every core ..");
    console.send("grt");
    console.shows("train round r2 now?");
    console.send("y");
    console.shows("training epoch");
    console.send("gq");
    console.shows("ranked by");
    let trains = |console: &Console| {
        let screen = console.screen();
        assert!(screen.contains("training epoch"), "{screen}");
    };
    table.keys(
        "queue key to frame, while training",
        &queue_keys(&mut console),
        "16 ms",
    );
    trains(&console);
    table.keys(
        "next slice to frame, while training",
        &slice_keys(&mut console),
        "33 ms",
    );
    trains(&console);
    end(console);
    table.print();
}

/// Has the project's engine started or stopped.
fn engine(project: &Path, what: &str) {
    let done = Process::new(env!("CARGO_BIN_EXE_overtrace"))
        .args(["--project", project.to_str().expect("a name"), "engine", what])
        .output()
        .expect("the program");
    assert!(done.status.success(), "{done:?}");
}

/// The rows of what was measured.
#[derive(Default)]
struct Table(Vec<[String; 3]>);

impl Table {
    /// How long starts took.
    fn median(&mut self, what: &str, times: &[Duration], most: &str) {
        self.row(
            what,
            format!("{} (median of {})", ms(times, 0.5), times.len()),
            most,
        );
    }

    /// How long keys took: half of them, and all but one in a hundred.
    fn keys(&mut self, what: &str, times: &[Duration], most: &str) {
        self.row(what, format!("{} (p50)", ms(times, 0.5)), most);
        self.row("", format!("{} (p99)", ms(times, 0.99)), most);
    }

    fn row(&mut self, what: &str, found: String, most: &str) {
        self.0.push([what.into(), found, most.into()]);
    }

    fn print(&self) {
        println!("\n{:<48}{:<26}{:>10}", "what", "found", "at most");
        for [what, found, most] in &self.0 {
            println!("{what:<48}{found:<26}{most:>10}");
        }
    }
}

/// What a share of the times is no longer than.
fn ms(times: &[Duration], share: f64) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1;
    format!("{:.1} ms", sorted[at].as_secs_f64() * 1e3)
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

/// Time that a process has computed, in 100ths of a second.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
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
fn project(cases: usize) -> Place {
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
    let place = Place::of(bench);
    multiply(&place.project, &snapshot, cases);
    place
}

/// Copies a case, with its prediction, into the pool many times, and ranks them.
fn multiply(project: &Path, snapshot: &Snapshot, cases: usize) {
    let mut store = Store::open(project).expect("a store").store;
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
