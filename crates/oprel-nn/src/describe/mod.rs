//! The description of a model: which operations run in which order on which weights.
//!
//! A description is data. `models/` writes it, an executor reads it; neither knows the other. A new
//! architecture that only turns known switches adds nothing here.
//!
//! Shapes: `n` tokens of a batch, `width` of the residual stream. A [`Block`] reads the residual, runs
//! its branches on what it read, sums them, and writes the sum back.

mod attention;
mod feed_forward;
mod linear;
mod recurrent;
mod state;

pub use attention::{
    Attn, AttnGate, Cross, GateSource, Indexer, Mask, Mla, MlaKv, MlaQuery, Temperature,
};
pub use feed_forward::{
    Activation, ExpertGroups, Ffn, Gating, Moe, Router, RouterInput, SharedExpert, TokenEmbed,
};
pub use linear::{Linear, Norm, NormKind, SiteId};
pub use recurrent::{Conv1d, Decay, Delta, HeadMap, Mamba, Mamba2, Rwkv, ShortConv};
pub use state::{Reach, SlotId, StateSpec, VDim};

use crate::rope::Rope;
use crate::weights::WeightId;

/// A whole model.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoder {
    /// Elements of the residual stream.
    pub width: u32,
    /// Tokens of the vocabulary.
    pub n_vocab: u32,
    /// Most positions the model was made for.
    pub context_length: u32,
    /// What is summed into the first residual.
    pub inputs: Vec<Input>,
    /// Residual streams beside each other; 1 but for hyper-connections.
    pub lanes: u8,
    /// State that sequences keep, one entry a slot; layers that share KV name one slot.
    pub slots: Vec<StateSpec>,
    /// Ropes, named by [`RopeId`].
    pub ropes: Vec<Rope>,
    /// What runs, in order.
    pub steps: Vec<Step>,
    /// What reads the result.
    pub heads: Vec<Head>,
}

impl Decoder {
    /// The layers, in order.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.steps.iter().filter_map(|s| match s {
            Step::Layer(layer) => Some(layer),
            _ => None,
        })
    }
}

/// A rope of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RopeId(pub u16);

/// A register that holds a copy of the residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reg(pub u8);

/// A term of the first residual (n, width).
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Rows of the token table, times a factor. Rows that the batch gives as embeddings stand in
    /// for the looked-up ones and are not scaled.
    Token {
        /// (n_vocab, width).
        table: WeightId,
        /// Factor on looked-up rows.
        scale: f32,
    },
    /// Rows of a learned position table, by cache position.
    Position {
        /// (context, width).
        table: WeightId,
        /// Added to the position (OPT starts at 2).
        offset: u32,
    },
    /// One constant row: BERT's token type 0.
    Row {
        /// (rows, width).
        table: WeightId,
        /// Which row.
        row: u32,
    },
    /// Hashed n-grams of the token and its predecessors.
    NGram {
        /// (buckets, width) for each n, from 2 up.
        tables: Vec<WeightId>,
    },
}

/// One step of the run.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A layer.
    Layer(Layer),
    /// Copies the residual into a register.
    Save(Reg),
    /// Replaces the residual by a register: loops start over.
    Load(Reg),
    /// Adds a register to the residual.
    Add(Reg),
    /// Normalizes the residual in place.
    Norm(Norm),
}

/// A mixer and a feed-forward, as one or more blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Run one after another.
    pub blocks: Vec<Block>,
    /// Factor on the residual after the last block (gemma4), a vector of one element or of width.
    pub out_scale: Option<WeightId>,
}

/// Reads the residual, sums its branches, writes the sum back.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// What the branches see.
    pub read: Read,
    /// Run on the same input and summed: parallel residual, attention beside Mamba, dense beside
    /// experts.
    pub branches: Vec<Branch>,
    /// Applied to the sum.
    pub post: Option<Norm>,
    /// How the sum reaches the residual.
    pub write: Write,
}

/// One operation of a block, with norms of its own where it has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// Applied to what the block read, for this branch alone.
    pub norm: Option<Norm>,
    /// The operation.
    pub op: Op,
    /// Applied to what it gives, for this branch alone.
    pub post: Option<Norm>,
    /// Factor on what it gives.
    pub scale: f32,
}

impl Branch {
    /// An operation as it is.
    pub fn plain(op: Op) -> Branch {
        Branch { norm: None, op, post: None, scale: 1.0 }
    }
}

/// How a block reads the residual.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// The residual, normalized if a norm is given.
    Plain(Option<Norm>),
    /// A learned mix of the lanes (hyper-connections).
    HyperConnection(HyperConnection),
    /// A learned prediction over lanes (AltUp, gemma3n).
    AltUp(AltUp),
    /// Attention over the outputs of earlier layers (kimi-k3).
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
    /// Spreads the sum over the lanes and mixes them.
    HyperConnection(HyperConnection),
    /// Corrects the lanes by the active one's error.
    AltUp(AltUp),
}

impl Write {
    /// `residual += sum`.
    pub const ADD: Write = Write::Add { scale: 1.0, norm: None };
}

/// Weights of a hyper-connection: how lanes are mixed into one input, and one output into lanes.
#[derive(Clone, Debug, PartialEq)]
pub struct HyperConnection {
    /// (mixes, lanes * width): dynamic part, from the normalized lanes.
    pub dynamic: WeightId,
    /// (mixes): static part.
    pub base: WeightId,
    /// Factors of the dynamic parts.
    pub scale: WeightId,
    /// Norm over all lanes before the dynamic part.
    pub norm: Norm,
    /// Sinkhorn iterations that make the lane mix doubly stochastic; 0 for none.
    pub sinkhorn: u32,
}

/// Weights of AltUp.
#[derive(Clone, Debug, PartialEq)]
pub struct AltUp {
    /// (lanes * lanes, lanes): prediction coefficients from the router.
    pub predict: WeightId,
    /// (lanes, lanes): correction coefficients.
    pub correct: WeightId,
    /// (lanes, width): the router.
    pub router: WeightId,
    /// Norm of the router's input.
    pub router_norm: Norm,
    /// Which lane the layer computes.
    pub active: u8,
}

/// Weights of attention over depth.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthAttention {
    /// Registers whose contents are attended to, beside the residual.
    pub over: Vec<Reg>,
    /// (1, width): the query that scores them.
    pub query: WeightId,
    /// Norm of keys.
    pub norm: Norm,
}

/// An operation: (n, width) to (n, width).
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Softmax attention over own keys and values.
    Attn(Attn),
    /// Multi-head latent attention (DeepSeek).
    Mla(Mla),
    /// Attention over an encoder's output.
    Cross(Cross),
    /// Selective state space, one decay an element.
    Mamba(Mamba),
    /// Selective state space, one decay a head.
    Mamba2(Mamba2),
    /// Gated delta rule.
    Delta(Delta),
    /// RWKV time mix.
    Rwkv(Rwkv),
    /// Gated short convolution (LFM2).
    Conv(ShortConv),
    /// Dense feed-forward.
    Ffn(Ffn),
    /// Routed experts.
    Moe(Box<Moe>),
    /// Per-layer token embeddings (gemma3n, gemma4).
    TokenEmbed(TokenEmbed),
}

/// Reads the final residual.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// What for.
    pub kind: HeadKind,
    /// Before the projection.
    pub norm: Option<Norm>,
    /// (outputs, width); `None` for models that only embed.
    pub out: Option<Linear>,
    /// Factor on the outputs.
    pub scale: f32,
    /// `cap * tanh(x / cap)` on the outputs.
    pub soft_cap: Option<f32>,
}

/// What a head is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// Logits over the vocabulary, or the normed hidden state of an embedder.
    LanguageModel,
    /// Classes of a classifier or reranker.
    Classifier,
    /// Draft of the token after next (multi-token prediction).
    Mtp,
}
