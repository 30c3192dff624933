//! The actor's end of the worker: a thread that is sent tasks, has them done by worker processes, and sends back progress
//! and results.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use crate::records::{Progress, Task, TaskResult};
use crate::settings::Compute;
use crate::worker::{Programs, run};

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
    tasks: Option<Sender<(Task, Compute)>>,
    thread: Option<JoinHandle<()>>,
    cancel: Arc<AtomicBool>,
}

impl Worker {
    /// Starts the thread, which says everything to `tell`; it ends when the worker is dropped.
    pub fn start(programs: Programs, tell: impl Fn(WorkerMessage) + Send + Sync + 'static) -> Worker {
        let (tasks, queue) = channel::<(Task, Compute)>();
        let cancel = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&cancel);
        let work = move || {
            for (task, compute) in queue {
                let mut report = |progress: Progress| {
                    tell(WorkerMessage::Progress(progress));
                    if told.load(Ordering::Relaxed) {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                };
                let result = run(&programs, &compute, task, &mut report);
                tell(WorkerMessage::Done(result));
            }
        };
        let thread = thread::Builder::new()
            .name("worker".into())
            .spawn(work)
            .expect("the system has room for one more thread");
        Worker {
            tasks: Some(tasks),
            thread: Some(thread),
            cancel,
        }
    }

    /// Hands a task over; the actor asks for one at a time.
    pub fn begin(&self, task: Task, compute: Compute) {
        self.cancel.store(false, Ordering::Relaxed);
        let tasks = self.tasks.as_ref().expect("the worker is not being dropped");
        tasks
            .send((task, compute))
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
