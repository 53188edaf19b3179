//! From dot products to weights of positions, and from weighted values to results.

use super::Heads;
use super::wide::{LANES, Wide, sum};
use crate::math::{exp, tanh};

/// The largest score of some positions, and the sum of their weights relative to it.
pub(super) type Peak = (f32, f32);

/// What there is before any position.
pub(super) const NOTHING: Peak = (f32::NEG_INFINITY, 0.0);

/// Makes scores of dot products of the query head `head`: the first position is `distance` away
/// from the query's own, and comes nearer first where `ahead` says so.
pub(super) fn score(heads: &Heads<'_>, head: usize, first: usize, at: usize, scores: &mut [f32]) {
    for s in &mut *scores {
        *s *= heads.scale;
    }
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

/// Makes weights of elements `start..end`, times `scale`; what else is in their vectors becomes 0.
#[inline(always)]
pub(super) fn weigh<O: Wide>(
    ops: O,
    scale: f32,
    (start, end): (usize, usize),
    scores: &mut [f32],
) -> Peak {
    if start >= end {
        return NOTHING;
    }
    let first = start / LANES * LANES;
    let scores = &mut scores[first..end.next_multiple_of(LANES)];
    let (start, end) = (start - first, end - first);
    let (vectors, _) = scores.as_chunks_mut::<LANES>();
    let (lowest, factor) = (ops.splat(f32::NEG_INFINITY), ops.splat(scale));
    let mut top = lowest;
    for i in 0..vectors.len() {
        let mut x = ops.mul(ops.load(&vectors[i]), factor);
        let at = i * LANES;
        if at < start || at + LANES > end {
            x = ops.keep(x, start.saturating_sub(at), end - at, lowest);
        }
        ops.store(x, &mut vectors[i]);
        top = ops.max(x, top);
    }
    let mut lanes = [0.0; LANES];
    ops.store(top, &mut lanes);
    let mut top = lanes[0];
    for l in 1..LANES {
        top = top.max(lanes[l]);
    }
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
    ops.store(acc, &mut lanes);
    (top, sum(lanes))
}

/// Adds a chunk's peak and values to those of the chunks before.
#[inline(always)]
pub(super) fn merge<O: Wide>(
    ops: O,
    peak: &mut Peak,
    total: &mut [f32],
    (top, sum): Peak,
    values: &[f32],
) {
    if sum == 0.0 {
        return;
    }
    let higher = peak.0.max(top);
    let (old, new) = (exp(peak.0 - higher), exp(top - higher));
    *peak = (higher, sum.mul_add(new, peak.1 * old));
    let (old, new) = (ops.splat(old), ops.splat(new));
    let (total, _) = total.as_chunks_mut::<LANES>();
    let (values, _) = values.as_chunks::<LANES>();
    for i in 0..total.len() {
        let kept = ops.mul(ops.load(&total[i]), old);
        ops.store(ops.fma(ops.load(&values[i]), new, kept), &mut total[i]);
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
