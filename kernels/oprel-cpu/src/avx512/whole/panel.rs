//! Panels of 32 rows for the matrix product, of types with integer scales: codes of 16 rows side by
//! side in a register, four weights of each, so that a row is a lane.
//!
//! A panel is a list of groups of 256 weights, of which each has eight blocks: signed codes (8 quarters
//! of four weights, 32 rows), scales (32 rows), where halves have their own the second scales, or both in the halves of words. After
//! them stand pairs of minima in 16 bits, what makes up for activations being 128 above, and the
//! numbers that multiply scales and minima. Rows beyond the last are zero.

use super::super::blocks::{Block, Group, joined};
use super::super::dots::Fetching;
use super::super::panel::{CODE_WORDS, LANES, ROWS, store, transpose};
use super::gemm::fits_half;
use crate::act::{BLOCKS, GROUP};
use crate::table::{Panel, PanelSize, Rows, has_halves};
use oprel_quant::{QuantType, has_mins};
use std::arch::x86_64::*;

/// Where parts of a group are, in f32 words.
pub(super) struct Layout {
    /// Words of a block.
    pub(super) block: usize,
    /// Pairs of minima.
    pub(super) n_pairs: usize,
    /// Words of a group.
    pub(super) group: usize,
}

impl Layout {
    pub(super) const fn new(halves: bool, mins: bool, paired: bool) -> Layout {
        let runs = if halves { 2 } else { 1 };
        let block = CODE_WORDS + if paired { ROWS } else { runs * ROWS };
        let n_pairs = if mins { runs * BLOCKS / 2 } else { 0 };
        let group = BLOCKS * block + (n_pairs + 2 + mins as usize) * ROWS;
        Layout { block, n_pairs, group }
    }
}

/// The layout of a type.
pub(super) const fn layout<B: Block>() -> Layout {
    Layout::new(B::HALVES, B::MINS, fits_half::<B>())
}

/// How large a panel of a type is.
pub(in super::super) fn size(ty: QuantType, k: usize) -> PanelSize {
    let paired = matches!(ty, QuantType::Q2_K | QuantType::Q3_K);
    let group = Layout::new(has_halves(ty), has_mins(ty), paired).group;
    PanelSize { rows: ROWS, words: k.div_ceil(GROUP) * group }
}

/// A group of 16 rows, a row in each word: four registers of codes of each row, its scales, its minima.
/// After the transposition, a column in each.
type Columns = [[__m512i; LANES]; 6];

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(in super::super) fn unpack<B: Block>(rows: Rows<'_>, panel: &mut Panel<'_>) {
    let fetching = Fetching::detect();
    let layout = const { layout::<B>() };
    let mut columns: Columns = [[_mm512_setzero_si512(); LANES]; 6];
    for first in (0..ROWS).step_by(LANES) {
        for (g, to) in panel.memory.chunks_exact_mut(layout.group).enumerate() {
            let mut numbers = [[0.0; LANES]; 2];
            for i in 0..LANES {
                let row = rows.bytes.get((first + i) * rows.row_bytes..).unwrap_or_default();
                match row.get(g * B::BYTES..(g + 1) * B::BYTES) {
                    Some(bytes) => {
                        fetching.prefetch::<0>(bytes);
                        for (n, of) in numbers.iter_mut().enumerate().take(1 + B::MINS as usize) {
                            let at = B::NUMBERS + 2 * n;
                            let bits = i32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
                            of[i] = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
                        }
                        // SAFETY: this function is compiled for, and so runs on, what the trait
                        // asks for.
                        set::<B>(&mut columns, i, &unsafe { B::group::<0, 0>(bytes) });
                    }
                    None => set::<B>(&mut columns, i, &Group::zero()),
                }
            }
            put::<B>(&mut columns, first, to);
            let at = BLOCKS * layout.block + (layout.n_pairs + 1) * ROWS + first;
            to[at..at + LANES].copy_from_slice(&numbers[0]);
            if B::MINS {
                to[at + ROWS..][..LANES].copy_from_slice(&numbers[1]);
            }
        }
    }
}

/// Notes row `i`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn set<B: Block>(columns: &mut Columns, i: usize, group: &Group) {
    for q in 0..4 {
        columns[q][i] = _mm512_sub_epi8(group.codes[q], _mm512_set1_epi8(B::OFFSET as u8 as i8));
    }
    columns[4][i] = joined(group.scales[0], group.scales[1]);
    if B::MINS {
        columns[5][i] = joined(group.mins[0], group.mins[1]);
    }
}

/// Small integers as the halves of words.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn paired(a: __m512i, b: __m512i) -> __m512i {
    _mm512_mask_blend_epi16(0xaaaa_aaaa, a, _mm512_slli_epi32::<16>(b))
}

/// Writes a group of 16 rows from `first` on.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn put<B: Block>(columns: &mut Columns, first: usize, to: &mut [f32]) {
    let layout = const { layout::<B>() };
    for column in &mut columns[..if B::MINS { 6 } else { 5 }] {
        transpose(column);
    }
    let [codes @ .., scales, mins] = &*columns;
    let mut sums = _mm512_setzero_si512();
    let (blocks, rest) = to.split_at_mut(BLOCKS * layout.block);
    for (lane, block) in blocks.chunks_exact_mut(layout.block).enumerate() {
        let (to, scales_to) = block.split_at_mut(CODE_WORDS);
        let mut of_halves = [_mm512_setzero_si512(); 2];
        for quarter in 0..8 {
            let (register, at) = B::ORDER.place(lane, quarter);
            let codes = codes[register][at];
            store(codes, &mut to[quarter * ROWS + first..]);
            let sum = &mut of_halves[if B::HALVES { quarter / 4 } else { 0 }];
            *sum = _mm512_dpbusd_epi32(*sum, _mm512_set1_epi8(1), codes);
        }
        for half in 0..if B::HALVES { 2 } else { 1 } {
            let scale = scales[half * BLOCKS + lane];
            if !fits_half::<B>() {
                store(scale, &mut scales_to[half * ROWS + first..]);
            }
            sums = _mm512_add_epi32(sums, _mm512_mullo_epi32(of_halves[half], scale));
        }
        if fits_half::<B>() {
            store(paired(scales[lane], scales[BLOCKS + lane]), &mut scales_to[first..]);
        }
    }
    for pair in 0..layout.n_pairs {
        // Pairs of halves of a block, or of blocks.
        let (a, b) = match B::HALVES {
            true => (mins[pair], mins[BLOCKS + pair]),
            false => (mins[2 * pair], mins[2 * pair + 1]),
        };
        store(paired(a, b), &mut rest[pair * ROWS + first..]);
    }
    let above = _mm512_slli_epi32::<7>(sums);
    let less = _mm512_sub_epi32(_mm512_setzero_si512(), above);
    store(less, &mut rest[layout.n_pairs * ROWS + first..]);
}
