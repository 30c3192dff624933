//! Experiments: runs that are projects like any other, driven as people drive them, with stored labels for an annotator.
//!
//! Whatever stops it, the same command goes on: each run is taken up where its project stands.

mod machines;
mod measured;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::args::{ExperimentArgs, PhantomsName};
use super::verbs::{give, intake};
use super::{Doors, Exit, Session, Wanted, import, phantoms, print, print_json, tables};
use crate::protocol::{Answer, Command, ImportItem, Outcome as Verdict, Snapshot};
use crate::records::{CaseId, MaskOrigin, Pool, RoundState, mean_of_known};
use crate::settings::{FILE, Settings};
use crate::study::{
    Experiment, Kind, Outcome, Point, QueryStrategy, Run, RunOutcome, StoredCase, System, charts, csv, html,
    png, summarise, svg,
};
use machines::Machines;
use measured::{Measured, Pictures, measured, near_effort};

/// The experiment, whole, beside its runs.
const PLAN: &str = "experiment.toml";
/// Steps of a training where strategies are compared and the settings say none.
const STEPS: usize = 500;
/// Where phantoms are made.
const PHANTOMS: &str = "phantoms";
/// Where pictures of measured cases lie.
const PICTURES: &str = "pictures";
/// Who corrects.
const ANNOTATOR: &str = "stored labels";

/// Makes the experiment, or goes on with it, and reports on it.
pub fn run(doors: &Doors, json: bool, wish: &ExperimentArgs) -> Result<Exit> {
    let experiment = plan(wish)?;
    let runs = experiment.runs()?;
    let mut outcome = Outcome {
        version: env!("CARGO_PKG_VERSION").into(),
        files: hashes(&experiment)?,
        weights: experiment.weights.as_ref().map(hash).transpose()?,
        machines: Vec::new(),
        runs: Vec::new(),
        experiment,
    };
    let mut clock = Clock::new(&outcome.experiment, &runs);
    let mut machines = Machines::open(doors, &wish.folder);
    let mut pictures = Vec::new();
    for run in &runs {
        let told = (&mut clock, &mut machines);
        let (done, drawn) = drive(doors, json, &wish.folder, &outcome.experiment, run, told)?;
        outcome.machines.clone_from(&machines.known);
        outcome.runs.push(done);
        pictures.extend(drawn);
        write(&wish.folder, &outcome, &pictures)?;
    }
    let summary = summarise(&outcome);
    if json {
        print_json(&serde_json::json!({ "outcome": outcome, "summary": summary }))?;
    } else {
        print(&tables::experiment(&outcome, &summary))?;
        print(&format!(
            "\nreport: {}",
            wish.folder.join("report.html").display()
        ))?;
    }
    Ok(Exit::Done)
}

/// The experiment that is asked for; where the folder has one already, that one, which has to be the same.
fn plan(wish: &ExperimentArgs) -> Result<Experiment> {
    let file = wish.folder.join(PLAN);
    let known: Option<Experiment> = match fs::read_to_string(&file) {
        Ok(text) => Some(toml::from_str(&text).with_context(|| format!("reading {}", file.display()))?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
    };
    if let (Some(known), true) = (&known, wish.data.is_empty() && wish.phantoms.is_none()) {
        if known.kind != wish.kind.into() {
            bail!("{} is about something else; name another folder", file.display());
        }
        return Ok(known.clone());
    }
    if known.is_none() && has_others(&wish.folder)? {
        bail!(
            "{} is not empty and holds no experiment; name another folder",
            wish.folder.display()
        );
    }
    let mut settings = match &wish.settings {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            Settings::parse(&text, path)?
        }
        None => phantoms::settings(wish.of),
    };
    fs::create_dir_all(&wish.folder).with_context(|| format!("making folder {}", wish.folder.display()))?;
    let kind = Kind::from(wish.kind);
    if kind == Kind::Query && settings.training.steps == 0 {
        // Strategies whose trainings end when they like are not held against each other by what they asked for.
        settings.training.steps = STEPS;
        eprintln!(
            "overtrace: every training takes {STEPS} steps, as the settings do not say how many (training.steps)"
        );
    }
    let experiment = Experiment {
        kind,
        seeds: (1..=u64::from(wish.seeds)).collect(),
        systems: match wish.systems.is_empty() {
            true => vec![System::of(&settings)],
            false => wish.systems.clone(),
        },
        strategies: match (kind, wish.strategies.is_empty()) {
            (Kind::Full, _) => Vec::new(),
            (Kind::Effort, true) => vec![QueryStrategy::of(&settings)],
            (Kind::Query, true) => vec![QueryStrategy::of(&settings), QueryStrategy::RANDOM],
            _ => wish.strategies.clone(),
        },
        start: wish.start,
        budget: wish.budget,
        rounds: wish.rounds,
        folds: wish.folds,
        test: wish.test.clone(),
        weights: wish.weights.as_ref().map(std::path::absolute).transpose()?,
        cases: cases(wish)?,
        settings,
    };
    if let Some(known) = known {
        if known != experiment {
            bail!(
                "{} holds another experiment; give none of the options to go on with it, or name another folder",
                file.display()
            );
        }
        return Ok(known);
    }
    // One that cannot be is not written down.
    for run in experiment.runs()? {
        let text = toml::to_string(&experiment.settings_of(&run)).context("writing settings down")?;
        Settings::parse(&text, Path::new(&experiment.name_of(&run)))?;
    }
    let text = toml::to_string(&experiment).context("writing the experiment down")?;
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    Ok(experiment)
}

/// Whether there is anything in a folder but the phantoms that an experiment which could not be has left.
fn has_others(folder: &Path) -> Result<bool> {
    if !folder.is_dir() {
        return Ok(false);
    }
    let names = fs::read_dir(folder)?.map(|item| Ok(item?.file_name()));
    let names = names.collect::<std::io::Result<Vec<_>>>()?;
    Ok(names.iter().any(|name| name != PHANTOMS))
}

/// The labelled cases of the data, or phantoms that are made for it.
fn cases(wish: &ExperimentArgs) -> Result<Vec<StoredCase>> {
    let items = match wish.phantoms {
        Some(count) => made(&wish.folder.join(PHANTOMS), count, wish.of)?,
        None if wish.data.is_empty() => {
            bail!("no data: name folders of cases by --data, or have --phantoms 18 made")
        }
        None => import::items(&wish.data, None, None)?,
    };
    let (labelled, bare): (Vec<ImportItem>, Vec<ImportItem>) =
        items.into_iter().partition(|item| item.mask.is_some());
    if !bare.is_empty() {
        eprintln!("overtrace: {} cases without a mask are left out", bare.len());
    }
    let stored = labelled.into_iter().filter_map(|item| {
        Some(StoredCase {
            id: item.id,
            images: item.images,
            mask: item.mask?,
        })
    });
    Ok(stored.collect())
}

fn made(folder: &Path, count: u32, of: PhantomsName) -> Result<Vec<ImportItem>> {
    fs::create_dir_all(folder)?;
    let folder = folder.canonicalize()?;
    let numbered = (0..count).zip(phantoms::set(of));
    numbered
        .map(|(index, made)| {
            let id = CaseId::new(&format!("phantom-{index:02}")).expect("letters, a dash and digits");
            phantoms::write(&folder, id, of, &made)
        })
        .collect()
}

fn hash(path: &PathBuf) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// BLAKE3 of every case's files.
fn hashes(experiment: &Experiment) -> Result<Vec<(CaseId, Vec<String>)>> {
    let of_case = |case: &StoredCase| {
        let files = case.images.iter().chain([&case.mask]).map(hash);
        Ok((case.id.clone(), files.collect::<Result<_>>()?))
    };
    experiment.cases.iter().map(of_case).collect()
}

/// How long the rest will take, from what took how long.
struct Clock {
    began: Instant,
    done: usize,
    /// Rounds that were done before this command.
    found: usize,
    of: usize,
}

impl Clock {
    fn new(experiment: &Experiment, runs: &[Run]) -> Clock {
        Clock {
            began: Instant::now(),
            done: 0,
            found: 0,
            of: runs
                .iter()
                .map(|run| 1 + experiment.rounds_of(run.pool.len()))
                .sum(),
        }
    }

    /// Says that a round is done, or was found done.
    fn tick(&mut self, name: &str, point: &Point, is_found: bool) {
        self.done += 1;
        self.found += usize::from(is_found);
        if is_found {
            return;
        }
        let each = self.began.elapsed().as_secs_f64() / (self.done - self.found) as f64;
        let left = each * self.of.saturating_sub(self.done) as f64;
        let dice = point
            .mean_dice()
            .map_or("n/a".into(), |dice| format!("{:.2} %", 100.0 * dice));
        eprintln!(
            "[{}/{}] {name}: {} labelled, held-out Dice {dice}; {} left",
            self.done,
            self.of,
            point.labelled,
            tables::duration(left)
        );
    }
}

/// Brings one run to its end from wherever it stands.
fn drive(
    doors: &Doors,
    json: bool,
    folder: &Path,
    experiment: &Experiment,
    run: &Run,
    (clock, machines): (&mut Clock, &mut Machines<'_>),
) -> Result<(RunOutcome, Pictures)> {
    let name = experiment.name_of(run);
    let place = folder.join("runs").join(&name);
    if !place.join(FILE).is_file() {
        let begun = folder
            .join("runs")
            .join(format!(".{}", experiment.beginning_of(run)));
        machines.note(&experiment.settings)?;
        begin(doors, json, &begun, experiment, run)?;
        // The other runs of its fold and seed begin with the same model.
        let part = place.with_extension("part");
        if part.exists() {
            fs::remove_dir_all(&part)?;
        }
        copy(&begun, &part).with_context(|| format!("copying {}", begun.display()))?;
        write_settings(&part, experiment, run)?;
        fs::rename(&part, &place)?;
    }
    let session = open(doors, json, &place)?;
    let asked = |snapshot: &Snapshot| {
        let rounds = snapshot.rounds.values();
        rounds
            .filter(|round| round.state == RoundState::Closed && !round.queried.is_empty())
            .count()
    };
    let mut told = 0;
    let mut is_found = true;
    loop {
        let snapshot = session.snapshot()?;
        let points = points(&snapshot, run);
        for point in &points[told..] {
            clock.tick(&name, point, is_found);
        }
        (told, is_found) = (points.len(), false);
        if snapshot.open_round().is_some() {
            machines.note(&experiment.settings)?;
            finish_round(&session, experiment, &snapshot)?;
        } else if asked(&snapshot) < experiment.rounds_of(run.pool.len()) {
            let start = Command::StartRound {
                from_scratch: false,
                budget: None,
                strategy: None,
            };
            expect_done(session.ask(start)?)?;
        } else {
            let measured = match experiment.kind {
                Kind::Full if points.is_empty() => {
                    bail!("{name} has learnt nothing, as an earlier version left it: name another folder")
                }
                Kind::Full => measured(&session, &folder.join(PICTURES), &name, run, &snapshot)?,
                Kind::Query | Kind::Effort => Measured::default(),
            };
            return result(&session, experiment, run, &snapshot, measured);
        }
    }
}

/// Writes a file whole or not at all.
fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, file))
        .with_context(|| format!("writing {}", file.display()))
}

/// A project with the run's cases and its first model.
fn begin(doors: &Doors, json: bool, place: &Path, experiment: &Experiment, run: &Run) -> Result<()> {
    if !place.join("store").is_dir() {
        fs::create_dir_all(place).with_context(|| format!("making folder {}", place.display()))?;
        write_settings(place, experiment, run)?;
        (doors.create)(place)?;
    }
    let session = open(doors, json, place)?;
    let snapshot = session.snapshot()?;
    if has_begun(experiment, &snapshot) {
        drop(session);
        return (doors.free)(place);
    }
    let stored = |id: &CaseId| experiment.cases.iter().find(|case| case.id == *id);
    let pools = [
        (&run.labelled, Pool::Labelled),
        (&run.pool, Pool::Unlabelled),
        (&run.test, Pool::HeldOut),
    ];
    let items = pools
        .iter()
        .flat_map(|(ids, pool)| ids.iter().map(move |id| (id, *pool)));
    let items: Vec<ImportItem> = items
        .filter_map(|(id, pool)| {
            let case = stored(id)?;
            Some(ImportItem {
                id: id.clone(),
                images: case.images.clone(),
                // The stand-in annotator keeps it until the case is asked for.
                mask: (pool != Pool::Unlabelled).then(|| case.mask.clone()),
                pool: Some(pool),
            })
        })
        .collect();
    match session.ask(Command::Import { items, pool: None })? {
        Answer::Imported { refused, .. } if refused.is_empty() => {}
        Answer::Imported { refused, .. } => bail!("{} cannot be imported: {}", refused[0].0, refused[0].1),
        other => bail!("the import was answered by {other:?}"),
    }
    loop {
        let snapshot = session.snapshot()?;
        let weights = experiment
            .weights
            .clone()
            .filter(|_| snapshot.project.model.is_none());
        if snapshot.open_round().is_some() {
            finish_round(&session, experiment, &snapshot)?;
        } else if has_begun(experiment, &snapshot) {
            break;
        } else if let Some(file) = weights {
            expect_done(session.ask(Command::ImportModel { file })?)?;
        } else {
            let start = Command::StartRound {
                from_scratch: false,
                budget: None,
                strategy: None,
            };
            expect_done(session.ask(start)?)?;
        }
    }
    drop(session);
    (doors.free)(place)
}

/// Whether a run has what it begins with: a model; where everything is labelled, one that has learnt from that, whatever it began
/// from.
fn has_begun(experiment: &Experiment, snapshot: &Snapshot) -> bool {
    let mut rounds = snapshot.rounds.values();
    let has_learnt = experiment.kind != Kind::Full || rounds.any(|round| round.state == RoundState::Closed);
    snapshot.project.model.is_some() && has_learnt && snapshot.open_round().is_none()
}

fn open(doors: &Doors, json: bool, place: &Path) -> Result<Session> {
    Ok(Session {
        handle: (doors.open)(place, Wanted::Any)?,
        json,
    })
}

fn expect_done(answer: Answer) -> Result<()> {
    match answer {
        Answer::Done(_) => Ok(()),
        Answer::Nothing(words) => bail!("{words}"),
        other => bail!("a step of the experiment was answered by {other:?}"),
    }
}

/// Corrects what the open round asks for, and trains; or goes on with what it was at.
fn finish_round(session: &Session, experiment: &Experiment, snapshot: &Snapshot) -> Result<()> {
    let round = snapshot.open_round().context("there is an open round")?;
    if round.state == RoundState::Correcting {
        let missing = round.queried.iter().filter(|id| {
            let mask = snapshot.cases.get(*id).and_then(|case| case.mask);
            !mask.is_some_and(|mask| matches!(mask.origin, MaskOrigin::Correction(_)))
        });
        for id in missing {
            correct(session, experiment, snapshot, id)?;
        }
    }
    expect_done(session.ask(Command::Train)?)
}

/// Hands a case out and drops its stored mask into the inbox, as a person would; what is held is meant so.
fn correct(session: &Session, experiment: &Experiment, snapshot: &Snapshot, id: &CaseId) -> Result<()> {
    let case = experiment.cases.iter().find(|case| case.id == *id);
    let mask = &case
        .with_context(|| format!("{id} is none of the experiment's cases"))?
        .mask;
    let name = mask
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let ending = [".nii.gz", ".nii", ".seg.nrrd", ".nrrd"]
        .into_iter()
        .find(|ending| name.ends_with(ending))
        .with_context(|| format!("{}: a mask has to be one file", mask.display()))?;
    // An engine that was stopped may have handed it out already.
    let open = snapshot
        .cases
        .get(id)
        .and_then(|case| snapshot.handouts.get(&case.handout?));
    let (inbox, reply) = match open {
        Some(open) => (
            snapshot.folder.join(&snapshot.settings.inbox.folder),
            open.reply_name.clone(),
        ),
        None => {
            let out = give(session, id.clone(), ANNOTATOR.into(), false)?;
            (out.inbox, out.reply_name)
        }
    };
    let stem = reply.trim_end_matches(".nii.gz");
    let place = inbox.join(format!("{stem}{ending}"));
    fs::copy(mask, &place).with_context(|| format!("copying {} to {}", mask.display(), place.display()))?;
    for report in intake(session, Command::ScanInbox)? {
        let report = match (report.outcome, report.held) {
            (Verdict::Hold, Some(held)) => {
                let accept = Command::AcceptHeld { held, fix: false };
                intake(session, accept)?
                    .into_iter()
                    .next()
                    .context("an accepted file is reported on")?
            }
            _ => report,
        };
        if !matches!(report.outcome, Verdict::Accept | Verdict::Warn) {
            bail!("{} was {}: {}", report.file, report.outcome.word(), report.words);
        }
    }
    Ok(())
}

/// What each closed round came to.
fn points(snapshot: &Snapshot, run: &Run) -> Vec<Point> {
    let closed = snapshot
        .rounds
        .values()
        .filter(|round| round.state == RoundState::Closed);
    closed.map(|round| Point::of(round, run)).collect()
}

fn result(
    session: &Session,
    experiment: &Experiment,
    run: &Run,
    snapshot: &Snapshot,
    found: Measured,
) -> Result<(RunOutcome, Pictures)> {
    let trained = snapshot.project.model.filter(|model| {
        let model = snapshot.models.get(model);
        model.is_some_and(|model| model.curve.is_some())
    });
    let curve = match trained {
        None => Vec::new(),
        Some(model) => match session.ask(Command::Curve { model })? {
            Answer::Curve(curve) => curve,
            other => bail!("the engine answered {other:?} to a curve"),
        },
    };
    let measured = run
        .test
        .iter()
        .map(|id| snapshot.predictions.get(id).map(|drawn| drawn.seconds));
    let mut points = points(snapshot, run);
    for point in &mut points {
        point.near_effort = near_effort(session, &point.asked, snapshot.settings.labels.classes())?;
    }
    let outcome = RunOutcome {
        name: experiment.name_of(run),
        fold: run.fold,
        seed: run.seed,
        system: run.system,
        strategy: run.strategy,
        points,
        curve,
        seconds_a_case: mean_of_known(measured),
        held_out_effort: found.effort,
        held_out_near_effort: found.near_effort,
        majority_dice: found.majority_dice,
        held: snapshot.held.len(),
    };
    Ok((outcome, found.pictures))
}

fn write_settings(place: &Path, experiment: &Experiment, run: &Run) -> Result<()> {
    let text = toml::to_string(&experiment.settings_of(run)).context("writing settings down")?;
    let file = place.join(FILE);
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
}

/// A folder and all that is in it, but for sockets.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for item in fs::read_dir(from)? {
        let item = item?;
        let (kind, to) = (item.file_type()?, to.join(item.file_name()));
        if kind.is_dir() {
            copy(&item.path(), &to)?;
        } else if kind.is_file() {
            fs::copy(item.path(), to)?;
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())
}

/// Writes what there is so far, for people and programs.
fn write(folder: &Path, outcome: &Outcome, pictures: &[(String, Vec<u8>)]) -> Result<()> {
    let summary = summarise(outcome);
    let all = serde_json::json!({ "outcome": outcome, "summary": summary });
    put(&folder.join("results.json"), &serde_json::to_vec_pretty(&all)?)?;
    put(&folder.join("results.csv"), csv(outcome).as_bytes())?;
    for (name, chart) in charts(outcome, &summary) {
        if let (Some(text), Some(pixels)) = (svg(&chart), png(&chart)) {
            put(&folder.join(format!("{name}.svg")), text.as_bytes())?;
            put(&folder.join(format!("{name}.png")), &pixels)?;
        }
    }
    let page = html(outcome, &summary, pictures);
    put(&folder.join("report.html"), page.as_bytes())
}
