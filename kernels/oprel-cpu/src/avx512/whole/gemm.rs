//! The matrix product of types with integer scales: a panel of 32 rows times tokens.
//!
//! A register holds 16 rows; a tile is two registers of rows by `C` tokens. A group is summed in
//! integers, in registers; what it then gives is added to one of eight lanes
//! ([`table`](crate::table)), which lie in the first cache.

use super::super::blocks::Block;
use super::super::panel::{CODE_WORDS, LANES, ROWS};
use super::panel::layout;
use crate::act::{BLOCKS, Q8Acts, SUMMED, WholeGroup, WholeRow};
use crate::table::Panel;
use std::arch::x86_64::*;

/// Most tokens of a tile.
const MOST: usize = 6;

/// How far ahead of its use a panel is fetched to the first cache, in words.
const AHEAD: usize = 2 * (CODE_WORDS + ROWS);

/// Integers of `C` tokens with two registers of rows.
type Sums<const C: usize> = [[__m512i; 2]; C];
/// Numbers likewise.
type Tile<const C: usize> = [[__m512; 2]; C];

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(in super::super) fn gemm<B: Block>(panel: &Panel<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
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
    let layout = const { layout::<B>() };
    let acts: [WholeRow<'_>; C] = std::array::from_fn(|c| acts.whole_row(first + c));
    let mut lanes = [[[_mm512_setzero_ps(); 2]; C]; BLOCKS];
    for (g, group) in panel.memory.chunks_exact(layout.group).enumerate().take(acts[0].len()) {
        let mut act = [&acts[0][g]; C];
        for c in 1..C {
            act[c] = &acts[c][g];
        }
        add_group::<B, C>(group, &act, &mut lanes[g % BLOCKS]);
    }
    for c in 0..C {
        let (to, _) = out[(first + c) * ROWS..][..ROWS].as_chunks_mut::<LANES>();
        for r in 0..2 {
            let pair = |i: usize| _mm512_add_ps(lanes[i][c][r], lanes[i + 4][c][r]);
            let even = _mm512_add_ps(pair(0), pair(2));
            let odd = _mm512_add_ps(pair(1), pair(3));
            // SAFETY: an array of 16 is written.
            unsafe { _mm512_storeu_ps(to[r].as_mut_ptr(), _mm512_add_ps(even, odd)) };
        }
    }
}

/// Adds a group to its lane.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_group<B: Block, const C: usize>(group: &[f32], act: &[&WholeGroup; C], lane: &mut Tile<C>) {
    let layout = const { layout::<B>() };
    let (blocks, rest) = group.split_at(BLOCKS * layout.block);
    let mut p = [load(&rest[layout.n_pairs * ROWS..]); C];
    for (b, block) in blocks.chunks_exact(layout.block).enumerate().take(BLOCKS) {
        add_block::<B, C>(block, act, b, &mut p);
    }
    let numbers = &rest[(layout.n_pairs + 1) * ROWS..];
    let (d, mut y) = (numbers_of(numbers), [[_mm512_setzero_ps(); 2]; C]);
    for c in 0..C {
        for r in 0..2 {
            y[c][r] = _mm512_mul_ps(d[r], _mm512_cvtepi32_ps(p[c][r]));
        }
    }
    if B::MINS {
        let d_min = numbers_of(&numbers[ROWS..]);
        let mins = mins_of::<B, C>(rest, act);
        for c in 0..C {
            for r in 0..2 {
                y[c][r] = _mm512_fnmadd_ps(d_min[r], _mm512_cvtepi32_ps(mins[c][r]), y[c][r]);
            }
        }
    }
    for c in 0..C {
        let scale = _mm512_set1_ps(act[c].scale);
        for r in 0..2 {
            lane[c][r] = _mm512_fmadd_ps(y[c][r], scale, lane[c][r]);
        }
    }
}

/// Adds the products of a block, times its scales.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_block<B: Block, const C: usize>(
    block: &[f32],
    act: &[&WholeGroup; C],
    b: usize,
    p: &mut Sums<C>,
) {
    let (codes, scales) = block.split_at(CODE_WORDS);
    let halves = if B::HALVES { 2 } else { 1 };
    let quarters = 8 / halves;
    if fits_half::<B>() {
        // Sums of halves in the halves of words, as their scales are.
        let first = sums_of::<C>(codes, act, b, 0, 4);
        let second = sums_of::<C>(codes, act, b, 4, 8);
        let scale = load(scales);
        for c in 0..C {
            for r in 0..2 {
                let above = _mm512_slli_epi32::<16>(second[c][r]);
                let both = _mm512_mask_blend_epi16(0xaaaa_aaaa, first[c][r], above);
                p[c][r] = _mm512_dpwssd_epi32(p[c][r], both, scale[r]);
            }
        }
        return;
    }
    for half in 0..halves {
        let sums = sums_of::<C>(codes, act, b, half * quarters, (half + 1) * quarters);
        let scale = load(&scales[half * ROWS..]);
        for c in 0..C {
            for r in 0..2 {
                let scaled = _mm512_mullo_epi32(sums[c][r], scale[r]);
                p[c][r] = _mm512_add_epi32(p[c][r], scaled);
            }
        }
    }
}

/// Whether sums of raised activations and codes of half a block always fit 16 bits.
pub(super) const fn fits_half<B: Block>() -> bool {
    let most = if B::OFFSET > B::MOST - B::OFFSET { B::OFFSET } else { B::MOST - B::OFFSET };
    B::HALVES && most * 255 * SUMMED as i32 <= i16::MAX as i32
}

/// Sums of products of quarters `from..to` of a block.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn sums_of<const C: usize>(
    codes: &[f32],
    act: &[&WholeGroup; C],
    b: usize,
    from: usize,
    to: usize,
) -> Sums<C> {
    let mut sums = [[_mm512_setzero_si512(); 2]; C];
    for q in from..to {
        // The same of the block after the next one.
        for line in 0..2 {
            let at = codes.as_ptr().wrapping_add(AHEAD + q * ROWS + line * LANES);
            _mm_prefetch::<_MM_HINT_T0>(at.cast());
        }
        let w = load(&codes[q * ROWS..]);
        for c in 0..C {
            let (fours, _) = act[c].raised.as_chunks::<4>();
            let four = _mm512_set1_epi32(i32::from_le_bytes(fours[8 * (b % BLOCKS) + q]));
            for r in 0..2 {
                sums[c][r] = _mm512_dpbusd_epi32(sums[c][r], four, w[r]);
            }
        }
    }
    sums
}

/// Minima times sums of activations.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn mins_of<B: Block, const C: usize>(pairs: &[f32], act: &[&WholeGroup; C]) -> Sums<C> {
    let mut mins = [[_mm512_setzero_si512(); 2]; C];
    for pair in 0..const { layout::<B>().n_pairs } {
        let of = load(&pairs[pair * ROWS..]);
        for c in 0..C {
            let sums: [i16; 2] = match B::HALVES {
                true => act[c].runs.as_chunks::<2>().0[pair],
                false => act[c].totals.as_chunks::<2>().0[pair],
            };
            let sums = _mm512_set1_epi32(bytemuck::cast(sums));
            for r in 0..2 {
                mins[c][r] = _mm512_dpwssd_epi32(mins[c][r], of[r], sums);
            }
        }
    }
    mins
}

/// Words of 32 rows.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn load(x: &[f32]) -> [__m512i; 2] {
    let (x, _) = x[..ROWS].as_chunks::<LANES>();
    // SAFETY: arrays of 16 are read.
    unsafe { [_mm512_loadu_si512(x[0].as_ptr().cast()), _mm512_loadu_si512(x[1].as_ptr().cast())] }
}

/// Numbers of 32 rows.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn numbers_of(x: &[f32]) -> [__m512; 2] {
    load(x).map(|x| _mm512_castsi512_ps(x))
}
