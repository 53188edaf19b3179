//! Qwen3.5: gated delta rule in most layers, gated attention with M-RoPE in every fourth; SwiGLU.

use oprel_nn::describe::{Activation, Attn, AttnGate, GateSource, Mask, NormKind, Op, RopeId};
use oprel_nn::rope::{Pairing, Sections};

use super::{Described, block, generator, layer};
use crate::parts::{Qkv, attention_of, ffn, head, head_norm, qkv, token_input};
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
        let ffn = ffn(s, &format!("blk.{i}.ffn"), "", (width, ff), Activation::Silu)?;
        steps.push(layer(vec![block(norm, mixer), block(ffn_norm, Op::Ffn(ffn))]));
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
    if let Some(listed) = s.per_layer_u32("attention.recurrent_layers", h.n_layers)? {
        return Ok(listed.iter().map(|&r| r != 0).collect());
    }
    let interval = s.maybe_u32("full_attention_interval")?.unwrap_or(4);
    if interval == 0 {
        return Err(s.wrong("full_attention_interval", interval, "must be positive"));
    }
    Ok((1..=h.n_layers).map(|i| !i.is_multiple_of(interval)).collect())
}
