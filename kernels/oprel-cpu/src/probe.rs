//! How fast this machine reads memory and multiplies: what decode and prefill cannot be faster than.

mod peaks;

pub use peaks::{bf16_peak, float_peak, integer_peak};

use crate::lanes::{Ops, tiers};
use crate::{Isa, Pool};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Words of a chunk that a thread reads: 256 KiB.
const CHUNK: usize = 32 << 10;

tiers! {
    /// The wrapping sum of `words`: reads them all and does little else.
    pub fn sum_words(words: &[u64]) -> u64 = sum_words_lanes;
}

#[inline(always)]
fn sum_words_lanes<O: Ops>(_: O, words: &[u64]) -> u64 {
    // The plainest form: compilers make one stream of it. Of several sums they make gathers.
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

/// Bytes a second that the pool's threads read together: the best of `rounds` over `n_bytes`,
/// which should be several times the cache. Allocates them; not for use inside a step.
pub fn read_bandwidth(pool: &mut Pool, isa: Isa, n_bytes: usize, rounds: usize) -> f64 {
    // Not zeros: untouched pages would all be one page.
    let words: Vec<u64> = (0..(n_bytes / 8).max(1) as u64).collect();
    let expected = words.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
    let mut best = f64::INFINITY;
    for _ in 0..rounds.max(1) {
        let total = AtomicU64::new(0);
        let start = Instant::now();
        pool.run(words.len().div_ceil(CHUNK), |chunk, _| {
            let end = ((chunk + 1) * CHUNK).min(words.len());
            total.fetch_add(sum_words(isa, &words[chunk * CHUNK..end]), Ordering::Relaxed);
        });
        best = best.min(start.elapsed().as_secs_f64());
        assert_eq!(total.into_inner(), expected, "every word was read");
    }
    (words.len() * 8) as f64 / best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_by_any_number_of_threads() {
        for n_threads in [1, 2, 5] {
            let mut pool = Pool::new(n_threads).unwrap();
            for isa in Isa::supported() {
                assert!(read_bandwidth(&mut pool, isa, 3 << 20, 2) > 0.0);
                assert_eq!(sum_words(isa, &[u64::MAX, 3, 4]), 6);
            }
        }
    }
}
