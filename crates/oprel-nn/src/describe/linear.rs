//! Linear layers and norms.

use std::ops::Range;

use crate::weights::WeightId;

/// Where LoRA, importance matrices and steering attach; unique in a decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SiteId(pub u32);

/// `y = scale * (W x) + bias`, over some rows of a matrix: (n, cols) to (n, rows).
///
/// Fused tensors (`attn_qkv`, gate and up in one) are several `Linear`s over one matrix. For routed
/// experts the rows are those of each expert.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// The matrix.
    pub w: WeightId,
    /// Its rows that are used; the bias is indexed by the same rows.
    pub rows: Range<u32>,
    /// (rows of the matrix), or (experts, rows).
    pub bias: Option<WeightId>,
    /// One factor, or one an expert.
    pub scale: Option<WeightId>,
    /// Where others attach.
    pub site: SiteId,
}

/// A norm over the elements of a row, or of each group of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// What is computed.
    pub kind: NormKind,
    /// Added to the variance, or lower bound of the length for L2.
    pub eps: f32,
    /// The row is split into so many equal parts, each normalized by itself: heads.
    pub groups: u32,
    /// Factors: as many as the row has elements, or as one group has (then repeated).
    pub weight: Option<WeightId>,
    /// Added last; sized like the weight.
    pub bias: Option<WeightId>,
}

/// Kind of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Divides by the root mean square.
    Rms,
    /// Subtracts the mean, divides by the standard deviation.
    Layer,
    /// Divides by the Euclidean length.
    L2,
}
