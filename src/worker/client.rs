//! The other end: starts the worker's program, hands it a task, hears it out.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, BufWriter, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::frames::{self, LONGEST, Said};
use crate::records::{PredictTask, Progress, Task, TaskResult, printable};
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

/// Does `task` where `compute` says, and tells `report` how it gets on; when that breaks, the task is cancelled. A GPU
/// that cannot be had is told of, and the CPU does it.
pub fn run(
    programs: &Programs,
    compute: &Compute,
    task: Task,
    report: &mut (dyn FnMut(Progress) -> ControlFlow<()> + Send),
) -> TaskResult {
    let result = start_all(programs, compute, &task, report).and_then(|workers| share(workers, task, report));
    result.unwrap_or_else(TaskResult::Failed)
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
    let mut devices: Vec<Device> = compute.device.list().iter().copied().take(most).collect();
    let mut workers = Vec::new();
    let mut missed = Vec::new();
    let mut next = 0;
    while let Some(&device) = devices.get(next) {
        next += 1;
        // Without a program for GPUs there is nothing to try, and nothing to tell of unless one was asked for.
        let started = match device {
            Device::Cpu => Worker::start(&programs.cpu, device),
            _ if cuda.is_file() => Worker::start(cuda, device),
            Device::Auto => continue,
            Device::Cuda(_) => Err(format!("there is no program {}", cuda.display())),
        };
        match started {
            Ok(worker) => {
                if device == Device::Auto {
                    devices.extend((1..worker.gpus.min(most)).map(Device::Cuda));
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
    if !missed.is_empty() && matches!(task, Task::Bench(_)) && compute.device.list() != [Device::Auto] {
        // Another device's times would be taken for those of this one.
        return Err(missed.join("; "));
    }
    if !missed.is_empty() {
        let instead = if workers.is_empty() {
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

/// Splits the cases among the workers and makes one result of theirs.
fn share(
    mut workers: Vec<Worker>,
    task: Task,
    report: &mut (dyn FnMut(Progress) -> ControlFlow<()> + Send),
) -> Result<TaskResult, String> {
    let (Task::Predict(task), true) = (&task, workers.len() > 1) else {
        return Ok(workers.remove(0).work(&task, report));
    };
    // Dealt one by one, so that neighbours in the pool, often alike, go to different workers.
    let count = workers.len();
    let parts = (0..count).map(|n| PredictTask {
        cases: task.cases.iter().skip(n).step_by(count).cloned().collect(),
        ..task.clone()
    });
    let stopped = AtomicBool::new(false);
    let done = Mutex::new((0, report));
    let results: Vec<TaskResult> = thread::scope(|scope| {
        let running: Vec<_> = workers
            .into_iter()
            .zip(parts)
            .map(|(worker, part)| {
                let (stopped, done) = (&stopped, &done);
                scope.spawn(move || {
                    let mut report = |progress: Progress| {
                        let mut heard = done.lock().expect("no report panics");
                        let (count, report) = &mut *heard;
                        let progress = match progress {
                            Progress::Case { predicted, .. } => {
                                *count += 1;
                                Progress::Case {
                                    predicted,
                                    done: *count,
                                    of: task.cases.len(),
                                }
                            }
                            other => other,
                        };
                        if report(progress).is_break() {
                            stopped.store(true, Ordering::Relaxed);
                        }
                        match stopped.load(Ordering::Relaxed) {
                            true => ControlFlow::Break(()),
                            false => ControlFlow::Continue(()),
                        }
                    };
                    let result = worker.work(&Task::Predict(part), &mut report);
                    if result != TaskResult::Predicted {
                        // The others need not go on.
                        stopped.store(true, Ordering::Relaxed);
                    }
                    result
                })
            })
            .collect();
        let end = |worker: thread::ScopedJoinHandle<'_, TaskResult>| {
            worker
                .join()
                .unwrap_or_else(|_| TaskResult::Failed("a worker's thread panicked".into()))
        };
        running.into_iter().map(end).collect()
    });
    let failed = results
        .iter()
        .find(|result| matches!(result, TaskResult::Failed(_)));
    let unfinished = results.iter().find(|result| **result != TaskResult::Predicted);
    Ok(failed.or(unfinished).cloned().unwrap_or(TaskResult::Predicted))
}

/// A running worker that has said what it computes with. Dropped, it ends at once.
struct Worker {
    child: Child,
    /// Closed when it is to stop.
    input: Option<ChildStdin>,
    said: Receiver<std::io::Result<Option<Said>>>,
    last_words: Option<JoinHandle<VecDeque<String>>>,
    gpus: usize,
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
            gpus: 0,
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
            _ => Err(worker.ended()),
        }
    }

    /// Hands it the task and hears it to its end.
    fn work(
        mut self,
        task: &Task,
        report: &mut (dyn FnMut(Progress) -> ControlFlow<()> + Send),
    ) -> TaskResult {
        let input = self.input.as_mut().expect("nobody has closed it yet");
        if frames::write(BufWriter::new(input), task, LONGEST).is_err() {
            return TaskResult::Failed(self.ended());
        }
        let mut told_to_stop: Option<Instant> = None;
        loop {
            let progress = match self.said.recv_timeout(ASKING) {
                Ok(Ok(Some(Said::Progress(progress)))) => progress,
                Ok(Ok(Some(Said::Done(result)))) => return result,
                Ok(Ok(Some(Said::Ready { .. }))) | Err(RecvTimeoutError::Timeout) => Progress::Waiting,
                Ok(Ok(None) | Err(_)) | Err(RecvTimeoutError::Disconnected) => {
                    return TaskResult::Failed(self.ended());
                }
            };
            if report(progress).is_break() {
                self.input = None;
                told_to_stop.get_or_insert_with(Instant::now);
            }
            if told_to_stop.is_some_and(|since| since.elapsed() > STOPPING) {
                return TaskResult::Cancelled;
            }
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
