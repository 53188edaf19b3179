//! The thread pool: persistent threads that the engine owns, woken for one region at a time.
//!
//! A region is a number of chunks and a function; threads take chunks from a counter, so that a
//! thread that loses its core delays one chunk, not its share. Whoever comes after the last chunk
//! was taken does not join. Waiting threads spin, then yield, then sleep: an idle pool uses no
//! CPU. Regions do not nest (`run` takes `&mut self`), and allocate nothing.
#![expect(unsafe_code, reason = "threads run a borrowed function until the region ends")]

use crate::Error;
use crate::disjoint::Cut;
use std::any::Any;
use std::cell::UnsafeCell;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Most threads of a pool: more than any machine has a use for.
pub const MOST_THREADS: usize = 1024;
/// How long a waiting thread spins.
const SPIN: Duration = Duration::from_micros(40);
/// How long a waiting thread, after spinning, yields before it sleeps.
const YIELD: Duration = Duration::from_micros(200);
/// Bytes of scratch of each thread: room for a panel of weights, scores, or a row.
pub const SCRATCH_BYTES: usize = (1 << 20) + (64 << 10);

/// Bytes that a thread takes: its scratch, its stack, and what the system keeps of it.
const THREAD_BYTES: usize = SCRATCH_BYTES + (3 << 20);

/// What a thread of the pool has to itself.
pub struct Worker {
    index: usize,
    scratch: Box<[f32]>,
}

impl Worker {
    /// What thread `index` has; `None` if there is not enough memory for such a thread.
    fn new(index: usize) -> Option<Worker> {
        // Zeroed memory comes untouched from `vec!` alone, which aborts where there is none: ask
        // first, for all that a thread takes.
        Vec::<u8>::new().try_reserve_exact(THREAD_BYTES).ok()?;
        Some(Worker { index, scratch: vec![0.0; SCRATCH_BYTES / 4].into_boxed_slice() })
    }

    /// Which of the pool's threads this is; 0 is the one that called [`Pool::run`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// This thread's scratch memory, [`SCRATCH_BYTES`] long, with whatever was left in it.
    pub fn scratch(&mut self) -> &mut [f32] {
        &mut self.scratch
    }
}

/// The function of a region, without its lifetime.
type Task = *const (dyn Fn(usize, &mut Worker) + Sync);

/// `state` is `epoch << 32 | CLOSED? | threads inside`.
const EPOCH: u64 = 1 << 32;
const CLOSED: u64 = 1 << 31;
const INSIDE: u64 = CLOSED - 1;
/// The epoch that tells threads to end.
const END: u64 = u64::MAX;

/// On its own cache lines, so that counters do not disturb each other.
#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
    /// Which region is open, and how many threads are inside it.
    state: Padded<AtomicU64>,
    /// The next chunk to take.
    next: Padded<AtomicUsize>,
    /// The open region's function and number of chunks: written while no thread is inside,
    /// read only by threads inside.
    region: UnsafeCell<(Option<Task>, usize)>,
    /// Threads that sleep, and where they sleep.
    asleep: AtomicUsize,
    bed: Mutex<()>,
    wake: Condvar,
    /// What the first function that panicked said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `region` is written only by the one thread that holds `&mut Pool`, while `state` says
// closed and nobody inside; it is read only by threads that entered an open region. Its pointer is
// to a `Sync` function that lives until nobody is inside.
unsafe impl Sync for Shared {}
// SAFETY: as above; no field belongs to a thread.
unsafe impl Send for Shared {}

impl Shared {
    /// Takes chunks until none is left or a function panics.
    fn work(&self, task: &(dyn Fn(usize, &mut Worker) + Sync), n_chunks: usize, me: &mut Worker) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let chunk = self.next.0.fetch_add(1, Ordering::Relaxed);
                if chunk >= n_chunks {
                    return;
                }
                task(chunk, me);
            }
        }));
        if let Err(payload) = result {
            self.next.0.store(n_chunks, Ordering::Relaxed);
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(payload);
        }
    }

    /// Enters the open region of `state` and works in it; `false` if it has changed meanwhile.
    fn join(&self, state: u64, me: &mut Worker) -> bool {
        let entered =
            self.state.0.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed);
        if entered.is_err() {
            return false;
        }
        // SAFETY: this thread is inside an open region: the owner wrote `region` before opening
        // it (the exchange synchronizes with that), and neither writes it nor lets the function
        // die before this thread has left.
        let (task, n_chunks) = unsafe { *self.region.get() };
        if let Some(task) = task {
            // SAFETY: as above.
            self.work(unsafe { &*task }, n_chunks, me);
        }
        self.state.0.fetch_sub(1, Ordering::Release);
        true
    }

    /// What a thread of the pool does all its life.
    fn serve(&self, mut me: Worker) {
        let mut done = 0;
        loop {
            let state = self.await_change(done);
            if state == END {
                return;
            }
            let open = state & CLOSED == 0;
            if !open || self.join(state, &mut me) {
                done = state / EPOCH;
            }
        }
    }

    /// Waits until the epoch is not `done`, and gives the state.
    fn await_change(&self, done: u64) -> u64 {
        let changed = || Some(self.state.0.load(Ordering::SeqCst)).filter(|s| s / EPOCH != done);
        if let Some(state) = spin(&changed) {
            return state;
        }
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        // Said before looking again: whoever opens a region after that look sees a sleeper.
        self.asleep.fetch_add(1, Ordering::SeqCst);
        let state = loop {
            if let Some(state) = changed() {
                break state;
            }
            bed = self.wake.wait(bed).unwrap_or_else(PoisonError::into_inner);
        };
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        state
    }

    /// Makes `state` known to all threads, also those that sleep.
    fn announce(&self, state: u64) {
        self.state.0.store(state, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            drop(self.bed.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }
}

/// Asks `ready` for up to [`SPIN`] without, then for [`YIELD`] with giving up the core.
fn spin<T>(ready: &impl Fn() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        for _ in 0..64 {
            if let Some(value) = ready() {
                return Some(value);
            }
            std::hint::spin_loop();
        }
        let waited = start.elapsed();
        if waited > YIELD {
            return None;
        }
        if waited > SPIN {
            std::thread::yield_now();
        }
    }
}

/// Starts a thread, and waits until it runs: before that it takes memory of the system's, and ends the
/// process where there is none. One at a time, each finds what [`Worker::new`] asked for.
fn start(shared: Arc<Shared>, worker: Worker) -> std::io::Result<JoinHandle<()>> {
    let (starting, started) = std::sync::mpsc::channel::<()>();
    let name = format!("oprel-{}", worker.index);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        drop(starting);
        shared.serve(worker);
    })?;
    // Nothing is sent: it ends when the other side is dropped.
    let _ = started.recv();
    Ok(thread)
}

/// A set of threads that run regions together with the thread that owns it.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    lead: Worker,
    epoch: u64,
}

impl Pool {
    /// A pool of `n_threads`, the caller's among them (so `n_threads - 1` are started).
    ///
    /// # Errors
    /// [`Error::Threads`] for more than [`MOST_THREADS`]; [`Error::Memory`] if there is not enough for all threads, or if
    /// the system allows no more; [`Error::Thread`] if it refuses one for another reason.
    pub fn new(n_threads: usize) -> Result<Pool, Error> {
        if n_threads > MOST_THREADS {
            return Err(Error::Threads { asked: n_threads });
        }
        let shared = Arc::new(Shared {
            state: Padded(AtomicU64::new(CLOSED)),
            next: Padded(AtomicUsize::new(0)),
            region: UnsafeCell::new((None, 0)),
            asleep: AtomicUsize::new(0),
            bed: Mutex::new(()),
            wake: Condvar::new(),
            panic: Mutex::new(None),
        });
        let memory = |started| Error::Memory { started, asked: n_threads };
        let lead = Worker::new(0).ok_or_else(|| memory(0))?;
        let mut pool = Pool { shared, threads: Vec::new(), lead, epoch: 0 };
        for index in 1..n_threads {
            let worker = Worker::new(index).ok_or_else(|| memory(index))?;
            let thread = start(Arc::clone(&pool.shared), worker).map_err(|e| match e.kind() {
                // What the system says where memory, or its limit of threads, ends.
                ErrorKind::WouldBlock | ErrorKind::OutOfMemory => memory(index),
                _ => Error::Thread(e),
            })?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// How many threads work in a region, the caller's among them.
    pub fn n_threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// The calling thread's own scratch, for what is not worth a region.
    pub fn lead(&mut self) -> &mut Worker {
        &mut self.lead
    }

    /// Runs `f(chunk, worker)` once for every chunk below `n_chunks`, on all threads, and returns
    /// when all are done.
    ///
    /// # Panics
    /// With the first panic of `f`, once every thread has left the region; chunks not begun by
    /// then are not run.
    pub fn run(&mut self, n_chunks: usize, f: impl Fn(usize, &mut Worker) + Sync) {
        if n_chunks <= 1 || self.threads.is_empty() {
            (0..n_chunks).for_each(|chunk| f(chunk, &mut self.lead));
            return;
        }
        self.run_dyn(n_chunks, &f);
    }

    /// Runs `f(i, part, worker)` once for every part `i` of `cut`.
    ///
    /// # Examples
    /// ```
    /// use oprel_cpu::{Parts, Pool};
    /// let mut squares = vec![0; 100];
    /// let mut pool = Pool::new(2)?;
    /// pool.run_parts(Parts::new(&mut squares, 7), |i, part, _| {
    ///     for (j, x) in part.iter_mut().enumerate() {
    ///         *x = (i * 7 + j) * (i * 7 + j);
    ///     }
    /// });
    /// assert_eq!(squares[99], 99 * 99);
    /// # Ok::<(), oprel_cpu::Error>(())
    /// ```
    ///
    /// # Panics
    /// As [`Pool::run`].
    pub fn run_parts<C: Cut>(&mut self, cut: C, f: impl Fn(usize, C::Part, &mut Worker) + Sync) {
        self.run(cut.len(), |i, worker| {
            // SAFETY: `run` gives each chunk number once, and `cut` ends here: each part is taken once.
            f(i, unsafe { cut.part(i) }, worker);
        });
    }

    fn run_dyn(&mut self, n_chunks: usize, f: &(dyn Fn(usize, &mut Worker) + Sync)) {
        let shared = &*self.shared;
        self.epoch = (self.epoch + 1) % (END / EPOCH);
        let open = self.epoch * EPOCH;
        // SAFETY: only the lifetime changes; the pointer is followed by threads inside the region
        // alone, and this function returns after the last has left.
        let task = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize, &mut Worker) + Sync + '_), Task>(f)
        };
        // SAFETY: the last region is closed and empty (end of this function), so no other thread
        // reads `region` until it is opened below.
        unsafe { *shared.region.get() = (Some(task), n_chunks) };
        shared.next.0.store(0, Ordering::Relaxed);
        shared.announce(open);
        shared.work(f, n_chunks, &mut self.lead);
        shared.state.0.fetch_or(CLOSED, Ordering::AcqRel);
        while shared.state.0.load(Ordering::Acquire) & INSIDE != 0 {
            // A thread inside may need this core to finish its chunk.
            let empty =
                || Some(()).filter(|()| shared.state.0.load(Ordering::Acquire) & INSIDE == 0);
            spin(&empty);
        }
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.announce(END);
        for thread in self.threads.drain(..) {
            // A thread ends by itself; functions that panic are caught inside.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
