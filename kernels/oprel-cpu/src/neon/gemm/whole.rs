//! The same for types whose blocks are 256 weights: a group's products and scales are summed in
//! integers, and give one term of a lane.

use super::{
    Act, FOURS, Four, MOST, Shaped, Step, Sums, add_half, arranged, load, load_rows, none, write,
};
use crate::act::{BLOCKS, Q8Acts, WholeGroup, WholeRow};
use crate::block_panel::{block_words, group_words};
use crate::neon::panel::{CODE_WORDS, FOUR_ROWS, LANES, ROWS};
use crate::table::Panel;
use std::arch::aarch64::*;

/// Takes tokens in tiles of nearly equal size.
#[inline(always)]
pub(super) fn gemm<P: Step, S: Shaped>(
    step: P,
    panel: &Panel<'_>,
    acts: Q8Acts<'_>,
    out: &mut [f32],
) {
    let n_pairs = acts.n().div_ceil(2);
    let n_tiles = n_pairs.div_ceil(MOST);
    let mut pair = 0;
    for i in 0..n_tiles {
        let n = (n_pairs - pair).div_ceil(n_tiles - i);
        match n {
            1 => tile::<P, S, 1>(step, panel, acts, 2 * pair, out),
            2 => tile::<P, S, 2>(step, panel, acts, 2 * pair, out),
            3 => tile::<P, S, 3>(step, panel, acts, 2 * pair, out),
            _ => tile::<P, S, 4>(step, panel, acts, 2 * pair, out),
        }
        pair += n;
    }
}

/// Tokens `first..first + 2 * C`, as far as there are, with all rows.
#[inline(always)]
fn tile<P: Step, S: Shaped, const C: usize>(
    step: P,
    panel: &Panel<'_>,
    acts: Q8Acts<'_>,
    first: usize,
    out: &mut [f32],
) {
    let mut rows: [[WholeRow<'_>; 2]; C] = [[&[]; 2]; C];
    for t in 0..2 * C {
        rows[t / 2][t % 2] = acts.whole_row((first + t).min(acts.n() - 1));
    }
    let words = block_words(ROWS, S::HALVES, S::MINS);
    let group_words = group_words(ROWS, S::HALVES, S::MINS, true);
    // SAFETY: `step` proves the features.
    let mut lanes = unsafe { [[[[vdupq_n_f32(0.0); 2]; C]; FOURS]; BLOCKS] };
    let n_groups = rows[0][0].len();
    for (g, group) in panel.memory.chunks_exact(group_words).enumerate().take(n_groups) {
        let mut act = [[&rows[0][0][g]; 2]; C];
        for t in 0..2 * C {
            act[t / 2][t % 2] = &rows[t / 2][t % 2][g];
        }
        // SAFETY: as above.
        let (mut p, mut mins) = unsafe { ([none::<C>(); FOURS], [none::<C>(); FOURS]) };
        for b in 0..BLOCKS {
            let block = &group[b * words..][..words];
            add_block::<P, S, C>(step, block, act, b, &mut p, &mut mins);
        }
        let numbers = &group[BLOCKS * words..];
        for four in 0..FOURS {
            let numbers = &numbers[four * LANES..];
            // SAFETY: as above.
            unsafe {
                add_group::<S, C>(
                    &p[four],
                    &mins[four],
                    numbers,
                    act,
                    &mut lanes[g % BLOCKS][four],
                );
            }
        }
    }
    let n = (2 * C).min(acts.n() - first);
    // SAFETY: as above.
    unsafe { write(&lanes, &mut out[first * ROWS..][..n * ROWS]) };
}

/// Adds block `b` of a group to the integers.
#[inline(always)]
fn add_block<P: Step, S: Shaped, const C: usize>(
    step: P,
    block: &[f32],
    act: [[&WholeGroup; 2]; C],
    b: usize,
    p: &mut [Sums<C>; FOURS],
    mins: &mut [Sums<C>; FOURS],
) {
    let b = b % BLOCKS;
    let (codes, vectors) = block.split_at(CODE_WORDS);
    let x: [Act; C] = arranged::<P, C>(step, act.map(|pair| pair.map(|act| &act.codes)), b);
    let sum =
        |of: fn(&WholeGroup, usize) -> i16| act.map(|pair| pair.map(|act| i32::from(of(act, b))));
    for four in 0..FOURS {
        let vectors = &vectors[four * LANES..];
        // SAFETY: `step` proves the features.
        unsafe {
            let rows = load_rows(&codes[four * FOUR_ROWS..][..FOUR_ROWS]);
            if S::HALVES {
                let sums = add_half::<P, C>(step, none(), &rows[0], &x, 0);
                add_scaled(step, &mut p[four], sums, vectors);
                let sums = add_half::<P, C>(step, none(), &rows[1], &x, 1);
                add_scaled(step, &mut p[four], sums, &vectors[ROWS..]);
            } else {
                let sums = add_half::<P, C>(step, none(), &rows[0], &x, 0);
                let sums = add_half::<P, C>(step, sums, &rows[1], &x, 1);
                add_scaled(step, &mut p[four], sums, vectors);
            }
            if S::MINS && S::HALVES {
                let firsts = sum(|act, b| act.runs[2 * b]);
                add_mins(&mut mins[four], firsts, &vectors[2 * ROWS..]);
                let seconds = sum(|act, b| act.runs[2 * b + 1]);
                add_mins(&mut mins[four], seconds, &vectors[3 * ROWS..]);
            } else if S::MINS {
                add_mins(&mut mins[four], sum(|act, b| act.totals[b]), &vectors[ROWS..]);
            }
        }
    }
}

/// `p += scales * sums`.
#[inline(always)]
fn add_scaled<P: Step, const C: usize>(step: P, p: &mut Sums<C>, sums: Sums<C>, scales: &[f32]) {
    for c in 0..C {
        let sums = step.by_token(sums[c]);
        // SAFETY: `step` proves the features.
        unsafe {
            let scales = vreinterpretq_s32_f32(load(scales));
            for t in 0..2 {
                p[c][t] = vmlaq_s32(p[c][t], scales, sums[t]);
            }
        }
    }
}

/// `to += mins * sums`.
#[target_feature(enable = "neon")]
#[inline]
fn add_mins<const C: usize>(to: &mut Sums<C>, sums: [[i32; 2]; C], mins: &[f32]) {
    let mins = vreinterpretq_s32_f32(load(mins));
    for c in 0..C {
        for t in 0..2 {
            to[c][t] = vmlaq_n_s32(to[c][t], mins, sums[c][t]);
        }
    }
}

/// Adds a group's integers, times its numbers and the activations' scales, to a lane.
#[target_feature(enable = "neon")]
#[inline]
fn add_group<S: Shaped, const C: usize>(
    p: &Sums<C>,
    mins: &Sums<C>,
    numbers: &[f32],
    act: [[&WholeGroup; 2]; C],
    lane: &mut Four<C>,
) {
    let d = load(numbers);
    for c in 0..C {
        for t in 0..2 {
            let mut y = vmulq_f32(d, vcvtq_f32_s32(p[c][t]));
            if S::MINS {
                y = vfmaq_f32(y, load(&numbers[ROWS..]), vcvtq_f32_s32(mins[c][t]));
            }
            lane[c][t] = vfmaq_n_f32(lane[c][t], y, act[c][t].scale);
        }
    }
}
