//! Attention in its variants.

use super::RopeId;
use super::linear::{Linear, Norm};
use super::state::SlotId;
use crate::weights::WeightId;

/// Grouped-query softmax attention.
///
/// Query heads share key and value heads in runs of `n_heads / n_kv_heads`.
#[derive(Clone, Debug, PartialEq)]
pub struct Attn {
    /// Query heads.
    pub n_heads: u32,
    /// Key and value heads.
    pub n_kv_heads: u32,
    /// Elements of a query or key head.
    pub k_dim: u32,
    /// Elements of a value head.
    pub v_dim: u32,
    /// (n_heads * k_dim, width); twice the rows where the gate is [`GateSource::InQuery`].
    pub q: Linear,
    /// (n_kv_heads * k_dim, width); `None` where the slot is filled by an earlier layer.
    pub k: Option<Linear>,
    /// (n_kv_heads * v_dim, width); `None` with a key: the value is the key before norm and rope.
    pub v: Option<Linear>,
    /// (width, n_heads * v_dim).
    pub o: Linear,
    /// On queries; `groups` tells whether by head or over all.
    pub q_norm: Option<Norm>,
    /// On keys.
    pub k_norm: Option<Norm>,
    /// On values.
    pub v_norm: Option<Norm>,
    /// Norms come after rope instead of before it.
    pub norm_after_rope: bool,
    /// Rotation of queries and keys.
    pub rope: Option<RopeId>,
    /// Factor on scores.
    pub scale: f32,
    /// `cap * tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// Which positions a token sees.
    pub mask: Mask,
    /// (n_heads): a score that takes part in the softmax and has no value.
    pub sinks: Option<WeightId>,
    /// Linear position bias (ALiBi) with this largest exponent.
    pub alibi: Option<f32>,
    /// Queries, keys and values are clamped to `[-clamp, clamp]`.
    pub clamp: Option<f32>,
    /// Position-dependent factor on queries.
    pub temperature: Option<Temperature>,
    /// Gate on the result before `o`.
    pub gate: Option<AttnGate>,
    /// Norm of the result before `o` (bitnet's sub-norm, per-head output norms).
    pub o_norm: Option<Norm>,
    /// Where keys and values are kept; `None` keeps none (encoders see the span alone).
    pub slot: Option<SlotId>,
}

/// Which cached positions a token sees, besides what the span says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All.
    Full,
    /// The last so many, itself included.
    Window(u32),
    /// Those of its own chunk of this length (llama4).
    Chunk(u32),
    /// A window to both sides (encoders): at most half of this away.
    Symmetric(u32),
}

/// Factor on the query at a position: `1 + scale * ln(floor((pos + offset) / floor) + 1)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// Strength.
    pub scale: f32,
    /// Positions of a step.
    pub floor: f32,
    /// Added to the position.
    pub offset: f32,
}

/// A gate on the attention result: `out * sigmoid(gate)`, or with softplus.
#[derive(Clone, Debug, PartialEq)]
pub struct AttnGate {
    /// Where it comes from.
    pub source: GateSource,
    /// One gate value a head instead of one an element.
    pub per_head: bool,
}

/// Where the gate of attention comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum GateSource {
    /// The query projection gives, head by head, the query and then the gate.
    InQuery,
    /// A projection of the block's input.
    Own(Linear),
}

/// Multi-head latent attention in its absorbed form: one shared key of `kv_rank + rope_dim`, whose first
/// part is also the value.
#[derive(Clone, Debug, PartialEq)]
pub struct Mla {
    /// Query heads.
    pub n_heads: u32,
    /// Elements of a head without rope.
    pub nope_dim: u32,
    /// Elements of a head with rope.
    pub rope_dim: u32,
    /// Elements of a value head.
    pub v_dim: u32,
    /// Elements of the latent.
    pub kv_rank: u32,
    /// (n_heads * (nope_dim + rope_dim)).
    pub q: MlaQuery,
    /// (kv_rank + rope_dim, width): latent, then the shared rotated key.
    pub kv_a: Linear,
    /// On the latent.
    pub kv_norm: Norm,
    /// From the latent to keys and values.
    pub kv_b: MlaKv,
    /// (width, n_heads * v_dim).
    pub o: Linear,
    /// Rotation of the rope parts; `None` where positions are not encoded.
    pub rope: Option<RopeId>,
    /// Factor on scores.
    pub scale: f32,
    /// Position-dependent factor on queries.
    pub temperature: Option<Temperature>,
    /// Gate on the result before `o`.
    pub gate: Option<AttnGate>,
    /// Which positions a token sees.
    pub mask: Mask,
    /// Chooses the positions that are attended to (sparse attention).
    pub indexer: Option<Box<Indexer>>,
    /// Where the latent and the rotated key are kept: one head of `kv_rank + rope_dim`.
    pub slot: SlotId,
}

/// How MLA makes its queries.
#[derive(Clone, Debug, PartialEq)]
pub enum MlaQuery {
    /// One projection.
    Direct(Linear),
    /// Down, norm, up.
    LowRank {
        /// (q_rank, width).
        a: Linear,
        /// On the low-rank vector.
        norm: Norm,
        /// (n_heads * (nope_dim + rope_dim), q_rank).
        b: Linear,
    },
}

/// The second half of MLA's key and value projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlaKv {
    /// `k`: (heads, kv_rank, nope_dim), `v`: (heads, v_dim, kv_rank), as new files have them.
    Split {
        /// Takes a query head into the latent.
        k: WeightId,
        /// Takes an attended latent to a value head.
        v: WeightId,
    },
    /// (heads * (nope_dim + v_dim), kv_rank) in one matrix, head by head key rows then value rows.
    Joint(WeightId),
}

/// A sparse-attention indexer: small keys whose scores choose the `top` positions to attend to. A
/// position's score is the sum over heads of `weight * relu(q . k)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Indexer {
    /// Heads of the indexer.
    pub n_heads: u32,
    /// Elements of its keys.
    pub dim: u32,
    /// Positions that are kept.
    pub top: u32,
    /// (n_heads * dim, q_rank).
    pub q: Linear,
    /// (dim, width).
    pub k: Linear,
    /// On keys.
    pub k_norm: Norm,
    /// Rotation of the first elements of its queries and keys.
    pub rope: Option<RopeId>,
    /// (n_heads, width): weight of each head's score, times `1 / sqrt(n_heads * dim)`.
    pub weights: Linear,
    /// Where its keys are kept.
    pub slot: SlotId,
}

/// Attention over an encoder's output, kept once a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Cross {
    /// Heads.
    pub n_heads: u32,
    /// Elements of a head.
    pub dim: u32,
    /// Query projection.
    pub q: Linear,
    /// Key projection of the encoder's output.
    pub k: Linear,
    /// Value projection of the encoder's output.
    pub v: Linear,
    /// Output projection.
    pub o: Linear,
    /// Factor on scores.
    pub scale: f32,
    /// Where the encoder's output is.
    pub slot: SlotId,
}
