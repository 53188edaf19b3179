//! LFM2: gated short convolutions with some attention layers between them; SwiGLU, dense or with
//! routed experts after the leading layers.

use oprel_nn::describe::{Activation, Attn, Head, HeadKind, Mask, Moe, NormKind, Op, RopeId};
use oprel_nn::rope::Pairing;

use super::{Described, block, generator, layer};
use crate::parts::{attention, ffn, gating, head_norm, moe, token_input};
use crate::recurrent::{short_conv, without_bias};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    if !s.bool_or("attention.causal", true)? {
        return Err(s.unsupported("convolutions that look ahead (a non-causal LFM2)"));
    }
    let h = Hyper::read(s)?;
    let mut rope = h.rope(s, Pairing::Halves)?;
    rope.factors = None;
    let rope = s.rope(rope);
    let dense = match s.architecture() {
        "lfm2" => h.n_layers,
        _ => s.u32_or_zero("leading_dense_block_count")?,
    };
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let mixer = match h.n_kv_heads[i as usize] {
            0 => Op::Conv(short_conv(s, &h, i)?),
            _ => Op::Attn(normed_attention(s, &h, i, rope)?),
        };
        let (width, ff) = (h.width, h.ff[i as usize]);
        let feed_forward = if i < dense {
            Op::Ffn(ffn(s, &format!("blk.{i}.ffn"), "", (width, ff), Activation::Silu)?)
        } else {
            Op::Moe(Box::new(experts(s, &h, i)?))
        };
        let mixer_norm = s.norm(&format!("blk.{i}.attn_norm"), width, NormKind::Rms, h.eps)?;
        let ffn_norm = s.norm(&format!("blk.{i}.ffn_norm"), width, NormKind::Rms, h.eps)?;
        steps.push(layer(vec![block(mixer_norm, mixer), block(ffn_norm, feed_forward)]));
    }
    let input = token_input(s, &h, 1.0)?;
    let head = head(s, &h)?;
    Ok(generator(s, &h, input, steps, head))
}

fn normed_attention(s: &mut Source<'_>, h: &Hyper, i: u32, rope: RopeId) -> Result<Attn> {
    let mask = match s.u32_or_zero("attention.sliding_window")? {
        n if n > 0 && s.architecture() == "lfm2" => Mask::Window(n),
        _ => Mask::Full,
    };
    let mut attn = attention(s, h, i, Some(rope), mask)?;
    attn.o = without_bias(attn.o);
    let (q, k) = (format!("blk.{i}.attn_q_norm"), format!("blk.{i}.attn_k_norm"));
    attn.q_norm = head_norm(s, &q, attn.n_heads, h.k_dim, h.eps)?;
    attn.k_norm = head_norm(s, &k, attn.n_kv_heads, h.k_dim, h.eps)?;
    Ok(attn)
}

fn experts(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Moe> {
    let ff = s.per_layer_u32("expert_feed_forward_length", h.n_layers)?.unwrap_or_default();
    let ff = *ff.get(i as usize).ok_or_else(|| s.missing("expert_feed_forward_length"))?;
    let mut moe = moe(s, h, i, ff, Activation::Silu)?;
    moe.router.gating = gating(s)?.ok_or_else(|| s.missing("expert_gating_func"))?;
    Ok(moe)
}

/// The final norm goes by the name of the embedding's.
fn head(s: &mut Source<'_>, h: &Hyper) -> Result<Head> {
    let norm = s.norm("token_embd_norm", h.width, NormKind::Rms, h.eps)?;
    let out = match s.maybe_linear("output", h.width, h.n_vocab)? {
        Some(out) => out,
        None => s.linear("token_embd", h.width, h.n_vocab)?,
    };
    let kind = HeadKind::LanguageModel;
    Ok(Head { kind, norm: Some(norm), out: Some(out), scale: 1.0, soft_cap: None })
}
