//! Weights of positions as integers, for values that are.

use super::CHUNK;
use super::integers::{TINY, V_MOST};
use super::weigh::{Chunk, NOTHING, Peak, highest, inside};
use super::wide::{LANES, Wide, sum};
use crate::math::{EXP2_COEFFICIENTS, ROUND};

/// What the weights of a chunk sum to in integers, before they are rounded.
const WEIGHTS: f32 = 130_900.0;
/// The largest of them.
const MOST_WEIGHT: f32 = 32767.0;
/// Below this, 2^x counts as 2^LOWEST.
const LOWEST: f32 = -126.0;

const _: () = assert!(V_MOST * (WEIGHTS + (CHUNK / 2) as f32) < 2_147_483_648.0);

/// Makes integers of the dot products of positions `start..end` of a chunk: weights times the scales of
/// their values, in pairs. Those of all other positions become 0. Returns the peak, and what sums of
/// products are times.
#[inline(always)]
pub(super) fn weigh_whole<O: Wide>(
    ops: O,
    chunk: &Chunk<'_>,
    values: &[f32; CHUNK],
    (start, end): (usize, usize),
    scores: &mut [f32],
) -> (Peak, f32) {
    let range = start / LANES..end.div_ceil(LANES);
    let (vectors, _) = scores.as_chunks_mut::<LANES>();
    let vectors = &mut vectors[..CHUNK / LANES];
    let lowest = ops.splat(f32::NEG_INFINITY);
    let mut top = lowest;
    for i in range.clone() {
        let x = inside(ops, i, (start, end), chunk.dots(ops, i, &vectors[i]), lowest);
        top = ops.max(x, top);
    }
    let top = highest(ops, top);
    let is_odd = |i: usize| chunk.keys.map_or(vectors.as_flattened()[i], |keys| keys[i]).is_nan();
    if top == f32::NEG_INFINITY && !(start..end).any(is_odd) {
        vectors[..CHUNK / LANES / 2].as_flattened_mut().fill(0.0);
        return (NOTHING, 0.0);
    }
    // Powers of two, of which one is a multiplication less than of e.
    let factor = chunk.factor * std::f32::consts::LOG2_E;
    let (by, minus_top) = (ops.splat(factor), ops.splat(-(top * factor)));
    let nothing = ops.splat(0.0);
    let (mut acc, mut most, mut total) = (nothing, nothing, nothing);
    let (values, _) = values.as_chunks::<LANES>();
    for i in range.clone() {
        let x = ops.fma(chunk.dots(ops, i, &vectors[i]), by, minus_top);
        let p = inside(ops, i, (start, end), exp2(ops, x), nothing);
        acc = ops.add(acc, p);
        // Once more, since nothing times what is no number is none.
        let y = ops.mul(p, ops.load(&values[i]));
        let y = inside(ops, i, (start, end), y, nothing);
        most = ops.max(y, most);
        total = ops.add(total, y);
        ops.store(y, &mut vectors[i]);
    }
    let mut lanes = [0.0; LANES];
    ops.store(acc, &mut lanes);
    let peak = (top * chunk.factor, sum(lanes));
    ops.store(total, &mut lanes);
    let factor = factor_of(highest(ops, most), sum(lanes));
    narrow(ops, vectors, range, factor);
    (peak, if factor > 0.0 { 1.0 / factor } else { factor })
}

/// What weights are times, of which `most` is the largest and `total` the sum: 0 where they are none,
/// no number where they are no numbers.
fn factor_of(most: f32, total: f32) -> f32 {
    match total.is_finite() {
        true if most < TINY => 0.0,
        true => (MOST_WEIGHT / most).min(WEIGHTS / total),
        false => f32::NAN,
    }
}

/// Rounds the weights of `range` to pairs of integers, in the first half of their memory.
#[inline(always)]
fn narrow<O: Wide>(
    ops: O,
    vectors: &mut [[f32; LANES]],
    range: std::ops::Range<usize>,
    factor: f32,
) {
    let factor = if factor > 0.0 { factor } else { 0.0 };
    let (by, round) = (ops.splat(factor), ops.splat(ROUND));
    for pairs in 0..CHUNK / LANES / 2 {
        let mut codes = [round; 2];
        for j in 0..2 {
            let i = 2 * pairs + j;
            if range.contains(&i) {
                codes[j] = ops.fma(ops.load(&vectors[i]), by, round);
            }
        }
        ops.store(ops.pairs(codes[0], codes[1]), &mut vectors[pairs]);
    }
}

/// 2^x of numbers up to 0, as exactly as integers of 16 bits need it.
#[inline(always)]
fn exp2<O: Wide>(ops: O, x: O::V) -> O::V {
    let round = ops.splat(ROUND);
    // Where x is no number, so is what comes out.
    let x = ops.max(ops.splat(LOWEST), x);
    let shifted = ops.add(x, round);
    let r = ops.sub(x, ops.sub(shifted, round));
    let mut p = ops.splat(EXP2_COEFFICIENTS[0]);
    for c in &EXP2_COEFFICIENTS[1..] {
        p = ops.fma(p, r, ops.splat(*c));
    }
    ops.times_power(p, shifted)
}
