//! Rotary position embedding: turns pairs of elements by angles that the caller has tabulated.

use crate::lanes::{Ops, tiers};

/// Which elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// (0, 1), (2, 3), ...
    Adjacent,
    /// (0, d/2), (1, d/2 + 1), ...
    Halves,
}

/// Which elements of each head rotate, and how they pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Elements of a head.
    pub head_dim: usize,
    /// The first that rotates.
    pub offset: usize,
    /// How they pair.
    pub pairing: Pairing,
}

tiers! {
    /// Rotates the heads of one token, `x` (heads, head_dim), in place: pair `i` by the angle whose
    /// cosine and sine are `cos[i]`, `sin[i]` (pairs). Elements beyond the pairs stay.
    ///
    /// # Panics
    /// If `x` is no whole number of heads, or a head is too short for the pairs.
    pub fn rotate(rotation: Rotation, x: &mut [f32], cos: &[f32], sin: &[f32]) = rotate_lanes;
}

#[inline(always)]
fn rotate_lanes<O: Ops>(_: O, rotation: Rotation, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let Rotation { head_dim, offset, pairing } = rotation;
    assert!(head_dim > 0 && x.len().is_multiple_of(head_dim), "whole heads");
    assert_eq!(cos.len(), sin.len(), "a cosine and a sine for each pair");
    for head in x.chunks_exact_mut(head_dim) {
        let turned = &mut head[offset..offset + 2 * cos.len()];
        match pairing {
            Pairing::Adjacent => {
                let pairs = turned.as_chunks_mut::<2>().0;
                for ((pair, c), s) in pairs.iter_mut().zip(cos).zip(sin) {
                    let [a, b] = *pair;
                    *pair = [a * c - b * s, a * s + b * c];
                }
            }
            Pairing::Halves => {
                let (first, second) = turned.split_at_mut(cos.len());
                for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                    (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::matmul::tests::numbers;

    #[test]
    fn pairs_turn_by_their_angle_and_the_rest_stays() {
        let angles = [0.3f32, -1.2, 2.5, 0.01, 7.0];
        let (cos, sin) = (angles.map(f32::cos), angles.map(f32::sin));
        for isa in Isa::supported() {
            for pairing in [Pairing::Adjacent, Pairing::Halves] {
                for (head_dim, offset) in [(10, 0), (13, 0), (16, 6)] {
                    let x = numbers(4, 3 * head_dim);
                    let mut y = x.clone();
                    rotate(isa, Rotation { head_dim, offset, pairing }, &mut y, &cos, &sin);
                    for (before, after) in x.chunks(head_dim).zip(y.chunks(head_dim)) {
                        let mut expected = before.to_vec();
                        for i in 0..angles.len() {
                            let (a, b) = match pairing {
                                Pairing::Adjacent => (offset + 2 * i, offset + 2 * i + 1),
                                Pairing::Halves => (offset + i, offset + i + angles.len()),
                            };
                            expected[a] = before[a] * cos[i] - before[b] * sin[i];
                            expected[b] = before[a] * sin[i] + before[b] * cos[i];
                        }
                        assert_eq!(after, expected, "{isa} {pairing:?}");
                    }
                }
            }
        }
    }
}
