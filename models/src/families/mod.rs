//! The families and the architectures they describe.

mod deepseek2;
mod falcon_h1;
mod lfm2;
mod llama;
mod mamba;
mod nemotron_h;
mod qwen35;

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
pub(crate) const ALL: &[Family] = &[
    Family { architecture: "deepseek2", describe: deepseek2::describe },
    Family { architecture: "falcon-h1", describe: falcon_h1::describe },
    Family { architecture: "lfm2", describe: lfm2::describe },
    Family { architecture: "lfm2moe", describe: lfm2::describe },
    Family { architecture: "llama", describe: llama::describe },
    Family { architecture: "mamba", describe: mamba::describe },
    Family { architecture: "mamba2", describe: mamba::describe_2 },
    Family { architecture: "nemotron_h", describe: nemotron_h::describe },
    Family { architecture: "nemotron_h_moe", describe: nemotron_h::describe },
    Family { architecture: "qwen35", describe: qwen35::describe },
];

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
