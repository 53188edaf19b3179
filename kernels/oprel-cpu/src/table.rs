//! The table of matrix kernels: for each tier and quant type, how rows meet activations.
//!
//! # The order of sums
//!
//! Weights in blocks of 256 with integer scales (`is_whole`). Everything of a block that is integer is
//! summed exactly: the products of codes with activations, times the scales of blocks of 32 or of
//! their halves, and the minima times sums of the activations' codes. Then, block `g` in lane `g % 8`
//!
//! ```text
//! p = d * products
//! p = fma(d of minima, minima, p)                              types with minima
//! acc[lane] = fma(p, activation scale, acc[lane])
//! ```
//!
//! Other weights in blocks. A row is taken in blocks of 32 weights, block `b` in lane `b % 8`. The
//! products of integer codes are summed exactly, over a block where its weights share a scale, over
//! its halves where these have scales of their own (`has_halves`). Block after block
//!
//! ```text
//! p = scale * sum                      of the block, or of its first half
//! p = fma(second scale, second sum, p)                        types with halves
//! p = fma(minimum, sum of the activations' codes, p)          types with minima; by halves too
//! acc[lane] = fma(p, activation scale, acc[lane])
//! ```
//!
//! The eight lanes are added at the end: halves, quarters, the last two. Weights stored as numbers:
//! element `i` goes by fma to lane `i % 8`; lanes are added likewise. Every function of the table, of
//! every tier but one, computes exactly this, so a result does not depend on which of them computed
//! it.
//!
//! The exception is BF16 weights in the tier [`Avx512Bf16`](Tier): they meet activations rounded to
//! bf16, as the instruction for them asks. Pair `j` of elements, 2 j and 2 j + 1, goes by it to lane
//! `j % 8`; how it rounds is the CPU's. All functions of that tier compute this, so there too results
//! do not depend on the company that a token has. The tier below it computes exact products of BF16.

use crate::act::{F32Acts, Q8Acts, Turn};
use crate::isa::{Isa, Tier};
use crate::scalar;
use oprel_quant::QuantType;

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

/// Rows of weights made ready for many tokens: codes and scales in cache, as the tier wants them.
/// A panel holds whole rows.
#[derive(Debug)]
pub struct Panel<'a> {
    /// How the weights were stored.
    pub ty: QuantType,
    /// Weights of a row.
    pub k: usize,
    /// Rows in the panel, at most [`PanelSize::rows`].
    pub n_rows: usize,
    /// [`PanelSize::words`] of memory, aligned to 64 bytes.
    pub memory: &'a mut [f32],
}

/// How large a panel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PanelSize {
    /// Rows of a full panel.
    pub rows: usize,
    /// f32 words of its memory.
    pub words: usize,
}

/// Most tokens that a `dot_n` takes, if its tier does not take more ([`Kernels::few`]).
pub const DOT_N: usize = 4;

/// Tokens up to which weights stored as numbers meet them a few at a time: making a panel of such
/// weights costs more than reading them from cache again.
const FEW_NUMBERS: usize = 32;

/// When tokens are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Few {
    /// Most tokens that `dot_n` takes.
    pub at_once: usize,
    /// Most tokens that are better taken so, in several parts, than with a panel.
    pub most: usize,
}

/// Kernels of a type stored in blocks.
#[derive(Clone, Copy)]
pub struct BlockKernels {
    /// One token: `out[r] = row r . token`.
    pub dot: fn(Rows<'_>, Q8Acts<'_>, out: &mut [f32]),
    /// A few tokens, at most [`Few::at_once`]: `out[t * rows + r] = row r . token t`; a row is
    /// unpacked once.
    pub dot_n: fn(Rows<'_>, Q8Acts<'_>, out: &mut [f32]),
    /// Many tokens: unpacks the rows to a panel, for [`BlockKernels::gemm`].
    pub unpack_panel: fn(Rows<'_>, &mut Panel<'_>),
    /// A panel times tokens: `out[t * PanelSize::rows + r]`.
    pub gemm: fn(&Panel<'_>, Q8Acts<'_>, out: &mut [f32]),
}

/// Kernels of a type stored as numbers.
#[derive(Clone, Copy)]
pub struct NumberKernels {
    /// One token: `out[r] = row r . x`.
    pub dot: fn(Rows<'_>, x: &[f32], out: &mut [f32]),
    /// A few tokens, at most [`Few::at_once`]: `out[t * rows + r] = row r . token t`.
    pub dot_n: fn(Rows<'_>, F32Acts<'_>, out: &mut [f32]),
    /// Many tokens: widens the rows to a panel, for [`NumberKernels::gemm`].
    pub unpack_panel: fn(Rows<'_>, &mut Panel<'_>),
    /// A panel times tokens: `out[t * PanelSize::rows + r]`.
    pub gemm: fn(&Panel<'_>, F32Acts<'_>, out: &mut [f32]),
    /// What `gemm` wants done to its tokens before, if anything.
    pub turn: Option<Turn>,
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
    /// How large panels of a type and row length are.
    pub panel_size: fn(QuantType, k: usize) -> PanelSize,
}

impl Kernels {
    /// The kernels of `isa`.
    pub fn new(isa: Isa) -> &'static Kernels {
        match isa.tier() {
            Tier::Scalar => &scalar::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => crate::avx2::kernels(isa),
            #[cfg(target_arch = "x86_64")]
            Tier::AvxVnni => crate::avx2::vnni::kernels(isa),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 | Tier::Avx512Bf16 => crate::avx512::kernels(isa),
            #[cfg(target_arch = "aarch64")]
            Tier::Neon | Tier::DotProd | Tier::I8mm => crate::neon::kernels(isa),
        }
    }

    /// Which instructions these kernels use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// When tokens that meet weights of `ty` are few.
    pub fn few(&self, ty: QuantType) -> Few {
        if !ty.is_quantized() {
            return Few { at_once: DOT_N, most: FEW_NUMBERS };
        }
        match self.isa.tier() {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 | Tier::Avx512Bf16 => crate::avx512::few(ty),
            _ => Few { at_once: DOT_N, most: DOT_N },
        }
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

/// Whether weights of `ty` come in blocks of 256 whose scales are integers, and meet activations with
/// one scale for as many.
pub(crate) fn is_whole(ty: QuantType) -> bool {
    use QuantType::*;
    matches!(ty, Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | IQ4_XS)
}

/// Whether the halves of a block of 32 weights have scales of their own.
pub(crate) fn has_halves(ty: QuantType) -> bool {
    use QuantType::*;
    matches!(ty, Q2_K | Q3_K | Q6_K | IQ1_M | IQ2_XS | IQ2_S | NVFP4)
}
