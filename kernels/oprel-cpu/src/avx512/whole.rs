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
use crate::blocks::Vectors;
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
    let mut integers = [[_mm512_setzero_si512(); N]; BLOCKS];
    let mut numbers = [[0u32; FOUR]; 2];
    let groups = bytes.chunks_exact(B::BYTES).zip(turned);
    for ((integers, number), (bytes, act)) in
        integers.iter_mut().zip(numbers.as_flattened_mut()).zip(groups)
    {
        (*integers, *number) = one_group::<B, N, 2>(bytes, act, fetching);
    }
    let (halves, _) = integers.as_chunks::<FOUR>();
    let four = |half: &[[__m512i; N]; FOUR]| {
        let [a, b, c, d] = *half;
        add_four_groups(add_two_groups(a, b), add_two_groups(c, d))
    };
    add_integers::<B, N>(acc, [four(&halves[0]), four(&halves[1])], numbers, scales);
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
    let group = |i: usize| &bytes[i * B::BYTES..][..B::BYTES];
    let (a, first) = one_group::<B, N, PLACE>(group(0), &act[0], fetching);
    let (b, second) = one_group::<B, N, PLACE>(group(1), &act[1], fetching);
    let two = add_two_groups(a, b);
    let (c, third) = one_group::<B, N, PLACE>(group(2), &act[2], fetching);
    let (d, fourth) = one_group::<B, N, PLACE>(group(3), &act[3], fetching);
    *numbers = [first, second, third, fourth];
    add_four_groups(two, add_two_groups(c, d))
}

/// [`add_twos`] of each token.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_two_groups<const N: usize>(mut a: [__m512i; N], b: [__m512i; N]) -> [__m512i; N] {
    for t in 0..N {
        a[t] = add_twos(a[t], b[t]);
    }
    a
}

/// [`add_fours`] of each token.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_four_groups<const N: usize>(mut a: [__m512i; N], b: [__m512i; N]) -> [__m512i; N] {
    for t in 0..N {
        a[t] = add_fours(a[t], b[t]);
    }
    a
}

/// Integers of a group, and what they are multiplied by.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn one_group<B: Block, const N: usize, const PLACE: u8>(
    bytes: &[u8],
    act: &[Turned; N],
    fetching: Fetching,
) -> ([__m512i; N], u32) {
    fetching.prefetch::<N>(bytes);
    let number = match B::MINS {
        true => u32_at(bytes, B::NUMBERS),
        false => u32::from(u16::from_le_bytes([bytes[B::NUMBERS], bytes[B::NUMBERS + 1]])),
    };
    let w = turned::unpack::<B, N, PLACE>(bytes);
    let mut integers = [_mm512_setzero_si512(); N];
    for t in 0..N {
        integers[t] = integers_of::<B, N>(&w, &act[t]);
    }
    (integers, number)
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
