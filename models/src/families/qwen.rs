//! Qwen 2 and 3, dense and with routed experts: RMS norms, rope on halves, SwiGLU; Qwen 2 has biases on
//! queries, keys and values, Qwen 3 norms on query and key heads.

use oprel_nn::Pooling;
use oprel_nn::describe::{Activation, Classifier, Mask, Moe, NormKind, Op};
use oprel_nn::rope::Pairing;

use super::{Described, RANK, block, generator, layer};
use crate::parts::{
    attention, expert_ff, ffn, head, head_norm, layer_norm, moe, shared_expert, token_input,
};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let rope = h.rope(s, Pairing::Halves)?;
    let rope = s.rope(rope);
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let attn_norm = layer_norm(s, &h, i, "attn_norm")?;
        let mut attn = attention(s, &h, i, Some(rope), Mask::Full)?;
        let of_heads = |part: &str| format!("blk.{i}.attn_{part}_norm");
        attn.q_norm = head_norm(s, &of_heads("q"), attn.n_heads, h.k_dim, h.eps)?;
        attn.k_norm = head_norm(s, &of_heads("k"), attn.n_kv_heads, h.k_dim, h.eps)?;
        let ffn_norm = layer_norm(s, &h, i, "ffn_norm")?;
        let ff = h.ff[i as usize];
        let feed_forward = match h.n_experts {
            0 => Op::Ffn(ffn(s, &format!("blk.{i}.ffn"), "", (h.width, ff), Activation::Silu)?),
            _ => Op::Moe(Box::new(experts(s, &h, i)?)),
        };
        steps.push(layer(vec![block(attn_norm, Op::Attn(attn)), block(ffn_norm, feed_forward)]));
    }
    let input = token_input(s, &h, 1.0)?;
    let mut head = head(s, &h, NormKind::Rms)?;
    let classifier = classifier(s, &h)?;
    if classifier.is_some() {
        head.out = None;
    }
    let mut described = generator(s, &h, input, steps, head);
    described.pooling = classifier.as_ref().map(|c| c.pooling);
    described.decoder.classifier = classifier;
    Ok(described)
}

/// What a reranker keeps of the head: the rows of "yes" and "no", over the last token.
fn classifier(s: &mut Source<'_>, h: &Hyper) -> Result<Option<Classifier>> {
    if s.u32_or_zero("pooling_type")? != RANK {
        return Ok(None);
    }
    if s.architecture() != "qwen3" {
        return Err(s.unsupported("a ranking head"));
    }
    let labels = match s.shape("cls.output.weight") {
        Some(&[_, n]) => u32::try_from(n).unwrap_or(u32::MAX),
        _ => 1,
    };
    let out = Some(s.linear("cls.output", h.width, labels)?);
    // Of one label alone a share would always be all.
    Ok(Some(Classifier { pooling: Pooling::Last, dense: None, out, softmax: labels > 1 }))
}

/// Qwen 2 weighs its experts as they are and has a gated shared one; Qwen 3 makes weights sum to one.
fn experts(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Moe> {
    let ff = h.ff[i as usize];
    let of_expert = expert_ff(s, h)?[i as usize];
    let shared = match s.u32_or_zero("expert_shared_feed_forward_length")? {
        0 => ff,
        shared => shared,
    };
    let mut moe = moe(s, h, i, of_expert, Activation::Silu)?;
    moe.router.normalize = s.architecture() == "qwen3moe";
    moe.shared = shared_expert(s, h, i, shared, Activation::Silu)?;
    Ok(moe)
}
