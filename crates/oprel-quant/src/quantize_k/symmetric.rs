//! Blocks whose runs have a scale alone (Q3_K, Q6_K): `weight = d s q`, with one code more below zero than
//! above.
//!
//! As in [`affine`](super::affine), without minima; scales have signs, so that the extreme weight of a run
//! may take the lowest code.

use super::block::{Block, PerRun, half, total};
use super::lanes::Lanes;

/// What the search of a type is told.
pub(crate) struct Symmetric {
    /// Codes are `-bottom` to `bottom - 1`.
    pub bottom: f32,
    /// Integer scales likewise.
    pub scale_bottom: f32,
    /// The first range that is tried, in codes beyond `bottom`.
    pub first: f32,
    /// How far ranges are apart.
    pub step: f32,
    /// How many are tried.
    pub steps: usize,
    /// Ranges are tried with either sign.
    pub both_signs: bool,
    /// How often scales and codes of a block are chosen anew.
    pub rounds: usize,
}

/// A block as stored.
pub(crate) struct SymmetricBlock {
    /// What scales are multiplied by.
    pub d: f32,
    /// Integer scales, one a run.
    pub scales: PerRun<2>,
    /// Codes.
    pub codes: [[[f32; 8]; 16]; 2],
}

/// Chooses everything of a block.
#[inline(always)]
pub(crate) fn quantize<L: Lanes>(
    lanes: L,
    how: &Symmetric,
    block: &Block<16, 2>,
) -> SymmetricBlock {
    let mut wanted = PerRun::<2>::default();
    for g in 0..2 {
        lanes.store(run(lanes, how, &block.x[g], &block.w[g]), &mut wanted.0[g]);
    }
    let mut d = half(wanted.farthest() / -how.scale_bottom, block.exponent);
    let mut scales = wanted.over_signed(d, how.scale_bottom);
    let mut best = SymmetricBlock { d, scales, codes: [[[0.0; 8]; 16]; 2] };
    let mut least = f32::INFINITY;
    for round in 0..how.rounds {
        let (mut error, mut aa, mut ax) = (0.0, 0.0, 0.0);
        for g in 0..2 {
            let (x, w) = (&block.x[g], &block.w[g]);
            let (s, of) = neighbours(lanes, how, x, w, d, &scales.0[g]);
            lanes.store(s, &mut scales.0[g]);
            error += total(lanes, of);
            if round + 1 < how.rounds {
                let (qx, qq) = sums(lanes, how, x, w, inverse(lanes, lanes.mul(lanes.splat(d), s)));
                aa += total(lanes, lanes.mul(lanes.mul(s, s), qq));
                ax += total(lanes, lanes.mul(s, qx));
            }
        }
        if error < least {
            (least, best.d, best.scales) = (error, d, scales);
        }
        d = half(if aa > 0.0 { ax / aa } else { 0.0 }, block.exponent);
    }
    for g in 0..2 {
        let scale = lanes.mul(lanes.splat(best.d), lanes.load(&best.scales.0[g]));
        let inverse = inverse(lanes, scale);
        for j in 0..16 {
            let q = code(lanes, how, lanes.load(&block.x[g][j]), inverse);
            lanes.store(q, &mut best.codes[g][j]);
        }
    }
    best
}

/// The scale of each run by itself.
#[inline(always)]
fn run<L: Lanes>(lanes: L, how: &Symmetric, x: &[[f32; 8]; 16], w: &[[f32; 8]; 16]) -> L::V {
    let zero = lanes.splat(0.0);
    let (mut low, mut high) = (zero, zero);
    for j in 0..16 {
        low = lanes.min(low, lanes.load(&x[j]));
        high = lanes.max(high, lanes.load(&x[j]));
    }
    let extreme = lanes.where_less(high, lanes.sub(zero, low), low, high);
    let per_range = inverse(lanes, extreme);
    let (mut best, mut scale) = (lanes.splat(-1.0), zero);
    let signs: &[f32] = if how.both_signs { &[-1.0, 1.0] } else { &[-1.0] };
    for sign in signs {
        for i in 0..how.steps {
            let range = sign * (how.bottom + how.first + how.step * i as f32);
            let found = sums(lanes, how, x, w, lanes.mul(lanes.splat(range), per_range));
            keep(lanes, &mut best, &mut scale, found);
        }
    }
    for _ in 0..2 {
        let found = sums(lanes, how, x, w, inverse(lanes, scale));
        keep(lanes, &mut best, &mut scale, found);
    }
    scale
}

/// Takes over what explains more, lane by lane.
#[inline(always)]
fn keep<L: Lanes>(lanes: L, best: &mut L::V, scale: &mut L::V, (qx, qq): (L::V, L::V)) {
    let new = lanes.mul(qx, inverse(lanes, qq));
    let explained = lanes.mul(new, qx);
    *scale = lanes.where_less(*best, explained, new, *scale);
    *best = lanes.where_less(*best, explained, explained, *best);
}

/// `1 / x`, 0 about 0.
#[inline(always)]
fn inverse<L: Lanes>(lanes: L, x: L::V) -> L::V {
    let zero = lanes.splat(0.0);
    // Below this the inverse might not be finite; a block's largest magnitude is about 1.
    let tiny = lanes.splat(1e-20);
    let by = lanes.div(lanes.splat(1.0), x);
    lanes.where_less(tiny, lanes.max(x, lanes.sub(zero, x)), by, zero)
}

/// The code of `x`.
#[inline(always)]
fn code<L: Lanes>(lanes: L, how: &Symmetric, x: L::V, inverse: L::V) -> L::V {
    let q = lanes.max(lanes.mul(x, inverse), lanes.splat(-how.bottom));
    lanes.round(lanes.min(q, lanes.splat(how.bottom - 1.0)))
}

/// Weighted sums of codes times weights and of codes squared.
#[inline(always)]
fn sums<L: Lanes>(
    lanes: L,
    how: &Symmetric,
    x: &[[f32; 8]; 16],
    w: &[[f32; 8]; 16],
    inverse: L::V,
) -> (L::V, L::V) {
    let (mut qx, mut qq) = (lanes.splat(0.0), lanes.splat(0.0));
    for j in 0..16 {
        let xj = lanes.load(&x[j]);
        let q = code(lanes, how, xj, inverse);
        let wq = lanes.mul(lanes.load(&w[j]), q);
        qx = lanes.add(qx, lanes.mul(wq, xj));
        qq = lanes.add(qq, lanes.mul(wq, q));
    }
    (qx, qq)
}

/// Of each run's integer scale and those beside it the best, and its error.
#[inline(always)]
fn neighbours<L: Lanes>(
    lanes: L,
    how: &Symmetric,
    x: &[[f32; 8]; 16],
    w: &[[f32; 8]; 16],
    d: f32,
    around: &[f32; 8],
) -> (L::V, L::V) {
    let (most, least) = (lanes.splat(how.scale_bottom - 1.0), lanes.splat(-how.scale_bottom));
    let (mut best, mut scale) = (lanes.splat(f32::INFINITY), lanes.splat(0.0));
    for by in [0.0, -1.0, 1.0] {
        let s = lanes.add(lanes.load(around), lanes.splat(by));
        let s = lanes.max(lanes.min(s, most), least);
        let ds = lanes.mul(lanes.splat(d), s);
        let inverse = inverse(lanes, ds);
        let mut error = lanes.splat(0.0);
        for j in 0..16 {
            let xj = lanes.load(&x[j]);
            let off = lanes.sub(xj, lanes.mul(ds, code(lanes, how, xj, inverse)));
            error = lanes.add(error, lanes.mul(lanes.load(&w[j]), lanes.mul(off, off)));
        }
        scale = lanes.where_less(error, best, s, scale);
        best = lanes.where_less(error, best, error, best);
    }
    (scale, best)
}
