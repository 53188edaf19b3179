//! A slice of 32 rows times a few tokens, of types with integer scales.

use super::super::few::Ahead;
use super::super::slices::{Slice, Sliced};
use crate::act::{BLOCKS, Q8Acts, WholeGroup};
use std::arch::x86_64::*;

/// Numbers of 32 rows with one token.
type Two = [__m512; 2];
/// Integers likewise.
type Integers<const C: usize> = [[__m512i; 2]; C];

/// Adds the products of a slice, group `g`, with `C` tokens from `first` on to the sums of its lane.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
pub(in super::super) fn tile<B: Sliced, const C: usize>(
    slice: &Slice,
    acts: Q8Acts<'_>,
    (first, g): (usize, usize),
    ahead: &mut Ahead,
    sums: &mut [Two],
) {
    let mut act = [&acts.whole_row(first)[g]; C];
    for c in 1..C {
        act[c] = &acts.whole_row(first + c)[g];
    }
    let mut p = [[_mm512_setzero_si512(); 2]; C];
    for lane in 0..BLOCKS {
        ahead.fetch_block();
        add_block::<B, C>(slice, &act, lane, &mut p);
    }
    let (lanes, _) = sums.as_chunks_mut::<C>();
    let to = &mut lanes[g % BLOCKS];
    let mins = if B::MINS { mins_of::<C>(slice, &act) } else { p };
    for c in 0..C {
        let scale = _mm512_set1_ps(act[c].scale);
        for r in 0..2 {
            let mut y = _mm512_mul_ps(slice.numbers[0][r], _mm512_cvtepi32_ps(p[c][r]));
            if B::MINS {
                y = _mm512_fnmadd_ps(slice.numbers[1][r], _mm512_cvtepi32_ps(mins[c][r]), y);
            }
            to[c][r] = _mm512_fmadd_ps(y, scale, to[c][r]);
        }
    }
}

/// Adds the products of one block times its scales.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_block<B: Sliced, const C: usize>(
    slice: &Slice,
    act: &[&WholeGroup; C],
    lane: usize,
    p: &mut Integers<C>,
) {
    let halves = if B::HALVES { 2 } else { 1 };
    for half in 0..halves {
        let mut sums = [[_mm512_setzero_si512(); 2]; C];
        if B::OFFSET != 0 {
            for c in 0..C {
                let sum = match B::HALVES {
                    true => act[c].runs[2 * lane + half],
                    false => act[c].totals[lane],
                };
                let start = i32::from(sum) * -(B::OFFSET * B::TIMES[lane]);
                sums[c] = [_mm512_set1_epi32(start); 2];
            }
        }
        let quarters = if B::HALVES { 4 } else { 8 };
        for q in half * quarters..(half + 1) * quarters {
            // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
            let w = unsafe { B::codes(slice, lane, q) };
            for c in 0..C {
                let (fours, _) = act[c].codes.as_chunks::<4>();
                let four: [i8; 4] = fours[lane * 8 + q];
                let four = _mm512_set1_epi32(bytemuck::cast(four));
                for r in 0..2 {
                    sums[c][r] = _mm512_dpbusd_epi32(sums[c][r], w[r], four);
                }
            }
        }
        let scales = slice.scales[half * BLOCKS + lane];
        for c in 0..C {
            for r in 0..2 {
                let scaled = _mm512_mullo_epi32(_mm512_castps_si512(scales[r]), sums[c][r]);
                p[c][r] = _mm512_add_epi32(p[c][r], scaled);
            }
        }
    }
}

/// Minima times sums of activations.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn mins_of<const C: usize>(slice: &Slice, act: &[&WholeGroup; C]) -> Integers<C> {
    let mut mins = [[_mm512_setzero_si512(); 2]; C];
    for pair in 0..BLOCKS / 2 {
        for c in 0..C {
            let (pairs, _) = act[c].totals.as_chunks::<2>();
            let sums = _mm512_set1_epi32(bytemuck::cast(pairs[pair]));
            for r in 0..2 {
                let of = _mm512_castps_si512(slice.mins[pair][r]);
                mins[c][r] = _mm512_dpwssd_epi32(mins[c][r], of, sums);
            }
        }
    }
    mins
}
