//! The other end: starts the worker's program, hands it a task, hears it out.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, BufWriter};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::frames::{self, Said};
use crate::records::{PredictTask, Progress, Task, TaskResult, printable};
use crate::settings::{Compute, Device};

/// Lines of a worker's standard error that are kept for the words of an error.
const LAST_WORDS: usize = 3;

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
    let mut reasons = Vec::new();
    let mut next = 0;
    while let Some(&device) = devices.get(next) {
        next += 1;
        if device == Device::Cpu {
            workers.push(Worker::start(&programs.cpu, Device::Cpu)?);
            continue;
        }
        // Without a program for GPUs there is nothing to try, and nothing to tell of unless one was asked for.
        let is_there = cuda.is_file();
        match is_there.then(|| Worker::start(cuda, device)) {
            Some(Ok(worker)) => {
                if device == Device::Auto {
                    devices.extend((1..worker.gpus.min(most)).map(Device::Cuda));
                }
                workers.push(worker);
            }
            Some(Err(why)) => reasons.push(why),
            None if device != Device::Auto => {
                reasons.push(format!(
                    "{device} is asked for, but there is no {}",
                    cuda.display()
                ));
            }
            None => {}
        }
    }
    if workers.is_empty() {
        workers.push(Worker::start(&programs.cpu, Device::Cpu)?);
        if let Some(why) = reasons.first() {
            // Whether to go on is asked again at the first step.
            let _ = report(Progress::Notice(format!("computing on the CPU: {why}")));
        }
    } else if let Some(why) = reasons.first() {
        let _ = report(Progress::Notice(format!("computing without {why}")));
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

/// A running worker that has said what it computes with.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    last_words: JoinHandle<VecDeque<String>>,
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
        let output = BufReader::new(child.stdout.take().expect(taken));
        let errors = BufReader::new(child.stderr.take().expect(taken));
        let mut worker = Worker {
            child,
            input,
            output,
            last_words: thread::spawn(|| last_words(errors)),
            gpus: 0,
        };
        match frames::read(&mut worker.output) {
            Ok(Some(Said::Ready { version, gpus })) if version == env!("CARGO_PKG_VERSION") => {
                worker.gpus = gpus;
                Ok(worker)
            }
            Ok(Some(Said::Ready { version, .. })) => Err(format!(
                "{} is of version {version}, this is {}; install both anew",
                program.display(),
                env!("CARGO_PKG_VERSION")
            )),
            _ => Err(worker.end(device)),
        }
    }

    /// Hands it the task and hears it to its end.
    fn work(
        mut self,
        task: &Task,
        report: &mut (dyn FnMut(Progress) -> ControlFlow<()> + Send),
    ) -> TaskResult {
        if frames::write(BufWriter::new(&mut self.input), task).is_err() {
            return TaskResult::Failed(self.end("the worker"));
        }
        let mut input = Some(self.input);
        loop {
            match frames::read(&mut self.output) {
                Ok(Some(Said::Progress(progress))) => {
                    if report(progress).is_break() {
                        input = None;
                    }
                }
                Ok(Some(Said::Done(result))) => {
                    drop(input);
                    // It has said its last.
                    let _ = self.child.wait();
                    return result;
                }
                Ok(Some(Said::Ready { .. })) => {}
                Ok(None) | Err(_) => {
                    drop(input.take());
                    return TaskResult::Failed(ended(&mut self.child, self.last_words, "the worker"));
                }
            }
        }
    }

    /// Why it ended before it should.
    fn end(self, what: impl std::fmt::Display) -> String {
        let Worker {
            mut child,
            input,
            last_words,
            ..
        } = self;
        drop(input);
        ended(&mut child, last_words, what)
    }
}

/// How a worker that answers no more ended: its last words, or its exit status.
fn ended(child: &mut Child, words: JoinHandle<VecDeque<String>>, what: impl std::fmt::Display) -> String {
    // One that is still there has broken its pipe.
    let _ = child.kill();
    let status = child
        .wait()
        .map_or_else(|error| error.to_string(), |status| status.to_string());
    let words = words.join().unwrap_or_default();
    match words.len() {
        0 => format!("{what} ended without an answer ({status})"),
        _ => format!("{} ({status})", Vec::from(words).join("; ")),
    }
}

/// Logs every line of a worker's standard error; the last ones.
fn last_words(errors: impl BufRead) -> VecDeque<String> {
    let mut last = VecDeque::new();
    for line in errors.split(b'\n').map_while(Result::ok) {
        let line = printable(&String::from_utf8_lossy(&line));
        tracing::warn!(worker = line);
        last.push_back(line);
        if last.len() > LAST_WORDS {
            last.pop_front();
        }
    }
    last
}
