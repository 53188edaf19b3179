//! Gemma 4: windowed and full attention with heads of different sizes, later layers on the keys and
//! values of earlier ones, token rows for every layer, dense feed-forwards beside routed experts.

use oprel_nn::WeightId;
use oprel_nn::describe::{
    Activation, Attn, Block, Branch, Head, Layer, Linear, Mask, Moe, Norm, NormKind, Op, Read,
    RopeId, Router, RouterInput, SlotId, Step, TokenEmbed, Write,
};
use oprel_nn::rope::Pairing;

use super::{Described, generator};
use crate::parts::{
    Windows, ffn, head, head_norm, kv_slot, layer_norm, moe_of, queries, router_over, token_input,
};
use crate::source::Source;
use crate::{Hyper, Result};

const ACT: Activation = Activation::GeluTanh;

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let kinds = Kinds::read(s, &h)?;
    let token_rows = TokenRows::read(s, &h)?;
    let shared = s.u32_or_zero("attention.shared_kv_layers")?;
    let own = match h.n_layers.checked_sub(shared) {
        Some(own) if own >= 2 || shared == 0 => own,
        _ => {
            let why = "must leave at least two layers with keys of their own";
            return Err(s.wrong("attention.shared_kv_layers", shared, why));
        }
    };
    let mut slots: Vec<SlotId> = Vec::new();
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let earlier = kinds.earlier(i, own).and_then(|e| slots.get(e as usize).copied());
        let attn = attention(s, &kinds, i, earlier)?;
        slots.extend(attn.slot);
        let mut blocks = vec![
            normed(s, &h, i, ("attn_norm", "post_attention_norm"), Op::Attn(attn))?,
            feed_forward(s, &h, i)?,
        ];
        if let Some(rows) = &token_rows {
            blocks.push(rows.block(s, &h, i)?);
        }
        let out_scale = s.maybe_tensor(&format!("blk.{i}.layer_output_scale.weight"), &[1])?;
        steps.push(Step::Layer(Layer { blocks, out_scale }));
    }
    let input = token_input(s, &h, (h.width as f32).sqrt())?;
    let soft_cap = s.nonzero_f32("final_logit_softcapping")?;
    let head = Head { soft_cap, ..head(s, &h, NormKind::Rms)? };
    Ok(generator(s, &h, input, steps, head))
}

/// The two kinds of attention layers: sizes and rope of each.
struct Kinds {
    windows: Windows,
    full: (Hyper, RopeId),
    windowed: (Hyper, RopeId),
}

impl Kinds {
    fn read(s: &mut Source<'_>, h: &Hyper) -> Result<Kinds> {
        let mut windowed = h.clone();
        (windowed.k_dim, windowed.v_dim) =
            (s.u32("attention.key_length_swa")?, s.u32("attention.value_length_swa")?);
        if windowed.k_dim == 0 || windowed.k_dim > 1 << 16 || windowed.k_dim != windowed.v_dim {
            let why = "must be from 1 to 65536 and equal to value_length_swa";
            return Err(s.wrong("attention.key_length_swa", windowed.k_dim, why));
        }
        windowed.rope_dims = s.maybe_u32("rope.dimension_count_swa")?.unwrap_or(h.rope_dims);
        let full_rope = h.rope(s, Pairing::Halves)?;
        let mut rope = full_rope.clone();
        rope.dims = windowed.rope_dims;
        rope.base = s.maybe_f32("rope.freq_base_swa")?.unwrap_or(10000.0);
        (rope.freq_scale, rope.factors) = (1.0, None);
        if rope.dims % 2 != 0 || rope.dims > windowed.k_dim || rope.base <= 0.0 {
            let why = "must be even and at most key_length_swa";
            return Err(s.wrong("rope.dimension_count_swa", rope.dims, why));
        }
        Ok(Kinds {
            windows: Windows::read(s, h.n_layers, 0, None)?,
            full: (h.clone(), s.rope(full_rope)),
            windowed: (windowed, s.rope(rope)),
        })
    }

    fn of(&self, i: u32) -> (&Hyper, RopeId, Mask) {
        let (h, rope) = if self.windows.has(i) { &self.windowed } else { &self.full };
        (h, *rope, self.windows.mask(i))
    }

    /// The layer whose keys and values layer `i` uses: the last of its kind that has its own.
    fn earlier(&self, i: u32, own: u32) -> Option<u32> {
        (i >= own).then(|| own - if self.windows.has(i) { 2 } else { 1 })
    }
}

/// Attention of layer `i`, on its own keys and values or on those of an earlier layer.
fn attention(s: &mut Source<'_>, kinds: &Kinds, i: u32, earlier: Option<SlotId>) -> Result<Attn> {
    let (h, rope, mask) = kinds.of(i);
    let (heads, kv) = (h.n_heads[i as usize], h.n_kv_heads[i as usize]);
    let name = |part: &str| format!("blk.{i}.attn_{part}");
    let (q_rows, kv_rows) = (heads * h.k_dim, kv * h.k_dim);
    let fused = s.maybe_linear(&name("qkv"), h.width, q_rows + 2 * kv_rows)?;
    let q = match &fused {
        Some(all) => s.part(all, 0..q_rows),
        None => s.linear(&name("q"), h.width, q_rows)?,
    };
    let mut attn = queries(s, h, i, q, Some(rope), mask)?;
    attn.scale = 1.0;
    attn.q_norm = head_norm(s, &name("q_norm"), heads, h.k_dim, h.eps)?;
    attn.slot = earlier;
    if earlier.is_some() {
        return Ok(attn);
    }
    let keys_end = q_rows + kv_rows;
    (attn.k, attn.v) = match &fused {
        Some(all) => {
            let k = s.part(all, q_rows..keys_end);
            (Some(k), Some(s.part(all, keys_end..keys_end + kv_rows)))
        }
        // Without a projection of its own, the value is the raw key.
        None => {
            let k = s.linear(&name("k"), h.width, kv_rows)?;
            (Some(k), s.maybe_linear(&name("v"), h.width, kv_rows)?)
        }
    };
    attn.k_norm = head_norm(s, &name("k_norm"), kv, h.k_dim, h.eps)?;
    let kind = NormKind::Rms;
    attn.v_norm = Some(Norm { kind, eps: h.eps, groups: kv, weight: None, bias: None });
    attn.slot = Some(kv_slot(s, h, i, mask));
    Ok(attn)
}

/// The dense feed-forward, and routed experts beside it where the layer has them.
fn feed_forward(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Block> {
    let name = |part: &str| format!("blk.{i}.{part}");
    let sizes = (h.width, h.ff[i as usize]);
    let dense = Op::Ffn(ffn(s, &name("ffn"), "", sizes, ACT)?);
    if !s.has(&name("ffn_gate_inp.weight")) {
        return normed(s, h, i, ("ffn_norm", "post_ffw_norm"), dense);
    }
    let moe = Op::Moe(Box::new(experts(s, h, i)?));
    let branches = vec![
        branch(s, h, i, ("ffn_norm", "post_ffw_norm_1"), dense)?,
        branch(s, h, i, ("pre_ffw_norm_2", "post_ffw_norm_2"), moe)?,
    ];
    let post = Some(layer_norm(s, h, i, "post_ffw_norm")?);
    Ok(Block { read: Read::Plain(None), branches, post, write: Write::ADD })
}

fn branch(
    s: &mut Source<'_>,
    h: &Hyper,
    i: u32,
    (before, after): (&str, &str),
    op: Op,
) -> Result<Branch> {
    let norm = Some(layer_norm(s, h, i, before)?);
    let post = Some(layer_norm(s, h, i, after)?);
    Ok(Branch { norm, post, ..Branch::plain(op) })
}

/// A block of one operation with norms before and after it.
fn normed(s: &mut Source<'_>, h: &Hyper, i: u32, norms: (&str, &str), op: Op) -> Result<Block> {
    let branches = vec![branch(s, h, i, norms, op)?];
    Ok(Block { read: Read::Plain(None), branches, post: None, write: Write::ADD })
}

/// The router reads the residual under a norm of its own, scaled down by the root of its width.
fn experts(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Moe> {
    let key = "expert_feed_forward_length";
    let ff = s.per_layer_u32(key, h.n_layers)?.unwrap_or_default();
    let ff = *ff.get(i as usize).ok_or_else(|| s.missing(key))?;
    if ff == 0 || ff > 1 << 20 {
        return Err(s.wrong(key, ff, "must be positive and of a sane size"));
    }
    let name = format!("blk.{i}.ffn_gate_inp");
    let weight = Some(s.tensor(&format!("{name}.scale"), &[h.width])?);
    let norm = Norm { kind: NormKind::Rms, eps: h.eps, groups: 1, weight, bias: None };
    let w = s.tensor(&format!("{name}.weight"), &[h.width, h.n_experts])?;
    let factor =
        s.in_memory(&format!("{name}.factor"), (1, 1), &[1.0 / (h.width as f32).sqrt()])?;
    let w = Linear { scale: Some(factor), ..s.over(w, h.n_experts) };
    let input = RouterInput::Residual(Some(norm));
    let router = Router { input, scale: 1.0, ..router_over(s, h, i, w)? };
    moe_of(s, h, i, ff, ACT, router)
}

/// What the token rows of all layers share.
struct TokenRows {
    table: WeightId,
    project: Linear,
    project_norm: Norm,
    dim: u32,
}

impl TokenRows {
    fn read(s: &mut Source<'_>, h: &Hyper) -> Result<Option<TokenRows>> {
        let key = "embedding_length_per_layer_input";
        let dim = match s.u32_or_zero(key)? {
            0 => return Ok(None),
            dim if dim > 1 << 16 => return Err(s.wrong(key, dim, "must be at most 65536")),
            dim => dim,
        };
        let all = dim * h.n_layers;
        Ok(Some(TokenRows {
            table: s.tensor("per_layer_token_embd.weight", &[all, h.n_vocab])?,
            project: s.linear("per_layer_model_proj", h.width, all)?,
            project_norm: s.norm("per_layer_proj_norm", dim, NormKind::Rms, h.eps)?,
            dim,
        }))
    }

    fn block(&self, s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Block> {
        let embed = TokenEmbed {
            table: self.table,
            table_scale: (self.dim as f32).sqrt(),
            project: self.project.clone(),
            project_scale: 1.0 / (h.width as f32).sqrt(),
            project_norm: self.project_norm.clone(),
            layer: i,
            dim: self.dim,
            gate: s.linear(&format!("blk.{i}.inp_gate"), h.width, self.dim)?,
            act: ACT,
            out: s.linear(&format!("blk.{i}.proj"), self.dim, h.width)?,
        };
        let post = Some(layer_norm(s, h, i, "post_norm")?);
        let branches = vec![Branch { post, ..Branch::plain(Op::TokenEmbed(embed)) }];
        Ok(Block { read: Read::Plain(None), branches, post: None, write: Write::ADD })
    }
}
