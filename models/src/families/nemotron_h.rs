//! Nemotron-H: each layer is one operation under one norm - Mamba-2, attention without positions, or
//! a squared-ReLU feed-forward, dense or with routed experts.

use oprel_nn::describe::{
    Activation, Ffn, Gating, Latent, Mask, Moe, NormKind, Op, Router, SharedExpert,
};

use super::{Described, block, generator, layer};
use crate::parts::{attention, ffn, head, router, token_input};
use crate::recurrent::{Ssm, mamba2};
use crate::source::Source;
use crate::{Hyper, Result};

const ACT: Activation = Activation::ReluSquared;

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let ssm = Ssm::read(s)?.with_heads(s)?;
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let op = match (h.n_kv_heads[i as usize], h.ff[i as usize]) {
            (0, 0) => Op::Mamba2(mamba2(s, &h, &ssm, i)?),
            (_, 0) => Op::Attn(attention(s, &h, i, None, Mask::Full)?),
            (_, ff) if h.n_experts == 0 => {
                Op::Ffn(ffn(s, &format!("blk.{i}.ffn"), "", (h.width, ff), ACT)?)
            }
            (_, ff) => Op::Moe(Box::new(experts(s, &h, i, ff)?)),
        };
        let norm = s.norm(&format!("blk.{i}.attn_norm"), h.width, NormKind::Rms, h.eps)?;
        steps.push(layer(vec![block(norm, op)]));
    }
    let input = token_input(s, &h, 1.0)?;
    let head = head(s, &h, NormKind::Rms)?;
    Ok(generator(s, &h, input, steps, head))
}

/// Experts without a gate, in a smaller space where the file has projections into one.
fn experts(s: &mut Source<'_>, h: &Hyper, i: u32, ff: u32) -> Result<Moe> {
    let name = |part: &str| format!("blk.{i}.ffn_{part}");
    let missing = |part: &str| {
        let name = format!("{}.weight", name(part));
        crate::Error::from(oprel_nn::Error::MissingTensor { name })
    };
    let of_expert = s.per_layer_u32("expert_feed_forward_length", h.n_layers)?.unwrap_or_default();
    let ff = match of_expert.get(i as usize) {
        Some(&own) if own > 0 => own,
        _ => ff / h.n_experts_used,
    };
    let inner = match s.u32_or_zero("moe_latent_size")? {
        0 => h.width,
        latent => latent,
    };
    let latent = match s.maybe_linear(&name("latent_down"), h.width, inner)? {
        Some(down) => {
            let up = s.linear(&name("latent_up"), inner, h.width)?;
            Some(Latent { down, norm: None, up })
        }
        None => None,
    };
    let up = s.experts(&name("up_exps"), (inner, ff, h.n_experts))?;
    let down = s.experts(&name("down_exps"), (ff, inner, h.n_experts))?;
    Ok(Moe {
        router: sigmoid_router(s, h, i)?,
        gate: None,
        up: up.ok_or_else(|| missing("up_exps"))?,
        down: down.ok_or_else(|| missing("down_exps"))?,
        act: ACT,
        weigh_input: false,
        latent,
        shared: Some(SharedExpert { ffn: shared(s, h, i)?, gate: None }),
    })
}

/// Experts by the sigmoid of their score, whatever the file says.
fn sigmoid_router(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Router> {
    let normalize = s.bool_or("expert_weights_norm", false)?;
    Ok(Router { gating: Gating::Sigmoid, normalize, ..router(s, h, i)? })
}

fn shared(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Ffn> {
    let ff = s.u32("expert_shared_feed_forward_length")?;
    ffn(s, &format!("blk.{i}.ffn"), "_shexp", (h.width, ff), ACT)
}
