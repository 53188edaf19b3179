//! Qwen3.5: gated delta rule in most layers, gated attention with M-RoPE in every fourth; SwiGLU, dense
//! or with routed experts.

use oprel_nn::describe::{Activation, Attn, AttnGate, GateSource, Mask, Moe, NormKind, Op, RopeId};
use oprel_nn::rope::{Pairing, Sections};

use super::{Described, block, generator, layer};
use crate::parts::{Qkv, attention_of, ffn, head, head_norm, moe, qkv, shared_expert, token_input};
use crate::recurrent::{Ssm, delta};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let ssm = Ssm::read(s)?.with_heads(s)?;
    if ssm.inner / ssm.dt_rank != ssm.state {
        return Err(s.wrong("ssm.state_size", ssm.state, "must be the size of a value head"));
    }
    let mut rope = h.rope(s, Pairing::Halves)?;
    rope.factors = None;
    rope.sections = Some(Sections { pairs: sections(s)?, interleaved: true });
    let rope = s.rope(rope);
    let recurrent = recurrent_layers(s, &h)?;
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let mixer = match recurrent[i as usize] {
            true => Op::Delta(delta(s, &h, &ssm, i)?),
            false => Op::Attn(gated_attention(s, &h, i, rope)?),
        };
        let (width, ff) = (h.width, h.ff[i as usize]);
        let norm = s.norm(&format!("blk.{i}.attn_norm"), width, NormKind::Rms, h.eps)?;
        let name = format!("blk.{i}.post_attention_norm");
        let ffn_norm = s.norm(&name, width, NormKind::Rms, h.eps)?;
        let feed_forward = match h.n_experts {
            0 => Op::Ffn(ffn(s, &format!("blk.{i}.ffn"), "", (width, ff), Activation::Silu)?),
            _ => Op::Moe(Box::new(experts(s, &h, i)?)),
        };
        steps.push(layer(vec![block(norm, mixer), block(ffn_norm, feed_forward)]));
    }
    let input = token_input(s, &h, 1.0)?;
    let head = head(s, &h, NormKind::Rms)?;
    Ok(generator(s, &h, input, steps, head))
}

/// Attention whose query projection gives, head by head, the query and then its gate.
fn gated_attention(s: &mut Source<'_>, h: &Hyper, i: u32, rope: RopeId) -> Result<Attn> {
    let (heads, kv) = (h.n_heads[i as usize], h.n_kv_heads[i as usize]);
    let qkv: Qkv = qkv(s, i, h.width, (2 * heads * h.k_dim, kv * h.k_dim, kv * h.v_dim))?;
    let mut attn = attention_of(s, h, i, qkv, Some(rope), Mask::Full)?;
    attn.gate = Some(AttnGate { source: GateSource::InQuery, per_head: false });
    let (q, k) = (format!("blk.{i}.attn_q_norm"), format!("blk.{i}.attn_k_norm"));
    attn.q_norm = head_norm(s, &q, heads, h.k_dim, h.eps)?;
    attn.k_norm = head_norm(s, &k, kv, h.k_dim, h.eps)?;
    Ok(attn)
}

/// Experts beside a gated shared one.
fn experts(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Moe> {
    let ff = h.ff[i as usize];
    let own = s.per_layer_u32("expert_feed_forward_length", h.n_layers)?.unwrap_or_default();
    let own = match own.get(i as usize) {
        Some(&own) if own > 0 => own,
        _ => ff / h.n_experts_used,
    };
    let shared = match s.u32_or_zero("expert_shared_feed_forward_length")? {
        0 => ff,
        shared => shared,
    };
    if own == 0 || own > 1 << 20 || shared > 1 << 24 {
        return Err(s.wrong(
            "expert_feed_forward_length",
            own,
            "must be positive and of a sane size",
        ));
    }
    let mut moe = moe(s, h, i, own, Activation::Silu)?;
    moe.shared = shared_expert(s, h, i, shared, Activation::Silu)?;
    Ok(moe)
}

/// Pairs that each position component turns.
fn sections(s: &Source<'_>) -> Result<[u32; 4]> {
    let key = "rope.dimension_sections";
    let mut pairs = [0; 4];
    let all = s.per_layer_u32(key, 3)?.ok_or_else(|| s.missing(key))?;
    for (pair, &n) in pairs.iter_mut().zip(&all) {
        if n > 1 << 16 {
            return Err(s.wrong(key, n, "must be at most 65536"));
        }
        *pair = n;
    }
    Ok(pairs)
}

/// Which layers are recurrent: the file's list, or all but every fourth.
fn recurrent_layers(s: &Source<'_>, h: &Hyper) -> Result<Vec<bool>> {
    let key = "attention.recurrent_layers";
    if let Ok(Some(listed)) = s.metadata().bools(&s.key(key)) {
        if listed.len() < h.n_layers as usize {
            return Err(s.wrong(key, listed.len(), "needs one value for each layer"));
        }
        return Ok(listed.to_vec());
    }
    if let Some(listed) = s.per_layer_u32(key, h.n_layers)? {
        return Ok(listed.iter().map(|&r| r != 0).collect());
    }
    let interval = s.maybe_u32("full_attention_interval")?.unwrap_or(4);
    if interval == 0 {
        return Err(s.wrong("full_attention_interval", interval, "must be positive"));
    }
    Ok((1..=h.n_layers).map(|i| !i.is_multiple_of(interval)).collect())
}
