//! Weights stored as numbers times many tokens, in the order that [`table`](crate::table) defines:
//! a panel of rows, 16 rows in a register.
//!
//! A word of a panel is what meets a word of a token in one instruction: an f32 number, or a pair of
//! bf16 numbers. Word `j` goes to lane `j % 8`. Lanes are taken one after the other, each over whole
//! rows; panels and tokens have their words in that order.

use super::panel::transpose;
use crate::act::{F32Acts, turned_len};
use crate::table::{Panel, PanelSize, Rows};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Rows of a register.
const LANES: usize = 16;
/// Lanes of a sum.
const SUMS: usize = 8;
/// f32 words of a panel of two registers of rows at most; where rows are longer, it has one.
const MOST_WORDS: usize = 128 << 10;
/// Tokens of a tile at most: with two registers of rows, all sums are in registers.
const TOKENS: usize = 12;
/// Steps of 16 words that rows are fetched ahead of their use.
const AHEAD: usize = 4;

/// Weights as they are stored and as words of a panel.
///
/// Every function asks that the CPU has the features that the type needs. Those on single vectors
/// are inlined into those on lanes, which are compiled for these features.
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

    /// [`turn_with`].
    ///
    /// # Safety
    /// As above.
    unsafe fn turn(x: &[f32], to: &mut [u32]);

    /// [`sum_lane_with`].
    ///
    /// # Safety
    /// As above.
    unsafe fn sum_lane<const R: usize, const C: usize>(
        sums: &mut Sums<R, C>,
        w: &[f32],
        x: [&[u32]; C],
        is_added: bool,
    );
}

/// The functions on lanes, compiled for these features.
macro_rules! lanes {
    ($features:literal) => {
        #[target_feature(enable = $features)]
        unsafe fn turn(x: &[f32], to: &mut [u32]) {
            // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
            unsafe { crate::avx512::numbers::turn_with::<Self>(x, to) }
        }

        #[target_feature(enable = $features)]
        unsafe fn sum_lane<const R: usize, const C: usize>(
            sums: &mut Sums<R, C>,
            w: &[f32],
            x: [&[u32]; C],
            is_added: bool,
        ) {
            // SAFETY: as above.
            unsafe { crate::avx512::numbers::sum_lane_with::<Self, R, C>(sums, w, x, is_added) }
        }
    };
}
pub(super) use lanes;

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

            lanes!("avx512bw,avx512dq,avx512vl,avx512vnni");
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
    let row_words = turned_len(k, elements);
    let rows = if 2 * LANES * row_words > MOST_WORDS { LANES } else { 2 * LANES };
    PanelSize { rows, words: rows * row_words }
}

/// Widens rows to a panel: for each lane its words in order, of each 16 or 32 rows. Rows beyond the
/// last and words beyond the end are zero.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn unpack<W: Words>(rows: Rows<'_>, panel: &mut Panel<'_>) {
    let n_rows = panel_size(rows.k, W::ELEMENTS).rows;
    let n_steps = turned_len(rows.k, W::ELEMENTS) / SUMS;
    let row = |r: usize| match r < rows.n() {
        true => &rows.bytes[r * rows.row_bytes..][..rows.row_bytes],
        false => &[],
    };
    for first in (0..n_rows).step_by(LANES) {
        for j in 0..n_steps / 2 {
            let mut columns = [_mm512_setzero_si512(); LANES];
            for (i, column) in columns.iter_mut().enumerate() {
                *column = sixteen::<W>(row(first + i), j);
            }
            transpose(&mut columns);
            for (i, column) in columns.iter().enumerate() {
                let (lane, step) = (i % SUMS, 2 * j + i / SUMS);
                let to = &mut panel.memory[(lane * n_steps + step) * n_rows + first..][..LANES];
                // SAFETY: a slice of 64 bytes is written.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), *column) };
            }
        }
    }
}

/// Words `16 j` to `16 j + 15` of a row; later ones are asked for, beyond its end those of the row 16
/// further on.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn sixteen<W: Words>(row: &[u8], j: usize) -> __m512i {
    let len = LANES * W::SIZE;
    let rest = row.get(j * len..).unwrap_or_default();
    let ahead = (j + AHEAD) * len;
    let ahead = if ahead < row.len() { ahead } else { ahead + (LANES - 1) * row.len() };
    _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().wrapping_add(ahead).cast());
    if rest.len() >= len {
        // SAFETY: this function is compiled for, and so runs on, what the trait asks for; the
        // bytes were just counted.
        return unsafe { W::load(rest.as_ptr()) };
    }
    let mut padded = [0; 64];
    padded[..rest.len()].copy_from_slice(rest);
    // SAFETY: as above; words are at most 4 bytes.
    unsafe { W::load(padded.as_ptr()) }
}

/// Words of a token by lanes, zeros beyond its end.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn turn<W: Words>(x: &[f32], words: &mut [u32]) {
    // SAFETY: the table gives functions of this type only where the CPU has its features.
    unsafe { W::turn(x, words) };
}

/// [`turn`].
///
/// # Safety
/// As [`Words`].
#[inline(always)]
pub(super) unsafe fn turn_with<W: Words>(x: &[f32], to: &mut [u32]) {
    let n_steps = to.len() / SUMS;
    let len = LANES * W::ELEMENTS;
    for i in 0..n_steps / 2 {
        let x = &x[(i * len).min(x.len())..];
        let mut padded = [0.0; 2 * LANES];
        let mut words = [[0; SUMS]; 2];
        let from = match x.get(..len) {
            Some(x) => x,
            None => {
                padded[..x.len()].copy_from_slice(x);
                &padded
            }
        };
        // SAFETY: the features are there, as the caller says; 16 words' elements are read, which
        // are at most two each; an array of 64 bytes is written.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), W::act(from.as_ptr())) };
        for lane in 0..SUMS {
            to[lane * n_steps + 2 * i] = words[0][lane];
            to[lane * n_steps + 2 * i + 1] = words[1][lane];
        }
    }
}

/// Sums of `C` tokens with `R` registers of rows.
pub(super) type Sums<const R: usize, const C: usize> = [[__m512; R]; C];

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
            6 => tile::<W, R, 6>(panel, acts, first, out),
            7 => tile::<W, R, 7>(panel, acts, first, out),
            8 => tile::<W, R, 8>(panel, acts, first, out),
            9 => tile::<W, R, 9>(panel, acts, first, out),
            10 => tile::<W, R, 10>(panel, acts, first, out),
            11 => tile::<W, R, 11>(panel, acts, first, out),
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
    let mut tokens = [&[][..]; C];
    for (c, token) in tokens.iter_mut().enumerate() {
        *token = acts.words(first + c, W::ELEMENTS);
    }
    let zero = [[_mm512_setzero_ps(); R]; C];
    let (mut total, mut half, mut quarter) = (zero, zero, zero);
    sum_lane::<W, R, C>(panel, &tokens, (0, false), &mut total);
    sum_lane::<W, R, C>(panel, &tokens, (4, true), &mut total);
    sum_lane::<W, R, C>(panel, &tokens, (2, false), &mut quarter);
    sum_lane::<W, R, C>(panel, &tokens, (6, true), &mut quarter);
    add(&mut total, &quarter);
    sum_lane::<W, R, C>(panel, &tokens, (1, false), &mut half);
    sum_lane::<W, R, C>(panel, &tokens, (5, true), &mut half);
    sum_lane::<W, R, C>(panel, &tokens, (3, false), &mut quarter);
    sum_lane::<W, R, C>(panel, &tokens, (7, true), &mut quarter);
    add(&mut half, &quarter);
    add(&mut total, &half);
    for (c, rows) in total.iter().enumerate() {
        let (to, _) = out[(first + c) * R * LANES..][..R * LANES].as_chunks_mut::<LANES>();
        for (to, sums) in to.iter_mut().zip(rows) {
            // SAFETY: an array of 16 is written.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), *sums) };
        }
    }
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add<const R: usize, const C: usize>(a: &mut Sums<R, C>, b: &Sums<R, C>) {
    for c in 0..C {
        for r in 0..R {
            a[c][r] = _mm512_add_ps(a[c][r], b[c][r]);
        }
    }
}

/// The words of one lane, summed in order; then added `to` what is there, or written over it.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn sum_lane<W: Words, const R: usize, const C: usize>(
    panel: &Panel<'_>,
    tokens: &[&[u32]; C],
    (lane, is_added): (usize, bool),
    to: &mut Sums<R, C>,
) {
    let n_steps = turned_len(panel.k, W::ELEMENTS) / SUMS;
    let w = &panel.memory[lane * n_steps * R * LANES..][..n_steps * R * LANES];
    let mut x = [&[][..]; C];
    for c in 0..C {
        x[c] = &tokens[c][lane * n_steps..][..n_steps];
    }
    // SAFETY: the table gives functions of this type only where the CPU has its features.
    unsafe { W::sum_lane(to, w, x, is_added) };
}

/// The sums of a lane of rows `w` (steps, rows), added to `sums` or written over them.
///
/// # Safety
/// As [`Words`].
#[inline(always)]
pub(super) unsafe fn sum_lane_with<W: Words, const R: usize, const C: usize>(
    sums: &mut Sums<R, C>,
    w: &[f32],
    x: [&[u32]; C],
    is_added: bool,
) {
    // SAFETY: the features are there, as the caller says.
    let mut acc = unsafe { [[_mm512_setzero_ps(); R]; C] };
    let n_steps = w.len() / (R * LANES);
    assert!(x.iter().all(|x| x.len() == n_steps), "words of tokens for all words of rows");
    for s in 0..n_steps {
        // SAFETY: the features are there, as the caller says; 16 words are read of the `R` times 16
        // of a step; each token has a word for each step, as was just checked.
        unsafe {
            let mut rows = [_mm512_setzero_si512(); R];
            for r in 0..R {
                rows[r] = _mm512_loadu_si512(w.as_ptr().add((s * R + r) * LANES).cast());
            }
            for c in 0..C {
                let word = _mm512_set1_epi32(*x[c].get_unchecked(s) as i32);
                for r in 0..R {
                    acc[c][r] = W::add_product(acc[c][r], rows[r], word);
                }
            }
        }
    }
    for c in 0..C {
        for r in 0..R {
            sums[c][r] = match is_added {
                // SAFETY: the features are there, as the caller says.
                true => unsafe { _mm512_add_ps(sums[c][r], acc[c][r]) },
                false => acc[c][r],
            };
        }
    }
}
