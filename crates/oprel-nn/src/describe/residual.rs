//! How blocks read the residual and write to it.

use super::Reg;
use super::feed_forward::TokenEmbed;
use super::linear::Norm;
use crate::weights::WeightId;

/// How a block reads the residual.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// The residual, normalized if a norm is given.
    Plain(Option<Norm>),
    /// A learned mix of the lanes (hyper-connections).
    HyperConnection(HyperConnection),
    /// Attention over earlier residuals (kimi-k3).
    DepthAttention(DepthAttention),
}

/// How a block writes to the residual.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// `residual += scale * sum`, then the norm on the residual if given (post-norm models).
    Add {
        /// Factor on the sum.
        scale: f32,
        /// Norm of the new residual.
        norm: Option<Norm>,
    },
    /// The sum becomes the residual; what the residual was lives on in a register (kimi-k3).
    Replace,
    /// Spreads the sum over the lanes and mixes them, by the weights that the block's read made.
    HyperConnection,
}

impl Write {
    /// `residual += sum`.
    pub const ADD: Write = Write::Add { scale: 1.0, norm: None };
}

/// Weights of a hyper-connection (Zhu et al., 2024): how lanes are mixed into one input, and one
/// output into lanes.
///
/// `mixes = scale * (dynamic norm(lanes)) + base`, in three parts. Lanes are read with weights
/// `sigmoid(part 1) + eps`; the sum is written to them with `magnitude * sigmoid(part 2)`; part 3 is the
/// (lanes, lanes) mix of the lanes themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct HyperConnection {
    /// (mixes, lanes * width).
    pub dynamic: WeightId,
    /// (mixes).
    pub base: WeightId,
    /// One factor for each part.
    pub scale: WeightId,
    /// Over all lanes together.
    pub norm: Norm,
    /// Added to the weights of reading, and to what Sinkhorn divides by.
    pub eps: f32,
    /// Factor on the weights of writing.
    pub magnitude: f32,
    /// What becomes of the lanes when the sum is written.
    pub mix: LaneMix,
}

/// What becomes of lanes when a sum is written to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneMix {
    /// Nothing is written: the lanes are only read. There is part 1 alone.
    ReadOnly,
    /// Each stays what it is, besides its share of the sum. There is no part 3.
    Keep,
    /// They are mixed by part 3 under a softmax, made doubly stochastic by so many Sinkhorn iterations.
    Sinkhorn(u32),
}

/// Weights of attention over depth: each token attends to its own residual and to earlier ones that
/// registers hold.
///
/// A row's score is the dot product of the query with the normed row; the raw rows are summed by the
/// softmax of their scores.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthAttention {
    /// Registers whose contents are attended to, beside the residual.
    pub over: Vec<Reg>,
    /// (width): the query that scores them.
    pub query: WeightId,
    /// Norm of what is scored.
    pub norm: Norm,
}

/// Alternating updates (Baykal et al., 2023; gemma3n): what stands between `Predict` and `Correct` runs
/// on one lane, and its error corrects all of them.
#[derive(Clone, Debug, PartialEq)]
pub enum AltUp {
    /// One row becomes lanes: itself first, then projections of it, scaled to its length.
    Spread {
        /// (lanes - 1, width, width).
        project: WeightId,
    },
    /// Adds to each lane a mix of all lanes; the first of these predictions becomes the residual.
    Predict {
        /// Reads the first lane.
        router: AltUpRouter,
        /// (lanes * lanes, lanes): from the router to the mix.
        coefficients: WeightId,
    },
    /// Lanes become their predictions plus what the residual differs from its own, times a factor of
    /// each lane.
    Correct {
        /// Reads the residual.
        router: AltUpRouter,
        /// (lanes, lanes): from the router to the factors less one.
        coefficients: WeightId,
        /// Adds token rows, gated by the scaled first lane, to every other lane.
        embed: Option<Box<LaneEmbed>>,
    },
    /// Lanes become one row: the mean of the first and projections of the others, scaled to its length.
    Merge {
        /// (lanes - 1, width, width).
        project: WeightId,
    },
}

/// Weighs lanes: `tanh(w norm(x) / width)`.
#[derive(Clone, Debug, PartialEq)]
pub struct AltUpRouter {
    /// (lanes, width).
    pub w: WeightId,
    /// Of what it reads.
    pub norm: Norm,
}

/// Per-layer token rows for lanes.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneEmbed {
    /// (width): factors on the first lane before it gates.
    pub scale: WeightId,
    /// The rows.
    pub embed: TokenEmbed,
    /// On what is added.
    pub norm: Norm,
}
