//! Softmax of a row, stable for any finite input.

use crate::lanes::{LANES, Ops, max, sum, tiers};
use crate::math::exp;

tiers! {
    /// Replaces `x` by its softmax; all zeros if every element is minus infinity,
    /// all NaN if one is.
    pub fn softmax(x: &mut [f32]) = softmax_lanes;
    /// Replaces `x` by `exp(x - max)`, and gives the largest element and the sum: the softmax before
    /// it is divided.
    pub fn exponentials(x: &mut [f32]) -> (f32, f32) = exponentials_lanes;
}

#[inline(always)]
fn softmax_lanes<O: Ops>(ops: O, x: &mut [f32]) {
    let (_, total) = exponentials_lanes(ops, x);
    if total != 0.0 {
        let inverse = 1.0 / total;
        x.iter_mut().for_each(|v| *v *= inverse);
    }
}

/// Element `i` is summed in lane `i % 8`.
#[inline(always)]
pub(crate) fn exponentials_lanes<O: Ops>(ops: O, x: &mut [f32]) -> (f32, f32) {
    let top = largest(ops, x);
    if top == f32::NEG_INFINITY && !x.iter().any(|v| v.is_nan()) {
        x.fill(0.0);
        return (top, 0.0);
    }
    let minus_top = ops.splat(-top);
    let mut acc = ops.splat(0.0);
    let (chunks, tail) = x.as_chunks_mut::<LANES>();
    for chunk in chunks {
        let y = ops.exp(ops.add(ops.load(chunk), minus_top));
        ops.store(y, chunk);
        acc = ops.add(acc, y);
    }
    let mut lanes = [0.0; LANES];
    ops.store(acc, &mut lanes);
    for i in 0..tail.len() {
        tail[i] = exp(tail[i] - top);
        lanes[i] += tail[i];
    }
    (top, sum(lanes))
}

/// The largest element that is a number.
#[inline(always)]
fn largest<O: Ops>(ops: O, x: &[f32]) -> f32 {
    let mut acc = ops.splat(f32::NEG_INFINITY);
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        acc = ops.max(ops.load(chunk), acc);
    }
    let mut lanes = [0.0; LANES];
    ops.store(acc, &mut lanes);
    tail.iter().fold(max(lanes), |top, v| top.max(*v))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::matmul::tests::numbers;

    #[test]
    fn shares_sum_to_one_and_follow_the_formula() {
        for n in [1, 2, 7, 8, 9, 64, 1000] {
            let x: Vec<f32> = numbers(n as u64, n).iter().map(|v| v * 30.0).collect();
            let total: f64 = x.iter().map(|v| f64::from(*v).exp()).sum();
            let mut scalar = x.clone();
            softmax(Isa::SCALAR, &mut scalar);
            for (y, v) in scalar.iter().zip(&x) {
                let expected = f64::from(*v).exp() / total;
                assert!((f64::from(*y) - expected).abs() <= 1e-6 * expected + 1e-30);
            }
            for isa in Isa::supported() {
                let mut y = x.clone();
                softmax(isa, &mut y);
                assert_eq!(y, scalar, "{isa}");
            }
        }
    }

    #[test]
    fn what_is_masked_has_no_share() {
        let mut x = [f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY, 1.0];
        softmax(Isa::detect(), &mut x);
        assert_eq!(x, [0.0, 0.5, 0.0, 0.5]);
        let mut none = [f32::NEG_INFINITY; 11];
        softmax(Isa::detect(), &mut none);
        assert_eq!(none, [0.0; 11]);
        let mut bad = [f32::NAN; 9];
        softmax(Isa::detect(), &mut bad);
        assert!(bad.iter().all(|v| v.is_nan()));
    }
}
