//! How fast this machine reads memory and multiplies, measured.

mod attention;
mod kernels;

use std::time::{Duration, Instant};

use oprel_cpu::pool::Pool;
use oprel_cpu::{Isa, probe};
use serde::{Deserialize, Serialize};

pub use attention::{AttentionRate, Look};
pub use kernels::{KernelRate, Matrices};

/// Bytes that are read: several times what caches hold.
const BYTES: usize = 256 << 20;
/// Bytes where memory is scarce.
const FEW_BYTES: usize = 64 << 20;
/// How often; the best counts.
const ROUNDS: usize = 5;
/// How long kernels are measured, at least: what else a machine does changes its rates within such times.
const LONG: Duration = Duration::from_millis(60);
/// How often, at least.
const FEW: usize = 5;

/// What was measured with some threads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Threads.
    pub threads: usize,
    /// Bytes of memory that are read in a second.
    pub read: f64,
    /// Products of 8-bit integers that are added up in a second, two operations each.
    pub arithmetic: f64,
}

impl Rates {
    /// Measures both; takes about half a second. `None` if the system refuses threads or memory.
    pub fn measure(threads: usize, free_bytes: Option<u64>) -> Option<Rates> {
        let read = read_bandwidth(threads, Isa::detect(), free_bytes)?;
        Some(Rates { threads, read, arithmetic: arithmetic_rate(threads)? })
    }
}

/// Bytes a second that so many threads read from memory, with these instructions. `None` if the system refuses threads or
/// memory.
pub fn read_bandwidth(threads: usize, isa: Isa, free_bytes: Option<u64>) -> Option<f64> {
    let mut pool = Pool::new(threads.max(1)).ok()?;
    let scarce = free_bytes.is_some_and(|free| free < 4 * BYTES as u64);
    let n_bytes = if scarce { FEW_BYTES } else { BYTES };
    Vec::<u8>::new().try_reserve_exact(n_bytes).ok()?;
    Some(probe::read_bandwidth(&mut pool, isa, n_bytes, ROUNDS))
}

/// Operations a second on 8-bit integers that so many threads do with the best kernels' instructions.
pub fn arithmetic_rate(threads: usize) -> Option<f64> {
    let mut pool = Pool::new(threads.max(1)).ok()?;
    Some(probe::integer_peak(&mut pool, Isa::detect()))
}

/// The median of what `time` says, asked some times and for a while after a first time that is not counted.
fn median_of(mut time: impl FnMut() -> f64) -> f64 {
    time();
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < FEW || start.elapsed() < LONG {
        times.push(time());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
