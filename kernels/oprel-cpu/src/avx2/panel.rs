//! Panels of 16 rows for the matrix product: codes of eight rows side by side in a register, four
//! weights of each, so that a row is a lane.
//!
//! A panel is a list of blocks of 32 weights. A block is codes (8 quarters of four weights, 16 rows),
//! then scales (16 rows), where halves have their own the second scales, then minima likewise. After
//! eight blocks of a type with integer scales stand the numbers that multiply them. Rows beyond the
//! last are zero.

use super::Avx2Ops;
use crate::act::{BLOCKS, SCALED};
use crate::block_panel;
use crate::blocks::{Block, Wide, unpack_group};
use crate::row_panel;
use crate::table::{Panel, PanelSize, Rows};
use oprel_quant::QuantType;
use std::arch::x86_64::*;

/// Rows of a panel.
pub(super) const ROWS: usize = 16;
/// Rows of a register.
pub(super) const LANES: usize = 8;
/// Fours of codes in a block.
pub(super) const QUARTERS: usize = SCALED / 4;

/// How large a panel of a type is.
pub(crate) fn size(ty: QuantType, k: usize) -> PanelSize {
    if !ty.is_quantized() {
        return row_panel::size(ty, k);
    }
    block_panel::size(ROWS, ty, k)
}

/// Fills a panel; `offset` is added to all codes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn fill<B: Block>(rows: Rows<'_>, panel: &mut Panel<'_>, offset: i8) {
    let words = block_panel::group_words(ROWS, B::HALVES, B::MINS, B::WHOLE);
    for (g, to) in panel.memory.chunks_exact_mut(words).enumerate() {
        if B::WHOLE {
            let blocks = BLOCKS * block_panel::block_words(ROWS, B::HALVES, B::MINS);
            block_panel::write_numbers::<B>(rows, g, ROWS, &mut to[blocks..]);
        }
        for first in (0..ROWS).step_by(LANES) {
            let mut eight = Eight::zero();
            for i in 0..LANES.min(rows.n().saturating_sub(first)) {
                let row = &rows.bytes[(first + i) * rows.row_bytes..][..rows.row_bytes];
                let row = unpack_group::<_, B>(Avx2Ops::new(), row, g);
                eight.put::<B>(i, &row, offset);
            }
            eight.write::<B>(first, to);
        }
    }
}

/// A group of eight rows.
struct Eight {
    /// By block, then by row.
    codes: [[__m256i; LANES]; BLOCKS],
    /// First scales, second scales, first minima, second minima; each by row.
    vectors: [[__m256i; LANES]; 4],
}

impl Eight {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn zero() -> Eight {
        let none = [_mm256_setzero_si256(); LANES];
        Eight { codes: [none; BLOCKS], vectors: [none; 4] }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn put<B: Block>(&mut self, i: usize, row: &Wide<Avx2Ops>, offset: i8) {
        for b in 0..BLOCKS {
            self.codes[b][i] = _mm256_add_epi8(row.codes[b], _mm256_set1_epi8(offset));
        }
        let vectors = [row.scales[0], row.scales[1], row.mins[0], row.mins[1]];
        for v in 0..4 {
            self.vectors[v][i] = match B::WHOLE {
                true => _mm256_cvtps_epi32(vectors[v]),
                false => _mm256_castps_si256(vectors[v]),
            };
        }
    }

    /// Writes these as rows `first..` of a group of the panel.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn write<B: Block>(&mut self, first: usize, to: &mut [f32]) {
        let words = block_panel::block_words(ROWS, B::HALVES, B::MINS);
        let wanted = block_panel::vectors(B::HALVES, B::MINS);
        for which in wanted {
            transpose(&mut self.vectors[*which]);
        }
        for (b, to) in to.chunks_exact_mut(words).enumerate().take(BLOCKS) {
            transpose(&mut self.codes[b]);
            let vectors = wanted.iter().map(|which| &self.vectors[*which][b]);
            let columns = self.codes[b].iter().chain(vectors);
            for (to, column) in to.chunks_exact_mut(ROWS).zip(columns) {
                let to = &mut to[first..][..LANES];
                // SAFETY: a slice of 32 bytes is written.
                unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), *column) };
            }
        }
    }
}

/// Turns 8 rows of 8 words into 8 columns.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn transpose(v: &mut [__m256i; LANES]) {
    let mut t = [_mm256_setzero_si256(); LANES];
    for i in 0..4 {
        t[2 * i] = _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    // v[4 i + j]: column j of each 128 bits, of rows 4 i to 4 i + 3.
    for i in 0..2 {
        v[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        v[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        v[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        v[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for j in 0..4 {
        let (low, high) = (v[j], v[4 + j]);
        v[j] = _mm256_permute2x128_si256::<0x20>(low, high);
        v[4 + j] = _mm256_permute2x128_si256::<0x31>(low, high);
    }
}
