//! The actor: one message at a time, each to its end.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::control::Others;
use super::inbox::{Decision, Sight, Watch};
use super::network::Pace;
use super::project::Project;
use super::surfaces::{Asker, Surface, SurfaceId, Surfaces};
use super::worker::{Worker, WorkerMessage};
use super::{EngineError, Options};
use crate::protocol::{Activity, Answer, Command, EngineStatus, Event, Request, Stage};
use crate::records::{Case, CaseId, Progress, RoundId, RoundState, Row, Task, What};
use crate::settings::{Pixels, Settings, Strategy};
use crate::worker::Parser;

/// How long a look into the inbox keeps everything else waiting: thousands of files may have been dropped at once.
const LOOK: Duration = Duration::from_millis(100);

/// What can happen to the engine.
#[derive(Debug)]
pub enum Message {
    /// A surface is here.
    SurfaceCame(SurfaceId, Surface),
    /// A surface wants something.
    Request(SurfaceId, Request),
    /// The worker has something to say.
    Worker(WorkerMessage),
    /// Something changed in the inbox.
    InboxHint,
    /// A surface let go of its handle.
    SurfaceGone(SurfaceId),
    /// The system wants the engine to end.
    Stop,
}

/// What the running task is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Goal {
    /// Predict what is missing, then rank.
    Rank(Strategy, Pixels),
    /// Predict what is missing, rank, then ask for cases.
    Query { strategy: Strategy, budget: usize },
    /// Predict one case, then hand it out.
    HandOut {
        case: CaseId,
        owner: String,
        again: bool,
    },
    /// Learn.
    Train(RoundId),
    /// Measure and predict with the new model.
    Evaluate(RoundId),
}

impl Goal {
    /// Whether the goal needs the drawing model to have drawn `case`.
    pub fn wants(&self, case: &Case) -> bool {
        match self {
            Goal::Rank(..) | Goal::Query { .. } => case.is_askable(),
            Goal::HandOut { case: id, .. } => case.id == *id,
            Goal::Evaluate(_) => case.is_askable() || case.is_measuring(),
            Goal::Train(_) => false,
        }
    }

    /// What the worker is at meanwhile.
    pub fn stage(&self) -> Stage {
        match self {
            Goal::Rank(..) | Goal::Query { .. } | Goal::HandOut { .. } => Stage::Predicting,
            Goal::Evaluate(_) => Stage::Evaluating,
            Goal::Train(_) => Stage::Training,
        }
    }
}

/// The running task, and who waits for it.
#[derive(Debug)]
pub struct Job {
    /// What for.
    pub goal: Goal,
    /// The account it runs under.
    pub who: String,
    /// Who is answered when it ends.
    pub waiting: Vec<Asker>,
    /// When the stage began.
    pub began: Instant,
    /// Who wants its round ended, and why.
    pub abandon: Option<(String, String)>,
    /// Why something that the worker made could not be kept.
    pub lost: Option<EngineError>,
}

/// The engine's thread.
pub struct Actor {
    /// Before the project: it ends before the lock is let go of.
    pub(super) worker: Worker,
    pub(super) project: Project,
    pub(super) job: Option<Job>,
    pub(super) sight: Sight,
    watch: Option<Watch>,
    /// What was last told of as going wrong in the background.
    trouble: Option<String>,
    options: Options,
    pub(super) surfaces: Surfaces,
    /// Reads what comes from outside.
    pub(super) parser: Arc<Parser>,
    /// Other projects that ours is shown beside.
    others: Others,
    since: Timestamp,
    is_stopping: bool,
}

/// What becomes of a request: an answer now, or one when the job ends.
pub enum Reply {
    /// Now.
    Now(Answer),
    /// When the job just begun ends.
    Later,
    /// By another thread.
    Elsewhere,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        Reply::Now(answer)
    }
}

impl Actor {
    /// An actor with nothing to do.
    pub fn new(project: Project, options: Options, messages: Sender<Message>) -> Actor {
        let watch = options.watch.then(|| Watch::new(messages.clone()));
        let parser = Arc::new(Parser::new(options.programs.cpu.clone()));
        Actor {
            project,
            worker: Worker::start(options.programs.clone(), move |message| {
                // The actor is gone only when everything ends.
                let _ = messages.send(Message::Worker(message));
            }),
            job: None,
            sight: Sight::default(),
            watch,
            trouble: None,
            options,
            surfaces: Surfaces::default(),
            parser,
            since: Timestamp::now(),
            others: Others::default(),
            is_stopping: false,
        }
    }

    /// Runs until it is told to stop; until the last surface lets go where it does not stay.
    pub fn run(&mut self, messages: &Receiver<Message>) {
        let mut look_at = self.watch.is_some().then(Instant::now);
        for wrong in self.settle() {
            tracing::warn!(wrong, "what an engine before this one left stays as it is");
            self.tell_trouble(Some(wrong));
        }
        if self.options.watch {
            self.go_on();
        }
        while !self.is_stopping {
            let message = match look_at {
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => messages.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match message {
                Ok(Message::SurfaceCame(id, surface)) => self.surfaces.join(id, surface),
                Ok(Message::Request(surface, request)) => self.serve(surface, request),
                Ok(Message::Worker(message)) => self.hear(message),
                Ok(Message::InboxHint) => look_at = self.hint(look_at),
                Err(RecvTimeoutError::Timeout) => look_at = Some(self.look()),
                Ok(Message::SurfaceGone(id)) => {
                    let is_alone = !self.surfaces.leave(id);
                    self.is_stopping |= is_alone && !self.options.stays;
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => self.is_stopping = true,
            }
        }
        self.worker.cancel();
    }

    /// Takes up the round that an engine before this one was at.
    fn go_on(&mut self) {
        let open = self.project.snapshot.open_round();
        let was_at_it = open.is_some_and(|round| match round.state {
            RoundState::Querying | RoundState::Training | RoundState::Evaluating => true,
            RoundState::Correcting | RoundState::Closed | RoundState::Abandoned(_) => false,
        });
        if was_at_it && let Err(error) = self.train("overtrace") {
            self.tell_trouble(Some(format!("the round could not go on: {error}")));
        }
    }

    /// A hint brings the next look forward, to when a file just written can have come to rest.
    fn hint(&self, look_at: Option<Instant>) -> Option<Instant> {
        let soon = Instant::now() + Duration::from_millis(200);
        look_at.map(|at| at.min(soon))
    }

    /// Tells what went wrong in the background, once for as long as it stays the same.
    fn tell_trouble(&mut self, words: Option<String>) {
        if let Some(words) = words.clone().filter(|_| words != self.trouble) {
            self.tell(Event::Notice(words));
        }
        self.trouble = words;
    }

    /// Looks into the inbox by itself, says what became of each file, and when to look again.
    fn look(&mut self) -> Instant {
        if self.options.stays && !self.project.store.is_there() {
            tracing::warn!("the project's folder is gone");
            self.is_stopping = true;
            return Instant::now();
        }
        let inbox = self.project.inbox();
        if let Some(watch) = &mut self.watch {
            watch.keep_on(&inbox);
        }
        let Pace { rest_s, look_s, .. } = self.project.pace;
        let mut wait_s = look_s;
        let mut is_done = true;
        let trouble = match self.scan_inbox(Some(Instant::now() + LOOK)) {
            Ok((reports, done)) => {
                is_done = done;
                for report in reports {
                    self.tell(Event::Notice(format!(
                        "{}: {} ({}) {}",
                        report.file,
                        report.outcome.word(),
                        report.code,
                        report.words
                    )));
                }
                if self.sight.is_waiting() {
                    wait_s = wait_s.min(rest_s.max(0.2));
                }
                self.train_if_complete()
            }
            Err(error) => Some(format!("the inbox could not be looked at: {error}")),
        };
        self.tell_trouble(trouble);
        match is_done {
            true => Instant::now() + Duration::from_secs_f64(wait_s),
            // What was asked meanwhile comes first.
            false => Instant::now(),
        }
    }

    /// Begins the training that the last case back makes possible; why it could not, if so.
    fn train_if_complete(&mut self) -> Option<String> {
        let settings = &self.project.snapshot.settings;
        if !self.options.watch
            || !settings.query.train_when_complete
            || self.job.is_some()
            || !self.project.snapshot.is_complete()
        {
            return None;
        }
        let error = self.train("overtrace").err()?;
        Some(format!("training could not begin: {error}"))
    }

    fn serve(&mut self, surface: SurfaceId, request: Request) {
        let Request { id, who, command } = request;
        let asker = Asker { surface, request: id };
        let early = "the work ended before it began; the log says why";
        let result = match self.obey(asker, &who, command.shortened()) {
            Ok(Reply::Elsewhere) => return,
            Ok(Reply::Now(answer)) => Ok(answer),
            Ok(Reply::Later) => match &mut self.job {
                Some(job) => return job.waiting.push(asker),
                None => Err(early.into()),
            },
            Err(error) => Err(error.to_string()),
        };
        self.surfaces.answer(asker, result);
    }

    fn obey(&mut self, asker: Asker, who: &str, command: Command) -> Result<Reply, EngineError> {
        let answer = match command {
            Command::Attach { cases } => {
                self.read_control();
                let most = cases.unwrap_or(usize::MAX);
                Answer::Snapshot(Box::new(self.project.snapshot.beginning(most)))
            }
            Command::Import { items, pool } => self.import(who, items, pool)?,
            Command::Exclude { case, why } => self.exclude(who, &case, why)?,
            Command::Include { case } => self.include(who, &case)?,
            Command::Rank { strategy, pixels } => return self.begin_rank(who, strategy, pixels),
            Command::HandOut { case, owner, again } => return self.begin_hand_out(who, case, owner, again),
            Command::TakeOver { case, owner, why } => self.take_over(who, &case, owner, why)?,
            Command::Withdraw { case, why } => self.withdraw(who, &case, why)?,
            Command::ScanInbox => {
                let (reports, _) = self.scan_inbox(None)?;
                let trouble = self.train_if_complete();
                self.tell_trouble(trouble);
                Answer::Intake(reports)
            }
            Command::AcceptHeld { held, fix } => {
                let decision = if fix { Decision::Fix } else { Decision::Accept };
                let report = self.accept_held(who, held, decision)?;
                let trouble = self.train_if_complete();
                self.tell_trouble(trouble);
                Answer::Intake(vec![report])
            }
            Command::RefuseHeld { held, why } => self.refuse_held(who, held, why)?,
            Command::ChooseCorrection { correction, why } => self.choose_correction(who, correction, why)?,
            Command::NoteMinutes { case, minutes } => self.note_minutes(who, &case, minutes)?,
            Command::StartRound {
                from_scratch,
                budget,
                strategy,
            } => {
                return self.start_round(who, from_scratch, budget, strategy);
            }
            Command::Train => return self.train(who),
            Command::AbandonRound { why } => return self.abandon_round(who, why),
            Command::ImportModel { file } => self.import_model(who, &file)?,
            Command::ExportModel => self.export_model()?,
            Command::UseModel { model, why } => self.use_model(who, model, why)?,
            Command::Orders => self.orders()?,
            Command::DeclareSatisfactory { why } => self.declare_satisfactory(who, why)?,
            Command::Reopen { why } => self.reopen(who, why)?,
            Command::Open(wanted) => {
                self.open(asker, &wanted)?;
                return Ok(Reply::Elsewhere);
            }
            Command::Curve { model } => self.curve(model)?,
            Command::Journal { from } => Answer::Journal(self.project.store.entries(from)?),
            Command::Export { case } => self.export(&case)?,
            Command::Gc { dry_run } => self.gc(who, dry_run)?,
            Command::Forget { case, why } => self.forget(who, &case, why)?,
            Command::Space => self.space(),
            Command::Engine => Answer::Engine(EngineStatus {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").into(),
                since: self.since,
                stays: self.options.stays,
                watches: self.options.watch,
                attached: self.surfaces.attached(),
            }),
            Command::Stop => {
                self.is_stopping = true;
                Answer::Done(
                    match self.project.snapshot.open_round().filter(|_| self.job.is_some()) {
                        Some(round) => {
                            format!("the engine ends; the next one goes on with round {}", round.id)
                        }
                        None => "the engine ends".into(),
                    },
                )
            }
        };
        Ok(answer.into())
    }

    /// Reads the rounds that ours are held against, or drawn beside, if there are such.
    fn read_control(&mut self) {
        let snapshot = &mut self.project.snapshot;
        let query = &snapshot.settings.query;
        snapshot.beside = self.others.beside(&snapshot.folder, &query.beside);
        let folder = &snapshot.settings.query.control;
        if folder.as_os_str().is_empty() {
            snapshot.control.clear();
            return;
        }
        match self.others.rounds(&snapshot.folder.join(folder)) {
            Ok(rounds) => snapshot.control = rounds,
            Err(error) => self.tell_trouble(Some(format!("query.control: {error}"))),
        }
    }

    fn hear(&mut self, message: WorkerMessage) {
        match message {
            WorkerMessage::Progress(progress) => self.progress(progress),
            WorkerMessage::Done(result) => {
                let Some(job) = self.job.take() else { return };
                let waiting = job.waiting.clone();
                let curve = std::mem::take(&mut self.project.snapshot.activity.curve);
                self.set_activity(Activity {
                    curve,
                    ..Activity::default()
                });
                let outcome = self.conclude(job, result);
                match outcome {
                    Ok(Reply::Now(answer)) => {
                        waiting
                            .into_iter()
                            .for_each(|asker| self.surfaces.answer(asker, Ok(answer.clone())));
                    }
                    // Nothing that ends a job is answered elsewhere.
                    Ok(Reply::Later | Reply::Elsewhere) => {
                        let next = self
                            .job
                            .as_mut()
                            .expect("a goal that goes on has begun its next task");
                        next.waiting.extend(waiting);
                    }
                    Err(error) => {
                        self.tell(Event::Notice(error.to_string()));
                        waiting
                            .into_iter()
                            .for_each(|asker| self.surfaces.answer(asker, Err(error.to_string())));
                    }
                }
            }
        }
    }

    fn progress(&mut self, progress: Progress) {
        let mut activity = self.project.snapshot.activity.clone();
        match progress {
            Progress::Step {
                epoch,
                max_epochs,
                step,
                steps,
            } => {
                (activity.epoch, activity.max_epochs) = (epoch, max_epochs);
                (activity.done, activity.of) = (step, steps);
            }
            Progress::Epoch(report) => {
                // A worker that was started again learns from where the one before it had kept what it had.
                activity.curve.retain(|known| known.epoch < report.epoch);
                activity.curve.push(report);
            }
            Progress::Drawing | Progress::Waiting | Progress::Timed(_) => return,
            Progress::Device(usage) => {
                activity.devices.retain(|known| known.device != usage.device);
                activity.devices.push(usage);
                activity.devices.sort_by(|a, b| a.device.cmp(&b.device));
            }
            Progress::Notice(words) => {
                self.tell(Event::Notice(words));
                return;
            }
            Progress::Case(predicted) => {
                activity.done += 1;
                self.keep(*predicted);
            }
        }
        self.set_activity(activity);
    }

    /// Hands a task to the worker; there is one at a time.
    pub(super) fn begin(&mut self, goal: Goal, who: &str, task: Task) -> Reply {
        let stage = goal.stage();
        let curve = match stage {
            Stage::Training => Vec::new(),
            _ => std::mem::take(&mut self.project.snapshot.activity.curve),
        };
        let of = match &task {
            Task::Predict(task) => task.cases.len(),
            Task::Train(_) | Task::Bench(_) => 0,
        };
        self.set_activity(Activity {
            stage,
            of,
            curve,
            since: Some(Timestamp::now()),
            ..Activity::default()
        });
        let who = who.to_string();
        self.job = Some(Job {
            goal,
            who,
            waiting: Vec::new(),
            began: Instant::now(),
            abandon: None,
            lost: None,
        });
        let compute = self.project.snapshot.settings.compute.clone();
        self.worker.begin(task, compute);
        Reply::Later
    }

    /// Reads `overtrace.toml` again, so that what begins now runs with what it says now.
    pub(super) fn reload_settings(&mut self, from_scratch: bool) -> Result<(), EngineError> {
        let settings = self.project.read_settings(from_scratch)?;
        self.put_settings(settings)
    }

    /// Puts settings in force and tells the surface.
    pub(super) fn put_settings(&mut self, settings: Settings) -> Result<(), EngineError> {
        if self.project.put_settings(settings)? {
            self.tell(Event::Settings(Box::new(self.project.snapshot.settings.clone())));
        }
        Ok(())
    }

    /// Refuses a wish that needs the worker while it is at something else.
    pub(super) fn need_idle(&self) -> Result<(), EngineError> {
        match &self.job {
            None => Ok(()),
            Some(_) => EngineError::refused(format!(
                "the worker is {} just now; wait until it is done, or abandon the round",
                self.project.snapshot.activity.stage.word()
            )),
        }
    }

    /// Stores what was done, then tells the surface.
    pub(super) fn commit(
        &mut self,
        who: &str,
        what: What,
        why: Option<String>,
        rows: Vec<Row>,
    ) -> Result<(), EngineError> {
        let change = self.project.commit(who, what, why, rows)?;
        self.tell(Event::Changed(Box::new(change)));
        Ok(())
    }

    pub(super) fn set_activity(&mut self, activity: Activity) {
        self.project.snapshot.activity = activity.clone();
        self.tell(Event::Activity(activity));
    }

    pub(super) fn tell(&self, event: Event) {
        self.surfaces.tell(event);
    }
}
