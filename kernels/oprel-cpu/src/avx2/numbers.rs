//! Weights stored as numbers times f32 activations, in the order that [`table`](crate::table)
//! defines: element `i` in lane `i % 8`, along rows.

use super::blocks::load16;
use super::products::sum;
use crate::act::F32Acts;
use crate::lanes::LANES;
use crate::row_panel;
use crate::table::{DOT_N, Panel, Rows};
use half::{bf16, f16};
use oprel_quant::QuantType;
use std::arch::x86_64::*;

/// Elements between two prefetches of a row.
const STRETCH: usize = 32;
/// How far ahead of their use rows are fetched, in bytes. Rows are read side by side but fetched in
/// the order of memory, to the second cache; measured on Zen 4, this reaches the speed of a plain
/// read, and fetching each row ahead of itself does not.
const AHEAD: usize = 16 << 10;

/// A stored number as this tier reads it.
trait Stored: 'static {
    /// Bytes of one.
    const SIZE: usize;
    /// Eight of them.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C.
    unsafe fn eight(bytes: &[u8]) -> __m256;
    /// One of them.
    fn one(bytes: &[u8]) -> f32;
}

impl Stored for f32 {
    const SIZE: usize = 4;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn eight(bytes: &[u8]) -> __m256 {
        let bytes = &bytes[..32];
        // SAFETY: 32 bytes are there.
        unsafe { _mm256_loadu_ps(bytes.as_ptr().cast()) }
    }

    fn one(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

impl Stored for f16 {
    const SIZE: usize = 2;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn eight(bytes: &[u8]) -> __m256 {
        _mm256_cvtph_ps(load16(bytes, 0))
    }

    fn one(bytes: &[u8]) -> f32 {
        f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }
}

impl Stored for bf16 {
    const SIZE: usize = 2;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn eight(bytes: &[u8]) -> __m256 {
        let wide = _mm256_cvtepu16_epi32(load16(bytes, 0));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
    }

    fn one(bytes: &[u8]) -> f32 {
        bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }
}

/// Sums of `R` rows with `N` tokens.
type Tile<const R: usize, const N: usize> = [[__m256; N]; R];

/// Adds the products of elements `i..i + 8` to their lanes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_eight<T: Stored, const R: usize, const N: usize>(
    acc: &mut Tile<R, N>,
    rows: &[&[u8]; R],
    acts: &[&[f32]; N],
    i: usize,
) {
    let mut x = [_mm256_setzero_ps(); N];
    for n in 0..N {
        let eight = &acts[n][i..i + LANES];
        // SAFETY: reads a slice of eight.
        x[n] = unsafe { _mm256_loadu_ps(eight.as_ptr()) };
    }
    for r in 0..R {
        // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
        let w = unsafe { T::eight(&rows[r][i * T::SIZE..(i + LANES) * T::SIZE]) };
        for n in 0..N {
            acc[r][n] = _mm256_fmadd_ps(w, x[n], acc[r][n]);
        }
    }
}

/// Dot products of `R` rows with `N` tokens. Rows that follow one another in memory can be fetched
/// `ahead`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn tile<T: Stored, const R: usize, const N: usize>(
    rows: [&[u8]; R],
    acts: [&[f32]; N],
    ahead: bool,
) -> [[f32; N]; R] {
    let k = acts[0].len();
    assert!(rows.iter().all(|row| row.len() == k * T::SIZE), "rows as long as the activations");
    assert!(acts.iter().all(|x| x.len() == k), "activations of one length");
    let mut acc = [[_mm256_setzero_ps(); N]; R];
    let whole = k / STRETCH * STRETCH;
    for i in (0..whole).step_by(STRETCH) {
        if ahead {
            prefetch(rows[0], R * i * T::SIZE, R * STRETCH * T::SIZE);
        }
        for j in 0..STRETCH / LANES {
            add_eight::<T, R, N>(&mut acc, &rows, &acts, i + j * LANES);
        }
    }
    let eights = k / LANES * LANES;
    for i in (whole..eights).step_by(LANES) {
        add_eight::<T, R, N>(&mut acc, &rows, &acts, i);
    }
    let mut out = [[0.0; N]; R];
    for r in 0..R {
        for n in 0..N {
            out[r][n] = finish::<T>(acc[r][n], (&rows[r][eights * T::SIZE..], &acts[n][eights..]));
        }
    }
    out
}

/// Asks for `len` bytes that lie [`AHEAD`] of those at `at`, counted from the start of `row`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn prefetch(row: &[u8], at: usize, len: usize) {
    for line in (0..len).step_by(64) {
        _mm_prefetch::<_MM_HINT_T1>(row.as_ptr().wrapping_add(AHEAD + at + line).cast());
    }
}

/// Adds the elements beyond the last eight, then all lanes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn finish<T: Stored>(acc: __m256, (row, x): (&[u8], &[f32])) -> f32 {
    if x.is_empty() {
        return sum(acc);
    }
    let mut lanes = [0.0f32; LANES];
    // SAFETY: an array of 32 bytes is written and read.
    unsafe {
        _mm256_storeu_ps(lanes.as_mut_ptr(), acc);
        for ((lane, bytes), x) in lanes.iter_mut().zip(row.chunks_exact(T::SIZE)).zip(x) {
            *lane = T::one(bytes).mul_add(*x, *lane);
        }
        sum(_mm256_loadu_ps(lanes.as_ptr()))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn dot(rows: Rows<'_>, x: &[f32], out: &mut [f32]) {
    with_tokens(rows, [x], out);
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn dot_n(rows: Rows<'_>, acts: F32Acts<'_>, out: &mut [f32]) {
    let x = |t| acts.row(t);
    match acts.n() {
        0 => {}
        1 => with_tokens(rows, [x(0)], out),
        2 => with_tokens(rows, [x(0), x(1)], out),
        3 => with_tokens(rows, [x(0), x(1), x(2)], out),
        DOT_N => with_tokens(rows, [x(0), x(1), x(2), x(3)], out),
        n => unreachable!("{n} tokens at once"),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn with_tokens<const N: usize>(rows: Rows<'_>, acts: [&[f32]; N], out: &mut [f32]) {
    match rows.ty {
        QuantType::F32 => rows_with::<f32, N>(rows, acts, out),
        QuantType::F16 => rows_with::<f16, N>(rows, acts, out),
        _ => rows_with::<bf16, N>(rows, acts, out),
    }
}

/// Four rows at a time for one token, two for more, so that additions of one row do not wait for
/// those of another.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn rows_with<T: Stored, const N: usize>(rows: Rows<'_>, acts: [&[f32]; N], out: &mut [f32]) {
    let row = |r: usize| &rows.bytes[r * rows.row_bytes..][..rows.row_bytes];
    let n_rows = rows.n();
    let mut put = |r: usize, sums: [f32; N]| {
        for t in 0..N {
            out[t * n_rows + r] = sums[t];
        }
    };
    let mut r = 0;
    while N == 1 && r + 4 <= n_rows {
        let four = [row(r), row(r + 1), row(r + 2), row(r + 3)];
        let sums = tile::<T, 4, N>(four, acts, true);
        (0..4).for_each(|i| put(r + i, sums[i]));
        r += 4;
    }
    while r + 2 <= n_rows {
        let sums = tile::<T, 2, N>([row(r), row(r + 1)], acts, true);
        (0..2).for_each(|i| put(r + i, sums[i]));
        r += 2;
    }
    if r < n_rows {
        put(r, tile::<T, 1, N>([row(r)], acts, false)[0]);
    }
}

/// Writes the rows to the panel as f32.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn unpack_panel(rows: Rows<'_>, panel: &mut Panel<'_>) {
    let out = &mut panel.memory[..rows.n() * rows.k];
    match rows.ty {
        QuantType::F32 => widen::<f32>(rows.bytes, out),
        QuantType::F16 => widen::<f16>(rows.bytes, out),
        _ => widen::<bf16>(rows.bytes, out),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn widen<T: Stored>(bytes: &[u8], out: &mut [f32]) {
    let (eights, tail) = out.as_chunks_mut::<LANES>();
    let stored = bytes.chunks_exact(LANES * T::SIZE);
    let rest = stored.remainder();
    for (y, bytes) in eights.iter_mut().zip(stored) {
        // SAFETY: this function is compiled for, and so runs on, what the trait asks for; an array
        // of eight is written.
        unsafe { _mm256_storeu_ps(y.as_mut_ptr(), T::eight(bytes)) }
    }
    for (y, bytes) in tail.iter_mut().zip(rest.chunks_exact(T::SIZE)) {
        *y = T::one(bytes);
    }
}

/// Tiles of four rows by three tokens.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn gemm(panel: &Panel<'_>, acts: F32Acts<'_>, out: &mut [f32]) {
    let (n, x) = (acts.n(), |t| acts.row(t));
    for t in (0..n).step_by(3) {
        match n - t {
            1 => panel_with(panel, [x(t)], t, out),
            2 => panel_with(panel, [x(t), x(t + 1)], t, out),
            _ => panel_with(panel, [x(t), x(t + 1), x(t + 2)], t, out),
        }
    }
}

/// All rows of a panel with `N` tokens, of which `first` is the first.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn panel_with<const N: usize>(panel: &Panel<'_>, acts: [&[f32]; N], first: usize, out: &mut [f32]) {
    let stride = row_panel::size(panel.ty, panel.k).rows;
    let row = |r: usize| bytemuck::cast_slice(&panel.memory[r * panel.k..][..panel.k]);
    let mut put = |r: usize, sums: [f32; N]| {
        for t in 0..N {
            out[(first + t) * stride + r] = sums[t];
        }
    };
    let mut r = 0;
    while r + 4 <= panel.n_rows {
        let four = [row(r), row(r + 1), row(r + 2), row(r + 3)];
        let sums = tile::<f32, 4, N>(four, acts, false);
        (0..4).for_each(|i| put(r + i, sums[i]));
        r += 4;
    }
    while r < panel.n_rows {
        put(r, tile::<f32, 1, N>([row(r)], acts, false)[0]);
        r += 1;
    }
}
