//! The matrix product: a panel of 16 rows times tokens, for tiers with registers of 256 bits.
//!
//! A register holds eight rows; a tile is two registers of rows by `C` tokens. A block's products are
//! summed in registers; what they add to, eight lanes of [`table`](crate::table)'s order for each
//! row and token, lies in the first level of cache.
//!
//! Functions that lead to [`Step`] are inlined into one compiled for the tier, whose proof they
//! carry; they use no closures, which might not be.

mod whole;

use super::panel::{LANES, QUARTERS, ROWS};
use crate::act::{ActGroup, ActRow, BLOCKS, Q8Acts};
use crate::block_panel::block_words;
use crate::table::Panel;
use std::arch::x86_64::*;

/// Proof that the CPU has AVX2, FMA and F16C, and perhaps an instruction for [`Step::add_fours`].
pub(super) trait Step: Copy {
    /// Whether the CPU adds products of four bytes at once, without saturation.
    const FOURS: bool;

    /// Adds to each sum the products of four unsigned codes with four activations. Without
    /// [`Step::FOURS`] codes must be below 128.
    fn add_fours(self, sums: __m256i, codes: __m256i, act: __m256i) -> __m256i;
}

/// What the product must know about a type: see [`Block`](crate::blocks::Block).
pub(super) struct Shape<const BITS: u32, const MINS: bool, const HALVES: bool>;

/// The same of a type of [`Block::WHOLE`](crate::blocks::Block).
pub(super) struct WholeShape<const BITS: u32, const MINS: bool, const HALVES: bool>;

pub(super) trait Shaped {
    const BITS: u32;
    const MINS: bool;
    const HALVES: bool;
    const WHOLE: bool = false;
}

impl<const BITS: u32, const MINS: bool, const HALVES: bool> Shaped
    for WholeShape<BITS, MINS, HALVES>
{
    const BITS: u32 = BITS;
    const MINS: bool = MINS;
    const HALVES: bool = HALVES;
    const WHOLE: bool = true;
}

impl<const BITS: u32, const MINS: bool, const HALVES: bool> Shaped for Shape<BITS, MINS, HALVES> {
    const BITS: u32 = BITS;
    const MINS: bool = MINS;
    const HALVES: bool = HALVES;
}

/// What is added to codes of a panel to make them unsigned. Where products of eight bits would
/// saturate, codes stay as they are.
pub(super) const fn offset(bits: u32, mins: bool, fours: bool) -> i32 {
    match mins || bits == 8 && !fours {
        true => 0,
        false => 1 << (bits - 1),
    }
}

/// Sums of `C` tokens with two registers of rows.
type Tile<const C: usize> = [[__m256; 2]; C];
/// Integer sums likewise.
type Sums<const C: usize> = [[__m256i; 2]; C];

/// Most tokens of a tile.
const MOST: usize = 4;

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
    let mut rows: [ActRow<'_>; C] = [&[]; C];
    for c in 0..C {
        rows[c] = acts.row(first + c);
    }
    let words = block_words(ROWS, S::HALVES, S::MINS);
    // SAFETY: `step` proves the features.
    let mut lanes = unsafe { [[[_mm256_setzero_ps(); 2]; C]; BLOCKS] };
    for (g, group) in panel.memory.chunks_exact(BLOCKS * words).enumerate() {
        let mut act = [&rows[0][g]; C];
        for c in 1..C {
            act[c] = &rows[c][g];
        }
        for b in 0..BLOCKS {
            let (block, _) = group[b * words..][..words].as_chunks::<LANES>();
            add_block::<P, S, C>(step, block, act, b, &mut lanes[b]);
        }
    }
    // SAFETY: as above.
    unsafe { write(&lanes, &mut out[first * ROWS..][..C * ROWS]) };
}

/// Adds the lanes in order and writes the sums, (C, rows).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn write<const C: usize>(lanes: &[Tile<C>; BLOCKS], out: &mut [f32]) {
    let (out, _) = out.as_chunks_mut::<LANES>();
    for c in 0..C {
        for r in 0..2 {
            let add = |a: usize, b: usize| _mm256_add_ps(lanes[a][c][r], lanes[b][c][r]);
            let even = _mm256_add_ps(add(0, 4), add(2, 6));
            let odd = _mm256_add_ps(add(1, 5), add(3, 7));
            let to = &mut out[c * 2 + r];
            // SAFETY: an array of eight is written.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_add_ps(even, odd)) };
        }
    }
}

/// Adds block `b` of a group to its lane.
#[inline(always)]
fn add_block<P: Step, S: Shaped, const C: usize>(
    step: P,
    block: &[[f32; LANES]],
    act: [&ActGroup; C],
    b: usize,
    lane: &mut Tile<C>,
) {
    let b = b % BLOCKS;
    let mut codes = [&[[0; 4]; QUARTERS]; C];
    for c in 0..C {
        codes[c] = &act[c].codes.as_chunks::<4>().0.as_chunks::<QUARTERS>().0[b];
    }
    let (quarters, vectors) = block.split_at(2 * QUARTERS);
    let (firsts, seconds) = quarters.split_at(QUARTERS);
    // SAFETY: `step` proves the features.
    unsafe {
        let mut p = [[_mm256_setzero_ps(); 2]; C];
        if S::HALVES {
            let sums = sums_of::<P, S, C, 4>(step, firsts, codes, 0, totals(act, 0, b));
            scale::<C, true>(&mut p, sums, &vectors[..2]);
            let sums = sums_of::<P, S, C, 4>(step, seconds, codes, 4, totals(act, 1, b));
            scale::<C, false>(&mut p, sums, &vectors[2..4]);
        } else {
            let sums = sums_of::<P, S, C, 8>(step, quarters, codes, 0, totals(act, 2, b));
            scale::<C, true>(&mut p, sums, &vectors[..2]);
        }
        if S::MINS && S::HALVES {
            add_mins(&mut p, totals(act, 0, b), &vectors[4..6]);
            add_mins(&mut p, totals(act, 1, b), &vectors[6..8]);
        } else if S::MINS {
            add_mins(&mut p, totals(act, 2, b), &vectors[2..4]);
        }
        for c in 0..C {
            let scale = _mm256_set1_ps(act[c].scales[b]);
            for r in 0..2 {
                lane[c][r] = _mm256_fmadd_ps(p[c][r], scale, lane[c][r]);
            }
        }
    }
}

/// Sums of the activations' codes of block `b`: of the first half, the second half, or both.
#[inline(always)]
fn totals<const C: usize>(act: [&ActGroup; C], which: usize, b: usize) -> [i32; C] {
    let mut totals = [0; C];
    for c in 0..C {
        totals[c] = match which {
            2 => act[c].totals[b],
            half => act[c].sums[half][b],
        };
    }
    totals
}

/// Sums of products of `Q` quarters of codes with activations from quarter `from` on.
///
/// # Safety
/// `step` proves the features.
#[inline(always)]
unsafe fn sums_of<P: Step, S: Shaped, const C: usize, const Q: usize>(
    step: P,
    quarters: &[[f32; LANES]],
    act: [&[[i8; 4]; QUARTERS]; C],
    from: usize,
    totals: [i32; C],
) -> Sums<C> {
    // SAFETY: as above.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); 2]; C];
        let offset = const { offset(S::BITS, S::MINS, P::FOURS) };
        if offset != 0 {
            for c in 0..C {
                sums[c] = [_mm256_set1_epi32(totals[c].wrapping_mul(-offset)); 2];
            }
        }
        if P::FOURS || S::BITS == 7 {
            for q in 0..Q {
                let w = load(quarters, q);
                for c in 0..C {
                    let four = broadcast(act[c][from + q]);
                    for r in 0..2 {
                        sums[c][r] = step.add_fours(sums[c][r], w[r], four);
                    }
                }
            }
            return sums;
        }
        match S::BITS {
            8 => add_signed::<C, Q>(&mut sums, quarters, act, from),
            6 => add_runs::<C, Q, 2>(&mut sums, quarters, act, from),
            5 => add_runs::<C, Q, 4>(&mut sums, quarters, act, from),
            _ => add_runs::<C, Q, Q>(&mut sums, quarters, act, from),
        }
        sums
    }
}

/// Quarter `q` of 16 rows.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load(quarters: &[[f32; LANES]], q: usize) -> [__m256i; 2] {
    let [a, b] = [&quarters[2 * q], &quarters[2 * q + 1]];
    // SAFETY: arrays of 32 bytes are read.
    unsafe { [_mm256_loadu_si256(a.as_ptr().cast()), _mm256_loadu_si256(b.as_ptr().cast())] }
}

/// Four activations in every lane.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn broadcast(four: [i8; 4]) -> __m256i {
    _mm256_set1_epi32(i32::from_le_bytes(bytemuck::cast(four)))
}

/// Adds products of unsigned codes, of which `RUN` at a time are summed in 16 bits: they must fit.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_runs<const C: usize, const Q: usize, const RUN: usize>(
    sums: &mut Sums<C>,
    quarters: &[[f32; LANES]],
    act: [&[[i8; 4]; QUARTERS]; C],
    from: usize,
) {
    let ones = _mm256_set1_epi16(1);
    for run in 0..Q / RUN {
        let mut short = [[_mm256_setzero_si256(); 2]; C];
        for q in run * RUN..(run + 1) * RUN {
            let w = load(quarters, q);
            for c in 0..C {
                let four = broadcast(act[c][from + q]);
                for r in 0..2 {
                    let products = _mm256_maddubs_epi16(w[r], four);
                    short[c][r] = _mm256_add_epi16(short[c][r], products);
                }
            }
        }
        for c in 0..C {
            for r in 0..2 {
                let wide = _mm256_madd_epi16(short[c][r], ones);
                sums[c][r] = _mm256_add_epi32(sums[c][r], wide);
            }
        }
    }
}

/// Adds products of codes of eight bits: their signs are moved to the activations. Both are at
/// least -127 or the code is -128, so a pair is at most 2 * 128 * 127, which fits 16 bits.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_signed<const C: usize, const Q: usize>(
    sums: &mut Sums<C>,
    quarters: &[[f32; LANES]],
    act: [&[[i8; 4]; QUARTERS]; C],
    from: usize,
) {
    let ones = _mm256_set1_epi16(1);
    for q in 0..Q {
        let w = load(quarters, q);
        let sizes = [_mm256_abs_epi8(w[0]), _mm256_abs_epi8(w[1])];
        for c in 0..C {
            let four = broadcast(act[c][from + q]);
            for r in 0..2 {
                let products = _mm256_maddubs_epi16(sizes[r], _mm256_sign_epi8(four, w[r]));
                let wide = _mm256_madd_epi16(products, ones);
                sums[c][r] = _mm256_add_epi32(sums[c][r], wide);
            }
        }
    }
}

/// `p += scales * sums`, or, where it is the `FIRST`, `p = scales * sums`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn scale<const C: usize, const FIRST: bool>(
    p: &mut Tile<C>,
    sums: Sums<C>,
    scales: &[[f32; LANES]],
) {
    let scales = numbers(scales);
    for c in 0..C {
        for r in 0..2 {
            let sum = _mm256_cvtepi32_ps(sums[c][r]);
            p[c][r] = match FIRST {
                true => _mm256_mul_ps(scales[r], sum),
                false => _mm256_fmadd_ps(scales[r], sum, p[c][r]),
            };
        }
    }
}

/// `p += mins * totals`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_mins<const C: usize>(p: &mut Tile<C>, totals: [i32; C], mins: &[[f32; LANES]]) {
    let mins = numbers(mins);
    for c in 0..C {
        let total = _mm256_cvtepi32_ps(_mm256_set1_epi32(totals[c]));
        for r in 0..2 {
            p[c][r] = _mm256_fmadd_ps(mins[r], total, p[c][r]);
        }
    }
}

/// Numbers of 16 rows.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn numbers(x: &[[f32; LANES]]) -> [__m256; 2] {
    // SAFETY: arrays of eight are read.
    unsafe { [_mm256_loadu_ps(x[0].as_ptr()), _mm256_loadu_ps(x[1].as_ptr())] }
}
