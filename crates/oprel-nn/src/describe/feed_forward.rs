//! Feed-forward layers: dense, routed experts, per-layer token embeddings.

use super::linear::{Linear, Norm};
use crate::weights::WeightId;

pub use oprel_cpu::activation::Activation;

/// `down(act(gate x) * up x)`, or `down(act(up x))` without a gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Ffn {
    /// (ff, width).
    pub gate: Option<Linear>,
    /// (ff, width).
    pub up: Linear,
    /// (width, ff).
    pub down: Linear,
    /// On the gate, or on `up` where there is no gate.
    pub act: Activation,
    /// Norm of the activated row before `down` (sub-norm).
    pub norm: Option<Norm>,
}

/// Routed experts: each token runs through a few of them and sums what they give by weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Moe {
    /// Chooses and weighs.
    pub router: Router,
    /// (experts, ff, width); `None` without a gate.
    pub gate: Option<Linear>,
    /// (experts, ff, width).
    pub up: Linear,
    /// (experts, width, ff).
    pub down: Linear,
    /// As in [`Ffn`].
    pub act: Activation,
    /// The weight multiplies an expert's input instead of its output (llama4).
    pub weigh_input: bool,
    /// Experts work in a space of their own.
    pub latent: Option<Latent>,
    /// Run for every token and added.
    pub shared: Option<SharedExpert>,
}

/// The space that routed experts work in; router and shared experts stay outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Latent {
    /// (latent, width).
    pub down: Linear,
    /// On what the experts give, summed.
    pub norm: Option<Norm>,
    /// (width, latent).
    pub up: Linear,
}

/// A dense feed-forward beside the routed experts.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedExpert {
    /// The feed-forward.
    pub ffn: Ffn,
    /// (1, width): its output is multiplied by the sigmoid of this (qwen2moe).
    pub gate: Option<Linear>,
}

/// How experts are chosen and weighed.
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    /// (experts, width).
    pub w: Linear,
    /// What the router reads.
    pub input: RouterInput,
    /// From scores to probabilities.
    pub gating: Gating,
    /// Experts of each token.
    pub n_used: u32,
    /// (experts): added for choosing, not for weighing (DeepSeek-V3).
    pub choice_bias: Option<WeightId>,
    /// Only experts of the best groups are chosen.
    pub groups: Option<ExpertGroups>,
    /// Weights of the chosen are divided by their sum (at least 2^-14, as in ggml).
    pub normalize: bool,
    /// Factor on weights.
    pub scale: f32,
    /// (n_vocab, n_used): the experts of each token id; scores only weigh them (deepseek4).
    pub by_token: Option<WeightId>,
}

/// What a router reads.
#[derive(Clone, Debug, PartialEq)]
pub enum RouterInput {
    /// What the branch reads.
    Same,
    /// The residual before the branch's norm, under a norm of its own (gemma4).
    Residual(Option<Norm>),
}

/// From router scores to probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gating {
    /// Softmax over all experts.
    Softmax,
    /// Softmax over the chosen ones.
    SoftmaxChosen,
    /// Sigmoid of each.
    Sigmoid,
    /// Chosen by score, weighed by its sigmoid (llama4).
    SigmoidChosen,
    /// Square root of softplus (deepseek4).
    SqrtSoftplus,
}

/// Experts in equal groups; a group's score is the sum of its two best experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertGroups {
    /// How many groups.
    pub n: u32,
    /// How many are kept.
    pub used: u32,
}

/// A table of small per-layer token rows, gated by the residual (gemma3n, gemma4):
/// `out(act(gate x) * part)`, where the part of this layer is the sum of the token's scaled row and the
/// normed projection of the first residual, divided by the square root of two.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEmbed {
    /// (n_vocab, layers * dim).
    pub table: WeightId,
    /// Factor on looked-up rows.
    pub table_scale: f32,
    /// (layers * dim, width): added from the first residual.
    pub project: Linear,
    /// Factor on the projection.
    pub project_scale: f32,
    /// On each layer's part of the projection.
    pub project_norm: Norm,
    /// Which layer's part is used here.
    pub layer: u32,
    /// Elements of a layer's part.
    pub dim: u32,
    /// (dim, width): gate from the residual.
    pub gate: Linear,
    /// On the gate.
    pub act: Activation,
    /// (width, dim).
    pub out: Linear,
}
