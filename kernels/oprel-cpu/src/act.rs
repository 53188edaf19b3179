//! Activations as kernels read them: f32, or int8 with a scale for each 32 elements.
//!
//! Weights stored as numbers (F32, F16, BF16) are multiplied by f32 activations, exactly; weights
//! in blocks by int8 activations, quantized once for all matrices that read them. Memory comes
//! from the caller: [`q8_words`] says how much f32 space `n` tokens of `k` elements take.

use crate::Pool;
use crate::isa::Isa;
use crate::lanes::{Ops, tiers};
use bytemuck::{Pod, Zeroable};
use oprel_quant::QuantType;

mod fill;
mod turned;

pub use fill::{Q8Mut, Q8Parts, quantized};
pub use turned::Turn;
#[cfg(target_arch = "x86_64")]
pub(crate) use turned::turned_len;

use turned::Turned;

/// Elements that kernels take at once; quantized activations are padded with zeros to it.
pub const GROUP: usize = 256;
/// Elements of a block, which share a scale and an entry of `totals`.
pub const SCALED: usize = 32;
/// Elements that share an entry of `sums`: the halves of a block.
pub const SUMMED: usize = 16;
/// Blocks of a group, and lanes of a sum.
pub const BLOCKS: usize = GROUP / SCALED;

/// Tokens that a thread quantizes at once.
const TOKENS: usize = 4;

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
    turned: Turned<'a>,
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
        F32Acts { k, x, turned: [None; 2], rows: Rows::All(x.len() / k) }
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
        if let Some(rows) = self.rows.range(start, end) {
            return F32Acts { rows, ..self };
        }
        let x = &self.x[start * self.k..end * self.k];
        F32Acts { turned: self.turned_range(start, end), ..F32Acts::new(x, self.k) }
    }
}

/// 256 quantized activations of a token: element `i` is about `scales[i / 32] * codes[i]`.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ActGroup {
    /// Codes -127 to 127; zeros beyond the last element.
    pub codes: [i8; GROUP],
    /// One scale for each block.
    pub scales: [f32; BLOCKS],
    /// The sum of the codes of each block.
    pub totals: [i32; BLOCKS],
    /// The same of the blocks' first halves, and of their second halves.
    pub sums: [[i32; BLOCKS]; 2],
}

/// One token of [`Q8Acts`]: its groups.
pub type ActRow<'a> = &'a [ActGroup];

/// Quantized activations of n tokens.
#[derive(Clone, Copy, Debug)]
pub struct Q8Acts<'a> {
    k: usize,
    groups: &'a [ActGroup],
    rows: Rows<'a>,
}

/// f32 words of a cache line, to which quantized activations are aligned.
const LINE: usize = 16;

/// f32 words that `n` tokens of `k` quantized elements take.
pub fn q8_words(n: usize, k: usize) -> usize {
    n * k.div_ceil(GROUP) * size_of::<ActGroup>() / size_of::<f32>() + LINE
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
        let n_groups = self.k.div_ceil(GROUP);
        &self.groups[self.rows.at(i) * n_groups..][..n_groups]
    }

    /// Tokens `start..end`.
    pub(crate) fn range(self, start: usize, end: usize) -> Self {
        if let Some(rows) = self.rows.range(start, end) {
            return Q8Acts { rows, ..self };
        }
        let n_groups = self.k.div_ceil(GROUP);
        let groups = &self.groups[start * n_groups..end * n_groups];
        Q8Acts { groups, rows: Rows::All(end - start), ..self }
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
    let mut acts = Q8Mut::new(memory, x.len() / k, k);
    pool.run_parts(acts.parts(TOKENS), |i, mut part, _| {
        for (j, x) in x[i * TOKENS * k..].chunks_exact(k).take(part.n()).enumerate() {
            part.quantize(isa, j, x);
        }
    });
    acts.finish()
}

tiers! {
    /// Quantizes one token `x` (k).
    pub fn quantize_row(x: &[f32], to: &mut [ActGroup]) = quantize_row_lanes;
}

#[inline(always)]
fn quantize_row_lanes<O: Ops>(ops: O, x: &[f32], to: &mut [ActGroup]) {
    let (whole, tail) = x.as_chunks::<SCALED>();
    let mut last = [0.0; SCALED];
    last[..tail.len()].copy_from_slice(tail);
    for (g, to) in to.iter_mut().enumerate() {
        let codes = to.codes.as_chunks_mut::<SCALED>().0;
        for b in 0..BLOCKS {
            let at = g * BLOCKS + b;
            let block = match whole.get(at) {
                Some(block) => block,
                None if at == whole.len() => &last,
                None => &[0.0; SCALED],
            };
            let sums;
            (to.scales[b], sums) = quantize_block(ops, block, &mut codes[b]);
            to.totals[b] = sums[0] + sums[1];
            (to.sums[0][b], to.sums[1][b]) = (sums[0], sums[1]);
        }
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
