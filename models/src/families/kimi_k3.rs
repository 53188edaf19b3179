//! Kimi-K3: the gated delta rule with a decay a channel in most layers, latent attention without
//! positions in the others, routed experts in a space of their own; residuals attend over depth.

use oprel_nn::describe::{
    Activation, AttnGate, Block, Branch, DepthAttention, GateSource, Latent, Layer, Mask, Mla,
    MlaKv, MlaQuery, Moe, Norm, NormKind, Op, Read, Reg, Step, Write,
};

use super::deepseek2::latent_slot;
use super::{Described, generator};
use crate::parts::{ffn, gating, head, router, shared_expert, token_input};
use crate::recurrent::{Kda, channel_delta};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let n_heads = h.n_heads.iter().copied().max().unwrap_or(0);
    let kda = Kda::read(s, n_heads)?;
    let act = activation(s)?;
    let every = s.u32("attn_res.block_size")?;
    let dense = s.u32_or_zero("leading_dense_block_count")?;
    let mut depth = Depth { every, saved: 0 };
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let mixer = match h.n_kv_heads[i as usize] {
            0 => Op::Delta(channel_delta(s, &h, &kda, i)?),
            _ => Op::Mla(latent_attention(s, &h, i)?),
        };
        let feed_forward = if i < dense {
            let sizes = (h.width, h.ff[i as usize]);
            Op::Ffn(ffn(s, &format!("blk.{i}.ffn"), "", sizes, act)?)
        } else {
            Op::Moe(Box::new(experts(s, &h, i, act)?))
        };
        let read = depth.read(s, &h, &format!("blk.{i}.attn_res_score"))?;
        let write = match depth.save(s, i)? {
            Some(save) => {
                steps.push(save);
                Write::Replace
            }
            None => Write::ADD,
        };
        let mixer = normed(s, &h, &format!("blk.{i}.attn_norm"), read, mixer, write)?;
        let read = depth.read(s, &h, &format!("blk.{i}.ffn_res_score"))?;
        let name = format!("blk.{i}.ffn_norm");
        let feed_forward = normed(s, &h, &name, read, feed_forward, Write::ADD)?;
        steps.push(Step::Layer(Layer { blocks: vec![mixer, feed_forward], out_scale: None }));
    }
    if every > 0 {
        steps.push(Step::Mix(depth.read(s, &h, "output_res_score")?));
    }
    let input = token_input(s, &h, 1.0)?;
    let head = head(s, &h, NormKind::Rms)?;
    Ok(generator(s, &h, input, steps, head))
}

fn activation(s: &Source<'_>) -> Result<Activation> {
    let beta = s.maybe_f32("activation.situ_beta")?.unwrap_or(0.0);
    if beta <= 0.0 {
        return Err(s.wrong("activation.situ_beta", beta, "must be positive"));
    }
    let linear_beta = s.maybe_f32("activation.situ_linear_beta")?.unwrap_or(0.0);
    Ok(Activation::Situ { beta, linear_beta })
}

/// Residuals that later layers attend to: every so-manieth layer banks its input and starts a new one.
struct Depth {
    /// 0 where residuals are only added to.
    every: u32,
    saved: u8,
}

impl Depth {
    /// How a block reads the residual and those that are banked.
    fn read(&self, s: &mut Source<'_>, h: &Hyper, score: &str) -> Result<Read> {
        if self.saved == 0 {
            return Ok(Read::Plain(None));
        }
        let query = s.tensor(&format!("{score}.weight"), &[h.width])?;
        let over = (0..self.saved).map(Reg).collect();
        let norm = Norm { kind: NormKind::Rms, eps: h.eps, groups: 1, weight: None, bias: None };
        Ok(Read::DepthAttention(DepthAttention { over, query, norm }))
    }

    /// Banks the input of layer `i`, if it is one of those.
    fn save(&mut self, s: &Source<'_>, i: u32) -> Result<Option<Step>> {
        if self.every == 0 || !i.is_multiple_of(self.every) {
            return Ok(None);
        }
        let step = Step::Save(Reg(self.saved));
        self.saved = self.saved.checked_add(1).ok_or_else(|| {
            s.wrong("attn_res.block_size", self.every, "gives more than 255 blocks")
        })?;
        Ok(Some(step))
    }
}

/// A block whose norm follows the mix over depth.
fn normed(
    s: &mut Source<'_>,
    h: &Hyper,
    norm: &str,
    read: Read,
    op: Op,
    write: Write,
) -> Result<Block> {
    let norm = Some(s.norm(norm, h.width, NormKind::Rms, h.eps)?);
    Ok(Block { read, branches: vec![Branch { norm, ..Branch::plain(op) }], post: None, write })
}

fn latent_attention(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Mla> {
    let name = |part: &str| format!("blk.{i}.attn_{part}");
    let n_heads = h.n_heads[i as usize];
    let (k_dim, v_dim) =
        (size(s, "attention.key_length_mla")?, size(s, "attention.value_length_mla")?);
    let kv_rank = size(s, "attention.kv_lora_rank")?;
    let rope_dim = h.rope_dims;
    let Some(nope_dim) = k_dim.checked_sub(rope_dim).filter(|&n| n > 0) else {
        let why = "must be larger than rope.dimension_count";
        return Err(s.wrong("attention.key_length_mla", k_dim, why));
    };
    let q = match s.u32_or_zero("attention.q_lora_rank")? {
        rank if rank > 0 && s.has(&format!("{}.weight", name("q_a"))) => MlaQuery::LowRank {
            a: s.linear(&name("q_a"), h.width, rank)?,
            norm: s.norm(&name("q_a_norm"), rank, NormKind::Rms, h.eps)?,
            b: s.linear(&name("q_b"), rank, n_heads * k_dim)?,
        },
        _ => MlaQuery::Direct(s.linear(&name("q"), h.width, n_heads * k_dim)?),
    };
    let gate = s.maybe_linear(&name("gate"), h.width, n_heads * v_dim)?;
    Ok(Mla {
        n_heads,
        nope_dim,
        rope_dim,
        v_dim,
        kv_rank,
        q,
        kv_a: s.linear(&name("kv_a_mqa"), h.width, kv_rank + rope_dim)?,
        kv_norm: s.norm(&name("kv_a_norm"), kv_rank, NormKind::Rms, h.eps)?,
        kv_b: MlaKv::Split {
            k: s.tensor(&format!("{}.weight", name("k_b")), &[nope_dim, kv_rank, n_heads])?,
            v: s.tensor(&format!("{}.weight", name("v_b")), &[kv_rank, v_dim, n_heads])?,
        },
        o: s.linear(&name("output"), n_heads * v_dim, h.width)?,
        rope: None,
        scale: 1.0 / (k_dim as f32).sqrt(),
        temperature: None,
        gate: gate.map(|l| AttnGate { source: GateSource::Own(l), per_head: false }),
        mask: Mask::Full,
        indexer: None,
        slot: latent_slot(s, kv_rank, rope_dim),
    })
}

/// A size of attention.
fn size(s: &Source<'_>, key: &str) -> Result<u32> {
    match s.u32(key)? {
        n if n == 0 || n > 1 << 16 => Err(s.wrong(key, n, "must be from 1 to 65536")),
        n => Ok(n),
    }
}

fn experts(s: &mut Source<'_>, h: &Hyper, i: u32, act: Activation) -> Result<Moe> {
    let name = |part: &str| format!("blk.{i}.ffn_{part}");
    let key = "expert_feed_forward_length";
    let ff = s.per_layer_u32(key, h.n_layers)?.unwrap_or_default();
    let ff = *ff.get(i as usize).ok_or_else(|| s.missing(key))?;
    let n_shared = s.u32_or_zero("expert_shared_count")?.max(1);
    if ff == 0 || ff > 1 << 20 || n_shared > 1 << 8 {
        return Err(s.wrong(key, ff, "must be positive and of a sane size"));
    }
    let (inner, latent) = match s.u32_or_zero("expert_latent_length")? {
        0 => (h.width, None),
        inner => {
            let down = s.linear(&name("routed_down"), h.width, inner)?;
            let norm = s.maybe_norm(&name("routed_norm"), inner, NormKind::Rms, h.eps)?;
            let up = s.linear(&name("routed_up"), inner, h.width)?;
            (inner, Some(Latent { down, norm, up }))
        }
    };
    let mut routed = |part: &str, cols: u32, rows: u32| {
        s.experts(&name(part), (cols, rows, h.n_experts))?.ok_or_else(|| {
            let name = format!("{}.weight", name(part));
            crate::Error::from(oprel_nn::Error::MissingTensor { name })
        })
    };
    let (gate, up, down) = (
        routed("gate_exps", inner, ff)?,
        routed("up_exps", inner, ff)?,
        routed("down_exps", ff, inner)?,
    );
    let mut router = router(s, h, i)?;
    router.gating = gating(s)?.ok_or_else(|| s.missing("expert_gating_func"))?;
    router.normalize = s.bool_or("expert_weights_norm", false)?;
    Ok(Moe {
        router,
        gate: Some(gate),
        up,
        down,
        act,
        weigh_input: false,
        latent,
        shared: shared_expert(s, h, i, ff * n_shared, act)?,
    })
}
