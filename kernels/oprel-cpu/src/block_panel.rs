//! Panels of tiers that have rows in lanes: a list of blocks of 32 weights, of all rows. A block is the
//! rows' codes, then scales (rows), where halves have their own the second scales, then minima
//! likewise. Where in that codes lie, and which block comes when, is the tier's.

use crate::act::{BLOCKS, GROUP, SCALED};
use crate::blocks::Block;
use crate::table::{PanelSize, Rows, has_halves, is_whole};
use half::f16;
use oprel_quant::{QuantType, has_mins};

/// f32 words of the codes of a block of so many rows.
pub(crate) const fn code_words(rows: usize) -> usize {
    rows * SCALED / 4
}

/// f32 words of a block of so many rows.
pub(crate) const fn block_words(rows: usize, halves: bool, mins: bool) -> usize {
    let vectors = (1 + halves as usize) * (1 + mins as usize);
    code_words(rows) + vectors * rows
}

/// f32 words of a group of so many rows: blocks, and after those of a type in whole blocks what their
/// scales and minima, which are integers then, are multiplied by.
pub(crate) const fn group_words(rows: usize, halves: bool, mins: bool, whole: bool) -> usize {
    let numbers = if whole { rows * (1 + mins as usize) } else { 0 };
    BLOCKS * block_words(rows, halves, mins) + numbers
}

/// How large a panel of so many rows is.
pub(crate) fn size(rows: usize, ty: QuantType, k: usize) -> PanelSize {
    let words = group_words(rows, has_halves(ty), has_mins(ty), is_whole(ty));
    PanelSize { rows, words: k.div_ceil(GROUP) * words }
}

/// Writes what scales and minima of group `g` are multiplied by, for so many `rows` of a panel.
pub(crate) fn write_numbers<B: Block>(from: Rows<'_>, g: usize, rows: usize, to: &mut [f32]) {
    to.fill(0.0);
    for (r, row) in from.iter().enumerate().take(rows) {
        let [d, d_min] = B::numbers(&row[g * B::SPAN_BYTES..]).map(f16::from_bits);
        to[r] = d.to_f32();
        if B::MINS {
            to[rows + r] = -d_min.to_f32();
        }
    }
}

/// Which of a block's first scales, second scales, first minima and second minima follow its codes.
pub(crate) const fn vectors(halves: bool, mins: bool) -> &'static [usize] {
    match (halves, mins) {
        (false, false) => &[0],
        (true, false) => &[0, 1],
        (false, true) => &[0, 2],
        (true, true) => &[0, 1, 2, 3],
    }
}
