//! The search for words, scales of runs and the scale of a block.
//!
//! A run's best scale is found as if it could be any number. Then, twice: each run takes the
//! better of the two levels around it, and the block's scale is the one that suits all chosen
//! words best (least squares).

use super::book::Book;
use crate::quantize::nonlinear::sum;
use crate::quantize::target::{Target, half_scale};
use crate::{LANES, Lanes};

/// What types of this family differ in.
pub(super) struct Shape<const LEN: usize, const BETWEEN: usize> {
    /// The codebook.
    pub(super) book: &'static Book<LEN, BETWEEN>,
    /// A run's scale is `(2 * level + 1) * unit` of the block's, `level` below this.
    pub(super) levels: u8,
    /// See `levels`.
    pub(super) unit: f32,
    /// Where minus signs are.
    pub(super) signs: Signs,
    /// Whether all words of a run move by the same shift, not each by its own.
    pub(super) run_shifts: bool,
    /// The root of the mean square of a value.
    pub(super) typical: f32,
}

/// Scales that are tried for a run, beside the one at which its words have its energy.
const TRIED: [f32; 7] = [0.45, 0.6, 0.75, 0.9, 1.05, 1.25, 1.5];
/// A run is flat if its farthest weight is within this of its root mean square.
const FLAT: f32 = 1.25;
/// How often the best of them is refined.
const REFINED: usize = 1;

/// Where minus signs are kept.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Signs {
    /// One for each weight.
    Each,
    /// For each eight weights an even number of them.
    Even,
    /// In the words themselves.
    Words,
}

/// A block as it will be stored.
pub(super) struct Coded {
    /// The block's scale in half precision.
    pub(super) d: [u8; 2],
    /// Levels of runs.
    pub(super) levels: [u8; 16],
    /// Numbers of words.
    pub(super) words: [u16; 64],
    /// A bit a weight: set is minus.
    pub(super) signs: [u8; 32],
    /// Numbers of shifts, one a word.
    pub(super) shifts: [u8; 64],
}

impl Coded {
    const ZERO: Coded =
        Coded { d: [0; 2], levels: [0; 16], words: [0; 64], signs: [0; 32], shifts: [0; 64] };
}

/// Words of a run at some scale.
#[derive(Clone, Copy)]
struct Fit {
    words: [u16; 8],
    shifts: [u8; 8],
    /// Weights times values, summed.
    along: f32,
    /// Squares of values, summed.
    energy: f32,
    /// The squared error.
    loss: f32,
}

impl Fit {
    const NONE: Fit =
        Fit { words: [0; 8], shifts: [0; 8], along: 0.0, energy: 0.0, loss: f32::INFINITY };

    /// The scale that suits the chosen words best.
    #[inline(always)]
    fn scale(&self) -> f32 {
        if self.energy > 0.0 { (self.along / self.energy).max(0.0) } else { 0.0 }
    }

    /// By how much the best scale lessens the squared error.
    #[inline(always)]
    fn gain(&self) -> f32 {
        self.along * self.scale()
    }
}

impl<const LEN: usize, const BETWEEN: usize> Shape<LEN, BETWEEN> {
    /// Words of a run at `scale`; the very best ones if `thorough`.
    #[inline(always)]
    fn fit<const R: usize, L: Lanes>(
        &self,
        lanes: L,
        x: &[f32; R],
        w: &[f32; R],
        scale: f32,
        thorough: bool,
    ) -> Fit {
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let n_shifts = self.book.shifts.len();
        // All shifts at once, each word with the best; or one after the other for the whole run.
        let (rounds, at_once) = if self.run_shifts { (n_shifts, 1) } else { (1, n_shifts) };
        let mut best = Fit::NONE;
        for shift in 0..rounds {
            let found = self.fit_shifts(lanes, x, w, inverse, thorough, [shift, shift + at_once]);
            if found.loss < best.loss {
                best = found;
            }
        }
        if inverse > 0.0 {
            best.loss /= inverse * inverse;
        }
        best
    }

    /// Words of a run, each with the best of some shifts; the loss as if the scale were 1.
    #[inline(always)]
    fn fit_shifts<const R: usize, L: Lanes>(
        &self,
        lanes: L,
        x: &[f32; R],
        w: &[f32; R],
        inverse: f32,
        thorough: bool,
        shifts: [usize; 2],
    ) -> Fit {
        let mut fit = Fit { loss: 0.0, ..Fit::NONE };
        let (mut along, mut energy) = (lanes.splat(0.0), lanes.splat(0.0));
        let inverse = lanes.splat(inverse);
        for eight in 0..R / LANES {
            let (x, w) = (&x.as_chunks().0[eight], &w.as_chunks::<LANES>().0[eight]);
            let first = eight * (LANES / LEN);
            let mut far = [f32::INFINITY; 2];
            for shift in shifts[0]..shifts[1] {
                let by = lanes.splat(self.book.shifts[shift]);
                let scaled = lanes.sub(lanes.mul(lanes.load(x), inverse), by);
                let places = self.book.places(lanes, scaled);
                let mut u = [0.0; LANES];
                lanes.store(scaled, &mut u);
                for i in 0..LANES / LEN {
                    let mut point = 0.0;
                    for j in 0..LEN {
                        point += places[i * LEN + j];
                    }
                    let (u, w) = (&u[i * LEN..][..LEN], &w[i * LEN..][..LEN]);
                    let found = if thorough {
                        self.book.nearest(lanes, point as usize, u, w)
                    } else {
                        self.book.nearest_of_few(lanes, point as usize, u, w)
                    };
                    if found.1 < far[i] {
                        far[i] = found.1;
                        fit.words[first + i] = found.0;
                        fit.shifts[first + i] = shift as u8;
                    }
                }
            }
            let mut values = [0.0; LANES];
            for i in 0..LANES / LEN {
                fit.loss += far[i];
                let shift = self.book.shifts[usize::from(fit.shifts[first + i])];
                let word = self.book.word(fit.words[first + i]);
                for j in 0..LEN {
                    values[i * LEN + j] = word[j] + shift;
                }
            }
            let values = lanes.load(&values);
            let weighted = lanes.mul(lanes.load(w), values);
            along = lanes.add(along, lanes.mul(weighted, lanes.load(x)));
            energy = lanes.add(energy, lanes.mul(weighted, values));
        }
        (fit.along, fit.energy) = (sum(lanes, along), sum(lanes, energy));
        fit
    }

    /// The best scale that is found for a run.
    #[inline(always)]
    fn free_scale<const R: usize, L: Lanes>(&self, lanes: L, x: &[f32; R], w: &[f32; R]) -> f32 {
        let (mut energy, mut weight, mut far) = (0.0, 0.0, 0.0);
        for i in 0..R {
            far = if x[i].abs() > far { x[i].abs() } else { far };
            energy += w[i] * x[i] * x[i];
            weight += w[i];
        }
        if energy <= 0.0 {
            return 0.0;
        }
        let size = (energy / weight).sqrt();
        // Weights that hardly differ may all take the same value.
        let flat: &[f32] = if far < size * FLAT { &self.book.sizes } else { &[] };
        let n_tried = TRIED.len() + flat.len();
        let mut best = Fit::NONE;
        for step in 0..n_tried + REFINED {
            let scale = if step < flat.len() {
                size / flat[step]
            } else if step < n_tried {
                size / self.typical * TRIED[step - flat.len()]
            } else {
                best.scale()
            };
            let found = self.fit(lanes, x, w, scale, false);
            if step == 0 || found.gain() > best.gain() {
                best = found;
            } else if step >= n_tried {
                break;
            }
        }
        best.scale()
    }

    /// The words of a block in runs of `R`.
    #[inline(always)]
    pub(super) fn code<const R: usize, L: Lanes>(
        &self,
        lanes: L,
        mut target: Target<256>,
    ) -> Coded {
        let mut coded = Coded::ZERO;
        self.take_signs(&mut target, &mut coded.signs);
        let (runs, weights) = (target.x.as_chunks::<R>().0, target.w.as_chunks::<R>().0);
        let (mut free, mut far, mut total) = ([0.0; 16], 0.0, 0.0);
        for i in 0..256 / R {
            free[i] = self.free_scale(lanes, &runs[i], &weights[i]);
            far = if free[i] > far { free[i] } else { far };
        }
        for i in 0..256 {
            total += target.w[i] * target.x[i] * target.x[i];
        }
        let mut d = far / (self.unit * f32::from(2 * self.levels - 1));
        let mut keeping = 1.0;
        for last in [false, true] {
            let (bits, half) = half_scale(d, target.one);
            d = half;
            if d == 0.0 {
                return Coded { d: bits, ..Coded::ZERO };
            }
            let (along, energy) = self.choose(lanes, runs, weights, &free, d, last, &mut coded);
            if along > 0.0 && energy > 0.0 {
                d = along / energy;
                keeping = (total / (along * d)).sqrt().clamp(1.0, 1.25);
            }
        }
        (coded.d, _) = half_scale(d * keeping, target.one);
        coded
    }

    /// Words of all runs at `d`, and their levels unless they are chosen. The sums of weights times
    /// values and of squares of values, for `d` to be found that suits them.
    #[inline(always)]
    fn choose<const R: usize, L: Lanes>(
        &self,
        lanes: L,
        runs: &[[f32; R]],
        weights: &[[f32; R]],
        free: &[f32; 16],
        d: f32,
        chosen: bool,
        coded: &mut Coded,
    ) -> (f32, f32) {
        let (mut along, mut energy) = (0.0, 0.0);
        let n_words = R / LEN;
        for i in 0..256 / R {
            let exact = (free[i] / (d * self.unit) - 1.0) * 0.5;
            let exact = exact.clamp(0.0, f32::from(self.levels - 1));
            let mut level = if chosen { coded.levels[i] } else { exact as u8 };
            let top = if chosen || f32::from(level) == exact { level } else { level + 1 };
            let mut best = (level, Fit::NONE);
            while level <= top {
                let scale = d * self.unit * f32::from(2 * level + 1);
                let found = self.fit(lanes, &runs[i], &weights[i], scale, chosen);
                if found.loss < best.1.loss {
                    best = (level, found);
                }
                level += 1;
            }
            let (level, fit) = best;
            let times = self.unit * f32::from(2 * level + 1);
            along += times * fit.along;
            energy += times * times * fit.energy;
            coded.levels[i] = level;
            coded.words[i * n_words..][..n_words].copy_from_slice(&fit.words[..n_words]);
            coded.shifts[i * n_words..][..n_words].copy_from_slice(&fit.shifts[..n_words]);
        }
        (along, energy)
    }

    /// Makes weights positive, but for one of each eight where the number of signs must be even.
    fn take_signs(&self, target: &mut Target<256>, signs: &mut [u8; 32]) {
        if self.signs == Signs::Words {
            return;
        }
        let eights = target.x.as_chunks_mut::<8>().0.iter_mut();
        for ((x, w), signs) in eights.zip(target.w.as_chunks::<8>().0).zip(signs) {
            for (j, v) in x.iter_mut().enumerate() {
                if v.is_sign_negative() {
                    *signs |= 1 << j;
                    *v = -*v;
                }
            }
            if self.signs == Signs::Even && signs.count_ones() % 2 == 1 {
                let flipped = least(x, w);
                *signs ^= 1 << flipped;
                x[flipped] = -x[flipped];
            }
        }
    }
}

/// The weight whose sign matters least.
fn least(x: &[f32; 8], w: &[f32; 8]) -> usize {
    let mut least = (0, f32::INFINITY);
    for (i, (x, w)) in x.iter().zip(w).enumerate() {
        if w * x * x < least.1 {
            least = (i, w * x * x);
        }
    }
    least.0
}
