//! Mixers with a state of fixed size: state spaces, delta rules, RWKV, short convolutions.
//!
//! Their state lies in one slot: the recurrent part, then the last `kernel - 1` inputs of the
//! convolution, oldest first.

use super::linear::{Linear, Norm};
use super::state::SlotId;
use crate::weights::WeightId;

/// Causal convolution of each channel over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv1d {
    /// (channels, kernel), oldest tap first.
    pub weight: WeightId,
    /// (channels).
    pub bias: Option<WeightId>,
    /// Taps.
    pub kernel: u32,
    /// Channels.
    pub channels: u32,
}

/// Mamba (Gu and Dao, 2023): `in` gives x and z; x is convolved and scanned; `out(y * silu(z))`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba {
    /// Elements of x.
    pub inner: u32,
    /// Elements of the state of each.
    pub state: u32,
    /// Rank of the step size.
    pub dt_rank: u32,
    /// (2 * inner, width): x, then z.
    pub input: Linear,
    /// On x; silu follows.
    pub conv: Conv1d,
    /// (dt_rank + 2 * state, inner): step size, B, C.
    pub x: Linear,
    /// (inner, dt_rank), with bias; softplus follows.
    pub dt: Linear,
    /// On the low-rank step size, B and C (Jamba, FalconMamba).
    pub dt_b_c_norm: Option<[Norm; 3]>,
    /// (inner, state): negative.
    pub a: WeightId,
    /// (inner): skip connection.
    pub d: WeightId,
    /// (width, inner).
    pub out: Linear,
    /// State: inner * state, then the convolution.
    pub slot: SlotId,
}

/// Mamba-2 (Dao and Gu, 2024): one decay a head, B and C shared by groups of heads.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba2 {
    /// Elements of x.
    pub inner: u32,
    /// Elements of the state of each.
    pub state: u32,
    /// Heads; `inner / n_heads` elements each.
    pub n_heads: u32,
    /// Groups that share B and C.
    pub n_groups: u32,
    /// (2 * inner + 2 * n_groups * state + n_heads, width): z, then x, B, C, then step sizes.
    pub input: Linear,
    /// On x, B and C; silu follows.
    pub conv: Conv1d,
    /// (n_heads): added to step sizes before softplus.
    pub dt_bias: WeightId,
    /// (n_heads): negative.
    pub a: WeightId,
    /// (n_heads): skip connection.
    pub d: WeightId,
    /// On the gated result, in groups.
    pub norm: Option<Norm>,
    /// (width, inner).
    pub out: Linear,
    /// State: n_heads * head_dim * state, then the convolution.
    pub slot: SlotId,
}

/// Gated delta rule (Yang et al., 2024), with a decay a head or a channel (KDA).
///
/// Queries and keys are L2-normalized; `S = decay S; S += beta k (v - S^T k)^T; y = S^T q / sqrt(k_dim)`.
/// The state of a head is kept as (v_dim, k_dim).
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// Query and key heads.
    pub n_k_heads: u32,
    /// Value heads.
    pub n_v_heads: u32,
    /// Elements of a key head.
    pub k_dim: u32,
    /// Elements of a value head.
    pub v_dim: u32,
    /// Which key head a value head uses.
    pub head_map: HeadMap,
    /// Queries, keys and values, in this order.
    pub qkv: [Linear; 3],
    /// Over queries, keys and values side by side; silu follows.
    pub conv: Conv1d,
    /// Queries and keys are divided by `sqrt(sum of squares + l2_eps)`.
    pub l2_eps: f32,
    /// How the state fades.
    pub decay: Decay,
    /// (n_v_heads, width): sigmoid gives beta.
    pub beta: Linear,
    /// (n_v_heads * v_dim, width): gate on the result, by `gate_act` after the norm.
    pub gate: Linear,
    /// A low-rank gate: applied after `gate` (KDA).
    pub gate_up: Option<Linear>,
    /// The gate goes through a sigmoid instead of silu (KDA).
    pub gate_sigmoid: bool,
    /// On each value head of the result.
    pub norm: Norm,
    /// (width, n_v_heads * v_dim).
    pub out: Linear,
    /// State: n_v_heads * k_dim * v_dim, then the convolution.
    pub slot: SlotId,
}

/// How value heads map to key heads where there are more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadMap {
    /// Value head h uses key head `h % n_k_heads`.
    Tiled,
    /// Value head h uses key head `h / (n_v_heads / n_k_heads)`.
    Grouped,
}

/// The decay of a delta rule: what is left of the state after a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Decay {
    /// From `f`, bias and `a` to the decay.
    pub form: DecayForm,
    /// Gives f: (n_v_heads) for one decay a head, (n_v_heads * k_dim) for one a channel.
    pub f: Linear,
    /// A second, low-rank projection after `f` (KDA).
    pub f_up: Option<Linear>,
    /// Sized like f.
    pub bias: WeightId,
    /// (n_v_heads): negative.
    pub a: WeightId,
    /// One decay a channel of the key instead of one a head.
    pub per_channel: bool,
}

/// How a delta rule's decay is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DecayForm {
    /// `exp(a * softplus(f + bias))`.
    Softplus,
    /// `exp(lowest * sigmoid(-a * (f + bias)))` (kimi-k3).
    Sigmoid {
        /// Logarithm of the strongest decay: negative.
        lowest: f32,
    },
}

/// RWKV time mix, generations 6 and 7.
#[derive(Clone, Debug, PartialEq)]
pub struct Rwkv {
    /// 6 or 7.
    pub generation: u8,
    /// Heads.
    pub n_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Token-shift mixes, in the order of the generation's paper.
    pub mixes: Vec<WeightId>,
    /// Low-rank pairs (down, up) for decay and, in 7, in-context rate, value mix and gate.
    pub low_rank: Vec<(Linear, Linear)>,
    /// Receptance, key, value and gate projections.
    pub rkvg: Vec<Linear>,
    /// Per-head vectors: first-token bonus, key scales.
    pub vectors: Vec<WeightId>,
    /// Group norm of the result.
    pub norm: Norm,
    /// Output projection.
    pub out: Linear,
    /// State: n_heads * head_dim * head_dim, then the shifted token.
    pub slot: SlotId,
}

/// LFM2's mixer: `in` gives b, c and x; `out(c * conv(b * x))`.
#[derive(Clone, Debug, PartialEq)]
pub struct ShortConv {
    /// (3 * width, width): b, c, x.
    pub input: Linear,
    /// On b * x; no activation.
    pub conv: Conv1d,
    /// (width, width).
    pub out: Linear,
    /// State: the convolution alone.
    pub slot: SlotId,
}
