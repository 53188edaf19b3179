//! BF16 weights times activations rounded to bf16, for CPUs with AVX512-BF16, in the order that
//! [`table`](crate::table) defines: pair `j` of elements in lane `j % 8`.

use super::numbers::{Sums, Words, lanes};
use crate::act::F32Acts;
use crate::avx2::Avx2Ops;
use crate::blocks::Vectors;
use crate::numbers::prefetch;
use crate::table::{DOT_N, Rows};
use std::arch::x86_64::*;

/// Elements of a step: eight pairs.
const STEP: usize = 16;

/// Pairs of bf16 numbers as words of a panel.
pub(super) struct Pairs;

impl Words for Pairs {
    const SIZE: usize = 4;
    const ELEMENTS: usize = 2;

    #[inline(always)]
    unsafe fn load(bytes: *const u8) -> __m512i {
        // SAFETY: the caller says that the bytes and the features are there.
        unsafe { _mm512_loadu_si512(bytes.cast()) }
    }

    #[inline(always)]
    unsafe fn act(x: *const f32) -> __m512i {
        // SAFETY: the caller says that 32 elements and the features are there; vectors of the
        // same size.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(x), _mm512_loadu_ps(x.add(STEP)));
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        }
    }

    #[inline(always)]
    unsafe fn add_product(acc: __m512, w: __m512i, x: __m512i) -> __m512 {
        // SAFETY: the caller says that the features are there; vectors of the same size.
        unsafe {
            let pairs = |v: __m512i| std::mem::transmute::<__m512i, __m512bh>(v);
            _mm512_dpbf16_ps(acc, pairs(w), pairs(x))
        }
    }

    lanes!("avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16");
}

/// Adds the products of elements `i..i + STEP` of each row and token.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
#[inline]
fn add_step<const R: usize, const N: usize>(
    acc: &mut [[__m256; N]; R],
    rows: &[&[u8]; R],
    acts: &[&[f32]; N],
    i: usize,
) {
    let mut x = [_mm256_setzero_si256(); N];
    for n in 0..N {
        let act = &acts[n][i..i + STEP];
        // SAFETY: a slice of 16 numbers is read; vectors of the same size.
        x[n] = unsafe {
            let rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(act.as_ptr()));
            std::mem::transmute::<__m256bh, __m256i>(rounded)
        };
    }
    for r in 0..R {
        let row = &rows[r][2 * i..2 * (i + STEP)];
        // SAFETY: a slice of 32 bytes is read.
        let w = unsafe { _mm256_loadu_si256(row.as_ptr().cast()) };
        for n in 0..N {
            // SAFETY: vectors of the same size.
            acc[r][n] = unsafe {
                let w = std::mem::transmute::<__m256i, __m256bh>(w);
                let x = std::mem::transmute::<__m256i, __m256bh>(x[n]);
                _mm256_dpbf16_ps(acc[r][n], w, x)
            };
        }
    }
}

/// Dot products of `R` rows, one after another in memory, with `N` tokens.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
#[inline]
fn tile<const R: usize, const N: usize>(rows: [&[u8]; R], acts: [&[f32]; N]) -> [[f32; N]; R] {
    let k = acts[0].len();
    assert!(rows.iter().all(|row| row.len() == 2 * k), "rows as long as the activations");
    assert!(acts.iter().all(|x| x.len() == k), "activations of one length");
    let mut acc = [[_mm256_setzero_ps(); N]; R];
    let mut i = 0;
    while i + 2 * STEP <= k {
        prefetch(Avx2Ops::new(), rows[0], 2 * i * R, 4 * STEP * R);
        add_step(&mut acc, &rows, &acts, i);
        add_step(&mut acc, &rows, &acts, i + STEP);
        i += 2 * STEP;
    }
    while i < k {
        let n = STEP.min(k - i);
        let (mut last_rows, mut last_acts) = ([[0; 2 * STEP]; R], [[0.0; STEP]; N]);
        let (mut padded_rows, mut padded_acts) = ([&[][..]; R], [&[][..]; N]);
        for (r, last) in last_rows.iter_mut().enumerate() {
            last[..2 * n].copy_from_slice(&rows[r][2 * i..][..2 * n]);
            padded_rows[r] = &*last;
        }
        for (t, last) in last_acts.iter_mut().enumerate() {
            last[..n].copy_from_slice(&acts[t][i..][..n]);
            padded_acts[t] = &*last;
        }
        add_step(&mut acc, &padded_rows, &padded_acts, 0);
        i += STEP;
    }
    let mut out = [[0.0; N]; R];
    for r in 0..R {
        for n in 0..N {
            out[r][n] = Avx2Ops::new().sum(acc[r][n]);
        }
    }
    out
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
#[inline]
pub(super) fn dot(rows: Rows<'_>, x: &[f32], out: &mut [f32]) {
    rows_with(rows, [x], out);
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
#[inline]
pub(super) fn dot_n(rows: Rows<'_>, acts: F32Acts<'_>, out: &mut [f32]) {
    let x = |t| acts.row(t);
    match acts.n() {
        0 => {}
        1 => rows_with(rows, [x(0)], out),
        2 => rows_with(rows, [x(0), x(1)], out),
        3 => rows_with(rows, [x(0), x(1), x(2)], out),
        DOT_N => rows_with(rows, [x(0), x(1), x(2), x(3)], out),
        n => unreachable!("{n} tokens at once"),
    }
}

/// Four rows at a time, so that additions of one do not wait for those of another.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
#[inline]
fn rows_with<const N: usize>(rows: Rows<'_>, acts: [&[f32]; N], out: &mut [f32]) {
    let row = |r: usize| &rows.bytes[r * rows.row_bytes..][..rows.row_bytes];
    let n_rows = rows.n();
    let mut put = |r: usize, sums: [f32; N]| {
        for t in 0..N {
            out[t * n_rows + r] = sums[t];
        }
    };
    let mut r = 0;
    while r + 4 <= n_rows {
        let four = [row(r), row(r + 1), row(r + 2), row(r + 3)];
        let sums = tile(four, acts);
        (0..4).for_each(|i| put(r + i, sums[i]));
        r += 4;
    }
    while r < n_rows {
        put(r, tile([row(r)], acts)[0]);
        r += 1;
    }
}
