//! Activations as kernels read them: f32, or int8 with a scale for each 32 or 256 elements.
//!
//! Weights stored as numbers (F32, F16, BF16) are multiplied by f32 activations, exactly; weights
//! in blocks by int8 activations, quantized once for all matrices that read them: with a scale for
//! each 32 elements for most types, with one for 256 for those whose blocks are 256 weights with
//! integer scales inside ([`Share::of`]). Memory comes from the caller: [`q8_words`] says how much f32
//! space `n` tokens of `k` elements take.

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
    /// int8 with scales.
    Q8(Share),
}

impl ActFormat {
    /// What kernels of `ty` want.
    pub fn of(ty: QuantType) -> ActFormat {
        if ty.is_quantized() { ActFormat::Q8(Share::of(ty)) } else { ActFormat::F32 }
    }
}

/// How many quantized activations share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Share {
    /// The 32 of a block.
    Block,
    /// The 256 of a group.
    Group,
}

impl Share {
    /// Both.
    pub const ALL: [Share; 2] = [Share::Block, Share::Group];

    /// What kernels of a type in blocks want.
    pub fn of(ty: QuantType) -> Share {
        if crate::table::is_whole(ty) { Share::Group } else { Share::Block }
    }

    /// Elements that share a scale.
    pub const fn elements(self) -> usize {
        match self {
            Share::Block => SCALED,
            Share::Group => GROUP,
        }
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

/// 256 quantized activations of a token with one scale: element `i` is about `scale * codes[i]`.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct WholeGroup {
    /// Codes -127 to 127; zeros beyond the last element.
    pub codes: [i8; GROUP],
    /// Codes, 128 above.
    pub raised: [u8; GROUP],
    /// The sum of the codes of each 16.
    pub runs: [i16; 2 * BLOCKS],
    /// The sum of the codes of each block.
    pub totals: [i16; BLOCKS],
    /// The scale.
    pub scale: f32,
    /// So that groups begin with cache lines.
    pub padding: [u32; 3],
}

/// One token of [`Q8Acts`] with scales of blocks: its groups.
pub type ActRow<'a> = &'a [ActGroup];
/// One token of [`Q8Acts`] with scales of groups.
pub type WholeRow<'a> = &'a [WholeGroup];

/// Quantized activations of n tokens.
#[derive(Clone, Copy, Debug)]
pub struct Q8Acts<'a> {
    k: usize,
    groups: Groups<'a>,
    rows: Rows<'a>,
}

/// Groups of all tokens.
#[derive(Clone, Copy, Debug)]
enum Groups<'a> {
    Block(&'a [ActGroup]),
    Whole(&'a [WholeGroup]),
}

/// f32 words of a cache line, to which quantized activations are aligned.
const LINE: usize = 16;

/// f32 words that `n` tokens of `k` quantized elements take.
pub fn q8_words(share: Share, n: usize, k: usize) -> usize {
    let bytes = match share {
        Share::Block => size_of::<ActGroup>(),
        Share::Group => size_of::<WholeGroup>(),
    };
    n * k.div_ceil(GROUP) * bytes / size_of::<f32>() + LINE
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

    /// How many elements share a scale.
    pub fn share(&self) -> Share {
        match self.groups {
            Groups::Block(_) => Share::Block,
            Groups::Whole(_) => Share::Group,
        }
    }

    /// The tokens `rows` of these, in that order.
    pub fn select(self, rows: &'a [u32]) -> Self {
        Q8Acts { rows: Rows::These(rows), ..self }
    }

    /// Token `i`.
    ///
    /// # Panics
    /// If groups have one scale.
    pub fn row(&self, i: usize) -> ActRow<'a> {
        let Groups::Block(groups) = self.groups else {
            panic!("activations with scales of blocks")
        };
        let n_groups = self.k.div_ceil(GROUP);
        &groups[self.rows.at(i) * n_groups..][..n_groups]
    }

    /// Token `i`.
    ///
    /// # Panics
    /// If blocks have their own scales.
    pub fn whole_row(&self, i: usize) -> WholeRow<'a> {
        let Groups::Whole(groups) = self.groups else {
            panic!("activations with scales of groups")
        };
        let n_groups = self.k.div_ceil(GROUP);
        &groups[self.rows.at(i) * n_groups..][..n_groups]
    }

    /// What the codes of 32 elements, block `b` of token `i`, are multiplied by, and the codes.
    ///
    /// # Panics
    /// If the token has no such block.
    pub fn block(&self, i: usize, b: usize) -> (f32, &'a [i8]) {
        let (g, b) = (b / BLOCKS, b % BLOCKS);
        let (scale, codes) = match self.groups {
            Groups::Block(_) => (self.row(i)[g].scales[b], &self.row(i)[g].codes),
            Groups::Whole(_) => (self.whole_row(i)[g].scale, &self.whole_row(i)[g].codes),
        };
        (scale, &codes[b * SCALED..][..SCALED])
    }

    /// Tokens `start..end`.
    pub(crate) fn range(self, start: usize, end: usize) -> Self {
        if let Some(rows) = self.rows.range(start, end) {
            return Q8Acts { rows, ..self };
        }
        let n_groups = self.k.div_ceil(GROUP);
        let these = start * n_groups..end * n_groups;
        let groups = match self.groups {
            Groups::Block(groups) => Groups::Block(&groups[these]),
            Groups::Whole(groups) => Groups::Whole(&groups[these]),
        };
        Q8Acts { groups, rows: Rows::All(end - start), ..self }
    }
}

/// Quantizes `x` (n, k) into `memory` (at least [`q8_words`] long), on the pool if there is
/// enough to do.
///
/// Codes are rounded to the nearest, ties to even. A block of 32, or a group of 256, with a NaN or an
/// infinity has that for a scale, so that every result that reads it is NaN.
///
/// # Panics
/// If `x` is no whole number of rows of `k`, or `memory` is too short.
pub fn quantize_acts<'m>(
    pool: &mut Pool,
    isa: Isa,
    share: Share,
    x: &[f32],
    k: usize,
    memory: &'m mut [f32],
) -> Q8Acts<'m> {
    assert!(k > 0 && x.len().is_multiple_of(k), "{} elements are no rows of {k}", x.len());
    let mut acts = Q8Mut::new(share, memory, x.len() / k, k);
    pool.run_parts(acts.parts(TOKENS), |i, mut part, _| {
        for (j, x) in x[i * TOKENS * k..].chunks_exact(k).take(part.n()).enumerate() {
            part.quantize(isa, j, x);
        }
    });
    acts.finish()
}

tiers! {
    /// Quantizes one token `x` (k), with a scale for each block.
    pub fn quantize_row(x: &[f32], to: &mut [ActGroup]) = quantize_row_lanes;
    /// Quantizes `x`, of a token from the beginning of a group on, with one scale for each group.
    pub fn quantize_whole(x: &[f32], to: &mut [WholeGroup]) = quantize_whole_lanes;
}

#[inline(always)]
fn quantize_whole_lanes<O: Ops>(ops: O, x: &[f32], to: &mut [WholeGroup]) {
    let mut last = [0.0; GROUP];
    for (g, to) in to.iter_mut().enumerate() {
        let here = &x[(g * GROUP).min(x.len())..];
        let whole = match here.first_chunk::<GROUP>() {
            Some(whole) => whole,
            None => {
                last.fill(0.0);
                last[..here.len()].copy_from_slice(here);
                &last
            }
        };
        quantize_group(ops, whole, to);
    }
}

/// Quantizes 256 elements with one scale.
#[inline(always)]
fn quantize_group<O: Ops>(ops: O, x: &[f32; GROUP], to: &mut WholeGroup) {
    let (blocks, _) = x.as_chunks::<SCALED>();
    // As integers, magnitudes compare alike, and NaN is above all.
    let mut magnitude = 0;
    for block in blocks {
        magnitude = ops.magnitude(block).to_bits().max(magnitude);
    }
    let magnitude = f32::from_bits(magnitude);
    let inverse = if magnitude > 0.0 { 127.0 / magnitude } else { 0.0 };
    to.scale = magnitude / 127.0;
    let codes = to.codes.as_chunks_mut::<SCALED>().0;
    for b in 0..BLOCKS {
        let [first, second] = ops.round_codes(&blocks[b], inverse, &mut codes[b]);
        // Sums of 32 codes fit 13 bits.
        (to.runs[2 * b], to.runs[2 * b + 1]) = (first as i16, second as i16);
        to.totals[b] = (first + second) as i16;
    }
    for i in 0..GROUP {
        to.raised[i] = to.codes[i] as u8 ^ 0x80;
    }
    to.padding = [0; 3];
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
