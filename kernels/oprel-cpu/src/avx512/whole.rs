//! Types whose blocks are 256 weights with integer scales: rows times one token or a few, in the order
//! that [`table`](crate::table) defines. Eight groups at a time give integers, which are added across
//! lanes together.

mod few;
mod gemm;
mod integers;
mod panel;

pub(super) use few::tile;
pub(super) use gemm::gemm;
pub(super) use panel::{size, unpack};

use super::blocks::Block;
use super::dots::prefetch;
use super::turned;
use crate::act::{BLOCKS, Q8Acts, WholeRow};
use crate::avx2::Avx2Ops;
use crate::blocks::Vectors;
use crate::table::Rows;
use integers::{Turned, add_across, integers_of};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Groups of activations that are put in order at once, of all tokens together: what the first cache
/// holds, and all of most rows. Longer ones are taken in parts.
const ORDERED: usize = 64;
/// Rows whose sums are kept meanwhile.
const KEPT: usize = 16;

/// Scales of eight groups, which add nothing where there are no groups.
type Scales = [f32; BLOCKS];

/// Rows with `N` tokens, of which the first `n` are asked for: `out[t * rows + r]`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn rows_with<B: Block, const N: usize>(
    rows: Rows<'_>,
    acts: [WholeRow<'_>; N],
    n: usize,
    out: &mut [f32],
) {
    let n_rows = rows.n();
    let n_groups = acts[0].len();
    let at_once = ORDERED / N / BLOCKS * BLOCKS;
    let mut ordered = [const { MaybeUninit::<Turned>::uninit() }; ORDERED];
    let mut scales = [[-0.0; BLOCKS]; ORDERED / BLOCKS];
    let mut sums = [[_mm256_setzero_ps(); N]; KEPT];
    for first in (0..n_rows).step_by(KEPT) {
        let end = (first + KEPT).min(n_rows);
        for from in (0..n_groups).step_by(at_once) {
            let here = at_once.min(n_groups - from);
            if first == 0 || n_groups > at_once {
                scales.fill([-0.0; BLOCKS]);
                for g in 0..here {
                    for t in 0..N {
                        let act = &acts[t][from + g];
                        ordered[g * N + t].write(Turned::of::<B, N>(act));
                        scales[g / BLOCKS * N + t][g % BLOCKS] = act.scale;
                    }
                }
            }
            // SAFETY: so many were written, now or before the first rows.
            let turned = unsafe { ordered[..here * N].assume_init_ref() };
            for r in first..end {
                let row = &rows.bytes[r * rows.row_bytes..][..rows.row_bytes];
                let row = &row[from * B::BYTES..][..here * B::BYTES];
                let acc = &mut sums[r - first];
                if from == 0 {
                    *acc = [_mm256_setzero_ps(); N];
                }
                add_row::<B, N>(acc, row, turned.as_chunks::<N>().0, scales.as_chunks::<N>().0);
            }
        }
        for r in first..end {
            for t in 0..n {
                out[t * n_rows + r] = Avx2Ops::new().sum(sums[r - first][t]);
            }
        }
    }
}

/// Adds the products of groups of a row with those of `N` tokens to their lanes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_row<B: Block, const N: usize>(
    sums: &mut [__m256; N],
    row: &[u8],
    turned: &[[Turned; N]],
    scales: &[[Scales; N]],
) {
    let mut acc = *sums;
    let eights = row.chunks(BLOCKS * B::BYTES).zip(turned.chunks(BLOCKS)).zip(scales);
    for ((bytes, turned), scales) in eights {
        add_eight::<B, N>(&mut acc, bytes, turned, scales);
    }
    *sums = acc;
}

/// [`add_row`] of eight groups, or fewer.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_eight<B: Block, const N: usize>(
    acc: &mut [__m256; N],
    bytes: &[u8],
    turned: &[[Turned; N]],
    scales: &[Scales; N],
) {
    let mut integers = [[_mm512_setzero_si512(); BLOCKS]; N];
    let mut numbers = [0u32; BLOCKS];
    let groups = bytes.chunks_exact(B::BYTES).zip(turned);
    for (i, (bytes, act)) in groups.enumerate().take(BLOCKS) {
        prefetch::<N>(bytes);
        numbers[i] = bits_at(bytes, B::NUMBERS[0]);
        if B::MINS {
            numbers[i] |= bits_at(bytes, B::NUMBERS[1]) << 16;
        }
        let w = turned::unpack::<B, N, 0>(bytes);
        for t in 0..N {
            integers[t][i] = integers_of::<B, N>(&w, &act[t]);
        }
    }
    // SAFETY: an array of eight is read.
    let numbers = unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) };
    let d = _mm256_cvtph_ps(_mm256_cvtepi32_epi16(numbers));
    let d_min = _mm256_cvtph_ps(_mm256_cvtepi32_epi16(_mm256_srli_epi32::<16>(numbers)));
    for t in 0..N {
        let [products, mins] = add_across::<B>(&integers[t]);
        let mut p = _mm256_mul_ps(d, _mm256_cvtepi32_ps(products));
        if B::MINS {
            p = _mm256_fnmadd_ps(d_min, _mm256_cvtepi32_ps(mins), p);
        }
        // SAFETY: an array of eight is read.
        let scale = unsafe { _mm256_loadu_ps(scales[t].as_ptr()) };
        acc[t] = _mm256_fmadd_ps(p, scale, acc[t]);
    }
}

/// The 16 bits at `at`.
#[inline(always)]
fn bits_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn dot<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    rows_with::<B, 1>(rows, first(&acts), 1, out);
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn dot_n<B: Block>(rows: Rows<'_>, acts: Q8Acts<'_>, out: &mut [f32]) {
    match acts.n() {
        0 => {}
        1 => rows_with::<B, 1>(rows, first(&acts), 1, out),
        2 => rows_with::<B, 2>(rows, first(&acts), 2, out),
        3 => rows_with::<B, 3>(rows, first(&acts), 3, out),
        4 => rows_with::<B, 4>(rows, first(&acts), 4, out),
        n @ 5..=6 => rows_with::<B, 6>(rows, first(&acts), n, out),
        n @ 7..=8 => rows_with::<B, 8>(rows, first(&acts), n, out),
        n => unreachable!("{n} tokens at once"),
    }
}

/// The first `N` tokens; where there are fewer, the last one again.
fn first<'a, const N: usize>(acts: &Q8Acts<'a>) -> [WholeRow<'a>; N] {
    std::array::from_fn(|t| acts.whole_row(t.min(acts.n() - 1)))
}
