//! The table of matrix kernels: for each tier and quant type, how rows meet activations.
//!
//! # The order of sums
//!
//! Weights in blocks. A row is taken in groups of 128 weights, short last groups padded with
//! zeros. A group has eight runs of 16; the products of a run's integer codes are summed exactly.
//! Each run has a lane ([`act::lane`](crate::act::lane)), and group after group
//!
//! ```text
//! acc[lane] = fma(weight scale * activation scale, sum as f32, acc[lane])
//! acc[lane] = fma(weight minimum, activation sum, acc[lane])      types with minima
//! ```
//!
//! The eight lanes are added at the end: halves, quarters, the last two. Weights stored as
//! numbers: element `i` goes by fma to lane `i % 16`; lanes are added in halves likewise. Every
//! function of the table, of every tier, computes exactly this, so a result does not depend on
//! which of them computed it.

use crate::act::{ActRow, F32Acts, GROUP, Q8Acts};
use crate::isa::{Isa, Tier};
use crate::scalar;
use oprel_quant::{QuantType, has_mins};

/// Consecutive rows of a matrix, as stored.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// How the weights are stored.
    pub ty: QuantType,
    /// Weights of a row.
    pub k: usize,
    /// Bytes of a row.
    pub row_bytes: usize,
    /// The rows.
    pub bytes: &'a [u8],
}

impl<'a> Rows<'a> {
    /// How many rows.
    pub fn n(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    /// The rows one by one.
    pub fn iter(&self) -> std::slice::ChunksExact<'a, u8> {
        self.bytes.chunks_exact(self.row_bytes)
    }

    /// Rows `start..end`.
    pub(crate) fn range(self, start: usize, end: usize) -> Rows<'a> {
        Rows { bytes: &self.bytes[start * self.row_bytes..end * self.row_bytes], ..self }
    }
}

/// Rows of weights made ready for many tokens: codes and scales of a panel in cache.
///
/// Codes are (rows, k padded to groups); scales and minima (rows, one for 16 weights), within a
/// group in the order of [`act::lane`](crate::act::lane). A panel holds whole rows.
#[derive(Debug)]
pub struct Panel<'a> {
    /// Rows in the panel.
    pub n_rows: usize,
    /// Codes of a row: a multiple of [`GROUP`].
    pub padded_k: usize,
    /// Whether codes are at most 32 away from zero.
    pub small: bool,
    /// Codes.
    pub codes: &'a mut [i8],
    /// Scales.
    pub scales: &'a mut [f32],
    /// Minima; empty for types without.
    pub mins: &'a mut [f32],
}

impl<'a> Panel<'a> {
    /// f32 words that one row of a panel takes.
    pub fn row_words(ty: QuantType, k: usize) -> usize {
        let padded = k.next_multiple_of(GROUP);
        padded / 4 + padded / 16 * if has_mins(ty) { 2 } else { 1 }
    }

    /// A panel of `n_rows` rows in `memory`, `n_rows` times [`Panel::row_words`] long.
    pub fn in_memory(ty: QuantType, k: usize, n_rows: usize, memory: &'a mut [f32]) -> Panel<'a> {
        let padded_k = k.next_multiple_of(GROUP);
        let (codes, rest) = memory.split_at_mut(n_rows * padded_k / 4);
        let (scales, mins) = rest.split_at_mut(n_rows * padded_k / 16);
        let codes = bytemuck::cast_slice_mut(codes);
        Panel { n_rows, padded_k, small: has_small_codes(ty), codes, scales, mins }
    }

    /// Codes, scales and minima of row `r`.
    pub fn row(&self, r: usize) -> (&[i8], &[f32], &[f32]) {
        let runs = self.padded_k / 16;
        let mins = if self.mins.is_empty() { &[] } else { &self.mins[r * runs..][..runs] };
        (&self.codes[r * self.padded_k..][..self.padded_k], &self.scales[r * runs..][..runs], mins)
    }
}

/// Most tokens that a `dot_n` takes.
pub const DOT_N: usize = 4;

/// Kernels of a type stored in blocks.
#[derive(Clone, Copy)]
pub struct BlockKernels {
    /// One token: `out[r] = row r . act`.
    pub dot: fn(Rows<'_>, ActRow<'_>, out: &mut [f32]),
    /// A few tokens, at most [`DOT_N`]: `out[t * rows + r] = row r . token t`; a row is unpacked
    /// once.
    pub dot_n: fn(Rows<'_>, Q8Acts<'_>, out: &mut [f32]),
    /// Many tokens: unpacks the rows to a panel, for [`Kernels::gemm_q8`].
    pub unpack_panel: fn(Rows<'_>, &mut Panel<'_>),
}

/// Kernels of a type stored as numbers.
#[derive(Clone, Copy)]
pub struct NumberKernels {
    /// One token: `out[r] = row r . x`.
    pub dot: fn(Rows<'_>, x: &[f32], out: &mut [f32]),
    /// Any number of tokens: `out[t * rows + r] = row r . token t`; rows are (rows, k) f32.
    pub widen: fn(Rows<'_>, out: &mut [f32]),
}

/// Kernels of one quant type.
#[derive(Clone, Copy)]
pub enum TypeKernels {
    /// Stored in blocks; activations are int8.
    Block(BlockKernels),
    /// Stored as numbers; activations are f32.
    Number(NumberKernels),
}

/// Matrix kernels of one tier.
pub struct Kernels {
    pub(crate) isa: Isa,
    pub(crate) of: fn(QuantType) -> Option<TypeKernels>,
    /// A panel times tokens: `out[t * panel rows + r]`.
    pub gemm_q8: fn(&Panel<'_>, Q8Acts<'_>, out: &mut [f32]),
    /// f32 weights (rows, k) times tokens: `out[t * rows + r]`.
    pub gemm_f32: fn(w: &[f32], F32Acts<'_>, out: &mut [f32]),
}

impl Kernels {
    /// The kernels of `isa`.
    pub fn new(isa: Isa) -> &'static Kernels {
        match isa.tier() {
            Tier::Scalar => &scalar::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 | Tier::Avx512 => crate::avx2::kernels(isa),
        }
    }

    /// Which instructions these kernels use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Kernels of `ty`; `None` if such weights cannot be multiplied.
    pub fn of(&self, ty: QuantType) -> Option<TypeKernels> {
        (self.of)(ty)
    }
}

/// Whether weights of `ty` can be multiplied, whatever the tier.
pub(crate) fn is_multiplied(ty: QuantType) -> bool {
    use QuantType::*;
    !matches!(ty, F64 | I8 | I16 | I32 | I64 | Q8_1 | Q8_K)
}

/// Whether codes of `ty` are at most 32 away from zero.
fn has_small_codes(ty: QuantType) -> bool {
    use QuantType::*;
    !matches!(ty, Q8_0 | IQ4_NL | IQ4_XS | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS)
}
