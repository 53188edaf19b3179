//! The families and the architectures they describe.

mod llama;

use oprel_nn::describe::{Block, Head, Input, Step};
use oprel_nn::{Decoder, Pooling};

use crate::source::Source;
use crate::{Hyper, Result};

/// One architecture name and who describes it.
pub(crate) struct Family {
    pub(crate) architecture: &'static str,
    pub(crate) describe: fn(&mut Source<'_>) -> Result<Described>,
}

/// What a family gives back.
pub(crate) struct Described {
    pub(crate) decoder: Decoder,
    pub(crate) causal: bool,
    pub(crate) pooling: Option<Pooling>,
}

/// Every described architecture.
pub(crate) const ALL: &[Family] = &[Family { architecture: "llama", describe: llama::describe }];

/// The family of an architecture.
pub(crate) fn find(architecture: &str) -> Option<&'static Family> {
    ALL.iter().find(|f| f.architecture == architecture)
}

/// A causal generator: one input, one step after another, one head.
pub(crate) fn generator(
    s: &mut Source<'_>,
    h: &Hyper,
    input: Input,
    steps: Vec<Step>,
    head: Head,
) -> Described {
    let decoder = Decoder {
        width: h.width,
        n_vocab: h.n_vocab,
        context_length: h.context_length,
        inputs: vec![input],
        lanes: 1,
        slots: std::mem::take(&mut s.slots),
        ropes: std::mem::take(&mut s.ropes),
        steps,
        heads: vec![head],
    };
    Described { decoder, causal: true, pooling: None }
}

/// A layer of these blocks.
pub(crate) fn layer(blocks: Vec<Block>) -> Step {
    Step::Layer(oprel_nn::describe::Layer { blocks, out_scale: None })
}

/// The usual block: the residual under a norm, one operation, added back.
pub(crate) fn block(norm: oprel_nn::describe::Norm, op: oprel_nn::describe::Op) -> Block {
    use oprel_nn::describe::{Branch, Read, Write};
    Block {
        read: Read::Plain(Some(norm)),
        branches: vec![Branch::plain(op)],
        post: None,
        write: Write::ADD,
    }
}
