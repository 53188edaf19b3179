//! The largest of many logits, found in one pass over them.
//!
//! What is not finite is in nobody's running; NaN is told. Loops are over fixed arrays, so that the
//! compiler makes vectors of them.

use std::ops::RangeInclusive;

use oprel_cpu::Isa;
use oprel_cpu::sampling::{PEAK_BLOCK as BLOCK, block_peaks};

use super::allowed;

/// Logits that are compared side by side.
const LANES: usize = 16;

/// The largest finite logit of every block of logits.
#[derive(Debug)]
pub(crate) struct Peaks {
    isa: Isa,
    /// Minus infinity where a block has none.
    of: Vec<f32>,
    /// The same, being sorted.
    order: Vec<f32>,
}

impl Default for Peaks {
    fn default() -> Peaks {
        Peaks { isa: Isa::detect(), of: Vec::new(), order: Vec::new() }
    }
}

impl Peaks {
    /// Looks at the logits of all tokens, or of those that are allowed; false if one of them is NaN.
    #[must_use]
    pub(crate) fn scan(&mut self, logits: &[f32], allowed: Option<&[u32]>) -> bool {
        self.of.resize(logits.len().div_ceil(BLOCK), 0.0);
        block_peaks(self.isa, logits, allowed, &mut self.of)
    }

    /// Whether the blocks tell a number that `k` logits reach.
    pub(crate) fn tell(&self, k: usize) -> bool {
        (1..=self.of.len()).contains(&k)
    }

    /// The largest finite logit and its token; the smallest id among equals. The same are allowed as
    /// in the scan.
    pub(crate) fn likeliest(&self, logits: &[f32], allowed: Option<&[u32]>) -> Option<(u32, f32)> {
        let (mut block, mut most) = (0, f32::NEG_INFINITY);
        for (i, &peak) in self.of.iter().enumerate() {
            if peak > most {
                (block, most) = (i, peak);
            }
        }
        let start = block * BLOCK;
        let is_allowed =
            |at: usize| allowed.is_none_or(|words| allowed::has(words, (start + at) as u32));
        let mut places = logits.get(start..)?.iter().enumerate();
        let (at, _) = places.find(|&(at, &x)| x == most && is_allowed(at))?;
        most.is_finite().then_some(((start + at) as u32, most))
    }

    /// A number that at least `k` finite logits reach and that few more do; the least number if the
    /// blocks are too few to tell.
    pub(crate) fn reached_by(&mut self, k: usize) -> f32 {
        if !self.tell(k) {
            return f32::MIN;
        }
        // The k largest peaks are k logits.
        self.order.clear();
        self.order.extend_from_slice(&self.of);
        let least = *self.order.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1;
        least.max(f32::MIN)
    }

    /// Gives every logit of a range of finite numbers with its token, in the order of ids, until
    /// `each` returns false. The same are allowed as in the scan.
    pub(crate) fn each_in(
        &self,
        logits: &[f32],
        range: RangeInclusive<f32>,
        allowed: Option<&[u32]>,
        mut each: impl FnMut(u32, f32) -> bool,
    ) {
        for (i, (block, peak)) in logits.chunks(BLOCK).zip(&self.of).enumerate() {
            if peak < range.start() {
                continue;
            }
            for (j, group) in block.chunks(LANES).enumerate() {
                if !any_in(group, &range) {
                    continue;
                }
                for (l, &x) in group.iter().enumerate() {
                    let id = (i * BLOCK + j * LANES + l) as u32;
                    let is_in =
                        range.contains(&x) && allowed.is_none_or(|words| allowed::has(words, id));
                    if is_in && !each(id, x) {
                        return;
                    }
                }
            }
        }
    }
}

/// Whether a number of a group is in the range. To look at all of them costs less than to guess.
fn any_in(group: &[f32], range: &RangeInclusive<f32>) -> bool {
    let Some(group) = group.first_chunk::<LANES>() else { return true };
    let (least, most) = (*range.start(), *range.end());
    let mut any = [0_u32; LANES];
    for l in 0..LANES {
        any[l] = u32::from(group[l] >= least) & u32::from(group[l] <= most);
    }
    any.iter().fold(0, |a, b| a | b) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(logits: &[f32]) -> Peaks {
        let mut peaks = Peaks::default();
        assert!(peaks.scan(logits, None));
        peaks
    }

    #[test]
    fn the_first_of_the_largest_finite_logits_is_found_anywhere() {
        for n in [1, 63, 64, 65, 200] {
            for at in 0..n {
                let mut logits = vec![-2.0; n];
                (logits[at], logits[n - 1]) = (1.0, 1.0);
                if at > 0 {
                    logits[0] = f32::INFINITY;
                }
                assert_eq!(scanned(&logits).likeliest(&logits, None), Some((at as u32, 1.0)));
            }
        }
    }

    #[test]
    fn nothing_finite_is_nothing_and_nan_is_told_anywhere() {
        for n in [1, 64, 100] {
            let mut logits = vec![f32::NEG_INFINITY; n];
            assert_eq!(scanned(&logits).likeliest(&logits, None), None);
            logits[n - 1] = f32::NAN;
            assert!(!Peaks::default().scan(&logits, None));
        }
        assert_eq!(scanned(&[]).likeliest(&[], None), None);
    }

    #[test]
    fn the_threshold_is_reached_by_enough_and_all_that_reach_it_are_given() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 1000) as f32).collect();
        let mut peaks = scanned(&logits);
        for k in [1, 5, 16, 17, 500] {
            let least = peaks.reached_by(k);
            let mut given = Vec::new();
            peaks.each_in(&logits, least..=f32::MAX, None, |id, x| {
                given.push((id, x));
                true
            });
            assert!(given.len() >= k);
            assert_eq!(given.len(), logits.iter().filter(|&&x| x >= least).count());
            assert!(given.iter().all(|&(id, x)| logits[id as usize] == x));
        }
    }
}
