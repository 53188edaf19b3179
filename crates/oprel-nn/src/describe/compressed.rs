//! Attention over a window of positions and over compressed blocks of all positions (DeepSeek-V4).

use super::RopeId;
use super::attention::MlaQuery;
use super::linear::{Linear, Norm};
use super::state::SlotId;
use crate::weights::WeightId;

/// Multi-query attention whose one key is also its value, over the last positions and, beside them,
/// over one compressed key for each block of positions.
///
/// Rope turns the last elements of a head; being in the value too, it is turned back in the result, at
/// the query's position.
#[derive(Clone, Debug, PartialEq)]
pub struct CompressedAttn {
    /// Query heads.
    pub n_heads: u32,
    /// Elements of a head, of keys and of values.
    pub dim: u32,
    /// (n_heads * dim).
    pub q: MlaQuery,
    /// On each query head.
    pub q_norm: Norm,
    /// (dim, width): the key of a position.
    pub kv: Linear,
    /// On keys.
    pub kv_norm: Norm,
    /// Rotation of the last elements of queries and keys.
    pub rope: RopeId,
    /// Factor on scores.
    pub scale: f32,
    /// (n_heads): a score that takes part in the softmax and has no value.
    pub sinks: Option<WeightId>,
    /// How many positions are seen as they are, itself included.
    pub window: u32,
    /// Compressed keys of what came before.
    pub blocks: Option<Blocks>,
    /// Equal groups of the result's elements, each with a projection of its own.
    pub o_groups: u32,
    /// (o_groups, rank, n_heads * dim / o_groups): groups stand as experts.
    pub o_a: Linear,
    /// (width, o_groups * rank).
    pub o_b: Linear,
    /// Keys of the window: one head of `dim`, whose key is the value.
    pub slot: SlotId,
}

/// The compressed keys that a layer attends to.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocks {
    /// Makes them.
    pub compressor: Compressor,
    /// Chooses among them; without it all whole blocks are attended to.
    pub indexer: Option<BlockIndexer>,
}

/// Makes one vector of each block of positions: a softmax over the positions, element by element, of
/// `gate x + position` weighs `kv x`; then norm and rope at the block's first position.
#[derive(Clone, Debug, PartialEq)]
pub struct Compressor {
    /// Positions of a block.
    pub ratio: u32,
    /// A block takes in the one before it: projections have twice the rows, the first half for use by
    /// the next block, the second for the own.
    pub overlap: bool,
    /// (dim or 2 * dim, width).
    pub kv: Linear,
    /// (dim or 2 * dim, width).
    pub gate: Linear,
    /// (ratio, dim or 2 * dim): added to the gate by place in the block.
    pub position: WeightId,
    /// On the vector.
    pub norm: Norm,
    /// Rotation of its last elements.
    pub rope: RopeId,
    /// Where whole blocks are kept.
    pub slot: SlotId,
    /// Where projections of positions wait until their block is whole: kv, then gate, of each.
    pub pending: SlotId,
}

/// Chooses blocks by small compressed keys of their own: the sum over heads of `weight * relu(q . k)`.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockIndexer {
    /// Heads of the indexer.
    pub n_heads: u32,
    /// Elements of its keys.
    pub dim: u32,
    /// Blocks that are kept.
    pub top: u32,
    /// (n_heads * dim, q_rank): from the low-rank query.
    pub q: Linear,
    /// Rotation of the last elements of its queries.
    pub rope: RopeId,
    /// (n_heads, width): weight of each head's score, times `1 / sqrt(n_heads * dim)`.
    pub weights: Linear,
    /// Makes its keys.
    pub compressor: Compressor,
}
