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
        nearest_bin((self.most - logit) * self.density)
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

/// Sums over a run of logits.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Sums {
    /// How many there are.
    pub count: f64,
    /// Their weights.
    pub weight: f64,
    /// Their weights times how far, over the temperature, they are below the largest.
    pub depth: f64,
}

/// Sums over all finite logits.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Moments {
    /// How many there are.
    pub count: f64,
    /// How far they are below the largest.
    pub sum: f64,
    /// The squares of that.
    pub squares: f64,
}

/// Bins by the distance from a logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct About {
    center: f32,
}

impl About {
    /// Bins to a logit.
    const DENSITY: f32 = BINS as f32 / RANGE;

    /// Distances from this logit.
    pub fn new(center: f32) -> About {
        About { center }
    }

    /// The bin of a logit. Never less for one that is farther away.
    #[inline(always)]
    pub fn bin(&self, logit: f32) -> u32 {
        nearest_bin((logit - self.center).abs() * About::DENSITY)
    }

    /// Numbers between which all logits of a bin are.
    pub fn range_of(&self, bin: u32) -> (f32, f32) {
        if bin as usize + 1 >= BINS {
            return (f32::MIN, f32::MAX);
        }
        let far = (bin as f32 + 0.75) / About::DENSITY;
        (self.center - far, self.center + far)
    }
}

/// Logits of a block of [`block_peaks`].
pub const PEAK_BLOCK: usize = 64;

tiers! {
    /// The largest finite logit of every block of logits (n_vocab), minus infinity where there is
    /// none; whether none is NaN. Of `allowed`, where it is given, bit `id % 32` of word `id / 32`
    /// says whether a logit counts; none beyond the words does.
    pub fn block_peaks(logits: &[f32], allowed: Option<&[u32]>, peaks: &mut [f32]) -> bool
        = block_peaks_lanes;
    /// What a run of logits (n_vocab) adds up to.
    pub fn sum_run(run: &Run, logits: &[f32]) -> Sums = sum_run_lanes;
    /// What the finite logits (n_vocab) add up to; `most` is the largest of them.
    pub fn moments(most: f32, logits: &[f32]) -> Moments = moments_lanes;
    /// Adds the weights of a run of logits (n_vocab) to those of their bins about a logit.
    pub fn bin_weights_about(run: &Run, about: &About, logits: &[f32], bins: &mut [f64; BINS])
        = bin_weights_about_lanes;
    /// The sum of the weights of a run of logits (n_vocab).
    pub fn sum_weights(run: &Run, logits: &[f32]) -> f64 = sum_weights_lanes;
    /// Adds the weights of a run of logits (n_vocab) to those of their bins.
    pub fn bin_weights(run: &Run, logits: &[f32], bins: &mut [f64; BINS]) = bin_weights_lanes;
}

/// The bin nearest to a number of bins, at most the last.
#[inline(always)]
fn nearest_bin(bins: f32) -> u32 {
    const NEAREST: f32 = 8_388_608.0;
    // Added to this, the nearest integer is in the low bits; vectors have no cheaper way.
    (bins.min((BINS - 1) as f32) + NEAREST).to_bits() - NEAREST.to_bits()
}

#[inline(always)]
fn block_peaks_lanes<O: Ops>(
    _: O,
    logits: &[f32],
    allowed: Option<&[u32]>,
    peaks: &mut [f32],
) -> bool {
    let mut nan = [0_u32; LANES];
    let (blocks, tail) = logits.as_chunks::<PEAK_BLOCK>();
    let n = blocks.len().min(peaks.len());
    for i in 0..n {
        let words = words_of(allowed, i);
        peaks[i] = match words {
            [0, 0] => f32::NEG_INFINITY,
            [u32::MAX, u32::MAX] => peak(&blocks[i], &mut nan),
            _ => peak(&masked(&blocks[i], words), &mut nan),
        };
    }
    if !tail.is_empty() && n < peaks.len() {
        let mut block = [f32::NEG_INFINITY; PEAK_BLOCK];
        block[..tail.len()].copy_from_slice(tail);
        peaks[n] = peak(&masked(&block, words_of(allowed, n)), &mut nan);
    }
    nan.iter().all(|&n| n == 0)
}

#[inline(always)]
fn words_of(allowed: Option<&[u32]>, block: usize) -> [u32; 2] {
    let Some(words) = allowed else { return [u32::MAX; 2] };
    let word = |i: usize| if i < words.len() { words[i] } else { 0 };
    [word(2 * block), word(2 * block + 1)]
}

/// Logits, minus infinity where their bit is not set.
#[inline(always)]
fn masked(block: &[f32; PEAK_BLOCK], words: [u32; 2]) -> [f32; PEAK_BLOCK] {
    let mut only = [0.0; PEAK_BLOCK];
    for l in 0..PEAK_BLOCK {
        let has = words[l / 32] & (1 << (l % 32)) != 0;
        only[l] = if has { block[l] } else { f32::NEG_INFINITY };
    }
    only
}

/// The largest finite number of a block; marks `nan` where one is none.
#[inline(always)]
fn peak(block: &[f32; PEAK_BLOCK], nan: &mut [u32; LANES]) -> f32 {
    let mut top = [f32::NEG_INFINITY; LANES];
    for j in 0..PEAK_BLOCK / LANES {
        for l in 0..LANES {
            let x = block[j * LANES + l];
            nan[l] |= u32::from(x.is_nan());
            // NaN is no larger than anything.
            top[l] = if x > top[l] { x } else { top[l] };
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            top[l] = if top[l + half] > top[l] { top[l + half] } else { top[l] };
        }
        half /= 2;
    }
    if top[0] < f32::INFINITY {
        return top[0];
    }
    let mut most = f32::NEG_INFINITY;
    for l in 0..PEAK_BLOCK {
        most = if block[l].is_finite() & (block[l] > most) { block[l] } else { most };
    }
    most
}

#[inline(always)]
fn sum_run_lanes<O: Ops>(_: O, run: &Run, logits: &[f32]) -> Sums {
    let mut sums = Sums::default();
    for (i, block) in logits.chunks(BLOCK).enumerate() {
        let (mut count, mut weight, mut depth) = ([0.0_f32; LANES], [0.0; LANES], [0.0; LANES]);
        let (groups, tail) = block.as_chunks::<LANES>();
        for j in 0..groups.len() {
            let only = run.only(&groups[j], i * BLOCK + j * LANES);
            add_group(run, &only, (&mut count, &mut weight, &mut depth));
        }
        if !tail.is_empty() {
            let only = run.only(&padded(tail), i * BLOCK + groups.len() * LANES);
            add_group(run, &only, (&mut count, &mut weight, &mut depth));
        }
        sums.count += f64::from(count.iter().sum::<f32>());
        sums.weight += f64::from(weight.iter().sum::<f32>());
        sums.depth += f64::from(depth.iter().sum::<f32>());
    }
    sums
}

#[inline(always)]
fn add_group(
    run: &Run,
    only: &[f32; LANES],
    (count, weight, depth): (&mut [f32; LANES], &mut [f32; LANES], &mut [f32; LANES]),
) {
    let weights = run.weights(only);
    for l in 0..LANES {
        // Where the weight is zero the depth may be infinite.
        let below = (run.most - only[l]) * run.sharpness;
        let below = if below < 1e4 { below } else { 1e4 };
        count[l] += if only[l] > f32::NEG_INFINITY { 1.0 } else { 0.0 };
        weight[l] += weights[l];
        depth[l] += weights[l] * below;
    }
}

#[inline(always)]
fn moments_lanes<O: Ops>(_: O, most: f32, logits: &[f32]) -> Moments {
    let (mut count, mut sum, mut squares) = ([0.0_f64; LANES], [0.0; LANES], [0.0; LANES]);
    let (groups, tail) = logits.as_chunks::<LANES>();
    for j in 0..groups.len() + usize::from(!tail.is_empty()) {
        let group = if j < groups.len() { groups[j] } else { padded(tail) };
        for l in 0..LANES {
            let finite = (group[l] >= f32::MIN) & (group[l] <= most);
            let below = if finite { f64::from(most) - f64::from(group[l]) } else { 0.0 };
            count[l] += if finite { 1.0 } else { 0.0 };
            sum[l] += below;
            squares[l] += below * below;
        }
    }
    Moments { count: count.iter().sum(), sum: sum.iter().sum(), squares: squares.iter().sum() }
}

#[inline(always)]
fn bin_weights_about_lanes<O: Ops>(
    _: O,
    run: &Run,
    about: &About,
    logits: &[f32],
    bins: &mut [f64; BINS],
) {
    let (groups, tail) = logits.as_chunks::<LANES>();
    for j in 0..groups.len() + usize::from(!tail.is_empty()) {
        let group = if j < groups.len() { groups[j] } else { padded(tail) };
        let weights = run.weights(&run.only(&group, j * LANES));
        let mut at = [0_u32; LANES];
        for l in 0..LANES {
            at[l] = about.bin(group[l]);
        }
        for l in 0..LANES {
            bins[at[l] as usize % BINS] += f64::from(weights[l]);
        }
    }
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
    fn peaks_of_blocks_are_those_of_what_is_allowed_in_every_tier() {
        for n in [1, 63, 64, 65, 200, 1000] {
            let mut logits = logits(n);
            logits[n / 2] = f32::INFINITY;
            let words: Vec<u32> = (0..n as u32 / 40)
                .map(|i| [u32::MAX, 0, 0xdead_beef][i as usize / 2 % 3])
                .collect();
            for allowed in [None, Some(&words[..])] {
                let has = |id: usize| {
                    let word = |w: &[u32]| w.get(id / 32).is_some_and(|w| w >> (id % 32) & 1 == 1);
                    allowed.is_none_or(word)
                };
                let finite = |id: &usize| has(*id) && logits[*id].is_finite();
                let want: Vec<f32> = (0..n.div_ceil(PEAK_BLOCK))
                    .map(|b| {
                        let ids = b * PEAK_BLOCK..n.min((b + 1) * PEAK_BLOCK);
                        let logits = ids.filter(finite).map(|id| logits[id]);
                        logits.fold(f32::NEG_INFINITY, f32::max)
                    })
                    .collect();
                for isa in Isa::supported() {
                    let mut peaks = vec![0.0; want.len()];
                    assert!(block_peaks(isa, &logits, allowed, &mut peaks));
                    assert_eq!(peaks, want);
                    for nan in [0, n - 1] {
                        let mut logits = logits.clone();
                        logits[nan] = f32::NAN;
                        let sound = block_peaks(isa, &logits, allowed, &mut peaks);
                        assert_eq!(sound, !has(nan));
                    }
                }
            }
        }
    }

    #[test]
    fn sums_moments_and_bins_about_a_logit_are_right_in_every_tier() {
        for n in [1, 15, 16, 17, 1024, 5003] {
            let mut logits = logits(n);
            let most = logits.iter().copied().fold(f32::MIN, f32::max);
            if n > 20 {
                (logits[3], logits[n - 1]) = (f32::INFINITY, f32::NEG_INFINITY);
            }
            let run = Run::new(most, 0.7, -2.0, u32::MAX);
            let about = About::new(most - 1.5);
            let all: Vec<_> = Isa::supported()
                .map(|isa| {
                    let mut bins = [0.0; BINS];
                    bin_weights_about(isa, &run, &about, &logits, &mut bins);
                    (sum_run(isa, &run, &logits), moments(isa, most, &logits), bins.to_vec())
                })
                .collect();
            assert!(all.iter().all(|x| x == &all[0]), "tiers differ");
            let (sums, moments, bins) = &all[0];
            let (mut want, mut bell) = (Sums::default(), Moments::default());
            let mut want_bins = vec![0.0; BINS];
            for (id, &x) in logits.iter().enumerate() {
                if run.has(x, id as u32) {
                    want.count += 1.0;
                    want.weight += run.weight(x);
                    want.depth += run.weight(x) * f64::from(most - x) / 0.7;
                    want_bins[about.bin(x) as usize] += run.weight(x);
                }
                if x.is_finite() {
                    bell.count += 1.0;
                    bell.sum += f64::from(most) - f64::from(x);
                    bell.squares += (f64::from(most) - f64::from(x)).powi(2);
                }
            }
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs();
            assert!(sums.count == want.count && near(sums.weight, want.weight));
            assert!(near(sums.depth, want.depth), "{sums:?} {want:?}");
            assert!(moments.count == bell.count && near(moments.sum, bell.sum));
            assert!(near(moments.squares, bell.squares));
            assert!(bins.iter().zip(&want_bins).all(|(a, b)| near(*a, *b)));
            for &x in logits.iter().filter(|x| x.is_finite()) {
                let (least, most) = about.range_of(about.bin(x));
                assert!((least..=most).contains(&x));
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
