//! The matrix product: a panel of 32 rows times tokens, one micro-kernel for all types.
//!
//! A register holds 16 rows; a tile is two registers of rows by `C` tokens. All blocks of a lane
//! are summed in registers, then lanes are added in the order of [`table`](crate::table).

use super::blocks::Block;
use super::panel::{CODE_WORDS, LANES, ROWS, at};
use crate::act::{ActGroup, ActRow, BLOCKS, GROUP, Q8Acts, SCALED, SUMMED};
use crate::block_panel::block_words;
use crate::table::Panel;
use std::arch::x86_64::*;

/// Sums of `C` tokens with two registers of rows.
type Tile<const C: usize> = [[__m512; 2]; C];

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn gemm<B: Block>(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    if B::HALVES {
        tokens_by::<B, 4>(panel, acts, out)
    } else {
        tokens_by::<B, 6>(panel, acts, out)
    }
}

/// Takes tokens in tiles of nearly equal size, at most `MOST`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn tokens_by<B: Block, const MOST: usize>(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    let n = acts.n();
    let n_tiles = n.div_ceil(MOST);
    for i in 0..n_tiles {
        let (first, end) = (i * n / n_tiles, (i + 1) * n / n_tiles);
        match end - first {
            1 => tile::<B, 1>(panel, acts, first, out),
            2 => tile::<B, 2>(panel, acts, first, out),
            3 => tile::<B, 3>(panel, acts, first, out),
            4 => tile::<B, 4>(panel, acts, first, out),
            5 => tile::<B, 5>(panel, acts, first, out),
            _ => tile::<B, 6>(panel, acts, first, out),
        }
    }
}

/// Tokens `first..first + C` with all rows.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
fn tile<B: Block, const C: usize>(
    panel: &Panel<'_>,
    acts: Q8Acts<'_>,
    first: usize,
    out: &mut [f32],
) {
    let acts: [ActRow<'_>; C] = std::array::from_fn(|c| acts.row(first + c));
    let zero = [[_mm512_setzero_ps(); 2]; C];
    let (mut total, mut half, mut quarter) = (zero, zero, zero);
    sum_lane::<B, C>(panel, &acts, (0, false), &mut total);
    sum_lane::<B, C>(panel, &acts, (4, true), &mut total);
    sum_lane::<B, C>(panel, &acts, (2, false), &mut quarter);
    sum_lane::<B, C>(panel, &acts, (6, true), &mut quarter);
    add(&mut total, &quarter);
    sum_lane::<B, C>(panel, &acts, (1, false), &mut half);
    sum_lane::<B, C>(panel, &acts, (5, true), &mut half);
    sum_lane::<B, C>(panel, &acts, (3, false), &mut quarter);
    sum_lane::<B, C>(panel, &acts, (7, true), &mut quarter);
    add(&mut half, &quarter);
    add(&mut total, &half);
    for (c, rows) in total.iter().enumerate() {
        let (to, _) = out[(first + c) * ROWS..][..ROWS].as_chunks_mut::<LANES>();
        for (to, sums) in to.iter_mut().zip(rows) {
            // SAFETY: an array of 16 is written.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), *sums) };
        }
    }
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add<const C: usize>(a: &mut Tile<C>, b: &Tile<C>) {
    for c in 0..C {
        for r in 0..2 {
            a[c][r] = _mm512_add_ps(a[c][r], b[c][r]);
        }
    }
}

/// The blocks of one lane, summed in order; then added `to` what is there, or written over it. (Not a
/// constant of the type: the inner loop is inlined where it is called from one place alone.)
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
fn sum_lane<B: Block, const C: usize>(
    panel: &Panel<'_>,
    acts: &[ActRow<'_>; C],
    (lane, is_added): (usize, bool),
    to: &mut Tile<C>,
) {
    let lane = lane % BLOCKS;
    let n_groups = panel.k.div_ceil(GROUP);
    let words = block_words(ROWS, B::HALVES, B::MINS);
    // The last group may be cut short.
    let n_blocks = panel.k.div_ceil(SCALED);
    let with_lane = n_blocks.saturating_sub(lane).div_ceil(BLOCKS);
    let blocks = &panel.memory[at(lane, 0, n_groups) * words..][..with_lane * words];
    let mut rows: [ActRow<'_>; C] = [&[]; C];
    for c in 0..C {
        rows[c] = &acts[c][..with_lane];
    }
    let mut f = [[_mm512_setzero_ps(); 2]; C];
    for (g, block) in blocks.chunks_exact(words).enumerate() {
        let mut act = [&rows[0][g]; C];
        for c in 1..C {
            act[c] = &rows[c][g];
        }
        let p = block_products::<B, C>(block, &act, lane);
        for c in 0..C {
            let scale = _mm512_set1_ps(act[c].scales[lane]);
            for r in 0..2 {
                f[c][r] = _mm512_fmadd_ps(p[c][r], scale, f[c][r]);
            }
        }
    }
    if is_added {
        add(to, &f);
    } else {
        *to = f;
    }
}

/// What a block gives before it is scaled by the activations' scales.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn block_products<B: Block, const C: usize>(
    block: &[f32],
    act: &[&ActGroup; C],
    lane: usize,
) -> Tile<C> {
    let (codes, rest) = block.split_at(CODE_WORDS);
    let (first, second) = codes.split_at(CODE_WORDS / 2);
    let vector = |i: usize| load_rows(&rest[i * ROWS..][..ROWS]);
    let mut sums = [[_mm512_setzero_si512(); 2]; C];
    let mut p = [[_mm512_setzero_ps(); 2]; C];
    if B::HALVES {
        start::<B, C>(&mut sums, act, |act| act.sums[0][lane]);
        add_products(&mut sums, first, act, lane * SCALED);
        add_scaled::<C, true>(&mut p, &sums, vector(0));
        start::<B, C>(&mut sums, act, |act| act.sums[1][lane]);
        add_products(&mut sums, second, act, lane * SCALED + SUMMED);
        add_scaled::<C, false>(&mut p, &sums, vector(1));
    } else {
        start::<B, C>(&mut sums, act, |act| act.totals[lane]);
        add_products(&mut sums, first, act, lane * SCALED);
        add_products(&mut sums, second, act, lane * SCALED + SUMMED);
        add_scaled::<C, true>(&mut p, &sums, vector(0));
    }
    if B::MINS && B::HALVES {
        add_mins(&mut p, vector(2), act, |act| act.sums[0][lane]);
        add_mins(&mut p, vector(3), act, |act| act.sums[1][lane]);
    } else if B::MINS {
        add_mins(&mut p, vector(1), act, |act| act.totals[lane]);
    }
    p
}

/// Numbers of 32 rows.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn load_rows(x: &[f32]) -> [__m512; 2] {
    let (x, _) = x.as_chunks::<LANES>();
    // SAFETY: arrays of 16 are read.
    unsafe { [_mm512_loadu_ps(x[0].as_ptr()), _mm512_loadu_ps(x[1].as_ptr())] }
}

/// Sums of products before the first: what makes up for the offset of the codes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn start<B: Block, const C: usize>(
    sums: &mut [[__m512i; 2]; C],
    act: &[&ActGroup; C],
    sum: impl Fn(&ActGroup) -> i32,
) {
    for c in 0..C {
        sums[c] = [_mm512_setzero_si512(); 2];
        if B::OFFSET != 0 {
            let shifts = _mm512_set1_epi32(B::OFFSET.trailing_zeros() as i32);
            let sum = _mm512_sllv_epi32(_mm512_set1_epi32(sum(act[c])), shifts);
            sums[c] = [_mm512_sub_epi32(_mm512_setzero_si512(), sum); 2];
        }
    }
}

/// Adds products of half a block with activations from element `from` of their group on.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_products<const C: usize>(
    sums: &mut [[__m512i; 2]; C],
    codes: &[f32],
    act: &[&ActGroup; C],
    from: usize,
) {
    let (quarters, _) = codes.as_chunks::<ROWS>();
    for (q, rows) in quarters[..SUMMED / 4].iter().enumerate() {
        let (rows, _) = rows.as_chunks::<LANES>();
        // SAFETY: arrays of 16 words are read.
        let w = unsafe {
            let load = |r: usize| _mm512_loadu_si512(rows[r].as_ptr().cast());
            [load(0), load(1)]
        };
        for c in 0..C {
            let (fours, _) = act[c].codes.as_chunks::<4>();
            let four = fours[from / 4 % (GROUP / 4) + q].map(|code| code as u8);
            let four = _mm512_set1_epi32(i32::from_le_bytes(four));
            for r in 0..2 {
                sums[c][r] = _mm512_dpbusd_epi32(sums[c][r], w[r], four);
            }
        }
    }
}

/// `p += scales * sums`, or, where it is the `FIRST`, `p = scales * sums`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_scaled<const C: usize, const FIRST: bool>(
    p: &mut Tile<C>,
    sums: &[[__m512i; 2]; C],
    scales: [__m512; 2],
) {
    for c in 0..C {
        for r in 0..2 {
            let sum = _mm512_cvtepi32_ps(sums[c][r]);
            p[c][r] = match FIRST {
                true => _mm512_mul_ps(scales[r], sum),
                false => _mm512_fmadd_ps(scales[r], sum, p[c][r]),
            };
        }
    }
}

/// `p += mins * sum`, `sum` being one of each token.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_mins<const C: usize>(
    p: &mut Tile<C>,
    mins: [__m512; 2],
    act: &[&ActGroup; C],
    sum: impl Fn(&ActGroup) -> i32,
) {
    for c in 0..C {
        let sum = _mm512_cvtepi32_ps(_mm512_set1_epi32(sum(act[c])));
        for r in 0..2 {
            p[c][r] = _mm512_fmadd_ps(mins[r], sum, p[c][r]);
        }
    }
}
