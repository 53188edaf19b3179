//! The families and the architectures they describe.

mod bert;
mod deepseek2;
mod deepseek4;
mod falcon_h1;
mod gemma;
mod gemma4;
mod glm4;
mod gpt_oss;
mod granite;
mod hrm_text;
mod kimi_k3;
mod lfm2;
mod llama;
mod mamba;
mod nemotron_h;
mod olmo2;
mod phi3;
mod qwen;
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
    Family { architecture: "bert", describe: bert::describe },
    Family { architecture: "deepseek2", describe: deepseek2::describe },
    Family { architecture: "falcon-h1", describe: falcon_h1::describe },
    Family { architecture: "gemma", describe: gemma::describe },
    Family { architecture: "gemma2", describe: gemma::describe_2 },
    Family { architecture: "gemma3", describe: gemma::describe_3 },
    Family { architecture: "glm4", describe: glm4::describe },
    Family { architecture: "gpt-oss", describe: gpt_oss::describe },
    Family { architecture: "granite", describe: granite::describe },
    Family { architecture: "granitemoe", describe: granite::describe },
    Family { architecture: "lfm2", describe: lfm2::describe },
    Family { architecture: "lfm2moe", describe: lfm2::describe },
    Family { architecture: "llama", describe: llama::describe },
    Family { architecture: "mamba", describe: mamba::describe },
    Family { architecture: "mamba2", describe: mamba::describe_2 },
    Family { architecture: "mistral3", describe: llama::describe },
    Family { architecture: "nemotron_h", describe: nemotron_h::describe },
    Family { architecture: "nemotron_h_moe", describe: nemotron_h::describe },
    Family { architecture: "olmo2", describe: olmo2::describe },
    Family { architecture: "phi3", describe: phi3::describe },
    Family { architecture: "qwen2", describe: qwen::describe },
    Family { architecture: "qwen2moe", describe: qwen::describe },
    Family { architecture: "qwen3", describe: qwen::describe },
    Family { architecture: "qwen35", describe: qwen35::describe },
    Family { architecture: "qwen35moe", describe: qwen35::describe },
    Family { architecture: "qwen3moe", describe: qwen::describe },
];

/// An architecture that is described, but that the executors do not run yet.
pub(crate) struct Pending {
    pub(crate) family: Family,
    /// What the executors lack.
    pub(crate) needs: &'static str,
}

/// Architectures whose descriptions wait for an executor. Users are told that they are not supported.
pub(crate) const PENDING: &[Pending] = &[
    Pending {
        family: Family { architecture: "deepseek4", describe: deepseek4::describe },
        needs: "several residual lanes and attention over compressed blocks",
    },
    Pending {
        family: Family { architecture: "gemma4", describe: gemma4::describe },
        needs: "token rows for every layer in both executors",
    },
    Pending {
        family: Family { architecture: "hrm_text", describe: hrm_text::describe },
        needs: "prompts whose tokens see each other (a prefix language model)",
    },
    Pending {
        family: Family { architecture: "kimi-k3", describe: kimi_k3::describe },
        needs: "attention over depth in both executors",
    },
];

/// The `pooling_type` of a reranker.
pub(crate) const RANK: u32 = 4;

/// The family of an architecture that can be run.
pub(crate) fn find(architecture: &str) -> Option<&'static Family> {
    ALL.iter().find(|f| f.architecture == architecture)
}

/// An architecture that is described but not run.
pub(crate) fn find_pending(architecture: &str) -> Option<&'static Pending> {
    PENDING.iter().find(|p| p.family.architecture == architecture)
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
        classifier: None,
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

/// Every attention of a decoder, to turn a switch that all of them share.
pub(crate) fn attentions(
    decoder: &mut Decoder,
) -> impl Iterator<Item = &mut oprel_nn::describe::Attn> {
    use oprel_nn::describe::Op;
    let layers = decoder.steps.iter_mut().filter_map(|step| match step {
        Step::Layer(layer) => Some(layer),
        _ => None,
    });
    let branches = layers.flat_map(|l| &mut l.blocks).flat_map(|b| &mut b.branches);
    branches.filter_map(|b| match &mut b.op {
        Op::Attn(attn) => Some(attn),
        _ => None,
    })
}
