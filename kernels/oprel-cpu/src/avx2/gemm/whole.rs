//! The same for types whose blocks are 256 weights: a group's products and scales are summed in
//! integers, and give one term of a lane.

use super::{MOST, Shaped, Step, Sums, Tile, numbers, sums_of, write};
use crate::act::{BLOCKS, Q8Acts, WholeGroup, WholeRow};
use crate::avx2::panel::{LANES, QUARTERS, ROWS};
use crate::block_panel::{block_words, group_words};
use crate::table::Panel;
use std::arch::x86_64::*;

/// Takes tokens in tiles of nearly equal size.
#[inline(always)]
pub(super) fn gemm<P: Step, S: Shaped>(
    step: P,
    panel: &Panel<'_>,
    acts: Q8Acts<'_>,
    out: &mut [f32],
) {
    let n_tiles = acts.n().div_ceil(MOST);
    let mut t = 0;
    for i in 0..n_tiles {
        let n = (acts.n() - t).div_ceil(n_tiles - i);
        match n {
            1 => tile::<P, S, 1>(step, panel, acts, t, out),
            2 => tile::<P, S, 2>(step, panel, acts, t, out),
            3 => tile::<P, S, 3>(step, panel, acts, t, out),
            _ => tile::<P, S, 4>(step, panel, acts, t, out),
        }
        t += n;
    }
}

/// Tokens `first..first + C` with all rows.
#[inline(always)]
fn tile<P: Step, S: Shaped, const C: usize>(
    step: P,
    panel: &Panel<'_>,
    acts: Q8Acts<'_>,
    first: usize,
    out: &mut [f32],
) {
    let mut rows: [WholeRow<'_>; C] = [&[]; C];
    for c in 0..C {
        rows[c] = acts.whole_row(first + c);
    }
    let words = block_words(ROWS, S::HALVES, S::MINS);
    // SAFETY: `step` proves the features.
    let mut lanes = unsafe { [[[_mm256_setzero_ps(); 2]; C]; BLOCKS] };
    let group_words = group_words(ROWS, S::HALVES, S::MINS, true);
    for (g, group) in panel.memory.chunks_exact(group_words).enumerate().take(rows[0].len()) {
        let mut act = [&rows[0][g]; C];
        for c in 1..C {
            act[c] = &rows[c][g];
        }
        // SAFETY: as above.
        let (mut p, mut mins) =
            unsafe { ([[_mm256_setzero_si256(); 2]; C], [[_mm256_setzero_si256(); 2]; C]) };
        for b in 0..BLOCKS {
            let (block, _) = group[b * words..][..words].as_chunks::<LANES>();
            add_block::<P, S, C>(step, block, act, b, &mut p, &mut mins);
        }
        let (d, _) = group[BLOCKS * words..].as_chunks::<LANES>();
        // SAFETY: as above.
        unsafe { add_group::<S, C>(&p, &mins, d, act, &mut lanes[g % BLOCKS]) };
    }
    // SAFETY: as above.
    unsafe { write(&lanes, &mut out[first * ROWS..][..C * ROWS]) };
}

/// Adds block `b` of a group to the integers.
#[inline(always)]
fn add_block<P: Step, S: Shaped, const C: usize>(
    step: P,
    block: &[[f32; LANES]],
    act: [&WholeGroup; C],
    b: usize,
    p: &mut Sums<C>,
    mins: &mut Sums<C>,
) {
    let b = b % BLOCKS;
    let mut codes = [&[[0; 4]; QUARTERS]; C];
    let (mut firsts, mut seconds, mut both) = ([0; C], [0; C], [0; C]);
    for c in 0..C {
        codes[c] = &act[c].codes.as_chunks::<4>().0.as_chunks::<QUARTERS>().0[b];
        firsts[c] = i32::from(act[c].runs[2 * b]);
        seconds[c] = i32::from(act[c].runs[2 * b + 1]);
        both[c] = i32::from(act[c].totals[b]);
    }
    let (quarters, vectors) = block.split_at(2 * QUARTERS);
    let (first, second) = quarters.split_at(QUARTERS);
    // SAFETY: `step` proves the features.
    unsafe {
        if S::HALVES {
            let sums = sums_of::<P, S, C, 4>(step, first, codes, 0, firsts);
            add_scaled(p, &sums, &vectors[..2]);
            let sums = sums_of::<P, S, C, 4>(step, second, codes, 4, seconds);
            add_scaled(p, &sums, &vectors[2..4]);
        } else {
            let sums = sums_of::<P, S, C, 8>(step, quarters, codes, 0, both);
            add_scaled(p, &sums, &vectors[..2]);
        }
        if S::MINS && S::HALVES {
            add_scaled(mins, &all(firsts), &vectors[4..6]);
            add_scaled(mins, &all(seconds), &vectors[6..8]);
        } else if S::MINS {
            add_scaled(mins, &all(both), &vectors[2..4]);
        }
    }
}

/// Numbers of tokens for all rows.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn all<const C: usize>(x: [i32; C]) -> Sums<C> {
    let mut sums = [[_mm256_setzero_si256(); 2]; C];
    for c in 0..C {
        sums[c] = [_mm256_set1_epi32(x[c]); 2];
    }
    sums
}

/// `to += scales * sums`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_scaled<const C: usize>(to: &mut Sums<C>, sums: &Sums<C>, scales: &[[f32; LANES]]) {
    let scales = numbers(scales);
    for c in 0..C {
        for r in 0..2 {
            let scaled = _mm256_mullo_epi32(_mm256_castps_si256(scales[r]), sums[c][r]);
            to[c][r] = _mm256_add_epi32(to[c][r], scaled);
        }
    }
}

/// Adds a group's integers, times its numbers and the activations' scales, to a lane.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_group<S: Shaped, const C: usize>(
    p: &Sums<C>,
    mins: &Sums<C>,
    d: &[[f32; LANES]],
    act: [&WholeGroup; C],
    lane: &mut Tile<C>,
) {
    let scales = numbers(d);
    let d_min = if S::MINS { numbers(&d[2..]) } else { scales };
    for c in 0..C {
        let scale = _mm256_set1_ps(act[c].scale);
        for r in 0..2 {
            let mut y = _mm256_mul_ps(scales[r], _mm256_cvtepi32_ps(p[c][r]));
            if S::MINS {
                y = _mm256_fmadd_ps(d_min[r], _mm256_cvtepi32_ps(mins[c][r]), y);
            }
            lane[c][r] = _mm256_fmadd_ps(y, scale, lane[c][r]);
        }
    }
}
