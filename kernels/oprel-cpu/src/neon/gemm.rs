//! The matrix product: a panel of 16 rows times tokens, two by two.
//!
//! A register holds four rows; a tile is 16 rows by `C` pairs of tokens. A block's products are
//! summed in registers; what they add to, eight lanes of [`table`](crate::table)'s order for each
//! row and token, lies in the first level of cache. Where tokens are odd, the last is its own
//! companion.
//!
//! Functions that lead to [`Step`] are inlined into one compiled for the tier, whose proof they
//! carry; they use no closures around its methods, which might not be.

mod whole;

use super::panel::{CODE_WORDS, FOUR_ROWS, LANES, ROWS};
use super::steps::Step;
use crate::act::{ActGroup, ActRow, BLOCKS, GROUP, Q8Acts, SUMMED};
use crate::block_panel::block_words;
use crate::table::Panel;
use std::arch::aarch64::*;

/// What the product must know about a type: see [`Block`](crate::blocks::Block).
pub(super) struct Shape<const MINS: bool, const HALVES: bool>;

/// The same of a type of [`Block::WHOLE`](crate::blocks::Block).
pub(super) struct WholeShape<const MINS: bool, const HALVES: bool>;

pub(super) trait Shaped {
    const MINS: bool;
    const HALVES: bool;
    const WHOLE: bool = false;
}

impl<const MINS: bool, const HALVES: bool> Shaped for WholeShape<MINS, HALVES> {
    const MINS: bool = MINS;
    const HALVES: bool = HALVES;
    const WHOLE: bool = true;
}

impl<const MINS: bool, const HALVES: bool> Shaped for Shape<MINS, HALVES> {
    const MINS: bool = MINS;
    const HALVES: bool = HALVES;
}

/// Fours of rows.
const FOURS: usize = ROWS / LANES;
/// Most pairs of tokens of a tile.
const MOST: usize = 4;

/// Numbers of four rows for `C` pairs of tokens.
type Four<const C: usize> = [[float32x4_t; 2]; C];
/// Integer sums likewise, as the step adds them.
type Sums<const C: usize> = [[int32x4_t; 2]; C];
/// Sixteen activations of two tokens, for the halves of a block.
type Act = [[int8x16_t; 2]; 2];

/// Takes tokens in tiles of nearly equal size.
#[inline(always)]
pub(super) fn gemm<P: Step, S: Shaped>(
    step: P,
    panel: &Panel<'_>,
    acts: Q8Acts<'_>,
    out: &mut [f32],
) {
    if S::WHOLE {
        return whole::gemm::<P, S>(step, panel, acts, out);
    }
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
    let mut rows: [[ActRow<'_>; 2]; C] = [[&[]; 2]; C];
    for t in 0..2 * C {
        rows[t / 2][t % 2] = acts.row((first + t).min(acts.n() - 1));
    }
    let words = block_words(ROWS, S::HALVES, S::MINS);
    // SAFETY: `step` proves the features.
    let mut lanes = unsafe { [[[[vdupq_n_f32(0.0); 2]; C]; FOURS]; BLOCKS] };
    for (g, group) in panel.memory.chunks_exact(BLOCKS * words).enumerate() {
        let mut act = [[&rows[0][0][g]; 2]; C];
        for t in 0..2 * C {
            act[t / 2][t % 2] = &rows[t / 2][t % 2][g];
        }
        for b in 0..BLOCKS {
            let block = &group[b * words..][..words];
            add_block::<P, S, C>(step, block, act, b, &mut lanes[b]);
        }
    }
    let n = (2 * C).min(acts.n() - first);
    // SAFETY: as above.
    unsafe { write(&lanes, &mut out[first * ROWS..][..n * ROWS]) };
}

/// Adds the lanes in order and writes the sums, (tokens, rows).
#[target_feature(enable = "neon")]
#[inline]
fn write<const C: usize>(lanes: &[[Four<C>; FOURS]; BLOCKS], out: &mut [f32]) {
    for (t, out) in out.chunks_exact_mut(ROWS).enumerate() {
        for (four, to) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let lane = |l: usize| lanes[l][four][t / 2][t % 2];
            let add = |a: usize, b: usize| vaddq_f32(lane(a), lane(b));
            let even = vaddq_f32(add(0, 4), add(2, 6));
            let odd = vaddq_f32(add(1, 5), add(3, 7));
            // SAFETY: an array of four is written.
            unsafe { vst1q_f32(to.as_mut_ptr(), vaddq_f32(even, odd)) };
        }
    }
}

/// Adds block `b` of a group to its lane.
#[inline(always)]
fn add_block<P: Step, S: Shaped, const C: usize>(
    step: P,
    block: &[f32],
    act: [[&ActGroup; 2]; C],
    b: usize,
    lane: &mut [Four<C>; FOURS],
) {
    let b = b % BLOCKS;
    let (codes, vectors) = block.split_at(CODE_WORDS);
    let x = arranged::<P, C>(step, act.map(|pair| pair.map(|act| &act.codes)), b);
    for four in 0..FOURS {
        let vectors = &vectors[four * LANES..];
        // SAFETY: `step` proves the features.
        unsafe {
            let rows = load_rows(&codes[four * FOUR_ROWS..][..FOUR_ROWS]);
            let mut p;
            if S::HALVES {
                let sums = add_half::<P, C>(step, none(), &rows[0], &x, 0);
                p = scaled(step, sums, load(vectors));
                let sums = add_half::<P, C>(step, none(), &rows[1], &x, 1);
                add_scaled(step, &mut p, sums, load(&vectors[ROWS..]));
            } else {
                let sums = add_half::<P, C>(step, none(), &rows[0], &x, 0);
                let sums = add_half::<P, C>(step, sums, &rows[1], &x, 1);
                p = scaled(step, sums, load(vectors));
            }
            if S::MINS && S::HALVES {
                add_mins(&mut p, totals(act, 0, b), load(&vectors[2 * ROWS..]));
                add_mins(&mut p, totals(act, 1, b), load(&vectors[3 * ROWS..]));
            } else if S::MINS {
                add_mins(&mut p, totals(act, 2, b), load(&vectors[ROWS..]));
            }
            for c in 0..C {
                for t in 0..2 {
                    let lane = &mut lane[four][c][t];
                    *lane = vfmaq_n_f32(*lane, p[c][t], act[c][t].scales[b]);
                }
            }
        }
    }
}

/// The activations of block `b`, as the step wants them.
#[inline(always)]
fn arranged<P: Step, const C: usize>(step: P, act: [[&[i8; GROUP]; 2]; C], b: usize) -> [Act; C] {
    // SAFETY: `step` proves the features.
    unsafe {
        let mut x = [[[vdupq_n_s8(0); 2]; 2]; C];
        for c in 0..C {
            for half in 0..2 {
                let [a, b] = [codes(act[c][0], b, half), codes(act[c][1], b, half)];
                x[c][half] = step.arrange([a, b]);
            }
        }
        x
    }
}

/// Codes of a half of block `b`.
#[target_feature(enable = "neon")]
#[inline]
fn codes(act: &[i8; GROUP], b: usize, half: usize) -> int8x16_t {
    let (halves, _) = act.as_chunks::<SUMMED>();
    // SAFETY: reads an array of 16 bytes.
    unsafe { vld1q_s8(halves[2 * b + half].as_ptr()) }
}

/// The two halves of a block of four rows.
#[target_feature(enable = "neon")]
#[inline]
fn load_rows(words: &[f32]) -> [[int8x16_t; LANES]; 2] {
    let mut rows = [[vdupq_n_s8(0); LANES]; 2];
    for i in 0..2 * LANES {
        rows[i / LANES][i % LANES] = vreinterpretq_s8_f32(load(&words[i * LANES..]));
    }
    rows
}

/// Four numbers.
#[target_feature(enable = "neon")]
#[inline]
fn load(x: &[f32]) -> float32x4_t {
    let x = &x[..LANES];
    // SAFETY: a slice of four is read.
    unsafe { vld1q_f32(x.as_ptr()) }
}

/// No sums yet.
#[target_feature(enable = "neon")]
#[inline]
fn none<const C: usize>() -> Sums<C> {
    [[vdupq_n_s32(0); 2]; C]
}

/// Adds the products of a half of a block.
#[inline(always)]
fn add_half<P: Step, const C: usize>(
    step: P,
    mut sums: Sums<C>,
    rows: &[int8x16_t; LANES],
    act: &[Act; C],
    half: usize,
) -> Sums<C> {
    for c in 0..C {
        sums[c] = step.add_rows(sums[c], rows, act[c][half]);
    }
    sums
}

/// `scales * sums`.
#[inline(always)]
fn scaled<P: Step, const C: usize>(step: P, sums: Sums<C>, scales: float32x4_t) -> Four<C> {
    // SAFETY: `step` proves the features.
    unsafe {
        let mut p = [[scales; 2]; C];
        for c in 0..C {
            let [a, b] = step.by_token(sums[c]);
            p[c] = [vmulq_f32(scales, vcvtq_f32_s32(a)), vmulq_f32(scales, vcvtq_f32_s32(b))];
        }
        p
    }
}

/// `p += scales * sums`.
#[inline(always)]
fn add_scaled<P: Step, const C: usize>(
    step: P,
    p: &mut Four<C>,
    sums: Sums<C>,
    scales: float32x4_t,
) {
    for c in 0..C {
        let sums = step.by_token(sums[c]);
        for t in 0..2 {
            // SAFETY: `step` proves the features.
            p[c][t] = unsafe { vfmaq_f32(p[c][t], scales, vcvtq_f32_s32(sums[t])) };
        }
    }
}

/// Sums of the activations' codes of block `b`: of the first half, the second half, or both.
#[inline(always)]
fn totals<const C: usize>(act: [[&ActGroup; 2]; C], which: usize, b: usize) -> [[f32; 2]; C] {
    let mut totals = [[0.0; 2]; C];
    for c in 0..C {
        for t in 0..2 {
            totals[c][t] = match which {
                2 => act[c][t].totals[b] as f32,
                half => act[c][t].sums[half][b] as f32,
            };
        }
    }
    totals
}

/// `p += mins * totals`.
#[target_feature(enable = "neon")]
#[inline]
fn add_mins<const C: usize>(p: &mut Four<C>, totals: [[f32; 2]; C], mins: float32x4_t) {
    for c in 0..C {
        for t in 0..2 {
            p[c][t] = vfmaq_n_f32(p[c][t], mins, totals[c][t]);
        }
    }
}
