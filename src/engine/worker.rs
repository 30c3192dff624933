//! The compute worker: a thread that is sent tasks and sends back progress and results, paths and settings only.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::actor::Message;
use crate::model;
use crate::records::{Progress, Task, TaskResult};

/// Steps are told at most this often: a screen cannot show more.
const STEP_EVERY: Duration = Duration::from_millis(100);

/// What the worker sends to the actor.
#[derive(Debug)]
pub enum WorkerMessage {
    /// Something went on.
    Progress(Progress),
    /// The task ended.
    Done(TaskResult),
}

/// The actor's end of the worker.
#[derive(Debug)]
pub struct Worker {
    /// `None` only while it is dropped.
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
    cancel: Arc<AtomicBool>,
}

impl Worker {
    /// Starts the thread; it ends when the worker is dropped.
    pub fn start(messages: Sender<Message>) -> Worker {
        let (tasks, queue) = channel::<Task>();
        let cancel = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&cancel);
        let run = move || {
            for task in queue {
                let result = compute(&task, &told, &messages);
                if messages
                    .send(Message::Worker(WorkerMessage::Done(result)))
                    .is_err()
                {
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .name("worker".into())
            .spawn(run)
            .expect("the system has room for one more thread");
        Worker {
            tasks: Some(tasks),
            thread: Some(thread),
            cancel,
        }
    }

    /// Hands a task over; the actor asks for one at a time.
    pub fn begin(&self, task: Task) {
        self.cancel.store(false, Ordering::Relaxed);
        let tasks = self.tasks.as_ref().expect("the worker is not being dropped");
        tasks
            .send(task)
            .expect("the worker's thread lives as long as its sender");
    }

    /// Asks the running task to stop at its next step.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

/// The engine ends when nothing writes into its folders any more.
impl Drop for Worker {
    fn drop(&mut self) {
        self.cancel();
        self.tasks = None;
        // A thread that panicked has ended too.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A panic in the arithmetic is a failed task, not the end of the engine.
fn compute(task: &Task, cancel: &AtomicBool, messages: &Sender<Message>) -> TaskResult {
    let mut told = Instant::now();
    let mut report = |progress: Progress| {
        let is_step = matches!(progress, Progress::Step { .. } | Progress::Drawing);
        if !is_step || told.elapsed() >= STEP_EVERY {
            told = Instant::now();
            // The actor is gone only when everything ends.
            let _ = messages.send(Message::Worker(WorkerMessage::Progress(progress)));
        }
        if cancel.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| match task {
        Task::Train(task) => model::train(task, &mut report),
        Task::Predict(task) => model::predict(task, &mut report),
    }));
    match result {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => TaskResult::Failed(error.to_string()),
        Err(_) => TaskResult::Failed("the worker panicked; the log says where".into()),
    }
}
