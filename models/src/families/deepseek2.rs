//! DeepSeek-V2, V3 and what shares their tensors (GLM-4.7-Flash, GigaChat, Kanana): latent attention,
//! dense leading layers, then routed experts beside a shared one.

use oprel_nn::describe::{
    Activation, Gating, Mask, Mla, MlaKv, MlaQuery, Moe, NormKind, Op, Reach, RopeId, SlotId,
    StateSpec, Temperature, VDim,
};
use oprel_nn::rope::{Pairing, Rope};

use super::{Described, block, generator, layer};
use crate::parts::{ffn, gating, head, moe, shared_expert, token_input};
use crate::recurrent::without_bias;
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let latent = Latent::read(s, &h)?;
    let dense = s.u32_or_zero("leading_dense_block_count")?;
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let (width, ff) = (h.width, h.ff[i as usize]);
        let mla = latent_attention(s, &h, &latent, i)?;
        let feed_forward = if i < dense {
            Op::Ffn(ffn(s, &format!("blk.{i}.ffn"), "", (width, ff), Activation::Silu)?)
        } else {
            Op::Moe(Box::new(experts(s, &h, i)?))
        };
        let attn_norm = s.norm(&format!("blk.{i}.attn_norm"), width, NormKind::Rms, h.eps)?;
        let ffn_norm = s.norm(&format!("blk.{i}.ffn_norm"), width, NormKind::Rms, h.eps)?;
        steps.push(layer(vec![block(attn_norm, Op::Mla(mla)), block(ffn_norm, feed_forward)]));
    }
    let input = token_input(s, &h, 1.0)?;
    let head = head(s, &h, NormKind::Rms)?;
    Ok(generator(s, &h, input, steps, head))
}

/// What the latent attention of all layers shares.
struct Latent {
    q_rank: u32,
    kv_rank: u32,
    nope_dim: u32,
    rope_dim: u32,
    v_dim: u32,
    /// Old files keep keys and values of the latent in one matrix.
    joint: bool,
    rope: RopeId,
    scale: f32,
    temperature: Option<Temperature>,
}

impl Latent {
    fn read(s: &mut Source<'_>, h: &Hyper) -> Result<Latent> {
        let sized = |key: &str| s.u32_or_zero(key).map(|n| Some(n).filter(|&n| n > 0));
        let mla = (sized("attention.key_length_mla")?, sized("attention.value_length_mla")?);
        let (k_dim, v_dim) = match mla {
            (Some(k), Some(v)) => (k, v),
            _ => (h.k_dim, h.v_dim),
        };
        let rope_dim = h.rope_dims;
        if k_dim <= rope_dim || k_dim > 1 << 16 || v_dim > 1 << 16 {
            let why = "must be larger than rope.dimension_count and at most 65536";
            return Err(s.wrong("attention.key_length_mla", k_dim, why));
        }
        let rank = |key: &str| match s.u32_or_zero(key)? {
            n if n > 1 << 20 => Err(s.wrong(key, n, "must be of a sane size")),
            n => Ok(n),
        };
        let (q_rank, kv_rank) = (rank("attention.q_lora_rank")?, rank("attention.kv_lora_rank")?);
        if kv_rank == 0 {
            return Err(s.missing("attention.kv_lora_rank"));
        }
        let temperature = temperature(s)?;
        let rope = rope(s, h)?;
        Ok(Latent {
            q_rank,
            kv_rank,
            nope_dim: k_dim - rope_dim,
            rope_dim,
            v_dim,
            joint: mla.0.is_none() || mla.1.is_none(),
            scale: scale(s, &rope, k_dim)?,
            rope: s.rope(rope),
            temperature,
        })
    }
}

/// Part of the log multiplier that is in the files: they hold a tenth of the model's.
const LOG_MULTIPLIER: f32 = 0.1;

/// The rope. A log multiplier stands for both of the model's scales, whose quotient is 1.
fn rope(s: &mut Source<'_>, h: &Hyper) -> Result<Rope> {
    let mut rope = h.rope(s, Pairing::Adjacent)?;
    rope.factors = None;
    if rope.yarn.is_some() && s.nonzero_f32("rope.scaling.yarn_log_multiplier")?.is_some() {
        let attn_factor = s.nonzero_f32("rope.scaling.attn_factor")?.unwrap_or(1.0);
        rope.magnitude = attn_factor / (1.0 - 0.1 * rope.freq_scale.ln());
    }
    Ok(rope)
}

/// Factor on scores: yarn's magnitude goes here, squared, since only a part of a head is rotated.
fn scale(s: &Source<'_>, rope: &Rope, k_dim: u32) -> Result<f32> {
    let log_multiplier = s.maybe_f32("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0);
    let stretch = -rope.freq_scale.ln();
    let plain = rope.magnitude * (1.0 + 0.1 * stretch);
    let all = plain * (1.0 + 0.1 * (log_multiplier / LOG_MULTIPLIER) * stretch);
    Ok(all * all / (k_dim as f32).sqrt())
}

fn temperature(s: &Source<'_>) -> Result<Option<Temperature>> {
    let Some(scale) = s.nonzero_f32("attention.temperature_scale")? else { return Ok(None) };
    let key = "attention.temperature_length";
    match s.u32_or_zero(key)? {
        0 => Err(s.wrong(key, 0, "must be positive where there is a temperature_scale")),
        floor => Ok(Some(Temperature { scale, floor: floor as f32, offset: 0.0 })),
    }
}

fn latent_attention(s: &mut Source<'_>, h: &Hyper, l: &Latent, i: u32) -> Result<Mla> {
    let name = |part: &str| format!("blk.{i}.attn_{part}");
    let n_heads = h.n_heads[i as usize];
    let kv_a = s.linear(&name("kv_a_mqa"), h.width, l.kv_rank + l.rope_dim)?;
    let o = s.linear(&name("output"), n_heads * l.v_dim, h.width)?;
    Ok(Mla {
        n_heads,
        nope_dim: l.nope_dim,
        rope_dim: l.rope_dim,
        v_dim: l.v_dim,
        kv_rank: l.kv_rank,
        q: query(s, h, l, i)?,
        kv_a,
        kv_norm: s.norm(&name("kv_a_norm"), l.kv_rank, NormKind::Rms, h.eps)?,
        kv_b: second_half(s, l, n_heads, i)?,
        o: without_bias(o),
        rope: Some(l.rope),
        scale: l.scale,
        temperature: l.temperature,
        gate: None,
        mask: Mask::Full,
        indexer: None,
        slot: latent_slot(s, l.kv_rank, l.rope_dim),
    })
}

/// Lite models project queries in one piece.
fn query(s: &mut Source<'_>, h: &Hyper, l: &Latent, i: u32) -> Result<MlaQuery> {
    let name = |part: &str| format!("blk.{i}.attn_{part}");
    let rows = h.n_heads[i as usize] * (l.nope_dim + l.rope_dim);
    if l.q_rank == 0 || s.has(&format!("{}.weight", name("q"))) {
        return Ok(MlaQuery::Direct(s.linear(&name("q"), h.width, rows)?));
    }
    Ok(MlaQuery::LowRank {
        a: s.linear(&name("q_a"), h.width, l.q_rank)?,
        norm: s.norm(&name("q_a_norm"), l.q_rank, NormKind::Rms, h.eps)?,
        b: s.linear(&name("q_b"), l.q_rank, rows)?,
    })
}

fn second_half(s: &mut Source<'_>, l: &Latent, n_heads: u32, i: u32) -> Result<MlaKv> {
    let name = |part: &str| format!("blk.{i}.attn_{part}.weight");
    if l.joint {
        let rows = n_heads * (l.nope_dim + l.v_dim);
        return Ok(MlaKv::Joint(s.tensor(&name("kv_b"), &[l.kv_rank, rows])?));
    }
    Ok(MlaKv::Split {
        k: s.tensor(&name("k_b"), &[l.nope_dim, l.kv_rank, n_heads])?,
        v: s.tensor(&name("v_b"), &[l.kv_rank, l.v_dim, n_heads])?,
    })
}

/// One head of latent and rotated key; the latent is the value.
pub(super) fn latent_slot(s: &mut Source<'_>, kv_rank: u32, rope_dim: u32) -> SlotId {
    let (k, v) = (kv_rank + rope_dim, VDim::AliasK(kv_rank));
    s.slot(StateSpec::Kv { heads: 1, k, v, reach: Reach::Full })
}

fn experts(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Moe> {
    if h.n_experts == 0 {
        return Err(s.missing("expert_count"));
    }
    let key = "expert_feed_forward_length";
    let ff = s.per_layer_u32(key, h.n_layers)?.unwrap_or_default();
    let ff = *ff.get(i as usize).ok_or_else(|| s.missing(key))?;
    let n_shared = s.u32_or_zero("expert_shared_count")?;
    if ff == 0 || ff > 1 << 20 || n_shared > 1 << 8 {
        return Err(s.wrong(key, ff, "must be positive and of a sane size"));
    }
    let mut moe = moe(s, h, i, ff, Activation::Silu)?;
    moe.router.gating = match gating(s)? {
        Some(gating) => gating,
        None => unnamed_gating(h),
    };
    moe.router.normalize = s.bool_or("expert_weights_norm", false)?;
    moe.shared = shared_expert(s, h, i, ff * n_shared, Activation::Silu)?;
    Ok(moe)
}

/// Files older than the key are DeepSeek-V2, or GLM-4.7-Flash by its size.
fn unnamed_gating(h: &Hyper) -> Gating {
    match (h.n_layers, h.n_vocab) {
        (47 | 48, 154_880) => Gating::Sigmoid,
        _ => Gating::Softmax,
    }
}
