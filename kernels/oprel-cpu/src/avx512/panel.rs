//! Panels of 32 rows for the matrix product: codes of 16 rows side by side in a register, four
//! weights of each, so that a row is a lane.
//!
//! A panel is a list of blocks of 32 weights, those of lane 0 first (see [`at`]). A block is codes
//! (8 quarters of four weights, 32 rows), then scales (32 rows), where halves have their own the
//! second scales, then minima likewise. Rows beyond the last are zero.

use super::blocks::{Block, Group};
use super::dots::Fetching;
use crate::act::{BLOCKS, GROUP};
use crate::block_panel;
use crate::blocks::padded;
use crate::table::{Panel, PanelSize, Rows};
use oprel_quant::QuantType;
use std::arch::x86_64::*;

/// Rows of a panel.
pub(super) const ROWS: usize = 32;
/// Rows of a register.
pub(super) const LANES: usize = 16;
/// f32 words of a block's codes.
pub(super) const CODE_WORDS: usize = block_panel::code_words(ROWS);

/// How large a panel of a type is.
pub(super) fn size(ty: QuantType, k: usize) -> PanelSize {
    block_panel::size(ROWS, ty, k)
}

/// Which block of the panel is block `lane` of group `g`.
pub(super) fn at(lane: usize, g: usize, n_groups: usize) -> usize {
    lane * n_groups + g
}

/// A group of 16 rows, a row in each word: first four registers of codes of each row, then scales and
/// minima of its blocks, two kinds in a register. After the transposition, a column in each.
type Columns = [[__m512i; LANES]; 6];

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn unpack<B: Block>(rows: Rows<'_>, panel: &mut Panel<'_>) {
    let fetching = Fetching::detect();
    let n_groups = rows.k.div_ceil(GROUP);
    // Every word is written for each group; clearing them each time would cost as much as that.
    let mut columns: Columns = [[_mm512_setzero_si512(); LANES]; 6];
    for first in (0..ROWS).step_by(LANES) {
        for g in 0..n_groups {
            for i in 0..LANES {
                let row = rows.bytes.get((first + i) * rows.row_bytes..).unwrap_or_default();
                let bytes = row.get(g * B::BYTES..rows.row_bytes).unwrap_or_default();
                let last;
                let bytes = match bytes.get(..B::BYTES) {
                    Some(bytes) => {
                        fetching.prefetch::<0>(bytes);
                        bytes
                    }
                    None if bytes.is_empty() => {
                        set::<B>(&mut columns, i, &Group::zero());
                        continue;
                    }
                    None => {
                        last = padded(bytes);
                        &last[..B::BYTES]
                    }
                };
                // SAFETY: this function is compiled for, and so runs on, what the trait asks for.
                set::<B>(&mut columns, i, &unsafe { B::group::<0, 0>(bytes) });
            }
            put::<B>(&mut columns, first, (g, n_groups), panel.memory);
        }
    }
}

/// Notes row `i`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn set<B: Block>(columns: &mut Columns, i: usize, group: &Group) {
    for q in 0..4 {
        columns[q][i] = group.codes[q];
    }
    let both = |a: __m256, b: __m256| {
        _mm512_castps_si512(_mm512_insertf32x8::<1>(_mm512_castps256_ps512(a), b))
    };
    let ([s, t], [m, n]) = (group.scales, group.mins);
    columns[4][i] = both(s, if B::HALVES { t } else { m });
    if B::HALVES && B::MINS {
        columns[5][i] = both(m, n);
    }
}

/// Writes group `g` of 16 rows from `first` on.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn put<B: Block>(
    columns: &mut Columns,
    first: usize,
    (g, n_groups): (usize, usize),
    memory: &mut [f32],
) {
    let words = block_panel::block_words(ROWS, B::HALVES, B::MINS);
    let n_vectors = block_panel::vectors(B::HALVES, B::MINS).len();
    for column in &mut columns[..4 + n_vectors.div_ceil(2)] {
        transpose(column);
    }
    for lane in 0..BLOCKS {
        let block = &mut memory[at(lane, g, n_groups) * words..][..words];
        let (codes, rest) = block.split_at_mut(CODE_WORDS);
        for quarter in 0..8 {
            let (register, at) = B::ORDER.place(lane, quarter);
            store(columns[register][at], &mut codes[quarter * ROWS + first..]);
        }
        for (v, to) in rest.chunks_exact_mut(ROWS).enumerate() {
            store(columns[4 + v / 2][v % 2 * BLOCKS + lane], &mut to[first..]);
        }
    }
}

/// Writes 16 words.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn store(from: __m512i, to: &mut [f32]) {
    let to = &mut to[..LANES];
    // SAFETY: a slice of 64 bytes is written.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), from) };
}

/// Turns 16 rows of 16 words into 16 columns.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn transpose(v: &mut [__m512i; LANES]) {
    let mut t = [_mm512_setzero_si512(); LANES];
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    // v[4 i + j]: column j of each 128 bits, of rows 4 i to 4 i + 3.
    for i in 0..4 {
        v[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        v[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        v[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        v[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for j in 0..4 {
        let low_even = _mm512_shuffle_i32x4::<0x88>(v[j], v[4 + j]);
        let low_odd = _mm512_shuffle_i32x4::<0xdd>(v[j], v[4 + j]);
        let high_even = _mm512_shuffle_i32x4::<0x88>(v[8 + j], v[12 + j]);
        let high_odd = _mm512_shuffle_i32x4::<0xdd>(v[8 + j], v[12 + j]);
        t[j] = _mm512_shuffle_i32x4::<0x88>(low_even, high_even);
        t[8 + j] = _mm512_shuffle_i32x4::<0xdd>(low_even, high_even);
        t[4 + j] = _mm512_shuffle_i32x4::<0x88>(low_odd, high_odd);
        t[12 + j] = _mm512_shuffle_i32x4::<0xdd>(low_odd, high_odd);
    }
    *v = t;
}
