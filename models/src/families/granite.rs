//! Granite 3 and 4, dense and with routed experts: Llama's layers with factors on embeddings, residuals
//! and logits, and rope that a file may turn off.

use oprel_nn::describe::{Activation, Block, Mask, NormKind, Op, Write};
use oprel_nn::rope::Pairing;

use super::{Described, block, generator, layer};
use crate::parts::{attention, ffn, head, layer_norm, moe, shared_expert, token_input};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    // In granite files this key says whether positions are rotated; granitemoe always does.
    let rotated = s.architecture() == "granitemoe" || s.bool_or("rope.scaling.finetuned", true)?;
    let rope = match rotated {
        true => Some(h.rope(s, Pairing::Adjacent)?),
        false => None,
    };
    let rope = rope.map(|r| s.rope(r));
    let residual_scale = s.nonzero_f32("residual_scale")?.unwrap_or(1.0);
    let scaled = |b: Block| Block { write: Write::Add { scale: residual_scale, norm: None }, ..b };
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let attn_norm = layer_norm(s, &h, i, "attn_norm")?;
        let attn = attention(s, &h, i, rope, Mask::Full)?;
        let ffn_norm = layer_norm(s, &h, i, "ffn_norm")?;
        let feed_forward = feed_forward(s, &h, i)?;
        steps.push(layer(vec![
            scaled(block(attn_norm, Op::Attn(attn))),
            scaled(block(ffn_norm, feed_forward)),
        ]));
    }
    let embedding_scale = s.nonzero_f32("embedding_scale")?.unwrap_or(1.0);
    let input = token_input(s, &h, embedding_scale)?;
    let mut head = head(s, &h, NormKind::Rms)?;
    head.scale = 1.0 / s.nonzero_f32("logit_scale")?.ok_or_else(|| s.missing("logit_scale"))?;
    Ok(generator(s, &h, input, steps, head))
}

fn feed_forward(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Op> {
    let ff = h.ff[i as usize];
    if h.n_experts == 0 {
        let ffn = ffn(s, &format!("blk.{i}.ffn"), "", (h.width, ff), Activation::Silu)?;
        return Ok(Op::Ffn(ffn));
    }
    let mut moe = moe(s, h, i, ff, Activation::Silu)?;
    let shared = s.u32_or_zero("expert_shared_feed_forward_length")?;
    moe.shared = shared_expert(s, h, i, shared, Activation::Silu)?;
    Ok(Op::Moe(Box::new(moe)))
}
