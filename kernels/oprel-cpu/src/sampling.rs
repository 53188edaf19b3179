//! Sums of the probabilities of many logits, for whoever draws one of them.

use crate::lanes::{Ops, tiers};
use crate::math::exp;

/// Bins of `Run::bin_weights`; the last one holds all that is less likely.
pub const BINS: usize = 2048;
/// Logits below the largest that bins tell apart, over the temperature: e^-32 of all tokens of any
/// vocabulary is nothing.
const RANGE: f32 = 32.0;
/// The same of any temperature; more than models give.
const MOST_RANGE: f32 = 64.0;
/// Logits that are worked on side by side.
const LANES: usize = 16;
/// Logits that are summed in single precision.
const BLOCK: usize = 64 * LANES;

/// Some of the logits of a vocabulary and their weights `exp((logit - most) / temperature)`.
///
/// A logit is in the run if it is above `least`, or equals it and its id is at most `last_id`; and
/// is at most `most`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    most: f32,
    least: f32,
    last_id: u32,
    /// One over the temperature.
    sharpness: f32,
    /// Bins to a logit.
    density: f32,
}

impl Run {
    /// A run of finite logits; `most` is the largest of all that are finite.
    pub fn new(most: f32, temperature: f32, least: f32, last_id: u32) -> Run {
        // Colder is as cold.
        let sharpness = 1.0 / temperature.max(1e-30);
        let density = BINS as f32 * (sharpness / RANGE).max(1.0 / MOST_RANGE);
        Run { most, least: least.max(f32::MIN), last_id, sharpness, density }
    }

    /// Whether a logit is in the run.
    #[inline(always)]
    pub fn has(&self, logit: f32, id: u32) -> bool {
        ((logit > self.least) | ((logit == self.least) & (id <= self.last_id)))
            & (logit <= self.most)
    }

    /// The weight of a logit.
    pub fn weight(&self, logit: f32) -> f64 {
        f64::from((logit - self.most) * self.sharpness).exp()
    }

    /// The bin of a logit of at most `most`. Never less for a smaller logit.
    #[inline(always)]
    pub fn bin(&self, logit: f32) -> u32 {
        const NEAREST: f32 = 8_388_608.0;
        let bins = ((self.most - logit) * self.density).min((BINS - 1) as f32);
        // Added to this, the nearest integer is in the low bits; vectors have no cheaper way.
        (bins + NEAREST).to_bits() - NEAREST.to_bits()
    }

    /// Numbers between which all logits of the run in a bin are.
    pub fn range_of(&self, bin: u32) -> (f32, f32) {
        // A bin reaches half of one to both sides, and rounding moves that by much less.
        let below = |bins: f32| self.most - bins.max(0.0) / self.density;
        let least = if bin as usize + 1 < BINS { below(bin as f32 + 0.75) } else { f32::MIN };
        (least.max(self.least), below(bin as f32 - 0.75))
    }

    /// Logits, minus infinity where they are not in the run. The first is that of the id `first`.
    #[inline(always)]
    fn only(&self, logits: &[f32; LANES], first: usize) -> [f32; LANES] {
        let mut only = [0.0; LANES];
        for l in 0..LANES {
            let has = self.has(logits[l], (first + l) as u32);
            only[l] = if has { logits[l] } else { f32::NEG_INFINITY };
        }
        only
    }

    #[inline(always)]
    fn weights(&self, only: &[f32; LANES]) -> [f32; LANES] {
        let mut weights = [0.0; LANES];
        for l in 0..LANES {
            weights[l] = exp((only[l] - self.most) * self.sharpness);
        }
        weights
    }
}

tiers! {
    /// The sum of the weights of a run of logits (n_vocab).
    pub fn sum_weights(run: &Run, logits: &[f32]) -> f64 = sum_weights_lanes;
    /// Adds the weights of a run of logits (n_vocab) to those of their bins.
    pub fn bin_weights(run: &Run, logits: &[f32], bins: &mut [f64; BINS]) = bin_weights_lanes;
}

#[inline(always)]
fn sum_weights_lanes<O: Ops>(_: O, run: &Run, logits: &[f32]) -> f64 {
    let mut total = 0.0;
    for (i, block) in logits.chunks(BLOCK).enumerate() {
        let mut sums = [0.0_f32; LANES];
        let (groups, tail) = block.as_chunks::<LANES>();
        for j in 0..groups.len() {
            let weights = run.weights(&run.only(&groups[j], i * BLOCK + j * LANES));
            for l in 0..LANES {
                sums[l] += weights[l];
            }
        }
        if !tail.is_empty() {
            let first = i * BLOCK + groups.len() * LANES;
            let weights = run.weights(&run.only(&padded(tail), first));
            for l in 0..LANES {
                sums[l] += weights[l];
            }
        }
        total += f64::from(sums.iter().sum::<f32>());
    }
    total
}

#[inline(always)]
fn bin_weights_lanes<O: Ops>(_: O, run: &Run, logits: &[f32], bins: &mut [f64; BINS]) {
    let (groups, tail) = logits.as_chunks::<LANES>();
    for j in 0..groups.len() {
        bin_group(run, &groups[j], j * LANES, bins);
    }
    if !tail.is_empty() {
        bin_group(run, &padded(tail), groups.len() * LANES, bins);
    }
}

#[inline(always)]
fn bin_group(run: &Run, logits: &[f32; LANES], first: usize, bins: &mut [f64; BINS]) {
    let weights = run.weights(&run.only(logits, first));
    let mut at = [0_u32; LANES];
    for l in 0..LANES {
        // Where the weight is zero any bin will do, but not one for all: additions would wait for
        // each other.
        at[l] = run.bin(logits[l]);
    }
    for l in 0..LANES {
        bins[at[l] as usize % BINS] += f64::from(weights[l]);
    }
}

/// The last few logits of a vocabulary and no more that are in any run.
#[inline(always)]
fn padded(tail: &[f32]) -> [f32; LANES] {
    let mut group = [f32::NEG_INFINITY; LANES];
    group[..tail.len()].copy_from_slice(tail);
    group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    fn logits(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919) % 4001) as f32 * 0.005 - 3.0).collect()
    }

    #[test]
    fn sums_are_those_of_the_run_alone_in_every_tier() {
        for n in [1, 15, 16, 17, 1024, 5003] {
            let mut logits = logits(n);
            let most = logits.iter().copied().fold(f32::MIN, f32::max);
            if n > 20 {
                (logits[3], logits[n - 1]) = (f32::INFINITY, f32::NEG_INFINITY);
            }
            for (temperature, least, last_id) in
                [(1.0, f32::NEG_INFINITY, u32::MAX), (0.7, logits[n / 2], n as u32 / 2)]
            {
                let run = Run::new(most, temperature, least, last_id);
                let ids = (0..n as u32).filter(|&id| run.has(logits[id as usize], id));
                let expected: f64 = ids.map(|id| run.weight(logits[id as usize])).sum();
                let all: Vec<_> = Isa::supported()
                    .map(|isa| {
                        let mut bins = [0.0; BINS];
                        bin_weights(isa, &run, &logits, &mut bins);
                        (sum_weights(isa, &run, &logits), bins.to_vec())
                    })
                    .collect();
                assert!(all.iter().all(|x| x == &all[0]), "tiers differ");
                let (sum, bins) = &all[0];
                assert!((sum - expected).abs() < 1e-6 * expected, "{sum} {expected}");
                assert!((bins.iter().sum::<f64>() - expected).abs() < 1e-6 * expected);
            }
        }
    }

    #[test]
    fn bins_follow_the_order_of_logits_at_any_temperature() {
        for temperature in [0.0, 1e-30, 0.1, 1.0, 100.0, f32::MAX] {
            let run = Run::new(7.5, temperature, f32::NEG_INFINITY, u32::MAX);
            let logit = |i: i32| 7.5 - i as f32 * 0.013;
            let bins: Vec<u32> = (0..4000).map(|i| run.bin(logit(i))).collect();
            assert!(bins.is_sorted() && bins[0] == 0 && bins[3999] < BINS as u32);
            for i in 0..4000 {
                let (least, most) = run.range_of(bins[i as usize]);
                assert!((least..=most).contains(&logit(i)), "{i}");
            }
            assert_eq!(run.bin(f32::MIN), BINS as u32 - 1);
            assert_eq!(run.bin(f32::NEG_INFINITY), BINS as u32 - 1);
            assert_eq!(run.weight(7.5), 1.0);
        }
        let run = Run::new(f32::MAX, 1.0, f32::MIN, u32::MAX);
        assert_eq!(run.bin(f32::MIN), BINS as u32 - 1);
    }
}
