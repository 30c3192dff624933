//! What the whole-tool tests share: small projects on disk, an engine on them, files to drop.
#![allow(dead_code, clippy::unwrap_used)] // each test program uses its own part; a test may stop at what it did not expect

pub mod hands;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use overtrace::engine::{self, Options, Started};
use overtrace::imaging::{Grid, LabelMap, Volume, encode_labels, encode_volume};
use overtrace::protocol::{
    Answer, Attached, Command, EngineHandle, Event, HandedOut, ImportItem, IntakeReport, Snapshot,
};
use overtrace::records::{CaseId, EpochReport, Pool, Verified, What};
use overtrace::worker::Programs;

/// Trains in moments: two channels wide, one epoch; files rest at once.
pub const SMALL: &str = "[model]\nbase_channels = 2\n[training]\nmax_epochs = 1\nlearning_rate = 0.02\nthreads = 2\n\
                         [inbox]\nstable_s = 0.0\n";

/// A case of 20 x 24 x 4 voxels, the slices 3 mm thick: nested boxes of the three classes that move with `seed`.
pub fn boxes(seed: u64) -> (Volume, LabelMap) {
    let grid = Grid::new([20, 24, 4], [1.0, 1.0, 3.0]);
    let shift = (seed % 4) as usize;
    let mut voxels = Vec::with_capacity(grid.len());
    for _ in 0..4 {
        for y in 0..24usize {
            for x in 0..20usize {
                let edge = (x.saturating_sub(shift)).min(19 - x).min(y).min(23 - y);
                voxels.push(match edge {
                    0..3 => 0,
                    3..5 => 2u8,
                    5..7 => 3,
                    _ => 1,
                });
            }
        }
    }
    let brightness = 50.0 * (1 + seed) as f32;
    let image = voxels
        .iter()
        .map(|&class| f32::from(class) * brightness)
        .collect();
    (Volume { grid, voxels: image }, LabelMap { grid, voxels })
}

pub fn id(name: &str) -> CaseId {
    CaseId::new(name).unwrap()
}

/// An engine whose worker is the built program.
pub fn options(watch: bool) -> Options {
    Options {
        watch,
        stays: false,
        programs: Programs::beside(Path::new(env!("CARGO_BIN_EXE_overtrace"))),
    }
}

/// A project in a folder of its own, with an engine on it.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub handle: EngineHandle,
}

impl Bench {
    pub fn new(settings: &str) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("project");
        fs::create_dir(&project).unwrap();
        fs::write(project.join("overtrace.toml"), settings).unwrap();
        engine::create(&project, "ann").unwrap();
        let handle = start(&project, false).handle;
        Bench { folder, handle }
    }

    pub fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    pub fn inbox(&self) -> PathBuf {
        self.project().join("inbox")
    }

    /// Lets go of the engine and starts another on the same project.
    pub fn restart(self) -> Bench {
        self.restart_with(false)
    }

    /// The same, with an engine whose volumes are read by another program.
    pub fn restart_reading_with(self, program: &Path) -> Bench {
        let Bench { folder, handle } = self;
        drop(handle);
        let project = folder.path().join("project");
        let mut options = options(false);
        options.programs.cpu = program.to_path_buf();
        Bench {
            handle: start_with(&project, options).handle,
            folder,
        }
    }

    /// The same, with an engine that watches the inbox.
    pub fn restart_watching(self) -> Bench {
        self.restart_with(true)
    }

    fn restart_with(self, watch: bool) -> Bench {
        let Bench { folder, handle } = self;
        drop(handle);
        let project = folder.path().join("project");
        Bench {
            handle: start(&project, watch).handle,
            folder,
        }
    }

    pub fn ask(&self, command: Command) -> Result<Answer, String> {
        self.handle.call(command, drop).unwrap()
    }

    /// Waits for a journal entry that says `what`.
    pub fn hear(&self, what: What) {
        loop {
            match self.handle.receive(Duration::from_secs(60)).unwrap() {
                Some(Event::Changed(change)) if change.what == what => return,
                Some(_) => {}
                None => panic!("a minute passed without {what:?}"),
            }
        }
    }

    /// Takes a blob's file away, and gives it back.
    pub fn without_image<T>(&self, case: &str, meanwhile: impl FnOnce() -> T) -> T {
        let name = self.snapshot().cases[&id(case)].images[0].to_string();
        let file = self.project().join("store/blobs").join(&name[..2]).join(&name);
        let aside = file.with_extension("aside");
        fs::rename(&file, &aside).unwrap();
        let result = meanwhile();
        fs::rename(&aside, &file).unwrap();
        result
    }

    pub fn done(&self, command: Command) -> String {
        match self.ask(command).unwrap() {
            Answer::Done(words) => words,
            other => panic!("{other:?}"),
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        match self.ask(Command::Attach { cases: None }).unwrap() {
            Answer::Snapshot(snapshot) => *snapshot,
            other => panic!("{other:?}"),
        }
    }

    pub fn import(&self, name: &str, seed: u64, pool: Pool) {
        let (image, truth) = boxes(seed);
        let file = |end: &str| self.folder.path().join(format!("{name}{end}.nii.gz"));
        fs::write(file(""), encode_volume(&image)).unwrap();
        fs::write(file("_truth"), encode_labels(&truth, u16::from)).unwrap();
        let mask = (pool != Pool::Unlabelled).then(|| file("_truth"));
        let item = ImportItem {
            id: id(name),
            images: vec![file("")],
            mask,
            pool: Some(pool),
        };
        match self
            .ask(Command::Import {
                items: vec![item],
                pool: None,
            })
            .unwrap()
        {
            Answer::Imported { refused, .. } => assert!(refused.is_empty(), "{refused:?}"),
            other => panic!("{other:?}"),
        }
    }

    pub fn hand_out(&self, name: &str) -> HandedOut {
        match self
            .ask(Command::HandOut {
                case: id(name),
                owner: "bob".into(),
                again: false,
            })
            .unwrap()
        {
            Answer::HandedOut(out) => out,
            other => panic!("{other:?}"),
        }
    }

    pub fn start_round(&self) -> String {
        self.done(Command::StartRound {
            from_scratch: false,
            budget: None,
            strategy: None,
        })
    }

    /// Drops bytes into the inbox under a name.
    pub fn drop_file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.inbox().join(name), bytes).unwrap();
    }

    /// A look into the inbox; another one, where a process that some other test is just starting holds what was written for
    /// this one: until it runs its own program, it has all that is open here.
    pub fn scan(&self) -> Vec<IntakeReport> {
        let (mut reports, began) = (self.look(), std::time::Instant::now());
        let is_open = |report: &IntakeReport| report.words.contains("still open");
        while reports.iter().any(is_open) && began.elapsed() < Duration::from_secs(5) {
            // What is waited for as before is not told again.
            let news = self.look();
            if !news.is_empty() {
                reports.retain(|report| !is_open(report));
                reports.extend(news);
            }
        }
        reports
    }

    /// One look.
    pub fn look(&self) -> Vec<IntakeReport> {
        match self.ask(Command::ScanInbox).unwrap() {
            Answer::Intake(reports) => reports,
            other => panic!("{other:?}"),
        }
    }

    /// Takes in the file that a report says is held.
    pub fn accept(&self, report: &IntakeReport) -> IntakeReport {
        let held = report.held.unwrap();
        match self.ask(Command::AcceptHeld { held, fix: false }).unwrap() {
            Answer::Intake(reports) => reports.into_iter().next().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The report on the only news in the inbox.
    pub fn only_report(&self) -> IntakeReport {
        let reports = self.scan();
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.into_iter().next().unwrap()
    }
}

/// An engine on a project; with `watch` it looks into the inbox and trains by itself.
pub fn start(project: &Path, watch: bool) -> Started {
    start_with(project, options(watch))
}

fn start_with(project: &Path, options: Options) -> Started {
    // The engine before this one lets go of its lock when its thread has ended.
    loop {
        match engine::start(project, "ann".into(), options.clone()) {
            Ok(started) => return started,
            Err(error) if error.to_string().contains("another process") => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A line to the engine process of a project, which has to run.
pub fn reach(project: &Path) -> EngineHandle {
    engine::reach(project, "ann".into())
        .unwrap()
        .expect("an engine runs")
        .handle
}

/// A line to the engine process of a project, as soon as it answers.
pub fn reached(project: &Path) -> EngineHandle {
    let began = std::time::Instant::now();
    loop {
        match engine::reach(project, "ann".into()) {
            Ok(Some(reached)) => return reached.handle,
            _ => assert!(began.elapsed() < Duration::from_secs(60), "it never came"),
        }
    }
}

/// Who is attached to the engine process of a project, this process included.
pub fn attached(project: &Path) -> Vec<Attached> {
    match reach(project).call(Command::Engine, drop).unwrap() {
        Ok(Answer::Engine(engine)) => engine.attached,
        other => panic!("{other:?}"),
    }
}

/// How often something is tried: a little in every run, in full where `OVERTRACE_FULL` is set.
pub fn dose(small: usize, full: usize) -> usize {
    match std::env::var_os("OVERTRACE_FULL") {
        Some(_) => full,
        None => small,
    }
}

/// A project in a folder of its own, that an engine process may be started on.
pub struct Place {
    folder: tempfile::TempDir,
    pub project: PathBuf,
}

/// Nothing runs on after a test.
impl Drop for Place {
    fn drop(&mut self) {
        let _ = engine::stop(&self.project);
        until("the lock is free", || {
            !overtrace::store::is_held(&self.project).unwrap_or(false)
        });
    }
}

impl Place {
    /// Where the project of a bench was, once its engine has ended.
    pub fn of(bench: Bench) -> Place {
        let project = bench.project();
        let Bench { folder, handle } = bench;
        drop(handle);
        let place = Place { folder, project };
        until("the lock is free", || {
            !overtrace::store::is_held(&place.project).unwrap()
        });
        place
    }

    /// Where another project can be, in the folder of `other`.
    pub fn beside(other: &Place, name: &str) -> Place {
        Place {
            folder: tempfile::tempdir_in(other.path()).unwrap(),
            project: other.path().join(name),
        }
    }

    /// The folder around the project.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Tries again until it is so.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "a minute passed: {what}"
        );
        std::thread::yield_now();
    }
}

/// Waits for an event that is so.
pub fn hear<T>(handle: &EngineHandle, is_it: impl Fn(Event) -> Option<T>) -> T {
    loop {
        match handle.receive(Duration::from_secs(60)).unwrap() {
            Some(event) => {
                if let Some(found) = is_it(event) {
                    return found;
                }
            }
            None => panic!("a minute passed without it"),
        }
    }
}

/// Waits until the running training has done some more epochs; all that it has done then.
pub fn epochs(handle: &EngineHandle, more: usize) -> Vec<EpochReport> {
    let mut first = None;
    loop {
        let done = hear(handle, |event| match event {
            Event::Activity(activity) if !activity.curve.is_empty() => Some(activity.curve),
            _ => None,
        });
        if done.len() >= *first.get_or_insert(done.len()) + more {
            return done;
        }
    }
}

/// Settings of a training of some seconds, in many epochs.
pub fn long() -> String {
    let epochs = dose(400, 2000);
    format!(
        "[model]\nbase_channels = 2\n[training]\nmax_epochs = {epochs}\npatience = {epochs}\nthreads = 2\n\
         [inbox]\nstable_s = 0.0\n"
    )
}

/// A mask as another program writes it: not packed, so that its bytes are not those that the mask is kept as.
pub fn corrected() -> Vec<u8> {
    let packed = encode_labels(&boxes(2).1, u16::from);
    overtrace::imaging::gunzip(&packed, 1 << 20).unwrap()
}

pub fn verified(project: &Path) -> Verified {
    engine::verify(project, &|_, _| {}).unwrap()
}

/// Every blob's file.
pub fn blobs(project: &Path) -> Vec<PathBuf> {
    let shelves = fs::read_dir(project.join("store/blobs")).unwrap();
    let mut files: Vec<PathBuf> = shelves
        .flat_map(|shelf| fs::read_dir(shelf.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
}

/// An engine process that is this test's own to kill.
pub fn engine_process(project: &Path) -> std::process::Child {
    engine_process_with(project, &[])
}

/// The same, with something in its environment.
pub fn engine_process_with(project: &Path, environment: &[(&str, &std::ffi::OsStr)]) -> std::process::Child {
    use std::process::Stdio;
    std::process::Command::new(env!("CARGO_BIN_EXE_overtrace"))
        .arg("--project")
        .arg(project)
        .args(["engine", "start", "--foreground"])
        .envs(environment.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
