//! Computes masks beside the forward pass.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use crate::{Error, Gate, Result};

/// A thread that computes the next mask of any number of gates, in the order in which they come.
///
/// After a token is sampled: [`Gate::accept`] it and [`Gate::fast_forward`], so that forced tokens
/// go into the same forward pass; then [`Ahead::begin`]. Before the next token is sampled,
/// [`Pending::finish`] gives the gate back with its mask computed. The results do not depend on
/// when either happens.
#[derive(Debug)]
pub struct Ahead {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    gate: Gate,
    done: SyncSender<Gate>,
}

/// A gate that is away, for its mask to be computed.
#[derive(Debug)]
pub struct Pending(Receiver<Gate>);

impl Ahead {
    /// Starts the thread. One serves all requests of a model.
    ///
    /// # Errors
    /// [`Error::Lost`] if no thread can be started.
    pub fn new() -> Result<Ahead> {
        let (jobs, waiting) = channel::<Job>();
        let work = move || waiting.iter().for_each(Job::run);
        let thread = std::thread::Builder::new().name("constraint".into()).spawn(work);
        Ok(Ahead { jobs: Some(jobs), thread: Some(thread.map_err(|_| Error::Lost)?) })
    }

    /// Takes `gate` to compute its mask. Never waits.
    pub fn begin(&self, gate: Gate) -> Pending {
        let (done, result) = sync_channel(1);
        if let Some(jobs) = &self.jobs {
            // If the thread is gone, nobody sends a result, and `finish` says so.
            let _ = jobs.send(Job { gate, done });
        }
        Pending(result)
    }
}

impl Pending {
    /// Waits for the gate. If its mask could not be computed, [`Gate::allowed`] says why.
    ///
    /// # Errors
    /// [`Error::Lost`] if the computing failed inside, and the gate with it.
    pub fn finish(self) -> Result<Gate> {
        self.0.recv().map_err(|_| Error::Lost)
    }
}

impl Job {
    fn run(self) {
        let Job { mut gate, done } = self;
        let computed = catch_unwind(AssertUnwindSafe(move || {
            gate.prepare();
            gate
        }));
        // A request that was cancelled no longer waits.
        if let Ok(gate) = computed {
            let _ = done.send(gate);
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
