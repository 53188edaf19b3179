//! Parts that families share: projections, attention, feed-forward, experts, heads.

use oprel_nn::describe::{
    Activation, Attn, ExpertGroups, Ffn, Gating, Head, HeadKind, Input, Linear, Mask, Moe, Norm,
    NormKind, Reach, RopeId, Router, RouterInput, SharedExpert, SlotId, StateSpec, VDim,
};

use crate::source::Source;
use crate::{Hyper, Result};

/// The projections of attention, from split or fused tensors of layer `i`.
pub(crate) struct Qkv {
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
}

/// `attn_q`, `attn_k`, `attn_v`, or parts of `attn_qkv`; row counts as given.
pub(crate) fn qkv(
    s: &mut Source<'_>,
    i: u32,
    width: u32,
    (q_rows, k_rows, v_rows): (u32, u32, u32),
) -> Result<Qkv> {
    let name = |part: &str| format!("blk.{i}.attn_{part}");
    let all = q_rows + k_rows + v_rows;
    if let Some(fused) = s.maybe_linear(&name("qkv"), width, all)? {
        return Ok(Qkv {
            q: s.part(&fused, 0..q_rows),
            k: s.part(&fused, q_rows..q_rows + k_rows),
            v: s.part(&fused, q_rows + k_rows..all),
        });
    }
    Ok(Qkv {
        q: s.linear(&name("q"), width, q_rows)?,
        k: s.linear(&name("k"), width, k_rows)?,
        v: s.linear(&name("v"), width, v_rows)?,
    })
}

/// A slot for keys and values of layer `i`.
pub(crate) fn kv_slot(s: &mut Source<'_>, h: &Hyper, i: u32, mask: Mask) -> SlotId {
    let reach = match mask {
        Mask::Window(n) | Mask::Chunk(n) => Reach::Window(n),
        Mask::Full | Mask::Symmetric(_) => Reach::Full,
    };
    let heads = h.n_kv_heads[i as usize];
    s.slot(StateSpec::Kv { heads, k: h.k_dim, v: VDim::Own(h.v_dim), reach })
}

/// Plain grouped-query attention of layer `i` with a slot of its own; families change what differs.
pub(crate) fn attention(
    s: &mut Source<'_>,
    h: &Hyper,
    i: u32,
    rope: Option<RopeId>,
    mask: Mask,
) -> Result<Attn> {
    let (heads, kv) = (h.n_heads[i as usize], h.n_kv_heads[i as usize]);
    if kv == 0 {
        return Err(s.wrong("attention.head_count_kv", kv, "must be positive"));
    }
    let qkv = qkv(s, i, h.width, (heads * h.k_dim, kv * h.k_dim, kv * h.v_dim))?;
    attention_of(s, h, i, qkv, rope, mask)
}

/// [`attention`] over projections that the family has made.
pub(crate) fn attention_of(
    s: &mut Source<'_>,
    h: &Hyper,
    i: u32,
    Qkv { q, k, v }: Qkv,
    rope: Option<RopeId>,
    mask: Mask,
) -> Result<Attn> {
    let slot = Some(kv_slot(s, h, i, mask));
    Ok(Attn { k: Some(k), v: Some(v), slot, ..queries(s, h, i, q, rope, mask)? })
}

/// [`attention`] that has queries and an output, but no keys, values or slot yet.
pub(crate) fn queries(
    s: &mut Source<'_>,
    h: &Hyper,
    i: u32,
    q: Linear,
    rope: Option<RopeId>,
    mask: Mask,
) -> Result<Attn> {
    let heads = h.n_heads[i as usize];
    Ok(Attn {
        n_heads: heads,
        n_kv_heads: h.n_kv_heads[i as usize],
        k_dim: h.k_dim,
        v_dim: h.v_dim,
        q,
        k: None,
        v: None,
        o: s.linear(&format!("blk.{i}.attn_output"), heads * h.v_dim, h.width)?,
        q_norm: None,
        k_norm: None,
        v_norm: None,
        norm_after_rope: false,
        rope,
        scale: h.attention_scale(s)?,
        soft_cap: None,
        mask,
        sinks: None,
        alibi: None,
        clamp: None,
        temperature: None,
        gate: None,
        o_norm: None,
        slot: None,
    })
}

/// The RMS norm `blk.I.NAME` over the residual.
pub(crate) fn layer_norm(s: &mut Source<'_>, h: &Hyper, i: u32, name: &str) -> Result<Norm> {
    s.norm(&format!("blk.{i}.{name}"), h.width, NormKind::Rms, h.eps)
}

/// Which layers look at a window of the last tokens only.
pub(crate) struct Windows {
    len: u32,
    /// By layer; what it does not reach looks at everything.
    windowed: Vec<bool>,
}

impl Windows {
    /// Every layer looks at everything.
    pub(crate) fn none() -> Windows {
        Windows { len: 0, windowed: Vec::new() }
    }

    /// The file's window, or `usual`; by the file's pattern, or in all layers but each `every`-th.
    pub(crate) fn read(
        s: &Source<'_>,
        n_layers: u32,
        every: u32,
        usual: Option<u32>,
    ) -> Result<Windows> {
        let len = s.maybe_u32("attention.sliding_window")?.or(usual).unwrap_or(0);
        if len == 0 {
            return Ok(Windows::none());
        }
        let by_period =
            |every: u32| (0..n_layers).map(move |i| every == 0 || i % every < every - 1);
        let (key, metadata) = (s.key("attention.sliding_window_pattern"), s.metadata());
        let windowed = if !metadata.contains(&key) {
            by_period(every).collect()
        } else if let Ok(Some(every)) = metadata.u32(&key) {
            by_period(every).collect()
        } else if let Ok(Some(by_layer)) = metadata.bools(&key) {
            by_layer.to_vec()
        } else {
            let by_layer = metadata.u32s(&key)?.unwrap_or_default();
            by_layer.iter().map(|&windowed| windowed != 0).collect()
        };
        Ok(Windows { len, windowed })
    }

    /// Whether layer `i` looks at a window.
    pub(crate) fn has(&self, i: u32) -> bool {
        self.windowed.get(i as usize).copied().unwrap_or(false)
    }

    /// What layer `i` sees.
    pub(crate) fn mask(&self, i: u32) -> Mask {
        if self.has(i) { Mask::Window(self.len) } else { Mask::Full }
    }
}

/// A norm over each head of `dim` elements, with one weight for all heads.
pub(crate) fn head_norm(
    s: &mut Source<'_>,
    name: &str,
    heads: u32,
    dim: u32,
    eps: f32,
) -> Result<Option<Norm>> {
    let norm = s.maybe_norm(name, dim, NormKind::Rms, eps)?;
    Ok(norm.map(|n| Norm { groups: heads, ..n }))
}

/// Dense feed-forward of tensors `PREFIX_up`, `PREFIX_down` and, if there is one, `PREFIX_gate`; without
/// it, an `up` of twice the rows holds gate and up.
pub(crate) fn ffn(
    s: &mut Source<'_>,
    prefix: &str,
    suffix: &str,
    (width, ff): (u32, u32),
    act: Activation,
) -> Result<Ffn> {
    check_ff(s, ff)?;
    let name = |part: &str| format!("{prefix}_{part}{suffix}");
    let down = s.linear(&name("down"), ff, width)?;
    let doubled = s
        .shape(&format!("{}.weight", name("up")))
        .is_some_and(|d| d.get(1) == Some(&u64::from(2 * ff)));
    let (gate, up) = if doubled {
        let both = s.linear(&name("up"), width, 2 * ff)?;
        (Some(s.part(&both, 0..ff)), s.part(&both, ff..2 * ff))
    } else {
        (s.maybe_linear(&name("gate"), width, ff)?, s.linear(&name("up"), width, ff)?)
    };
    Ok(Ffn { gate, up, down, act, norm: None })
}

/// Elements of a routed expert in each layer: the file's, or the dense layer's spread over the experts
/// of a token.
pub(crate) fn expert_ff(s: &Source<'_>, h: &Hyper) -> Result<Vec<u32>> {
    let own = s.per_layer_u32("expert_feed_forward_length", h.n_layers)?.unwrap_or_default();
    let of_layer = |(i, &ff): (usize, &u32)| match own.get(i) {
        Some(&own) if own > 0 => own,
        _ => ff / h.n_experts_used.max(1),
    };
    Ok(h.ff.iter().enumerate().map(of_layer).collect())
}

fn check_ff(s: &Source<'_>, ff: u32) -> Result<()> {
    if ff == 0 || ff > 1 << 24 {
        return Err(s.wrong("feed_forward_length", ff, "must be positive and of a sane size"));
    }
    Ok(())
}

/// Routed experts of layer `i` with `ff` elements each; families change gating and scales.
pub(crate) fn moe(s: &mut Source<'_>, h: &Hyper, i: u32, ff: u32, act: Activation) -> Result<Moe> {
    let router = router(s, h, i)?;
    moe_of(s, h, i, ff, act, router)
}

/// [`moe`] under a router that the family has made.
pub(crate) fn moe_of(
    s: &mut Source<'_>,
    h: &Hyper,
    i: u32,
    ff: u32,
    act: Activation,
    router: Router,
) -> Result<Moe> {
    check_ff(s, ff)?;
    let name = |part: &str| format!("blk.{i}.ffn_{part}");
    let n = h.n_experts;
    let missing =
        |part: &str| oprel_nn::Error::MissingTensor { name: format!("{}.weight", name(part)) };
    let (gate, up) = match s.experts(&name("gate_up_exps"), (h.width, 2 * ff, n))? {
        Some(both) => (Some(s.part(&both, 0..ff)), s.part(&both, ff..2 * ff)),
        None => {
            let gate = s.experts(&name("gate_exps"), (h.width, ff, n))?;
            let up = s.experts(&name("up_exps"), (h.width, ff, n))?;
            (gate, up.ok_or_else(|| missing("up_exps"))?)
        }
    };
    let down = s.experts(&name("down_exps"), (ff, h.width, n))?;
    Ok(Moe {
        router,
        gate,
        up,
        down: down.ok_or_else(|| missing("down_exps"))?,
        act,
        weigh_input: false,
        latent: None,
        shared: None,
    })
}

/// The router of layer `i`; families change gating and scales.
pub(crate) fn router(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Router> {
    let w = s.linear(&format!("blk.{i}.ffn_gate_inp"), h.width, h.n_experts)?;
    router_over(s, h, i, w)
}

/// [`router`] over a projection that the family has made.
pub(crate) fn router_over(s: &mut Source<'_>, h: &Hyper, i: u32, w: Linear) -> Result<Router> {
    Ok(Router {
        w,
        input: RouterInput::Same,
        gating: Gating::Softmax,
        n_used: h.n_experts_used,
        choice_bias: s.maybe_tensor(&format!("blk.{i}.exp_probs_b.bias"), &[h.n_experts])?,
        groups: expert_groups(s, h.n_experts)?,
        normalize: true,
        scale: s.nonzero_f32("expert_weights_scale")?.unwrap_or(1.0),
        by_token: None,
    })
}

/// Groups of experts, where the file has more than one.
pub(crate) fn expert_groups(s: &Source<'_>, n_experts: u32) -> Result<Option<ExpertGroups>> {
    let n = s.u32_or_zero("expert_group_count")?;
    if n <= 1 {
        return Ok(None);
    }
    let used = s.u32_or_zero("expert_group_used_count")?;
    if n > n_experts / 2 || !n_experts.is_multiple_of(n) {
        return Err(s.wrong(
            "expert_group_count",
            n,
            "must divide the experts into groups of two or more",
        ));
    }
    if used == 0 || used > n {
        return Err(s.wrong("expert_group_used_count", used, "must be at most expert_group_count"));
    }
    Ok(Some(ExpertGroups { n, used }))
}

/// How the file says that router scores become probabilities; `None` where it says nothing.
pub(crate) fn gating(s: &Source<'_>) -> Result<Option<Gating>> {
    match s.u32_or_zero("expert_gating_func")? {
        0 => Ok(None),
        1 => Ok(Some(Gating::Softmax)),
        2 => Ok(Some(Gating::Sigmoid)),
        3 => Ok(Some(Gating::SoftmaxChosen)),
        4 => Ok(Some(Gating::SqrtSoftplus)),
        other => Err(s.wrong("expert_gating_func", other, "is not known")),
    }
}

/// The shared expert of layer `i`, if the file has one, with its gate if it has one.
pub(crate) fn shared_expert(
    s: &mut Source<'_>,
    h: &Hyper,
    i: u32,
    ff: u32,
    act: Activation,
) -> Result<Option<SharedExpert>> {
    if ff == 0 || !s.has(&format!("blk.{i}.ffn_up_shexp.weight")) {
        return Ok(None);
    }
    let ffn = ffn(s, &format!("blk.{i}.ffn"), "_shexp", (h.width, ff), act)?;
    let gate = s.maybe_linear(&format!("blk.{i}.ffn_gate_inp_shexp"), h.width, 1)?;
    Ok(Some(SharedExpert { ffn, gate }))
}

/// Token embeddings, scaled.
pub(crate) fn token_input(s: &mut Source<'_>, h: &Hyper, scale: f32) -> Result<Input> {
    Ok(Input::Token { table: s.tensor("token_embd.weight", &[h.width, h.n_vocab])?, scale })
}

/// The language-model head: `output`, or the token table where the file ties them.
pub(crate) fn head(s: &mut Source<'_>, h: &Hyper, norm: NormKind) -> Result<Head> {
    let norm = s.norm("output_norm", h.width, norm, h.eps)?;
    let out = match s.maybe_linear("output", h.width, h.n_vocab)? {
        Some(out) => out,
        None => s.linear("token_embd", h.width, h.n_vocab)?,
    };
    Ok(Head {
        kind: HeadKind::LanguageModel,
        norm: Some(norm),
        out: Some(out),
        scale: 1.0,
        soft_cap: None,
    })
}
