//! Activations as kernels read them: f32, or int8 with a scale for each 32 elements.
//!
//! Weights stored as numbers (F32, F16, BF16) are multiplied by f32 activations, exactly; weights
//! in blocks by int8 activations, quantized once for all matrices that read them. Memory comes
//! from the caller: [`q8_words`] says how much f32 space `n` tokens of `k` elements take.

use crate::isa::Isa;
use crate::lanes::{Ops, tiers};
use crate::{Parts, Pool};
use oprel_quant::QuantType;

/// Elements that kernels take at once; quantized activations are padded with zeros to it.
pub const GROUP: usize = 256;
/// Elements of a block, which share a scale and an entry of `totals`.
pub const SCALED: usize = 32;
/// Elements that share an entry of `sums`: the halves of a block.
pub const SUMMED: usize = 16;
/// Blocks of a group, and lanes of a sum.
pub const BLOCKS: usize = GROUP / SCALED;

/// What a kernel of a quant type wants its activations to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActFormat {
    /// As they are.
    F32,
    /// int8 with a scale for each 32 elements.
    Q8,
}

impl ActFormat {
    /// What kernels of `ty` want.
    pub fn of(ty: QuantType) -> ActFormat {
        if ty.is_quantized() { ActFormat::Q8 } else { ActFormat::F32 }
    }
}

/// Activations of some tokens in one of the formats.
#[derive(Clone, Copy, Debug)]
pub enum Acts<'a> {
    /// As they are.
    F32(F32Acts<'a>),
    /// Quantized.
    Q8(Q8Acts<'a>),
}

impl Acts<'_> {
    /// How many tokens.
    pub fn n(&self) -> usize {
        match self {
            Acts::F32(acts) => acts.n(),
            Acts::Q8(acts) => acts.n(),
        }
    }

    /// Elements of a token.
    pub fn k(&self) -> usize {
        match self {
            Acts::F32(acts) => acts.k,
            Acts::Q8(acts) => acts.k,
        }
    }
}

/// f32 activations (n, k), or a choice of their rows.
#[derive(Clone, Copy, Debug)]
pub struct F32Acts<'a> {
    k: usize,
    x: &'a [f32],
    rows: Rows<'a>,
}

/// Which tokens of the underlying activations are meant: all, or these.
#[derive(Clone, Copy, Debug)]
enum Rows<'a> {
    All(usize),
    These(&'a [u32]),
}

impl<'a> Rows<'a> {
    fn n(self) -> usize {
        match self {
            Rows::All(n) => n,
            Rows::These(rows) => rows.len(),
        }
    }

    fn at(self, i: usize) -> usize {
        match self {
            Rows::All(_) => i,
            Rows::These(rows) => rows[i] as usize,
        }
    }

    fn range(self, start: usize, end: usize) -> Option<Rows<'a>> {
        match self {
            Rows::All(_) => None,
            Rows::These(rows) => Some(Rows::These(&rows[start..end])),
        }
    }
}

impl<'a> F32Acts<'a> {
    /// Activations `x` (n, k).
    ///
    /// # Panics
    /// If `x` is no whole number of rows of `k`.
    pub fn new(x: &'a [f32], k: usize) -> Self {
        assert!(k > 0 && x.len().is_multiple_of(k), "{} elements are no rows of {k}", x.len());
        F32Acts { k, x, rows: Rows::All(x.len() / k) }
    }

    /// The tokens `rows` of these, in that order.
    pub fn select(self, rows: &'a [u32]) -> Self {
        F32Acts { rows: Rows::These(rows), ..self }
    }

    /// How many tokens.
    pub fn n(&self) -> usize {
        self.rows.n()
    }

    /// Elements of a token.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Token `i`, (k).
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.x[self.rows.at(i) * self.k..][..self.k]
    }

    /// Tokens `start..end`.
    pub(crate) fn range(self, start: usize, end: usize) -> Self {
        match self.rows.range(start, end) {
            Some(rows) => F32Acts { rows, ..self },
            None => F32Acts::new(&self.x[start * self.k..end * self.k], self.k),
        }
    }
}

/// Quantized activations of n tokens: element `i` of a token is about
/// `scales[i / 32] * codes[i]`.
#[derive(Clone, Copy, Debug)]
pub struct Q8Acts<'a> {
    k: usize,
    codes: &'a [i8],
    scales: &'a [f32],
    totals: &'a [f32],
    sums: &'a [i32],
    rows: Rows<'a>,
}

/// One token of [`Q8Acts`].
#[derive(Clone, Copy, Debug)]
pub struct ActRow<'a> {
    /// Codes -127 to 127, padded with zeros to whole groups.
    pub codes: &'a [i8],
    /// One scale for each block.
    pub scales: &'a [f32],
    /// The sum of the codes of each block.
    pub totals: &'a [f32],
    /// Sums of codes by half block; for each group those of its blocks' first halves, then those
    /// of the second halves.
    pub sums: &'a [i32],
}

/// f32 words that `n` tokens of `k` quantized elements take.
pub fn q8_words(n: usize, k: usize) -> usize {
    let padded = k.next_multiple_of(GROUP);
    n * (padded / 4 + 2 * padded / SCALED + padded / SUMMED)
}

impl<'a> Q8Acts<'a> {
    /// How many tokens.
    pub fn n(&self) -> usize {
        self.rows.n()
    }

    /// Elements of a token, without padding.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The tokens `rows` of these, in that order.
    pub fn select(self, rows: &'a [u32]) -> Self {
        Q8Acts { rows: Rows::These(rows), ..self }
    }

    /// Token `i`.
    pub fn row(&self, i: usize) -> ActRow<'a> {
        let padded = self.k.next_multiple_of(GROUP);
        let i = self.rows.at(i);
        ActRow {
            codes: &self.codes[i * padded..][..padded],
            scales: &self.scales[i * padded / SCALED..][..padded / SCALED],
            totals: &self.totals[i * padded / SCALED..][..padded / SCALED],
            sums: &self.sums[i * padded / SUMMED..][..padded / SUMMED],
        }
    }

    /// Tokens `start..end`.
    pub(crate) fn range(self, start: usize, end: usize) -> Self {
        if let Some(rows) = self.rows.range(start, end) {
            return Q8Acts { rows, ..self };
        }
        let padded = self.k.next_multiple_of(GROUP);
        Q8Acts {
            codes: &self.codes[start * padded..end * padded],
            scales: &self.scales[start * padded / SCALED..end * padded / SCALED],
            totals: &self.totals[start * padded / SCALED..end * padded / SCALED],
            sums: &self.sums[start * padded / SUMMED..end * padded / SUMMED],
            rows: Rows::All(end - start),
            ..self
        }
    }
}

/// Quantizes `x` (n, k) into `memory` (at least [`q8_words`] long), on the pool if there is
/// enough to do.
///
/// Codes are rounded to the nearest, ties to even. A block of 32 with a NaN or an infinity has
/// that for a scale, so that every result that reads it is NaN.
///
/// # Panics
/// If `x` is no whole number of rows of `k`, or `memory` is too short.
pub fn quantize_acts<'m>(
    pool: &mut Pool,
    isa: Isa,
    x: &[f32],
    k: usize,
    memory: &'m mut [f32],
) -> Q8Acts<'m> {
    assert!(k > 0 && x.len().is_multiple_of(k), "{} elements are no rows of {k}", x.len());
    let (n, padded) = (x.len() / k, k.next_multiple_of(GROUP));
    let (codes, rest) = memory.split_at_mut(n * padded / 4);
    let (scales, rest) = rest.split_at_mut(n * padded / SCALED);
    let (totals, rest) = rest.split_at_mut(n * padded / SCALED);
    let sums: &mut [i32] = bytemuck::cast_slice_mut(&mut rest[..n * padded / SUMMED]);
    let codes: &mut [i8] = bytemuck::cast_slice_mut(codes);
    if n == 1 {
        quantize_row(isa, x, ActRowMut { codes, scales, totals, sums });
    } else if n > 1 {
        let parts = (
            Parts::new(codes, padded),
            Parts::new(scales, padded / SCALED),
            Parts::new(totals, padded / SCALED),
            Parts::new(sums, padded / SUMMED),
        );
        pool.run_parts(parts, |i, (codes, scales, totals, sums), _| {
            quantize_row(isa, &x[i * k..][..k], ActRowMut { codes, scales, totals, sums });
        });
    }
    Q8Acts { k, codes, scales, totals, sums, rows: Rows::All(n) }
}

/// One token of [`Q8Acts`], to be filled.
#[derive(Debug)]
pub struct ActRowMut<'a> {
    /// As [`ActRow::codes`].
    pub codes: &'a mut [i8],
    /// As [`ActRow::scales`].
    pub scales: &'a mut [f32],
    /// As [`ActRow::totals`].
    pub totals: &'a mut [f32],
    /// As [`ActRow::sums`].
    pub sums: &'a mut [i32],
}

tiers! {
    /// Quantizes one token `x` (k).
    pub fn quantize_row(x: &[f32], to: ActRowMut<'_>) = quantize_row_lanes;
}

#[inline(always)]
fn quantize_row_lanes<O: Ops>(ops: O, x: &[f32], to: ActRowMut<'_>) {
    let (whole, tail) = x.as_chunks::<SCALED>();
    let mut last = [0.0; SCALED];
    last[..tail.len()].copy_from_slice(tail);
    let scales = to.scales.iter_mut().zip(to.totals);
    let blocks = to.codes.as_chunks_mut::<SCALED>().0.iter_mut().zip(scales);
    for (b, (codes, (scale, total))) in blocks.enumerate() {
        let block = match whole.get(b) {
            Some(block) => block,
            None if b == whole.len() => &last,
            None => &[0.0; SCALED],
        };
        let sums;
        (*scale, sums) = quantize_block(ops, block, codes);
        *total = (sums[0] + sums[1]) as f32;
        let at = b / BLOCKS * 2 * BLOCKS + b % BLOCKS;
        (to.sums[at], to.sums[at + BLOCKS]) = (sums[0], sums[1]);
    }
}

/// Quantizes 32 elements; gives the scale and the sums of both halves of the codes.
#[inline(always)]
fn quantize_block<O: Ops>(ops: O, x: &[f32; SCALED], codes: &mut [i8; SCALED]) -> (f32, [i32; 2]) {
    let magnitude = ops.magnitude(x);
    let inverse = if magnitude > 0.0 { 127.0 / magnitude } else { 0.0 };
    (magnitude / 127.0, ops.round_codes(x, inverse, codes))
}

#[cfg(test)]
mod tests;
