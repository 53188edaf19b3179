//! Weights stored as numbers times many tokens, in the order that [`table`](crate::table) defines:
//! a panel of rows, 16 rows in a register.
//!
//! A word of a panel is what meets a word of a token in one instruction: an f32 number, or a pair of
//! bf16 numbers. Word `j` goes to lane `j % 8`. Lanes are taken in four pairs, `l` and `l + 4`, one
//! pair after the other, and words in stretches whose activations stay in the nearest cache; sums
//! wait in memory for the next stretch. Tokens whose words are not their elements are converted
//! stretch by stretch, so their panels have several parts, which share that.

use super::dots::prefetch;
use super::panel::transpose;
use crate::act::F32Acts;
use crate::table::{Panel, PanelSize, Rows};
use half::{bf16, f16};
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows of a register.
const LANES: usize = 16;
/// Pairs of lanes.
const PAIRS: usize = 4;
/// Words of a token that are taken at once.
const STRETCH: usize = 512;
/// f32 words of a panel of two registers of rows at most; where rows are longer, it has one.
const MOST_WORDS: usize = 128 << 10;
/// f32 words of a panel of several parts at most: two panels, of a product and of its gate, stay in
/// the second cache.
const PARTED_WORDS: usize = 96 << 10;
/// Parts of a panel at most, of two registers of rows each.
const PARTS: usize = 4;
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
        x: [&[u32]; C],
        pair: usize,
        fresh: bool,
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
            x: [&[u32]; C],
            pair: usize,
            fresh: bool,
        ) {
            use crate::avx512::numbers::add_products_with;
            // SAFETY: as above.
            unsafe { add_products_with::<Self, R, C>(sums, w, x, pair, fresh) }
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
    let row_words = row_words(k, elements);
    let part = 2 * LANES * row_words;
    let rows = if part > MOST_WORDS {
        LANES
    } else if elements == 1 {
        2 * LANES
    } else {
        (PARTED_WORDS / part.max(1)).clamp(1, PARTS) * 2 * LANES
    };
    PanelSize { rows, words: rows * row_words }
}

/// Words of a row of a panel.
fn row_words(k: usize, elements: usize) -> usize {
    k.div_ceil(elements).next_multiple_of(LANES)
}

/// Widens rows to a panel, part after part: for each pair of lanes its words in order, of each two
/// times 16 or 32 rows. Rows beyond the last and words beyond the end are zero.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn unpack<W: Words>(rows: Rows<'_>, panel: &mut Panel<'_>) {
    let size = panel_size(rows.k, W::ELEMENTS);
    let row_words = row_words(rows.k, W::ELEMENTS);
    let n_steps = row_words / (2 * PAIRS);
    let part_rows = size.rows.min(2 * LANES);
    let row = |r: usize| match r < rows.n() {
        true => &rows.bytes[r * rows.row_bytes..][..rows.row_bytes],
        false => &[],
    };
    for first in (0..rows.n().next_multiple_of(part_rows)).step_by(LANES) {
        let (part, place) = (first / part_rows, first % part_rows);
        for j in 0..n_steps / 2 {
            let mut columns = [_mm512_setzero_si512(); LANES];
            for (i, column) in columns.iter_mut().enumerate() {
                *column = sixteen::<W>(row(first + i), j);
            }
            transpose(&mut columns);
            for (i, column) in columns.iter().enumerate() {
                let (step, pair, high) = (2 * j + i / 8, i % 4, i % 8 / 4);
                let at = ((pair * n_steps + step) * 2 + high) * part_rows + place;
                let to = &mut panel.memory[part * part_rows * row_words + at..][..LANES];
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

/// Memory of a tile.
#[repr(align(64))]
struct Memory<const R: usize, const C: usize> {
    /// A stretch of words of each token.
    words: [[u32; STRETCH]; C],
    /// Of each part and pair of lanes.
    sums: [[Sums<R, C>; PAIRS]; PARTS],
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn gemm<W: Words>(panel: &Panel<'_>, acts: F32Acts<'_>, out: &mut [f32]) {
    if panel_size(panel.k, W::ELEMENTS).rows == LANES {
        gemm_by::<W, 1>(panel, acts, out);
    } else {
        gemm_by::<W, 2>(panel, acts, out);
    }
}

/// Takes tokens in tiles of nearly equal size, the larger ones first.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn gemm_by<W: Words, const R: usize>(panel: &Panel<'_>, acts: F32Acts<'_>, out: &mut [f32]) {
    let n = acts.n();
    let n_tiles = n.div_ceil(TOKENS).max(1);
    let (few, n_more) = (n / n_tiles, n % n_tiles);
    let (more, rest) = (few + 1, n_more * (few + 1));
    for (c, tokens) in [(more, 0..rest), (few, rest..n)] {
        match c {
            1 => tiles::<W, R, 1>(panel, acts, tokens, out),
            2 => tiles::<W, R, 2>(panel, acts, tokens, out),
            3 => tiles::<W, R, 3>(panel, acts, tokens, out),
            4 => tiles::<W, R, 4>(panel, acts, tokens, out),
            5 => tiles::<W, R, 5>(panel, acts, tokens, out),
            TOKENS => tiles::<W, R, TOKENS>(panel, acts, tokens, out),
            _ => debug_assert!(tokens.is_empty(), "at most {TOKENS} tokens"),
        }
    }
}

/// `C` tokens after `C` tokens with all rows.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
fn tiles<W: Words, const R: usize, const C: usize>(
    panel: &Panel<'_>,
    acts: F32Acts<'_>,
    tokens: Range<usize>,
    out: &mut [f32],
) {
    let zeros = [[[_mm512_setzero_ps(); R]; C]; 2];
    let mut memory = Memory { words: [[0; STRETCH]; C], sums: [[zeros; PAIRS]; PARTS] };
    for first in tokens.step_by(C) {
        tile::<W, R, C>(panel, acts, first, &mut memory, out);
    }
}

/// Tokens `first..first + C` with all rows.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
fn tile<W: Words, const R: usize, const C: usize>(
    panel: &Panel<'_>,
    acts: F32Acts<'_>,
    first: usize,
    memory: &mut Memory<R, C>,
    out: &mut [f32],
) {
    let n_words = row_words(panel.k, W::ELEMENTS);
    let n_parts = panel.n_rows.div_ceil(R * LANES);
    let pair_words = n_words / PAIRS * R * LANES;
    let stored = W::ELEMENTS == 1 && panel.k.is_multiple_of(LANES);
    for from in (0..n_words).step_by(STRETCH) {
        let words = STRETCH.min(n_words - from);
        let mut x = [&[][..]; C];
        for (c, (x, converted)) in x.iter_mut().zip(&mut memory.words).enumerate() {
            let act = acts.row(first + c);
            if stored {
                *x = bytemuck::cast_slice(&act[from..from + words]);
            } else {
                // SAFETY: the table gives functions of this type only where the CPU has its
                // features.
                unsafe { W::fill(act, from, &mut converted[..words]) };
                *x = &converted[..words];
            }
        }
        for (part, sums) in memory.sums[..n_parts].iter_mut().enumerate() {
            for (pair, sums) in sums.iter_mut().enumerate() {
                let at = (part * PAIRS + pair) * pair_words + from / PAIRS * R * LANES;
                let w = &panel.memory[at..at + words / PAIRS * R * LANES];
                // SAFETY: as above.
                unsafe { W::add_products(sums, w, x, pair, from == 0) };
            }
        }
    }
    let stride = panel_size(panel.k, W::ELEMENTS).rows;
    for (part, sums) in memory.sums[..n_parts].iter().enumerate() {
        for c in 0..C {
            for r in 0..R {
                let lanes = |pair: usize| _mm512_add_ps(sums[pair][0][c][r], sums[pair][1][c][r]);
                let even = _mm512_add_ps(lanes(0), lanes(2));
                let all = _mm512_add_ps(even, _mm512_add_ps(lanes(1), lanes(3)));
                let at = (first + c) * stride + (part * R + r) * LANES;
                let to = &mut out[at..at + LANES];
                // SAFETY: a slice of 64 bytes is written.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr(), all) };
            }
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
    let (to, _) = to.as_chunks_mut::<LANES>();
    let whole = (x.len() / len).min(to.len());
    let (to, last) = to.split_at_mut(whole);
    for (x, to) in x.chunks_exact(len).zip(to) {
        // SAFETY: the features are there, as the caller says; a slice of 16 words' elements is
        // read; an array of 64 bytes is written.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), W::act(x.as_ptr())) };
    }
    let mut rest = &x[whole * len..];
    for to in last {
        let mut padded = [0.0; 2 * LANES];
        padded[..rest.len()].copy_from_slice(rest);
        rest = &[];
        // SAFETY: as above; words are of at most two elements.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), W::act(padded.as_ptr())) };
    }
}

/// Adds the products of a stretch in the lanes `pair` and `pair + 4`, to zeros where sums are
/// `fresh`.
///
/// # Safety
/// As [`Words`].
#[inline(always)]
pub(super) unsafe fn add_products_with<W: Words, const R: usize, const C: usize>(
    sums: &mut Sums<R, C>,
    w: &[f32],
    x: [&[u32]; C],
    pair: usize,
    fresh: bool,
) {
    // SAFETY: the features are there, as the caller says.
    let mut acc = if fresh { unsafe { [[[_mm512_setzero_ps(); R]; C]; 2] } } else { *sums };
    let n_steps = w.len() / (2 * R * LANES);
    let enough = x.iter().all(|x| x.len() >= 2 * PAIRS * n_steps);
    assert!(enough && pair < PAIRS, "words of tokens for all words of rows");
    for s in 0..n_steps {
        for h in 0..2 {
            // SAFETY: the features are there, as the caller says; 16 words are read of the `2 * R`
            // times 16 of a step; each token has eight words for each step, as was just checked.
            unsafe {
                let mut rows = [_mm512_setzero_si512(); R];
                for r in 0..R {
                    let at = ((2 * s + h) * R + r) * LANES;
                    rows[r] = _mm512_loadu_si512(w.as_ptr().add(at).cast());
                }
                for c in 0..C {
                    let word = *x[c].get_unchecked(2 * PAIRS * s + PAIRS * h + pair);
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
