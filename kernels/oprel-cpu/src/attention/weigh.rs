//! From dot products to weights of positions, and from weighted values to results.

use super::Heads;
use super::integers::Scales;
use super::wide::{LANES, Wide, sum};
use crate::math::{exp, tanh};

/// The largest score of some positions, and the sum of their weights relative to it.
pub(super) type Peak = (f32, f32);

/// What there is before any position.
pub(super) const NOTHING: Peak = (f32::NEG_INFINITY, 0.0);

/// What makes scores of a query's dot products with the keys of a chunk.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    /// On dot products.
    pub(super) factor: f32,
    /// Scales of the positions' keys, where dot products are integers.
    pub(super) keys: Option<&'a Scales>,
}

impl Chunk<'_> {
    /// Vector `i` of the dot products.
    #[inline(always)]
    pub(super) fn dots<O: Wide>(&self, ops: O, i: usize, dots: &[f32; LANES]) -> O::V {
        let dots = ops.load(dots);
        let Some(keys) = self.keys else {
            return dots;
        };
        let (keys, _) = keys.as_chunks::<LANES>();
        ops.mul(ops.widen_i32(dots), ops.load(&keys[i]))
    }

    /// Vector `i` of the scores.
    #[inline(always)]
    fn score<O: Wide>(&self, ops: O, i: usize, dots: &[f32; LANES]) -> O::V {
        ops.mul(self.dots(ops, i, dots), ops.splat(self.factor))
    }

    /// Makes scores of the dot products of positions `start..end`; returns what weighs them.
    #[inline(always)]
    pub(super) fn scale<O: Wide>(
        &self,
        ops: O,
        (start, end): (usize, usize),
        dots: &mut [f32],
    ) -> Self {
        let (vectors, _) = dots.as_chunks_mut::<LANES>();
        for i in start / LANES..end.div_ceil(LANES) {
            ops.store(self.score(ops, i, &vectors[i]), &mut vectors[i]);
        }
        Chunk { factor: 1.0, keys: None }
    }
}

/// Bends the scores of the query head `head`: the first position is `first`, the query's own is `at`.
pub(super) fn bend(heads: &Heads<'_>, head: usize, first: usize, at: usize, scores: &mut [f32]) {
    if let Some(cap) = heads.soft_cap {
        for s in &mut *scores {
            *s = cap * tanh(*s / cap);
        }
    }
    if let Some(slopes) = heads.alibi {
        let slope = slopes[head];
        for (i, s) in scores.iter_mut().enumerate() {
            *s -= slope * (first + i).abs_diff(at) as f32;
        }
    }
}

/// Makes weights of the dot products of positions `start..end` of a chunk; what else is in their
/// vectors becomes 0.
#[inline(always)]
pub(super) fn weigh<O: Wide>(
    ops: O,
    chunk: &Chunk<'_>,
    (start, end): (usize, usize),
    scores: &mut [f32],
) -> Peak {
    if start >= end {
        return NOTHING;
    }
    let range = start / LANES..end.div_ceil(LANES);
    let (vectors, _) = scores.as_chunks_mut::<LANES>();
    let lowest = ops.splat(f32::NEG_INFINITY);
    let mut top = lowest;
    for i in range.clone() {
        let x = inside(ops, i, (start, end), chunk.score(ops, i, &vectors[i]), lowest);
        ops.store(x, &mut vectors[i]);
        top = ops.max(x, top);
    }
    let (top, vectors) = (highest(ops, top), &mut vectors[range]);
    if top == f32::NEG_INFINITY && !vectors.as_flattened().iter().any(|s| s.is_nan()) {
        vectors.as_flattened_mut().fill(0.0);
        return NOTHING;
    }
    let minus_top = ops.splat(-top);
    let mut acc = ops.splat(0.0);
    for vector in vectors {
        let y = ops.exp(ops.add(ops.load(vector), minus_top));
        ops.store(y, vector);
        acc = ops.add(acc, y);
    }
    let mut lanes = [0.0; LANES];
    ops.store(acc, &mut lanes);
    (top, sum(lanes))
}

/// Vector `i` of positions, of which those outside of `start..end` are `other`.
#[inline(always)]
pub(super) fn inside<O: Wide>(
    ops: O,
    i: usize,
    (start, end): (usize, usize),
    x: O::V,
    other: O::V,
) -> O::V {
    let at = i * LANES;
    if at >= start && at + LANES <= end {
        return x;
    }
    ops.keep(x, start.saturating_sub(at), end - at, other)
}

/// The largest lane; none may be no number.
#[inline(always)]
pub(super) fn highest<O: Wide>(ops: O, x: O::V) -> f32 {
    let mut lanes = [0.0; LANES];
    ops.store(x, &mut lanes);
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut h = [0.0; 8];
    for l in 0..8 {
        h[l] = larger(lanes[l], lanes[l + 8]);
    }
    let mut q = [0.0; 4];
    for l in 0..4 {
        q[l] = larger(h[l], h[l + 4]);
    }
    larger(larger(q[0], q[2]), larger(q[1], q[3]))
}

/// Adds a chunk's peak and values to those of the chunks before; `whole` is what values are times where
/// they are integers.
#[inline(always)]
pub(super) fn merge<O: Wide>(
    ops: O,
    peak: &mut Peak,
    total: &mut [f32],
    (top, sum): Peak,
    values: &[f32],
    whole: Option<f32>,
) {
    if sum == 0.0 {
        return;
    }
    let higher = peak.0.max(top);
    let (old, new) = (exp(peak.0 - higher), exp(top - higher));
    *peak = (higher, sum.mul_add(new, peak.1 * old));
    let (old, new) = (ops.splat(old), ops.splat(new * whole.unwrap_or(1.0)));
    let (total, _) = total.as_chunks_mut::<LANES>();
    let (values, _) = values.as_chunks::<LANES>();
    for i in 0..total.len() {
        let kept = ops.mul(ops.load(&total[i]), old);
        let mut value = ops.load(&values[i]);
        if whole.is_some() {
            value = ops.widen_i32(value);
        }
        ops.store(ops.fma(value, new, kept), &mut total[i]);
    }
}

/// What sums of values are multiplied by in the end: one by the sum of weights, the sink's included.
pub(super) fn share((top, sum): Peak, sink: Option<f32>) -> f32 {
    let Some(sink) = sink else {
        return if sum == 0.0 { 0.0 } else { 1.0 / sum };
    };
    let with_sink = top.max(sink);
    let kept = exp(top - with_sink);
    kept / sum.mul_add(kept, exp(sink - with_sink))
}
