//! Panels of tiers that have rows in lanes: a list of blocks of 32 weights, of all rows. A block is the
//! rows' codes, then scales (rows), where halves have their own the second scales, then minima
//! likewise. Where in that codes lie, and which block comes when, is the tier's.

use crate::act::{BLOCKS, GROUP, SCALED};
use crate::table::{PanelSize, has_halves};
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

/// How large a panel of so many rows is.
pub(crate) fn size(rows: usize, ty: QuantType, k: usize) -> PanelSize {
    let blocks = k.div_ceil(GROUP) * BLOCKS;
    PanelSize { rows, words: blocks * block_words(rows, has_halves(ty), has_mins(ty)) }
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
