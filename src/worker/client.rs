//! The other end: starts the worker's program, hands it a task, hears it out.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::frames::{self, LONGEST, Said};
use crate::records::{CaseId, PredictCase, Progress, Task, TaskResult, printable};
use crate::settings::{Compute, Device};

/// Lines of a worker's standard error that are kept for the words of an error.
const LAST_WORDS: usize = 3;
/// Bytes of such a line at most; what is longer is several.
const LONGEST_LINE: u64 = 4096;
/// How long a worker may take to find its device: a driver takes seconds, a hung one for ever.
const STARTING: Duration = Duration::from_secs(60);
/// How often it is asked whether a task is to go on while its worker says nothing.
const ASKING: Duration = Duration::from_millis(100);
/// How long a worker that was told to stop may take to finish its step. One that takes longer loses nothing by being ended:
/// what it writes is whole or not there.
const STOPPING: Duration = Duration::from_secs(5);

/// The programs that compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// `overtrace` itself, asked to be a worker: it starts everywhere and knows only the CPU.
    pub cpu: PathBuf,
    /// The program that is linked with CUDA.
    pub cuda: PathBuf,
}

impl Programs {
    /// Those of an installation: `overtrace`, and `overtrace-cuda` beside it.
    pub fn beside(overtrace: &Path) -> Programs {
        Programs {
            cpu: overtrace.to_path_buf(),
            cuda: overtrace.with_file_name("overtrace-cuda"),
        }
    }
}

/// How often a worker may die without having got further than the one before it.
const LIVES: usize = 3;

/// How a task ended for those who did it.
#[derive(Debug)]
enum End {
    /// A worker said so.
    Done(TaskResult),
    /// A worker was gone before it said anything; why, in words.
    Died(String),
}

/// Does `task` where `compute` says, and tells `report` how it gets on; when that breaks, the task is cancelled. A GPU
/// that cannot be had is told of, and the others do it, or the CPU. For a worker that dies another one is started, which goes on from what
/// the first one left, unless several in a row get no further. A bench is not gone on with: its times belong together.
pub fn run(
    programs: &Programs,
    compute: &Compute,
    task: Task,
    report: &mut (dyn FnMut(Progress) -> ControlFlow<()> + Send),
) -> TaskResult {
    let mut left = Left::new(task);
    let mut deaths = 0;
    loop {
        let before = left.reached;
        let mut is_stopped = false;
        let task = left.task.clone();
        let mut hear = |progress: Progress| {
            left.note(&progress);
            let flow = report(progress);
            is_stopped |= flow.is_break();
            flow
        };
        let end = match start_all(programs, compute, &task, &mut hear) {
            Ok(workers) => share(workers, task, &mut hear),
            Err(why) => return TaskResult::Failed(why),
        };
        let why = match end {
            End::Done(result) => return result,
            End::Died(_) if is_stopped => return TaskResult::Cancelled,
            End::Died(why) => why,
        };
        deaths = if left.reached > before { 1 } else { deaths + 1 };
        if deaths >= LIVES || matches!(left.task, Task::Bench(_)) {
            return TaskResult::Failed(why);
        }
        if report(Progress::Notice(format!("the worker is started again: {why}"))).is_break() {
            return TaskResult::Cancelled;
        }
        left.cut();
    }
}

/// What is left of a task.
struct Left {
    task: Task,
    /// Cases drawn, or epochs learnt.
    reached: usize,
    drawn: Vec<CaseId>,
}

impl Left {
    fn new(task: Task) -> Left {
        Left {
            task,
            reached: 0,
            drawn: Vec::new(),
        }
    }

    /// Notes how far the task has come.
    fn note(&mut self, progress: &Progress) {
        match progress {
            Progress::Case(predicted) => {
                self.drawn.push(predicted.case.clone());
                self.reached += 1;
            }
            Progress::Epoch(epoch) => self.reached = self.reached.max(epoch.epoch),
            _ => {}
        }
    }

    /// Leaves out what is done. A training finds by itself where it was.
    fn cut(&mut self) {
        if let Task::Predict(task) = &mut self.task {
            task.cases.retain(|case| !self.drawn.contains(&case.id));
        }
    }
}

/// A worker for every device the task can use, and notices of those that there are not.
fn start_all(
    programs: &Programs,
    compute: &Compute,
    task: &Task,
    report: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<Worker>, String> {
    let cuda = match compute.cuda_worker.as_os_str() {
        name if name.is_empty() => &programs.cuda,
        _ => &compute.cuda_worker,
    };
    // More workers than cases have nothing to do; training has one network.
    let most = match task {
        Task::Predict(task) => task.cases.len().max(1),
        _ => 1,
    };
    let mut devices: VecDeque<Device> = compute.device.list().iter().copied().collect();
    let mut workers = Vec::new();
    let mut missed = Vec::new();
    while workers.len() < most
        && let Some(device) = devices.pop_front()
    {
        // Without a program for GPUs there is nothing to try, and nothing to tell of unless it or a GPU was asked for.
        let started = match device {
            Device::Cpu => Worker::start(&programs.cpu, device),
            _ if cuda.is_file() => Worker::start(cuda, device),
            Device::Auto if compute.cuda_worker.as_os_str().is_empty() => continue,
            _ => Err(format!("there is no program {}", cuda.display())),
        };
        match started {
            Ok(worker) => {
                if device == Device::Auto
                    && let Some((first, others)) = worker.gpus.split_first()
                {
                    // One that could not be had says why when it is asked for, where more than one is wanted.
                    devices.extend(others.iter().copied().map(Device::Cuda));
                    if most == 1 && *first > 0 {
                        missed.push(format!("no GPU before cuda:{first}"));
                    }
                }
                workers.push(worker);
            }
            Err(why) if device == Device::Cpu => return Err(why),
            Err(why) => missed.push(format!(
                "no {}: {why}",
                if device == Device::Auto {
                    "GPU".into()
                } else {
                    device.to_string()
                }
            )),
        }
    }
    let is_timed = matches!(task, Task::Bench(task) if task.runs > 0);
    if !missed.is_empty() && is_timed && compute.device.list() != [Device::Auto] {
        // Another device's times would be taken for those of this one.
        return Err(missed.join("; "));
    }
    if !missed.is_empty() {
        let instead = if workers.iter().all(|worker| worker.gpus.is_empty()) {
            "the CPU"
        } else {
            "the others"
        };
        // Whether to go on is asked again at the first step.
        let _ = report(Progress::Notice(format!(
            "computing on {instead}: {}",
            missed.join("; ")
        )));
    }
    if workers.is_empty() {
        workers.push(Worker::start(&programs.cpu, Device::Cpu)?);
    }
    Ok(workers)
}

/// Has all workers do the task, of a drawing the cases that each of them asks for, and makes one result of theirs.
fn share(
    workers: Vec<Worker>,
    mut task: Task,
    report: &mut (dyn FnMut(Progress) -> ControlFlow<()> + Send),
) -> End {
    let cases = match &mut task {
        Task::Predict(task) => std::mem::take(&mut task.cases),
        Task::Train(_) | Task::Bench(_) => Vec::new(),
    };
    let cases = Mutex::new(cases.into_iter());
    let stopped = AtomicBool::new(false);
    let report = Mutex::new(report);
    let ends: Vec<End> = thread::scope(|scope| {
        let running: Vec<_> = workers
            .into_iter()
            .map(|worker| {
                let (task, cases, stopped, report) = (&task, &cases, &stopped, &report);
                scope.spawn(move || {
                    let next = || cases.lock().expect("nothing panics while it has it").next();
                    let mut report = |progress: Progress| {
                        let mut report = report.lock().expect("no report panics");
                        if report(progress).is_break() {
                            stopped.store(true, Ordering::Relaxed);
                        }
                        match stopped.load(Ordering::Relaxed) {
                            true => ControlFlow::Break(()),
                            false => ControlFlow::Continue(()),
                        }
                    };
                    let end = worker.work(task, &next, &mut report);
                    if !matches!(end, End::Done(TaskResult::Predicted)) {
                        // Others need not go on.
                        stopped.store(true, Ordering::Relaxed);
                    }
                    end
                })
            })
            .collect();
        let end = |worker: thread::ScopedJoinHandle<'_, End>| {
            worker
                .join()
                .unwrap_or_else(|_| End::Done(TaskResult::Failed("a worker's thread panicked".into())))
        };
        running.into_iter().map(end).collect()
    });
    // What one of them failed of would fail again; one that died is the reason why others were cancelled.
    let weight = |end: &End| match end {
        End::Done(TaskResult::Failed(_)) => 3,
        End::Died(_) => 2,
        End::Done(TaskResult::Predicted) => 0,
        End::Done(_) => 1,
    };
    let worst = ends.into_iter().max_by_key(weight);
    worst.unwrap_or(End::Done(TaskResult::Predicted))
}

/// A running worker that has said what it computes with. Dropped, it ends at once.
struct Worker {
    child: Child,
    /// Closed when it is to stop.
    input: Option<ChildStdin>,
    said: Receiver<std::io::Result<Option<Said>>>,
    last_words: Option<JoinHandle<VecDeque<String>>>,
    gpus: Vec<usize>,
}

impl Worker {
    /// Starts `program` for `device`; why that could not be, in words.
    fn start(program: &Path, device: Device) -> Result<Worker, String> {
        let mut child = Command::new(program)
            .args(["worker", "--device", &device.to_string()])
            // What a step frees the next one takes again.
            .env("MIMALLOC_PURGE_DELAY", "10000")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
        let taken = "a pipe was asked for";
        let input = child.stdin.take().expect(taken);
        let output = child.stdout.take().expect(taken);
        let errors = child.stderr.take().expect(taken);
        let (sender, said) = channel();
        thread::spawn(move || listen(BufReader::new(output), &sender));
        let mut worker = Worker {
            child,
            input: Some(input),
            said,
            last_words: Some(thread::spawn(|| last_words(BufReader::new(errors)))),
            gpus: Vec::new(),
        };
        match worker.said.recv_timeout(STARTING) {
            Ok(Ok(Some(Said::Ready { build, gpus }))) if build == frames::build() => {
                worker.gpus = gpus;
                Ok(worker)
            }
            Ok(Ok(Some(Said::Ready { build, .. }))) => Err(format!(
                "{} is {build}, this is {}; install both anew",
                program.display(),
                frames::build()
            )),
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "{} said nothing for {} s",
                program.display(),
                STARTING.as_secs()
            )),
            Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => {
                Err(nonsense(program.display(), &error))
            }
            _ => Err(worker.ended()),
        }
    }

    /// Hands it the task, and the `next` case whenever it wants one, and hears it to its end.
    fn work(
        mut self,
        task: &Task,
        next: &dyn Fn() -> Option<PredictCase>,
        report: &mut (dyn FnMut(Progress) -> ControlFlow<()> + Send),
    ) -> End {
        let failed = |error| End::Done(TaskResult::Failed(format!("the task cannot be sent: {error}")));
        match self.tell(task) {
            // It would be as long for another one.
            Err(error) if error.kind() == ErrorKind::InvalidData => return failed(error),
            Err(_) => return End::Died(self.ended()),
            Ok(()) => {}
        }
        let mut told_to_stop: Option<Instant> = None;
        loop {
            let progress = match self.said.recv_timeout(ASKING) {
                Ok(Ok(Some(Said::Progress(progress)))) => progress,
                Ok(Ok(Some(Said::Done(result)))) => return End::Done(result),
                Ok(Ok(Some(Said::Next))) => match self.tell(&next()) {
                    Err(error) if error.kind() == ErrorKind::InvalidData => return failed(error),
                    // Of one that has gone what it said before is heard first.
                    Ok(()) | Err(_) => Progress::Waiting,
                },
                Ok(Ok(Some(Said::Ready { .. }))) | Err(RecvTimeoutError::Timeout) => Progress::Waiting,
                Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => {
                    return End::Died(nonsense("the worker", &error));
                }
                Ok(Ok(None) | Err(_)) | Err(RecvTimeoutError::Disconnected) => {
                    return End::Died(self.ended());
                }
            };
            if report(progress).is_break() {
                self.input = None;
                told_to_stop.get_or_insert_with(Instant::now);
            }
            if told_to_stop.is_some_and(|since| since.elapsed() > STOPPING) {
                return End::Done(TaskResult::Cancelled);
            }
        }
    }

    /// Writes to it, unless it was told to stop.
    fn tell(&mut self, message: &impl Serialize) -> std::io::Result<()> {
        match &mut self.input {
            Some(input) => frames::write(BufWriter::new(input), message, LONGEST),
            None => Ok(()),
        }
    }

    /// How it ended before it should: its last words, or its exit status.
    fn ended(&mut self) -> String {
        // One that is still there has broken its pipe.
        let _ = self.child.kill();
        let status = self
            .child
            .wait()
            .map_or_else(|error| error.to_string(), |status| status.to_string());
        let words = self.last_words.take().map(JoinHandle::join);
        let words = Vec::from(words.and_then(Result::ok).unwrap_or_default()).join("; ");
        match &words[..] {
            "" => format!("the worker ended without an answer ({status})"),
            // It said itself why it cannot compute.
            words if status.ends_with(": 2") => words.to_string(),
            words => format!("{words} ({status})"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has said its last, or nobody wants to hear it; either way it may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In words, that what was said cannot be understood.
fn nonsense(who: impl Display, error: &std::io::Error) -> String {
    format!("what {who} said is no message: {error}")
}

/// Reads what a worker says, to its end.
fn listen(mut output: impl Read, said: &Sender<std::io::Result<Option<Said>>>) {
    loop {
        let message = frames::read(&mut output, LONGEST);
        let is_last = !matches!(message, Ok(Some(_)));
        if said.send(message).is_err() || is_last {
            return;
        }
    }
}

/// Logs every line of a worker's standard error; the last ones.
fn last_words(mut errors: impl BufRead) -> VecDeque<String> {
    let mut last = VecDeque::new();
    let mut line = Vec::new();
    while matches!(
        errors.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line),
        Ok(1..)
    ) {
        let words = printable(String::from_utf8_lossy(&line).trim_end());
        line.clear();
        tracing::warn!(worker = words);
        last.push_back(words);
        if last.len() > LAST_WORDS {
            last.pop_front();
        }
    }
    last
}
