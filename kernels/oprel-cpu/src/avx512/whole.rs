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
use super::dots::Fetching;
use super::fields::u32_at;
use super::turned;
use crate::act::{BLOCKS, GROUP, Q8Acts, WholeGroup, WholeRow};
use crate::avx2::Avx2Ops;
use crate::blocks::{LONGEST, Vectors};
use crate::table::Rows;
use integers::{Turned, add_eights, add_fours, add_twos, integers_of};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Groups of activations that are put in order at once, of all tokens together: what the first cache
/// holds, and all of most rows. Longer ones are taken in parts.
const ORDERED: usize = 64;
/// Rows whose sums are kept meanwhile.
const KEPT: usize = 16;

/// Groups whose integers are added across lanes before they meet others.
const FOUR: usize = 4;
/// Activations beyond the last.
static NONE: WholeGroup = WholeGroup {
    codes: [0; GROUP],
    raised: [0x80; GROUP],
    runs: [0; 2 * BLOCKS],
    totals: [0; BLOCKS],
    scale: -0.0,
    padding: [0; 3],
};

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
    let fetching = Fetching::detect();
    let mut ordered = [const { MaybeUninit::<Turned>::uninit() }; ORDERED];
    let mut scales = [[-0.0; BLOCKS]; ORDERED / BLOCKS];
    let mut sums = [[_mm256_setzero_ps(); N]; KEPT];
    for first in (0..n_rows).step_by(KEPT) {
        let end = (first + KEPT).min(n_rows);
        for from in (0..n_groups).step_by(at_once) {
            let here = at_once.min(n_groups - from);
            if first == 0 || n_groups > at_once {
                scales.fill([-0.0; BLOCKS]);
                for g in 0..here.next_multiple_of(FOUR) {
                    for t in 0..N {
                        let act = acts[t].get(from + g);
                        ordered[g * N + t].write(Turned::of::<B, N>(act.unwrap_or(&NONE)));
                        let scale = act.map_or(-0.0, |act| act.scale);
                        scales[g / BLOCKS * N + t][g % BLOCKS] = scale;
                    }
                }
            }
            let n_turned = here.next_multiple_of(FOUR) * N;
            // SAFETY: so many were written, now or before the first rows.
            let turned = unsafe { ordered[..n_turned].assume_init_ref() };
            for r in first..end {
                let row = &rows.bytes[r * rows.row_bytes..][..rows.row_bytes];
                let row = &row[from * B::BYTES..][..here * B::BYTES];
                let acc = &mut sums[r - first];
                if from == 0 {
                    *acc = [_mm256_setzero_ps(); N];
                }
                let turned = turned.as_chunks::<N>().0;
                add_row::<B, N>(acc, row, turned, scales.as_chunks::<N>().0, fetching);
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
    fetching: Fetching,
) {
    let mut acc = *sums;
    let mut eights = row.chunks_exact(BLOCKS * B::BYTES);
    let n_eights = eights.len();
    let (turned, last_turned) = turned.split_at(n_eights * BLOCKS);
    for ((bytes, turned), scales) in eights.by_ref().zip(turned.as_chunks::<BLOCKS>().0).zip(scales)
    {
        let mut numbers = [[0u32; FOUR]; 2];
        let (halves, _) = turned.as_chunks::<FOUR>();
        let (first, second) = bytes.split_at(FOUR * B::BYTES);
        let a = four_groups::<B, N, 0>(first, &halves[0], &mut numbers[0], fetching);
        let b = four_groups::<B, N, 1>(second, &halves[1], &mut numbers[1], fetching);
        add_integers::<B, N>(&mut acc, [a, b], numbers, scales);
    }
    let last = eights.remainder();
    if !last.is_empty() {
        add_last::<B, N>(&mut acc, last, last_turned, &scales[n_eights], fetching);
    }
    *sums = acc;
}

/// [`add_row`] of fewer than eight groups.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
fn add_last<B: Block, const N: usize>(
    acc: &mut [__m256; N],
    bytes: &[u8],
    turned: &[[Turned; N]],
    scales: &[Scales; N],
    fetching: Fetching,
) {
    let mut integers = [[_mm512_setzero_si512(); N]; 2];
    let mut numbers = [[0u32; FOUR]; 2];
    let fours = bytes.chunks(FOUR * B::BYTES).zip(turned.as_chunks().0);
    for (i, (bytes, act)) in fours.enumerate().take(2) {
        let last;
        let bytes = match bytes.len() == FOUR * B::BYTES {
            true => bytes,
            false => {
                last = filled(bytes);
                &last[..FOUR * B::BYTES]
            }
        };
        integers[i] = four_groups::<B, N, 2>(bytes, act, &mut numbers[i], fetching);
    }
    add_integers::<B, N>(acc, integers, numbers, scales);
}

/// Adds the integers of two times four groups, times what they are multiplied by, to lanes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_integers<B: Block, const N: usize>(
    acc: &mut [__m256; N],
    [first, second]: [[__m512i; N]; 2],
    numbers: [[u32; FOUR]; 2],
    scales: &[Scales; N],
) {
    // SAFETY: an array of eight is read.
    let numbers = unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) };
    let d = _mm256_cvtph_ps(_mm256_cvtepi32_epi16(numbers));
    let d_min = _mm256_cvtph_ps(_mm256_cvtepi32_epi16(_mm256_srli_epi32::<16>(numbers)));
    for t in 0..N {
        let [products, mins] = add_eights::<B>([first[t], second[t]]);
        let mut p = _mm256_mul_ps(d, _mm256_cvtepi32_ps(products));
        if B::MINS {
            p = _mm256_fnmadd_ps(d_min, _mm256_cvtepi32_ps(mins), p);
        }
        // SAFETY: an array of eight is read.
        let scale = unsafe { _mm256_loadu_ps(scales[t].as_ptr()) };
        acc[t] = _mm256_fmadd_ps(p, scale, acc[t]);
    }
}

/// Fewer than four groups, and zeros behind them.
#[inline(never)]
fn filled(bytes: &[u8]) -> [u8; FOUR * LONGEST] {
    let mut four = [0; FOUR * LONGEST];
    four[..bytes.len()].copy_from_slice(bytes);
    four
}

/// Integers of four groups with `N` tokens, those of a group in each fourth lane; what they are multiplied
/// by goes to `numbers`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn four_groups<B: Block, const N: usize, const PLACE: u8>(
    bytes: &[u8],
    act: &[[Turned; N]; FOUR],
    numbers: &mut [u32; FOUR],
    fetching: Fetching,
) -> [__m512i; N] {
    let a = one_group::<B, N, PLACE, 0>(bytes, act, numbers, fetching);
    let b = one_group::<B, N, PLACE, 1>(bytes, act, numbers, fetching);
    let mut first = a;
    for t in 0..N {
        first[t] = add_twos(a[t], b[t]);
    }
    let c = one_group::<B, N, PLACE, 2>(bytes, act, numbers, fetching);
    let d = one_group::<B, N, PLACE, 3>(bytes, act, numbers, fetching);
    for t in 0..N {
        first[t] = add_fours(first[t], add_twos(c[t], d[t]));
    }
    first
}

/// Integers of group `I` of four.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn one_group<B: Block, const N: usize, const PLACE: u8, const I: usize>(
    bytes: &[u8],
    act: &[[Turned; N]; FOUR],
    numbers: &mut [u32; FOUR],
    fetching: Fetching,
) -> [__m512i; N] {
    let bytes = &bytes[I * B::BYTES..][..B::BYTES];
    fetching.prefetch::<N>(bytes);
    numbers[I] = match B::MINS {
        true => u32_at(bytes, B::NUMBERS),
        false => u32::from(u16::from_le_bytes([bytes[B::NUMBERS], bytes[B::NUMBERS + 1]])),
    };
    let w = turned::unpack::<B, N, PLACE>(bytes);
    let mut integers = [_mm512_setzero_si512(); N];
    for t in 0..N {
        integers[t] = integers_of::<B, N>(&w, &act[I][t]);
    }
    integers
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
