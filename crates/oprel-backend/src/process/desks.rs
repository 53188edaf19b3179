//! Threads that do jobs from one queue. They are few, so that jobs leave the processors to the engine. Where jobs take
//! long there are more of them for a while, so that short jobs need not wait for long ones; what takes very long
//! goes on behind everything else, and only a few such jobs do so at a time.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oprel_api::{Cause, ErrorKind, Failure};

use super::platform;

/// Most threads of one queue.
const MOST_DESKS: usize = 16;
/// How long jobs wait at least, without that one of them is taken, before there is another thread.
const STUCK: Duration = Duration::from_millis(20);
/// A job that takes longer is slow.
const LONG: Duration = Duration::from_millis(200);
/// Slow jobs at a time.
const MOST_SLOW: usize = 8;

/// A queue of jobs and its threads. Dropped, it takes no more; what waits is still done.
pub(super) struct Desks<J: Send + 'static>(Arc<Shared<J>>);

/// What is done with a job.
type Work<J> = dyn Fn(J, &Turn) + Send + Sync;

struct Shared<J> {
    /// Threads that there are always.
    few: usize,
    state: Mutex<State<J>>,
    came: Condvar,
    watched: Condvar,
    slow: Arc<AtomicUsize>,
    work: Box<Work<J>>,
}

struct State<J> {
    waiting: VecDeque<J>,
    desks: usize,
    /// Jobs that were taken.
    taken: u64,
    closed: bool,
}

/// A job's time at a desk.
#[derive(Clone)]
pub(super) struct Turn(Rc<Pace>);

struct Pace {
    since: Instant,
    gait: Cell<Gait>,
    slow: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Gait {
    Quick,
    Slow,
    Refused,
}

/// A thread's place among those of a queue; it is given back also after a panic.
struct Seat<J: Send + 'static>(Arc<Shared<J>>);

impl<J: Send + 'static> Desks<J> {
    /// Starts threads that do this.
    ///
    /// # Errors
    /// If the system has no more of them.
    pub(super) fn open(
        few: usize,
        work: impl Fn(J, &Turn) + Send + Sync + 'static,
    ) -> io::Result<Desks<J>> {
        let state = State { waiting: VecDeque::new(), desks: few, taken: 0, closed: false };
        let shared = Arc::new(Shared {
            few,
            state: Mutex::new(state),
            came: Condvar::new(),
            watched: Condvar::new(),
            slow: Arc::default(),
            work: Box::new(work),
        });
        let desks = Desks(shared.clone());
        for _ in 0..few {
            shared.clone().sit_down()?;
        }
        let watch = move || shared.watch();
        std::thread::Builder::new().name("oprel-worker-watch".into()).spawn(watch)?;
        Ok(desks)
    }

    /// Adds a job.
    pub(super) fn put(&self, job: J) {
        self.0.lock().waiting.push_back(job);
        self.0.came.notify_one();
        self.0.watched.notify_one();
    }
}

impl<J: Send + 'static> Drop for Desks<J> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.came.notify_all();
        self.0.watched.notify_all();
    }
}

impl<J: Send + 'static> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread that is counted already.
    fn sit_down(self: Arc<Self>) -> io::Result<()> {
        let at_desk = move || {
            let seat = Seat(self);
            while let Some(job) = seat.0.next() {
                let turn = Turn::begin(&seat.0.slow);
                (seat.0.work)(job, &turn);
                // A thread that went behind the others cannot come back.
                if turn.0.gait.get() == Gait::Slow {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("oprel-worker-desk".into()).spawn(at_desk).map(drop)
    }

    /// The next job; `None` where no more come, or there are threads enough without this one.
    fn next(&self) -> Option<J> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                state.taken += 1;
                return Some(job);
            }
            if state.closed || state.desks > self.few {
                return None;
            }
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds a thread where jobs wait and none is taken.
    fn watch(self: Arc<Self>) {
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() {
                if state.closed {
                    return;
                }
                state = self.watched.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let taken = state.taken;
            drop(state);
            std::thread::sleep(STUCK);
            let mut state = self.lock();
            if state.waiting.is_empty() || state.taken != taken || state.desks >= MOST_DESKS {
                continue;
            }
            state.desks += 1;
            drop(state);
            if self.clone().sit_down().is_err() {
                self.lock().desks -= 1;
            }
        }
    }
}

impl<J: Send + 'static> Drop for Seat<J> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.desks -= 1;
        let is_missed = state.desks < self.0.few && !(state.closed && state.waiting.is_empty());
        if !is_missed {
            return;
        }
        state.desks += 1;
        drop(state);
        if self.0.clone().sit_down().is_err() {
            self.0.lock().desks -= 1;
        }
    }
}

impl Turn {
    fn begin(slow: &Arc<AtomicUsize>) -> Turn {
        let gait = Cell::new(Gait::Quick);
        Turn(Rc::new(Pace { since: Instant::now(), gait, slow: slow.clone() }))
    }

    /// Whether the job may go on. One that takes long does so behind all other threads; `false` if too many do.
    pub(super) fn goes_on(&self) -> bool {
        let pace = &self.0;
        match pace.gait.get() {
            Gait::Quick if pace.since.elapsed() < LONG => true,
            Gait::Quick if pace.slow.fetch_add(1, Ordering::AcqRel) < MOST_SLOW => {
                pace.gait.set(Gait::Slow);
                platform::step_back();
                true
            }
            Gait::Quick => {
                pace.slow.fetch_sub(1, Ordering::AcqRel);
                pace.gait.set(Gait::Refused);
                false
            }
            Gait::Slow => true,
            Gait::Refused => false,
        }
    }

    /// What is told of a job that failed: why it might not go on, if that was it.
    pub(super) fn told(&self, failure: Failure) -> Failure {
        if self.0.gait.get() != Gait::Refused {
            return failure;
        }
        let message = "too many prompts that take long to be made are made at a time";
        Failure::new(ErrorKind::Backend, message).because(Cause::Busy)
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        if self.gait.get() == Gait::Slow {
            self.slow.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    type Job = Box<dyn FnOnce(&Turn) + Send>;

    fn desks(few: usize) -> Desks<Job> {
        Desks::open(few, |job: Job, turn: &Turn| job(turn)).unwrap()
    }

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn short_jobs_do_not_wait_for_long_ones_and_threads_go_away_again() {
        let desks = desks(2);
        let mut gates = Vec::new();
        for _ in 0..5 {
            let (open, gate) = channel::<()>();
            gates.push(open);
            desks.put(Box::new(move |_| {
                let _ = gate.recv();
            }));
        }
        let (say, said) = channel();
        desks.put(Box::new(move |_| say.send(()).unwrap()));
        said.recv_timeout(SOON).unwrap();
        // The one that took it may be gone already.
        assert!(desks.0.lock().desks >= 5);
        drop(gates);
        let begun = Instant::now();
        while desks.0.lock().desks != 2 {
            assert!(begun.elapsed() < SOON);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_panic_takes_no_thread_away_and_what_waits_is_done_at_the_end() {
        let desks = desks(1);
        desks.put(Box::new(|_| panic!("a job that fails")));
        let (say, said) = channel();
        for i in 0..3 {
            let say = say.clone();
            desks.put(Box::new(move |_| say.send(i).unwrap()));
        }
        drop(desks);
        let heard: Vec<i32> = (0..3).map(|_| said.recv_timeout(SOON).unwrap()).collect();
        assert_eq!(heard.len(), 3);
    }

    #[test]
    fn few_jobs_are_slow_at_a_time_and_others_are_refused() {
        let desks = desks(2);
        let (say, said) = channel();
        let stop = Arc::new(AtomicUsize::new(0));
        for _ in 0..MOST_SLOW + 2 {
            let (say, stop) = (say.clone(), stop.clone());
            desks.put(Box::new(move |turn| {
                let mut may = true;
                while may && stop.load(Ordering::Relaxed) == 0 {
                    std::thread::sleep(Duration::from_millis(5));
                    may = turn.goes_on();
                }
                let failure = turn.told(Failure::new(ErrorKind::Backend, "x"));
                say.send((may, failure.cause)).unwrap();
            }));
        }
        for _ in 0..2 {
            assert_eq!(said.recv_timeout(SOON).unwrap(), (false, Some(Cause::Busy)));
        }
        stop.store(1, Ordering::Relaxed);
        for _ in 0..MOST_SLOW {
            assert_eq!(said.recv_timeout(SOON).unwrap(), (true, None));
        }
        let begun = Instant::now();
        while desks.0.slow.load(Ordering::Relaxed) > 0 || desks.0.lock().desks != 2 {
            assert!(begun.elapsed() < SOON);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
