//! Weights stored as numbers times f32 activations, in the order that [`table`](crate::table)
//! defines: element `i` in lane `i % 16`.

use super::blocks::load16;
use super::products::{prefetch, sum};
use crate::act::F32Acts;
use crate::table::Rows;
use half::{bf16, f16};
use oprel_quant::QuantType;
use std::arch::x86_64::*;

/// Elements taken at once.
const STEP: usize = 16;

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

/// Dot products of `R` rows with `N` tokens of `k` elements.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn tile<T: Stored, const R: usize, const N: usize>(
    rows: [&[u8]; R],
    acts: [&[f32]; N],
) -> [[f32; N]; R] {
    let k = acts[0].len();
    assert!(rows.iter().all(|row| row.len() == k * T::SIZE), "rows as long as the activations");
    assert!(acts.iter().all(|x| x.len() == k), "activations of one length");
    let mut acc = [[[_mm256_setzero_ps(); 2]; N]; R];
    for i in (0..k / STEP * STEP).step_by(STEP) {
        for half in 0..2 {
            let from = i + 8 * half;
            let mut w = [_mm256_setzero_ps(); R];
            for r in 0..R {
                let bytes = &rows[r][from * T::SIZE..(from + 8) * T::SIZE];
                if N == 1 && half == 0 {
                    prefetch(bytes);
                }
                // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
                w[r] = unsafe { T::eight(bytes) };
            }
            for n in 0..N {
                let x = &acts[n][from..from + 8];
                // SAFETY: reads a slice of eight.
                let x = unsafe { _mm256_loadu_ps(x.as_ptr()) };
                for r in 0..R {
                    acc[r][n][half] = _mm256_fmadd_ps(w[r], x, acc[r][n][half]);
                }
            }
        }
    }
    let mut out = [[0.0; N]; R];
    for r in 0..R {
        for n in 0..N {
            let from = k / STEP * STEP;
            let tail = (&rows[r][from * T::SIZE..], &acts[n][from..]);
            out[r][n] = finish::<T>(acc[r][n], tail);
        }
    }
    out
}

/// Adds the elements beyond the last sixteen, then all lanes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn finish<T: Stored>(acc: [__m256; 2], (row, x): (&[u8], &[f32])) -> f32 {
    let mut lanes = [0.0f32; STEP];
    // SAFETY: 32 bytes each are written to and read from halves of an array.
    unsafe {
        _mm256_storeu_ps(lanes[..8].as_mut_ptr(), acc[0]);
        _mm256_storeu_ps(lanes[8..].as_mut_ptr(), acc[1]);
        for ((lane, bytes), x) in lanes.iter_mut().zip(row.chunks_exact(T::SIZE)).zip(x) {
            *lane = T::one(bytes).mul_add(*x, *lane);
        }
        let low = _mm256_loadu_ps(lanes[..8].as_ptr());
        sum(_mm256_add_ps(low, _mm256_loadu_ps(lanes[8..].as_ptr())))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn dot(rows: Rows<'_>, x: &[f32], out: &mut [f32]) {
    match rows.ty {
        QuantType::F32 => dot_rows::<f32>(rows, x, out),
        QuantType::F16 => dot_rows::<f16>(rows, x, out),
        _ => dot_rows::<bf16>(rows, x, out),
    }
}

/// Two rows at a time, so that additions of one do not wait for those of the other.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn dot_rows<T: Stored>(rows: Rows<'_>, x: &[f32], out: &mut [f32]) {
    let row = |r: usize| &rows.bytes[r * rows.row_bytes..][..rows.row_bytes];
    let n = rows.n();
    for r in (0..n / 2 * 2).step_by(2) {
        let [[a], [b]] = tile::<T, 2, 1>([row(r), row(r + 1)], [x]);
        (out[r], out[r + 1]) = (a, b);
    }
    if !n.is_multiple_of(2) {
        out[n - 1] = tile::<T, 1, 1>([row(n - 1)], [x])[0][0];
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn widen(rows: Rows<'_>, out: &mut [f32]) {
    match rows.ty {
        QuantType::F32 => widen_all::<f32>(rows.bytes, out),
        QuantType::F16 => widen_all::<f16>(rows.bytes, out),
        _ => widen_all::<bf16>(rows.bytes, out),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn widen_all<T: Stored>(bytes: &[u8], out: &mut [f32]) {
    let whole = out.len() / STEP * STEP;
    let (sixteens, tail) = out.as_chunks_mut::<STEP>();
    for (y, bytes) in sixteens.iter_mut().zip(bytes.chunks_exact(STEP * T::SIZE)) {
        for (half, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            // SAFETY: this function is compiled for, and so runs on, what the trait asks for; an
            // array of eight is written.
            unsafe { _mm256_storeu_ps(y.as_mut_ptr(), T::eight(&bytes[8 * half * T::SIZE..])) }
        }
    }
    for (y, bytes) in tail.iter_mut().zip(bytes[whole * T::SIZE..].chunks_exact(T::SIZE)) {
        *y = T::one(bytes);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn gemm_f32(w: &[f32], acts: F32Acts<'_>, out: &mut [f32]) {
    let (n, k) = (acts.n(), acts.k());
    let rows: &[u8] = bytemuck::cast_slice(w);
    let n_rows = w.len() / k;
    let row = |r: usize| &rows[r * k * 4..][..k * 4];
    let mut t = 0;
    while t < n {
        let taken = if t + 3 <= n { 3 } else { 1 };
        for r in (0..n_rows).step_by(2) {
            let second = (r + 1).min(n_rows - 1);
            let pair = [row(r), row(second)];
            let mut put = |i: usize, [a, b]: [f32; 2]| {
                out[(t + i) * n_rows + r] = a;
                out[(t + i) * n_rows + second] = if second == r { a } else { b };
            };
            if taken == 3 {
                let tokens = [acts.row(t), acts.row(t + 1), acts.row(t + 2)];
                let [a, b] = tile::<f32, 2, 3>(pair, tokens);
                (0..3).for_each(|i| put(i, [a[i], b[i]]));
            } else {
                let [[a], [b]] = tile::<f32, 2, 1>(pair, [acts.row(t)]);
                put(0, [a, b]);
            }
        }
        t += taken;
    }
}
