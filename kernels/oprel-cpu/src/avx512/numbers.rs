//! Weights stored as numbers times many tokens, in the order that [`table`](crate::table) defines:
//! a panel of rows, 16 rows in a register.
//!
//! A word of a panel is what meets a word of a token in one instruction: an f32 number, or a pair of
//! bf16 numbers. Word `j` goes to lane `j % 8`. Lanes are taken in four pairs, `l` and `l + 4`, one
//! pair after the other, and words in stretches whose activations stay in the nearest cache; sums
//! wait in memory for the next stretch.

use super::dots::prefetch;
use super::panel::transpose;
use crate::act::F32Acts;
use crate::table::{Panel, PanelSize, Rows};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Rows of a register.
const LANES: usize = 16;
/// Pairs of lanes.
const PAIRS: usize = 4;
/// Words of a token that are taken at once.
const STRETCH: usize = 512;
/// f32 words of a panel of two registers of rows at most; where rows are longer, it has one.
const MOST_WORDS: usize = 96 << 10;
/// Tokens of a tile at most.
const TOKENS: usize = 6;

/// Weights as they are stored and as words of a panel.
///
/// Every function asks that the CPU has the features that the type needs. Those on single vectors
/// are inlined into those on stretches, which are compiled for these features.
pub(super) trait Words: Sized + 'static {
    /// Bytes of a word as stored.
    const SIZE: usize;
    /// Elements of a word.
    const ELEMENTS: usize = 1;

    /// Sixteen words of a row.
    ///
    /// # Safety
    /// As above; [`Words::SIZE`] times 16 bytes are there.
    unsafe fn load(bytes: *const u8) -> __m512i;

    /// Sixteen words of a token.
    ///
    /// # Safety
    /// As above; [`Words::ELEMENTS`] times 16 elements are there.
    unsafe fn act(x: *const f32) -> __m512i;

    /// `acc + w * x`.
    ///
    /// # Safety
    /// As above.
    unsafe fn add_product(acc: __m512, w: __m512i, x: __m512i) -> __m512;

    /// [`fill_with`].
    ///
    /// # Safety
    /// As above.
    unsafe fn fill(x: &[f32], from: usize, to: &mut [u32]);

    /// [`add_products_with`].
    ///
    /// # Safety
    /// As above.
    unsafe fn add_products<const R: usize, const C: usize>(
        sums: &mut Sums<R, C>,
        w: &[f32],
        x: &Stretch<C>,
        pair: usize,
    );
}

/// The functions on stretches, compiled for these features.
macro_rules! stretches {
    ($features:literal) => {
        #[target_feature(enable = $features)]
        unsafe fn fill(x: &[f32], from: usize, to: &mut [u32]) {
            // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
            unsafe { crate::avx512::numbers::fill_with::<Self>(x, from, to) }
        }

        #[target_feature(enable = $features)]
        unsafe fn add_products<const R: usize, const C: usize>(
            sums: &mut Sums<R, C>,
            w: &[f32],
            x: &Stretch<C>,
            pair: usize,
        ) {
            // SAFETY: as above.
            unsafe { crate::avx512::numbers::add_products_with::<Self, R, C>(sums, w, x, pair) }
        }
    };
}
pub(super) use stretches;

/// What all types have in common whose words are f32.
macro_rules! f32_words {
    ($ty:ty, $size:literal, $bytes:ident => $load:expr) => {
        impl Words for $ty {
            const SIZE: usize = $size;

            #[inline(always)]
            unsafe fn load($bytes: *const u8) -> __m512i {
                // SAFETY: the caller says that the bytes and the features are there.
                unsafe { $load }
            }

            #[inline(always)]
            unsafe fn act(x: *const f32) -> __m512i {
                // SAFETY: the caller says that the elements and the features are there.
                unsafe { _mm512_loadu_si512(x.cast()) }
            }

            #[inline(always)]
            unsafe fn add_product(acc: __m512, w: __m512i, x: __m512i) -> __m512 {
                // SAFETY: the caller says that the features are there.
                unsafe { _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), acc) }
            }

            stretches!("avx512bw,avx512dq,avx512vl,avx512vnni");
        }
    };
}

f32_words!(f32, 4, bytes => _mm512_loadu_si512(bytes.cast()));
f32_words!(f16, 2, bytes => {
    _mm512_castps_si512(_mm512_cvtph_ps(_mm256_loadu_si256(bytes.cast())))
});
f32_words!(bf16, 2, bytes => {
    _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(bytes.cast())))
});

/// How large a panel is whose words have so many elements.
pub(super) fn panel_size(k: usize, elements: usize) -> PanelSize {
    let row_words = k.div_ceil(elements).next_multiple_of(LANES);
    let rows = if 2 * LANES * row_words <= MOST_WORDS { 2 * LANES } else { LANES };
    PanelSize { rows, words: rows * row_words }
}

/// Widens rows to a panel: for each pair of lanes its words in order, of each two times 16 or 32
/// rows. Rows beyond the last and words beyond the end are zero.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn unpack<W: Words>(rows: Rows<'_>, panel: &mut Panel<'_>) {
    let size = panel_size(rows.k, W::ELEMENTS);
    let n_steps = size.words / size.rows / (2 * PAIRS);
    let row = |r: usize| match r < rows.n() {
        true => &rows.bytes[r * rows.row_bytes..][..rows.row_bytes],
        false => &[],
    };
    for first in (0..size.rows).step_by(LANES) {
        for j in 0..n_steps / 2 {
            let mut columns = [_mm512_setzero_si512(); LANES];
            for (i, column) in columns.iter_mut().enumerate() {
                *column = sixteen::<W>(row(first + i), j);
            }
            transpose(&mut columns);
            for (i, column) in columns.iter().enumerate() {
                let (step, pair, high) = (2 * j + i / 8, i % 4, i % 8 / 4);
                let at = ((pair * n_steps + step) * 2 + high) * size.rows + first;
                let to = &mut panel.memory[at..at + LANES];
                // SAFETY: a slice of 64 bytes is written.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), *column) };
            }
        }
    }
}

/// Words `16 j` to `16 j + 15` of a row.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn sixteen<W: Words>(row: &[u8], j: usize) -> __m512i {
    let len = LANES * W::SIZE;
    let rest = row.get(j * len..).unwrap_or_default();
    if rest.len() >= len {
        prefetch(&rest[..len]);
        // SAFETY: this function is compiled for, and so runs on, what the trait asks for; the
        // bytes were just counted.
        return unsafe { W::load(rest.as_ptr()) };
    }
    let mut padded = [0; 64];
    padded[..rest.len()].copy_from_slice(rest);
    // SAFETY: as above; words are at most 4 bytes.
    unsafe { W::load(padded.as_ptr()) }
}

/// Sums of `C` tokens with `R` registers of rows, for both lanes of a pair.
pub(super) type Sums<const R: usize, const C: usize> = [[[__m512; R]; C]; 2];

/// A stretch of `C` tokens.
#[repr(align(64))]
pub(super) struct Stretch<const C: usize>([[u32; STRETCH]; C]);

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn gemm<W: Words>(panel: &Panel<'_>, acts: F32Acts<'_>, out: &mut [f32]) {
    if panel_size(panel.k, W::ELEMENTS).rows == LANES {
        gemm_by::<W, 1>(panel, acts, out);
    } else {
        gemm_by::<W, 2>(panel, acts, out);
    }
}

/// Takes tokens in tiles of nearly equal size.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn gemm_by<W: Words, const R: usize>(panel: &Panel<'_>, acts: F32Acts<'_>, out: &mut [f32]) {
    let n = acts.n();
    let n_tiles = n.div_ceil(TOKENS);
    for i in 0..n_tiles {
        let (first, end) = (i * n / n_tiles, (i + 1) * n / n_tiles);
        match end - first {
            1 => tile::<W, R, 1>(panel, acts, first, out),
            2 => tile::<W, R, 2>(panel, acts, first, out),
            3 => tile::<W, R, 3>(panel, acts, first, out),
            4 => tile::<W, R, 4>(panel, acts, first, out),
            5 => tile::<W, R, 5>(panel, acts, first, out),
            _ => tile::<W, R, TOKENS>(panel, acts, first, out),
        }
    }
}

/// Tokens `first..first + C` with all rows.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
fn tile<W: Words, const R: usize, const C: usize>(
    panel: &Panel<'_>,
    acts: F32Acts<'_>,
    first: usize,
    out: &mut [f32],
) {
    let n_words = panel.k.div_ceil(W::ELEMENTS).next_multiple_of(LANES);
    let pair_words = n_words / PAIRS * R * LANES;
    let mut x = Stretch([[0; STRETCH]; C]);
    let mut sums = [[[[_mm512_setzero_ps(); R]; C]; 2]; PAIRS];
    for from in (0..n_words).step_by(STRETCH) {
        let words = STRETCH.min(n_words - from);
        for c in 0..C {
            // SAFETY: the table gives functions of this type only where the CPU has its features.
            unsafe { W::fill(acts.row(first + c), from, &mut x.0[c][..words]) };
        }
        for (pair, sums) in sums.iter_mut().enumerate() {
            let at = pair * pair_words + from / PAIRS * R * LANES;
            let w = &panel.memory[at..at + words / PAIRS * R * LANES];
            // SAFETY: as above.
            unsafe { W::add_products(sums, w, &x, pair) };
        }
    }
    for c in 0..C {
        for r in 0..R {
            let lanes = |pair: usize| _mm512_add_ps(sums[pair][0][c][r], sums[pair][1][c][r]);
            let even = _mm512_add_ps(lanes(0), lanes(2));
            let all = _mm512_add_ps(even, _mm512_add_ps(lanes(1), lanes(3)));
            let to = &mut out[((first + c) * R + r) * LANES..][..LANES];
            // SAFETY: a slice of 64 bytes is written.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), all) };
        }
    }
}

/// Words of a token from word `from` on, zeros beyond its end.
///
/// # Safety
/// As [`Words`].
#[inline(always)]
pub(super) unsafe fn fill_with<W: Words>(x: &[f32], from: usize, to: &mut [u32]) {
    let x = &x[from * W::ELEMENTS..];
    let len = LANES * W::ELEMENTS;
    for (i, to) in to.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let rest = &x[(i * len).min(x.len())..];
        let mut padded = [0.0; 2 * LANES];
        let whole = if rest.len() >= len {
            rest
        } else {
            padded[..rest.len()].copy_from_slice(rest);
            &padded[..]
        };
        // SAFETY: the features are there, as the caller says; 16 words are there, of at most two
        // elements; an array of 64 bytes is written.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), W::act(whole.as_ptr())) };
    }
}

/// Adds the products of a stretch in the lanes `pair` and `pair + 4`.
///
/// # Safety
/// As [`Words`].
#[inline(always)]
pub(super) unsafe fn add_products_with<W: Words, const R: usize, const C: usize>(
    sums: &mut Sums<R, C>,
    w: &[f32],
    x: &Stretch<C>,
    pair: usize,
) {
    let mut acc = *sums;
    let steps = w.chunks_exact(2 * R * LANES);
    assert!(steps.len() <= STRETCH / (2 * PAIRS) && pair < PAIRS, "a stretch");
    for (s, w) in steps.enumerate() {
        for h in 0..2 {
            // SAFETY: the features are there, as the caller says; 16 words are read of the
            // `2 * R` times 16 of a step; there are at most `STRETCH / 8` steps, so the word's
            // number is below `STRETCH`.
            unsafe {
                let mut rows = [_mm512_setzero_si512(); R];
                for r in 0..R {
                    rows[r] = _mm512_loadu_si512(w.as_ptr().add((h * R + r) * LANES).cast());
                }
                for c in 0..C {
                    let word = *x.0[c].get_unchecked(2 * PAIRS * s + PAIRS * h + pair);
                    let word = _mm512_set1_epi32(word as i32);
                    for r in 0..R {
                        acc[h][c][r] = W::add_product(acc[h][c][r], rows[r], word);
                    }
                }
            }
        }
    }
    *sums = acc;
}
