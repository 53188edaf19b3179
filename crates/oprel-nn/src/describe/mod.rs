//! The description of a model: which operations run in which order on which weights.
//!
//! A description is data. `models/` writes it, an executor reads it; neither knows the other. A new
//! architecture that only turns known switches adds nothing here.
//!
//! Shapes: `n` tokens of a batch, `width` of the residual stream. A [`Block`] reads the residual, runs
//! its branches on what it read, sums them, and writes the sum back.

mod attention;
mod compressed;
mod feed_forward;
mod linear;
mod linears;
mod recurrent;
mod residual;
mod state;

pub use attention::{
    Attn, AttnGate, Cross, GateSource, Indexer, Mask, Mla, MlaKv, MlaQuery, Temperature,
};
pub use compressed::{BlockIndexer, Blocks, CompressedAttn, Compressor};
pub use feed_forward::{
    Activation, ExpertGroups, Ffn, Gating, Latent, Moe, Router, RouterInput, SharedExpert,
    TokenEmbed,
};
pub use linear::{Linear, Norm, NormKind, SiteId};
pub use recurrent::{Conv1d, Decay, DecayForm, Delta, HeadMap, Mamba, Mamba2, Rwkv, ShortConv};
pub use residual::{
    AltUp, AltUpRouter, DepthAttention, HyperConnection, LaneEmbed, LaneMix, Read, Write,
};
pub use state::{Reach, SlotId, StateSpec, VDim};

use crate::batch::Pooling;
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
    /// Residual streams beside each other; 1 but for hyper-connections. The inputs stand in every lane.
    pub lanes: u8,
    /// State that sequences keep, one entry a slot; layers that share KV name one slot.
    pub slots: Vec<StateSpec>,
    /// Ropes, named by [`RopeId`].
    pub ropes: Vec<Rope>,
    /// What runs, in order.
    pub steps: Vec<Step>,
    /// What reads the result.
    pub heads: Vec<Head>,
    /// What reads the vector of a whole text: a reranker.
    pub classifier: Option<Classifier>,
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
    /// Adds one constant row to the residual of every token.
    AddRow {
        /// (rows, width).
        table: WeightId,
        /// Which row.
        row: u32,
    },
    /// Normalizes the residual in place.
    Norm(Norm),
    /// Replaces the residual by what is read of it: lanes, or earlier residuals, become one row.
    Mix(Read),
    /// Makes, predicts, corrects or merges lanes (gemma3n).
    AltUp(AltUp),
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

/// An operation: (n, width) to (n, width).
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Softmax attention over own keys and values.
    Attn(Attn),
    /// Multi-head latent attention (DeepSeek).
    Mla(Mla),
    /// Attention over a window and compressed blocks (DeepSeek-V4).
    Compressed(Box<CompressedAttn>),
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
    /// Two linear layers, through few elements (gemma3n).
    LowRank(LowRank),
    /// What there is already, as a term of the sum.
    Term(Term),
}

/// `up(down(x))`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// (rank, width).
    pub down: Linear,
    /// (width, rank).
    pub up: Linear,
}

/// A term of a block's sum that is not computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// What the branch reads.
    Input,
    /// The residual: for blocks whose write replaces it by a scaled sum.
    Residual,
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

/// Reads the vector of a text: `out(tanh(dense(x)))`, where either may be missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// How the vector is made of what the head's norm gives.
    pub pooling: Pooling,
    /// (width, width), or (labels, width) if it is the last.
    pub dense: Option<Linear>,
    /// (labels, width).
    pub out: Option<Linear>,
    /// Gives the labels' probabilities instead of their scores.
    pub softmax: bool,
}

impl Classifier {
    /// Numbers that it gives; 0 if it is none.
    pub fn n_labels(&self) -> usize {
        self.out.as_ref().or(self.dense.as_ref()).map_or(0, |last| last.rows.len())
    }
}

/// What a head is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// Logits over the vocabulary, or the normed hidden state of an embedder.
    LanguageModel,
    /// Draft of the token after next (multi-token prediction).
    Mtp,
}
