//! Norms of a row, or of equal groups of it.

use crate::lanes::{LANES, Ops, dot, sum, tiers};

/// What is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// The root mean square: `x / sqrt(mean(x^2) + eps)`.
    Rms,
    /// The standard deviation, after subtracting the mean: `(x - m) / sqrt(var + eps)`.
    Layer,
    /// The Euclidean length: `x / max(|x|, eps)`.
    L2,
}

/// A norm: how each of `groups` equal parts of a row is normalized, then scaled and shifted.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// What is divided by.
    pub kind: NormKind,
    /// Added to the variance, or lower bound of the length.
    pub eps: f32,
    /// Parts of a row, each normalized by itself; 1 for the whole row.
    pub groups: usize,
    /// Factors: one for each element of a row, or of a group.
    pub weight: Option<&'a [f32]>,
    /// Added last; sized like the weight.
    pub bias: Option<&'a [f32]>,
}

tiers! {
    /// Normalizes one row: `out` (k) from `x` (k).
    ///
    /// # Panics
    /// If lengths do not fit each other.
    pub fn normalize(norm: &Norm<'_>, x: &[f32], out: &mut [f32]) = normalize_lanes;
}

/// Normalizes one row in place.
///
/// # Panics
/// As [`normalize`].
pub fn normalize_in_place(isa: crate::Isa, norm: &Norm<'_>, x: &mut [f32]) {
    in_place(isa, norm, x);
}

tiers! {
    fn in_place(norm: &Norm<'_>, x: &mut [f32]) = in_place_lanes;
}

#[inline(always)]
fn normalize_lanes<O: Ops>(ops: O, norm: &Norm<'_>, x: &[f32], out: &mut [f32]) {
    out.copy_from_slice(x);
    in_place_lanes(ops, norm, out);
}

#[inline(always)]
fn in_place_lanes<O: Ops>(ops: O, norm: &Norm<'_>, x: &mut [f32]) {
    assert!(norm.groups > 0 && x.len().is_multiple_of(norm.groups), "equal groups");
    let len = x.len() / norm.groups;
    if len == 0 {
        return;
    }
    for (g, group) in x.chunks_exact_mut(len).enumerate() {
        divide(ops, norm, group);
        if let Some(weight) = norm.weight {
            let weight = of_group(weight, g, len, norm.groups);
            group.iter_mut().zip(weight).for_each(|(y, w)| *y *= w);
        }
        if let Some(bias) = norm.bias {
            let bias = of_group(bias, g, len, norm.groups);
            group.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    }
}

/// The part of a weight that belongs to group `g`.
#[inline(always)]
fn of_group(weight: &[f32], g: usize, len: usize, groups: usize) -> &[f32] {
    if weight.len() == len {
        return weight;
    }
    assert_eq!(weight.len(), len * groups, "a weight for each element of a row or of a group");
    &weight[g * len..][..len]
}

#[inline(always)]
fn divide<O: Ops>(ops: O, norm: &Norm<'_>, x: &mut [f32]) {
    let n = x.len() as f32;
    if norm.kind == NormKind::Layer {
        let mean = total(ops, x) / n;
        x.iter_mut().for_each(|v| *v -= mean);
    }
    let squares = dot(ops, x, x);
    let factor = match norm.kind {
        NormKind::Rms | NormKind::Layer => 1.0 / (squares / n + norm.eps).sqrt(),
        NormKind::L2 => 1.0 / squares.sqrt().max(norm.eps),
    };
    x.iter_mut().for_each(|v| *v *= factor);
}

/// The sum of `x` in eight lanes.
#[inline(always)]
fn total<O: Ops>(ops: O, x: &[f32]) -> f32 {
    let mut acc = ops.splat(0.0);
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        acc = ops.add(acc, ops.load(chunk));
    }
    let mut lanes = [0.0; LANES];
    ops.store(acc, &mut lanes);
    for i in 0..tail.len() {
        lanes[i] += tail[i];
    }
    sum(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::matmul::tests::numbers;

    fn reference(norm: &Norm<'_>, x: &[f32]) -> Vec<f64> {
        let len = x.len() / norm.groups;
        let groups = x.chunks(len).enumerate();
        groups.flat_map(|(g, x)| reference_group(norm, g, x)).collect()
    }

    fn reference_group(norm: &Norm<'_>, g: usize, x: &[f32]) -> Vec<f64> {
        let mut x: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
        let n = x.len() as f64;
        if norm.kind == NormKind::Layer {
            let mean = x.iter().sum::<f64>() / n;
            x.iter_mut().for_each(|v| *v -= mean);
        }
        let squares: f64 = x.iter().map(|v| v * v).sum();
        let by = match norm.kind {
            NormKind::L2 => squares.sqrt().max(f64::from(norm.eps)),
            _ => (squares / n + f64::from(norm.eps)).sqrt(),
        };
        let len = x.len();
        let at = |w: &[f32], i: usize| f64::from(w[if w.len() == len { i } else { g * len + i }]);
        let scaled = x.iter().enumerate().map(|(i, v)| {
            let weight = norm.weight.map_or(1.0, |w| at(w, i));
            v / by * weight + norm.bias.map_or(0.0, |b| at(b, i))
        });
        scaled.collect()
    }

    #[test]
    fn norms_are_their_formulas_in_every_tier() {
        for kind in [NormKind::Rms, NormKind::Layer, NormKind::L2] {
            for (groups, len) in [(1, 1), (1, 7), (1, 256), (4, 33), (8, 16)] {
                let (x, w, b) =
                    (numbers(1, groups * len), numbers(2, groups * len), numbers(3, len));
                for weight in [None, Some(&w[..]), Some(&w[..len])] {
                    for bias in [None, Some(&b[..])] {
                        let norm = Norm { kind, eps: 1e-5, groups, weight, bias };
                        let expected = reference(&norm, &x);
                        let mut scalar = vec![0.0; x.len()];
                        normalize(Isa::SCALAR, &norm, &x, &mut scalar);
                        for (y, e) in scalar.iter().zip(&expected) {
                            assert!(
                                (f64::from(*y) - e).abs() <= 3e-6 * (1.0 + e.abs()),
                                "{norm:?}"
                            );
                        }
                        for isa in Isa::supported() {
                            let mut y = x.clone();
                            normalize_in_place(isa, &norm, &mut y);
                            assert_eq!(y, scalar, "{isa} {kind:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rows_of_zeros_stay_zero() {
        for kind in [NormKind::Rms, NormKind::Layer, NormKind::L2] {
            let norm = Norm { kind, eps: 1e-6, groups: 1, weight: None, bias: None };
            let mut x = [0.0; 20];
            normalize_in_place(Isa::detect(), &norm, &mut x);
            assert_eq!(x, [0.0; 20]);
        }
    }
}
