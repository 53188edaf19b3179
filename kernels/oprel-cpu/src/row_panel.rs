//! A panel of rows side by side, each with its codes, scales and minima, or of numbers as f32: the
//! layout of tiers that multiply along rows.

use crate::act::{GROUP, SUMMED};
use crate::table::{Panel, PanelSize};
use oprel_quant::{QuantType, has_mins};

/// f32 words of a panel at most: what stays in a core's cache beside the activations that it meets.
const MOST_WORDS: usize = 24 << 10;
/// Rows of a panel at most.
const MOST_ROWS: usize = 16;

/// How large a panel of a type is.
pub(crate) fn size(ty: QuantType, k: usize) -> PanelSize {
    let words = row_words(ty, k);
    let rows = (MOST_WORDS / words).clamp(1, MOST_ROWS);
    PanelSize { rows, words: rows * words }
}

fn row_words(ty: QuantType, k: usize) -> usize {
    if !ty.is_quantized() {
        return k;
    }
    let padded = k.next_multiple_of(GROUP);
    padded / 4 + padded / SUMMED * if has_mins(ty) { 2 } else { 1 }
}

/// A panel's memory, cut up: codes (rows, padded k); scales and minima (rows, padded k / 16), in a
/// group of 256 those of the blocks' first halves, then those of the second halves.
pub(crate) struct RowPanel<C, S> {
    pub(crate) padded_k: usize,
    codes: C,
    scales: S,
    /// Empty for types without.
    mins: S,
}

impl<'a> RowPanel<&'a [i8], &'a [f32]> {
    /// A panel that is filled.
    pub(crate) fn view(panel: &'a Panel<'_>) -> Self {
        let (padded_k, codes, scales) = lengths(panel);
        let (codes, rest) = panel.memory.split_at(codes);
        let (scales, rest) = rest.split_at(scales);
        let mins = if has_mins(panel.ty) { &rest[..scales.len()] } else { &[] };
        RowPanel { padded_k, codes: bytemuck::cast_slice(codes), scales, mins }
    }

    /// Codes, scales and minima of row `r`.
    pub(crate) fn row(&self, r: usize) -> (&'a [i8], &'a [f32], &'a [f32]) {
        let runs = self.padded_k / SUMMED;
        let codes = &self.codes[r * self.padded_k..][..self.padded_k];
        (codes, &self.scales[r * runs..][..runs], self.mins.get(r * runs..).unwrap_or_default())
    }
}

impl<'a> RowPanel<&'a mut [i8], &'a mut [f32]> {
    /// A panel to be filled.
    pub(crate) fn of(panel: &'a mut Panel<'_>) -> Self {
        let (padded_k, codes, scales) = lengths(panel);
        let with_mins = has_mins(panel.ty);
        let (codes, rest) = panel.memory.split_at_mut(codes);
        let (scales, rest) = rest.split_at_mut(scales);
        let mins = if with_mins { &mut rest[..scales.len()] } else { &mut [] };
        RowPanel { padded_k, codes: bytemuck::cast_slice_mut(codes), scales, mins }
    }

    /// Codes, scales and minima of row `r`.
    pub(crate) fn row_mut(&mut self, r: usize) -> (&mut [i8], &mut [f32], &mut [f32]) {
        let runs = self.padded_k / SUMMED;
        let codes = &mut self.codes[r * self.padded_k..][..self.padded_k];
        let mins = self.mins.get_mut(r * runs..).unwrap_or_default();
        (codes, &mut self.scales[r * runs..][..runs], mins)
    }
}

/// Length of a padded row, f32 words of all codes, number of all scales.
fn lengths(panel: &Panel<'_>) -> (usize, usize, usize) {
    let padded_k = panel.k.next_multiple_of(GROUP);
    (padded_k, panel.n_rows * padded_k / 4, panel.n_rows * padded_k / SUMMED)
}
