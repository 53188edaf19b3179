//! Blocks whose runs have a scale and a minimum (Q2_K, Q4_K, Q5_K): `weight = d s q - d_min m`.
//!
//! First each run by itself: codes for several ranges, scale and minimum by weighted least squares, the best
//! of them taken once more. Then the block: small integers for scales and minima, the neighbours of each
//! tried with codes rounded anew, and `d` and `d_min` by least squares over the whole block.

use super::block::{Block, PerRun, half, total};
use super::lanes::Lanes;

/// What the search of a type is told.
pub(crate) struct Affine {
    /// The largest code.
    pub top: f32,
    /// The largest integer scale or minimum.
    pub scale_top: f32,
    /// The first range that is tried, in codes beyond `top`.
    pub first: f32,
    /// How far ranges are apart.
    pub step: f32,
    /// How many are tried.
    pub steps: usize,
    /// How often scales and codes of a block are chosen anew.
    pub rounds: usize,
}

/// A block as stored: what its integers and codes are multiplied by, and these.
pub(crate) struct AffineBlock<const R: usize, const G: usize> {
    /// What scales are multiplied by.
    pub d: f32,
    /// What minima are multiplied by.
    pub d_min: f32,
    /// Integer scales, one a run.
    pub scales: PerRun<G>,
    /// Integer minima.
    pub mins: PerRun<G>,
    /// Codes.
    pub codes: [[[f32; 8]; R]; G],
}

/// Sums over the elements of a run, each weighted.
#[derive(Clone, Copy)]
struct Sums<V> {
    q: V,
    qq: V,
    qx: V,
}

/// Chooses everything of a block.
#[inline(always)]
pub(crate) fn quantize<L: Lanes, const R: usize, const G: usize>(
    lanes: L,
    how: &Affine,
    block: &Block<R, G>,
) -> AffineBlock<R, G> {
    let mut wanted = [PerRun::<G>::default(); 2];
    for g in 0..G {
        let (scale, min) = run(lanes, how, &block.x[g], &block.w[g]);
        lanes.store(scale, &mut wanted[0].0[g]);
        lanes.store(min, &mut wanted[1].0[g]);
    }
    let mut d = half(wanted[0].largest() / how.scale_top, block.exponent);
    let mut d_min = half(wanted[1].largest() / how.scale_top, block.exponent);
    let mut best = AffineBlock {
        d,
        d_min,
        scales: wanted[0].over(d, how.scale_top),
        mins: wanted[1].over(d_min, how.scale_top),
        codes: [[[0.0; 8]; R]; G],
    };
    let (mut least, mut scales, mut mins) = (f32::INFINITY, best.scales, best.mins);
    for round in 0..how.rounds {
        let mut error = 0.0;
        let mut fit = Fit::default();
        for g in 0..G {
            let (x, w) = (&block.x[g], &block.w[g]);
            let chosen = neighbours(lanes, how, x, w, [d, d_min], [&scales.0[g], &mins.0[g]]);
            lanes.store(chosen[0], &mut scales.0[g]);
            lanes.store(chosen[1], &mut mins.0[g]);
            error += total(lanes, chosen[2]);
            if round + 1 < how.rounds {
                fit.add(lanes, how, x, w, [d, d_min], [chosen[0], chosen[1]]);
            }
        }
        if error < least {
            (least, best.d, best.d_min, best.scales, best.mins) = (error, d, d_min, scales, mins);
        }
        let (new_d, new_min) = fit.solve();
        (d, d_min) = (half(new_d, block.exponent), half(new_min, block.exponent));
    }
    for g in 0..G {
        let by = [lanes.splat(best.d), lanes.splat(best.d_min)];
        let scale = lanes.mul(by[0], lanes.load(&best.scales.0[g]));
        let min = lanes.mul(by[1], lanes.load(&best.mins.0[g]));
        let (inverse, top) = (inverse(lanes, scale), lanes.splat(how.top));
        for j in 0..R {
            let q = code(lanes, lanes.load(&block.x[g][j]), min, inverse, top);
            lanes.store(q, &mut best.codes[g][j]);
        }
    }
    best
}

/// Scale and minimum (to be subtracted) of each run by itself.
#[inline(always)]
fn run<L: Lanes, const R: usize>(
    lanes: L,
    how: &Affine,
    x: &[[f32; 8]; R],
    w: &[[f32; 8]; R],
) -> (L::V, L::V) {
    let zero = lanes.splat(0.0);
    let (mut low, mut high, mut sw, mut sx) = (zero, zero, zero, zero);
    for j in 0..R {
        let (xj, wj) = (lanes.load(&x[j]), lanes.load(&w[j]));
        low = lanes.min(low, xj);
        high = lanes.max(high, xj);
        sw = lanes.add(sw, wj);
        sx = lanes.add(sx, lanes.mul(wj, xj));
    }
    let per_range = inverse(lanes, lanes.sub(high, low));
    // A minimum alone, which is all that a constant run needs.
    let min = lanes.max(lanes.sub(zero, lanes.mul(sx, inverse(lanes, sw))), zero);
    let mut best = (lanes.sub(zero, lanes.mul(min, sx)), zero, min);
    for i in 0..how.steps {
        let range = lanes.splat(how.top + how.first + how.step * i as f32);
        let sums = sums(lanes, how, x, w, lanes.sub(zero, low), lanes.mul(range, per_range));
        best = better(lanes, best, solve(lanes, sums, sw, sx));
    }
    // Codes of the best scale and minimum are not always those that led to them.
    for _ in 0..2 {
        let sums = sums(lanes, how, x, w, best.2, inverse(lanes, best.1));
        best = better(lanes, best, solve(lanes, sums, sw, sx));
    }
    (best.1, best.2)
}

/// Whichever explains more, lane by lane.
#[inline(always)]
fn better<L: Lanes>(lanes: L, a: (L::V, L::V, L::V), b: (L::V, L::V, L::V)) -> (L::V, L::V, L::V) {
    let gain = lanes.where_less(a.0, b.0, b.0, a.0);
    (gain, lanes.where_less(a.0, b.0, b.1, a.1), lanes.where_less(a.0, b.0, b.2, a.2))
}

/// `1 / x`, 0 for what is not above 0.
#[inline(always)]
fn inverse<L: Lanes>(lanes: L, x: L::V) -> L::V {
    let zero = lanes.splat(0.0);
    // Below this the inverse might not be finite; a block's largest magnitude is about 1.
    let tiny = lanes.splat(1e-20);
    lanes.where_less(tiny, x, lanes.div(lanes.splat(1.0), x), zero)
}

/// The code of `x`.
#[inline(always)]
fn code<L: Lanes>(lanes: L, x: L::V, min: L::V, inverse: L::V, top: L::V) -> L::V {
    let q = lanes.mul(lanes.add(x, min), inverse);
    lanes.round(lanes.min(lanes.max(q, lanes.splat(0.0)), top))
}

#[inline(always)]
fn sums<L: Lanes, const R: usize>(
    lanes: L,
    how: &Affine,
    x: &[[f32; 8]; R],
    w: &[[f32; 8]; R],
    min: L::V,
    inverse: L::V,
) -> Sums<L::V> {
    let (zero, top) = (lanes.splat(0.0), lanes.splat(how.top));
    let mut sums = Sums { q: zero, qq: zero, qx: zero };
    for j in 0..R {
        let xj = lanes.load(&x[j]);
        let q = code(lanes, xj, min, inverse, top);
        let wq = lanes.mul(lanes.load(&w[j]), q);
        sums.q = lanes.add(sums.q, wq);
        sums.qq = lanes.add(sums.qq, lanes.mul(wq, q));
        sums.qx = lanes.add(sums.qx, lanes.mul(wq, xj));
    }
    sums
}

/// What the best scale and minimum for given codes explain, and these.
#[inline(always)]
fn solve<L: Lanes>(lanes: L, s: Sums<L::V>, sw: L::V, sx: L::V) -> (L::V, L::V, L::V) {
    let zero = lanes.splat(0.0);
    let squares = lanes.mul(sw, s.qq);
    let det = lanes.sub(squares, lanes.mul(s.q, s.q));
    // Codes that are all the same leave nothing but rounding errors there.
    let is_some = lanes.mul(squares, lanes.splat(1e-5));
    let det = lanes.where_less(is_some, det, inverse(lanes, det), zero);
    let both = lanes.mul(lanes.sub(lanes.mul(sw, s.qx), lanes.mul(s.q, sx)), det);
    let min = lanes.mul(lanes.sub(lanes.mul(s.q, s.qx), lanes.mul(s.qq, sx)), det);
    // Minima are stored without a sign; a scale alone where none below zero is wanted.
    let alone = lanes.mul(s.qx, inverse(lanes, s.qq));
    let scale = lanes.max(lanes.where_less(zero, min, both, alone), zero);
    let min = lanes.max(min, zero);
    (lanes.sub(lanes.mul(scale, s.qx), lanes.mul(min, sx)), scale, min)
}

/// Of each run's integer scale and minimum and those beside them the best, and its error.
#[inline(always)]
fn neighbours<L: Lanes, const R: usize>(
    lanes: L,
    how: &Affine,
    x: &[[f32; 8]; R],
    w: &[[f32; 8]; R],
    d: [f32; 2],
    around: [&[f32; 8]; 2],
) -> [L::V; 3] {
    let (zero, top) = (lanes.splat(0.0), lanes.splat(how.top));
    let mut best = [zero, zero, lanes.splat(f32::INFINITY)];
    for i in 0..9 {
        let s = beside(lanes, how, around[0], (i / 3) as f32 - 1.0);
        let m = beside(lanes, how, around[1], (i % 3) as f32 - 1.0);
        let scale = lanes.mul(lanes.splat(d[0]), s);
        let min = lanes.mul(lanes.splat(d[1]), m);
        let inverse = inverse(lanes, scale);
        let mut error = zero;
        for j in 0..R {
            let xj = lanes.load(&x[j]);
            let q = code(lanes, xj, min, inverse, top);
            let off = lanes.sub(lanes.add(xj, min), lanes.mul(scale, q));
            error = lanes.add(error, lanes.mul(lanes.load(&w[j]), lanes.mul(off, off)));
        }
        best[0] = lanes.where_less(error, best[2], s, best[0]);
        best[1] = lanes.where_less(error, best[2], m, best[1]);
        best[2] = lanes.where_less(error, best[2], error, best[2]);
    }
    best
}

/// An integer scale or minimum so far from the one there is.
#[inline(always)]
fn beside<L: Lanes>(lanes: L, how: &Affine, around: &[f32; 8], by: f32) -> L::V {
    let moved = lanes.add(lanes.load(around), lanes.splat(by));
    lanes.max(lanes.min(moved, lanes.splat(how.scale_top)), lanes.splat(0.0))
}

/// Sums over a block of products of what `d` and `d_min` are multiplied by, and the weights.
#[derive(Default)]
struct Fit {
    aa: f32,
    ab: f32,
    bb: f32,
    ax: f32,
    bx: f32,
}

impl Fit {
    #[inline(always)]
    fn add<L: Lanes, const R: usize>(
        &mut self,
        lanes: L,
        how: &Affine,
        x: &[[f32; 8]; R],
        w: &[[f32; 8]; R],
        d: [f32; 2],
        [s, m]: [L::V; 2],
    ) {
        let min = lanes.mul(lanes.splat(d[1]), m);
        let inverse = inverse(lanes, lanes.mul(lanes.splat(d[0]), s));
        let sums = sums(lanes, how, x, w, min, inverse);
        let (mut sw, mut sx) = (lanes.splat(0.0), lanes.splat(0.0));
        for j in 0..R {
            let wj = lanes.load(&w[j]);
            sw = lanes.add(sw, wj);
            sx = lanes.add(sx, lanes.mul(wj, lanes.load(&x[j])));
        }
        self.aa += total(lanes, lanes.mul(lanes.mul(s, s), sums.qq));
        self.ab += total(lanes, lanes.mul(lanes.mul(s, m), sums.q));
        self.bb += total(lanes, lanes.mul(lanes.mul(m, m), sw));
        self.ax += total(lanes, lanes.mul(s, sums.qx));
        self.bx += total(lanes, lanes.mul(m, sx));
    }

    /// The `d` and `d_min` of least error.
    #[inline(always)]
    fn solve(&self) -> (f32, f32) {
        let det = self.aa * self.bb - self.ab * self.ab;
        if det > 1e-6 * self.aa * self.bb {
            let d = (self.ax * self.bb - self.bx * self.ab) / det;
            let d_min = (self.ax * self.ab - self.bx * self.aa) / det;
            if d > 0.0 && d_min >= 0.0 {
                return (d, d_min);
            }
        }
        (if self.aa > 0.0 { (self.ax / self.aa).max(0.0) } else { 0.0 }, 0.0)
    }
}
