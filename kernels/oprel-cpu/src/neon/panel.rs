//! Panels of 16 rows for the matrix product: four rows side by side in registers.
//!
//! A panel is a list of blocks of 32 weights. A block is codes, for each four rows those of the
//! first half and those of the second; then scales (16 rows), where halves have their own the second
//! scales, then minima likewise; after eight blocks of a type with integer scales stand the numbers that
//! multiply them. Four registers hold sixteen weights of four rows: each four of
//! all, or, by pairs, eight weights of two rows, the next eight, and the same of the other two.
//! Rows beyond the last are zero.

use super::NeonOps;
use super::steps::eights;
use crate::act::{BLOCKS, SCALED};
use crate::block_panel;
use crate::blocks::{Block, Wide, unpack_group};
use crate::row_panel;
use crate::table::{Panel, PanelSize, Rows};
use oprel_quant::QuantType;
use std::arch::aarch64::*;

/// Rows of a panel.
pub(super) const ROWS: usize = 16;
/// Rows of a register.
pub(super) const LANES: usize = 4;
/// f32 words of four rows' codes of a block.
pub(super) const FOUR_ROWS: usize = LANES * SCALED / 4;
/// f32 words of a block's codes.
pub(super) const CODE_WORDS: usize = block_panel::code_words(ROWS);

/// How large a panel of a type is.
pub(crate) fn size(ty: QuantType, k: usize) -> PanelSize {
    if !ty.is_quantized() {
        return row_panel::size(ty, k);
    }
    block_panel::size(ROWS, ty, k)
}

/// Fills a panel.
#[target_feature(enable = "neon")]
pub(super) fn fill<B: Block, const PAIRS: bool>(rows: Rows<'_>, panel: &mut Panel<'_>) {
    let words = block_panel::group_words(ROWS, B::HALVES, B::MINS, B::WHOLE);
    let blocks = BLOCKS * block_panel::block_words(ROWS, B::HALVES, B::MINS);
    let none = [[vdupq_n_f32(0.0); 2]; 2];
    let zero = Wide { codes: [[vdupq_n_s8(0); 2]; BLOCKS], scales: none, mins: none };
    for (g, to) in panel.memory.chunks_exact_mut(words).enumerate() {
        let (to, numbers) = to.split_at_mut(blocks);
        if B::WHOLE {
            block_panel::write_numbers::<B>(rows, g, ROWS, numbers);
        }
        for first in (0..ROWS).step_by(LANES) {
            let mut four = [zero; LANES];
            for i in 0..LANES.min(rows.n().saturating_sub(first)) {
                let row = &rows.bytes[(first + i) * rows.row_bytes..][..rows.row_bytes];
                four[i] = unpack_group::<_, B>(NeonOps::new(), row, g);
            }
            write_codes::<B, PAIRS>(&four, first, to);
            write_vectors::<B>(&four, first, to);
        }
    }
}

/// Writes the codes of rows `first..` of a group.
#[target_feature(enable = "neon")]
#[inline]
fn write_codes<B: Block, const PAIRS: bool>(
    rows: &[Wide<NeonOps>; LANES],
    first: usize,
    to: &mut [f32],
) {
    let words = block_panel::block_words(ROWS, B::HALVES, B::MINS);
    for (b, to) in to.chunks_exact_mut(words).enumerate() {
        let (to, _) = to[first / LANES * FOUR_ROWS..].as_chunks_mut::<LANES>();
        for half in 0..2 {
            let row = |r: usize| rows[r].codes[b][half];
            let registers = if PAIRS {
                let ([a, b], [c, d]) = (eights(row(0), row(1)), eights(row(2), row(3)));
                [a, b, c, d].map(|x| vreinterpretq_f32_s8(x))
            } else {
                transpose([row(0), row(1), row(2), row(3)].map(|x| vreinterpretq_f32_s8(x)))
            };
            for i in 0..LANES {
                // SAFETY: an array of four is written.
                unsafe { vst1q_f32(to[half * LANES + i].as_mut_ptr(), registers[i]) };
            }
        }
    }
}

/// Writes the scales and minima of rows `first..` of a group.
#[target_feature(enable = "neon")]
#[inline]
fn write_vectors<B: Block>(rows: &[Wide<NeonOps>; LANES], first: usize, to: &mut [f32]) {
    let words = block_panel::block_words(ROWS, B::HALVES, B::MINS);
    let wanted = block_panel::vectors(B::HALVES, B::MINS);
    for (place, which) in wanted.iter().enumerate() {
        for quarter in 0..2 {
            let row = |r: usize| match which {
                0 | 1 => rows[r].scales[*which][quarter],
                _ => rows[r].mins[which - 2][quarter],
            };
            let mut rows = [row(0), row(1), row(2), row(3)];
            if B::WHOLE {
                // Integers.
                rows = rows.map(|x| vreinterpretq_f32_s32(vcvtq_s32_f32(x)));
            }
            let columns = transpose(rows);
            for i in 0..LANES {
                let at = (LANES * quarter + i) * words + CODE_WORDS + place * ROWS + first;
                let to = &mut to[at..at + LANES];
                // SAFETY: a slice of four is written.
                unsafe { vst1q_f32(to.as_mut_ptr(), columns[i]) };
            }
        }
    }
}

/// Turns 4 rows of 4 words into 4 columns.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn transpose([a, b, c, d]: [float32x4_t; LANES]) -> [float32x4_t; LANES] {
    let wide = |x| vreinterpretq_f64_f32(x);
    // Of each two rows: columns 0 and 2, columns 1 and 3.
    let (even_ab, odd_ab) = (wide(vtrn1q_f32(a, b)), wide(vtrn2q_f32(a, b)));
    let (even_cd, odd_cd) = (wide(vtrn1q_f32(c, d)), wide(vtrn2q_f32(c, d)));
    let columns = [
        vzip1q_f64(even_ab, even_cd),
        vzip1q_f64(odd_ab, odd_cd),
        vzip2q_f64(even_ab, even_cd),
        vzip2q_f64(odd_ab, odd_cd),
    ];
    columns.map(|x| vreinterpretq_f32_f64(x))
}
