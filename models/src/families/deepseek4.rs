//! DeepSeek-V4: four residual lanes under hyper-connections; one key a position that is also its
//! value, seen in a window and, further back, in compressed blocks of which an indexer chooses;
//! routed experts, in the first layers by token id.

use oprel_nn::describe::{
    Activation, Block, BlockIndexer, Blocks, Branch, CompressedAttn, Compressor, Gating,
    HyperConnection, LaneMix, Layer, Linear, MlaQuery, Moe, Norm, NormKind, Op, Reach, Read,
    RopeId, StateSpec, Step, VDim, Write,
};
use oprel_nn::rope::Pairing;

use super::{Described, generator};
use crate::parts::{gating, head, layer_norm, moe, shared_expert, token_input};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let lanes = Lanes::read(s)?;
    let shape = Shape::read(s, &h)?;
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let attn = Op::Compressed(Box::new(attention(s, &h, &shape, i)?));
        let moe = Op::Moe(Box::new(experts(s, &h, i)?));
        let blocks = vec![lanes.block(s, &h, i, "attn", attn)?, lanes.block(s, &h, i, "ffn", moe)?];
        steps.push(Step::Layer(Layer { blocks, out_scale: None }));
    }
    let read = lanes.connection(s, &h, "output_hc", LaneMix::ReadOnly)?;
    steps.push(Step::Mix(Read::HyperConnection(read)));
    let input = token_input(s, &h, 1.0)?;
    let head = head(s, &h, NormKind::Rms)?;
    let mut described = generator(s, &h, input, steps, head);
    described.decoder.lanes = lanes.n;
    Ok(described)
}

/// The residual lanes.
struct Lanes {
    n: u8,
    sinkhorn: u32,
    eps: f32,
}

impl Lanes {
    fn read(s: &Source<'_>) -> Result<Lanes> {
        let n = s.u32("hyper_connection.count")?;
        let Some(n) = u8::try_from(n).ok().filter(|n| (1..=16).contains(n)) else {
            return Err(s.wrong("hyper_connection.count", n, "must be from 1 to 16"));
        };
        let sinkhorn = s.u32("hyper_connection.sinkhorn_iterations")?;
        let eps = s.maybe_f32("hyper_connection.epsilon")?;
        let eps = eps.ok_or_else(|| s.missing("hyper_connection.epsilon"))?;
        Ok(Lanes { n, sinkhorn, eps })
    }

    /// A block that reads the lanes, runs one operation under a norm, and writes to the lanes.
    fn block(&self, s: &mut Source<'_>, h: &Hyper, i: u32, part: &str, op: Op) -> Result<Block> {
        let mix = LaneMix::Sinkhorn(self.sinkhorn);
        let read = self.connection(s, h, &format!("blk.{i}.hc_{part}"), mix)?;
        let norm = Some(layer_norm(s, h, i, &format!("{part}_norm"))?);
        Ok(Block {
            read: Read::HyperConnection(read),
            branches: vec![Branch { norm, ..Branch::plain(op) }],
            post: None,
            write: Write::HyperConnection,
        })
    }

    fn connection(
        &self,
        s: &mut Source<'_>,
        h: &Hyper,
        prefix: &str,
        mix: LaneMix,
    ) -> Result<HyperConnection> {
        let lanes = u32::from(self.n);
        let (mixes, parts) = match mix {
            LaneMix::ReadOnly => (lanes, 1),
            LaneMix::Keep => (2 * lanes, 2),
            LaneMix::Sinkhorn(_) => ((2 + lanes) * lanes, 3),
        };
        let name = |part: &str| format!("{prefix}_{part}.weight");
        Ok(HyperConnection {
            dynamic: s.tensor(&name("fn"), &[lanes * h.width, mixes])?,
            base: s.tensor(&name("base"), &[mixes])?,
            scale: s.tensor(&name("scale"), &[parts])?,
            norm: bare_norm(h, 1),
            eps: self.eps,
            magnitude: 2.0,
            mix,
        })
    }
}

fn bare_norm(h: &Hyper, groups: u32) -> Norm {
    Norm { kind: NormKind::Rms, eps: h.eps, groups, weight: None, bias: None }
}

/// Sizes of attention that all layers share, and its two ropes.
struct Shape {
    q_rank: u32,
    window: u32,
    o_groups: u32,
    o_rank: u32,
    /// Positions of a block, by layer; 0 for none.
    ratios: Vec<u32>,
    /// Of layers without blocks.
    plain: RopeId,
    /// Of layers with blocks, and of the blocks.
    stretched: RopeId,
}

impl Shape {
    fn read(s: &mut Source<'_>, h: &Hyper) -> Result<Shape> {
        let size = |key: &str| match s.u32(key)? {
            n if n == 0 || n > 1 << 16 => Err(s.wrong(key, n, "must be from 1 to 65536")),
            n => Ok(n),
        };
        let o_groups = size("attention.output_group_count")?;
        if h.n_heads.iter().any(|n| !n.is_multiple_of(o_groups)) {
            let why = "must divide attention.head_count";
            return Err(s.wrong("attention.output_group_count", o_groups, why));
        }
        let (q_rank, o_rank) =
            (size("attention.q_lora_rank")?, size("attention.output_lora_rank")?);
        let window = size("attention.sliding_window")?;
        let key = "attention.compress_ratios";
        let ratios = s.per_layer_u32(key, h.n_layers)?.ok_or_else(|| s.missing(key))?;
        if let Some(other) = ratios.iter().find(|&&r| !matches!(r, 0 | 4 | 128)) {
            return Err(s.wrong(key, other, "must be 0, 4 or 128"));
        }
        let (plain, stretched) = ropes(s, h)?;
        Ok(Shape { q_rank, window, o_groups, o_rank, ratios, plain, stretched })
    }
}

/// Scaling, and another base, hold for layers with blocks alone.
fn ropes(s: &mut Source<'_>, h: &Hyper) -> Result<(RopeId, RopeId)> {
    let mut stretched = h.rope(s, Pairing::Adjacent)?;
    stretched.factors = None;
    let mut plain = stretched.clone();
    (plain.freq_scale, plain.yarn, plain.magnitude) = (1.0, None, 1.0);
    let key = "attention.compress_rope_freq_base";
    stretched.base = match s.maybe_f32(key)? {
        Some(base) if base > 0.0 => base,
        other => return Err(s.wrong(key, other.unwrap_or(0.0), "must be positive")),
    };
    // Yarn's own factor on cosine and sine is undone.
    let stretch = -stretched.freq_scale.ln();
    stretched.magnitude = if stretched.yarn.is_some() { 1.0 / (1.0 + 0.1 * stretch) } else { 1.0 };
    Ok((s.rope(plain), s.rope(stretched)))
}

fn attention(s: &mut Source<'_>, h: &Hyper, shape: &Shape, i: u32) -> Result<CompressedAttn> {
    let name = |part: &str| format!("blk.{i}.attn_{part}");
    let (n_heads, dim, q_rank) = (h.n_heads[i as usize], h.k_dim, shape.q_rank);
    let q = MlaQuery::LowRank {
        a: s.linear(&name("q_a"), h.width, q_rank)?,
        norm: s.norm(&name("q_a_norm"), q_rank, NormKind::Rms, h.eps)?,
        b: s.linear(&name("q_b"), q_rank, n_heads * dim)?,
    };
    let reach = Reach::Window(shape.window);
    Ok(CompressedAttn {
        n_heads,
        dim,
        q,
        q_norm: bare_norm(h, n_heads),
        kv: s.linear(&name("kv"), h.width, dim)?,
        kv_norm: s.norm(&name("kv_a_norm"), dim, NormKind::Rms, h.eps)?,
        rope: if shape.ratios[i as usize] == 0 { shape.plain } else { shape.stretched },
        scale: 1.0 / (dim as f32).sqrt(),
        sinks: Some(s.tensor(&format!("{}.weight", name("sinks")), &[n_heads])?),
        window: shape.window,
        blocks: blocks(s, h, shape, i)?,
        o_groups: shape.o_groups,
        o_a: grouped_output(s, h, shape, i)?,
        o_b: s.linear(&name("output_b"), shape.o_groups * shape.o_rank, h.width)?,
        slot: s.slot(StateSpec::Kv { heads: 1, k: dim, v: VDim::AliasK(dim), reach }),
    })
}

/// Files hold the groups one after another, in one matrix or in one each.
fn grouped_output(s: &mut Source<'_>, h: &Hyper, shape: &Shape, i: u32) -> Result<Linear> {
    let name = format!("blk.{i}.attn_output_a");
    let cols = h.n_heads[i as usize] * h.k_dim / shape.o_groups;
    let is_flat = s.shape(&format!("{name}.weight")).is_some_and(|d| d.len() < 3);
    if is_flat {
        return s.linear(&name, cols, shape.o_groups * shape.o_rank);
    }
    let found = s.experts(&name, (cols, shape.o_rank, shape.o_groups))?;
    let name = format!("{name}.weight");
    found.ok_or_else(|| oprel_nn::Error::MissingTensor { name }.into())
}

/// Blocks of 4 overlap and are chosen by an indexer; blocks of 128 are all attended to.
fn blocks(s: &mut Source<'_>, h: &Hyper, shape: &Shape, i: u32) -> Result<Option<Blocks>> {
    let ratio = shape.ratios[i as usize];
    if ratio == 0 {
        return Ok(None);
    }
    let rope = shape.stretched;
    let prefix = format!("blk.{i}.attn_compressor");
    let compressor = compressor(s, h, &prefix, (ratio, h.k_dim), rope)?;
    let indexer = if ratio == 4 { Some(indexer(s, h, shape, i)?) } else { None };
    Ok(Some(Blocks { compressor, indexer }))
}

fn compressor(
    s: &mut Source<'_>,
    h: &Hyper,
    prefix: &str,
    (ratio, dim): (u32, u32),
    rope: RopeId,
) -> Result<Compressor> {
    let overlap = ratio == 4;
    let parts = if overlap { 2 } else { 1 };
    let rows = parts * dim;
    // Keys and gates of the positions of a block, and of the block before where it counts.
    let pending = 2 * (parts * ratio) as usize * rows as usize;
    Ok(Compressor {
        ratio,
        overlap,
        kv: s.linear(&format!("{prefix}_kv"), h.width, rows)?,
        gate: s.linear(&format!("{prefix}_gate"), h.width, rows)?,
        position: s.tensor(&format!("{prefix}_ape.weight"), &[rows, ratio])?,
        norm: s.norm(&format!("{prefix}_norm"), dim, NormKind::Rms, h.eps)?,
        rope,
        slot: s.slot(StateSpec::Blocks { ratio, dim }),
        pending: s.slot(StateSpec::Recurrent { state: pending, conv: 0 }),
    })
}

fn indexer(s: &mut Source<'_>, h: &Hyper, shape: &Shape, i: u32) -> Result<BlockIndexer> {
    let size = |key: &str| match s.u32(key)? {
        n if n == 0 || n > 1 << 12 => Err(s.wrong(key, n, "must be from 1 to 4096")),
        n => Ok(n),
    };
    let (n_heads, dim) =
        (size("attention.indexer.head_count")?, size("attention.indexer.key_length")?);
    let top = s.u32("attention.indexer.top_k")?;
    let rope = shape.stretched;
    Ok(BlockIndexer {
        n_heads,
        dim,
        top,
        q: s.linear(&format!("blk.{i}.indexer.attn_q_b"), shape.q_rank, n_heads * dim)?,
        rope,
        weights: s.linear(&format!("blk.{i}.indexer.proj"), h.width, n_heads)?,
        compressor: compressor(s, h, &format!("blk.{i}.indexer_compressor"), (4, dim), rope)?,
    })
}

fn experts(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Moe> {
    let key = "expert_feed_forward_length";
    let ff = s.per_layer_u32(key, h.n_layers)?.unwrap_or_default();
    let ff = *ff.get(i as usize).ok_or_else(|| s.missing(key))?;
    let n_shared = s.u32("expert_shared_count")?;
    if ff == 0 || ff > 1 << 20 || n_shared > 1 << 8 {
        return Err(s.wrong(key, ff, "must be positive and of a sane size"));
    }
    let exp = limits(s, "swiglu_clamp_exp", h.n_layers)?;
    let shexp = limits(s, "swiglu_clamp_shexp", h.n_layers)?.or_else(|| exp.clone());
    let of_layer =
        |all: &Option<Vec<f32>>| all.as_ref().and_then(|all| all.get(i as usize)).copied();
    let mut moe = moe(s, h, i, ff, activation(of_layer(&exp)))?;
    match gating(s)? {
        Some(Gating::SqrtSoftplus) => moe.router.gating = Gating::SqrtSoftplus,
        _ => return Err(s.wrong("expert_gating_func", "another", "must be 4 (sqrt of softplus)")),
    }
    moe.router.normalize = s.bool_or("expert_weights_norm", false)?;
    if i < s.u32("hash_layer_count")? {
        let name = format!("blk.{i}.ffn_gate_tid2eid.weight");
        moe.router.by_token = Some(s.tensor(&name, &[h.n_experts_used, h.n_vocab])?);
        moe.router.choice_bias = None;
    }
    moe.shared = shared_expert(s, h, i, ff * n_shared, activation(of_layer(&shexp)))?;
    Ok(moe)
}

/// Where SwiGLU is cut, by layer.
fn limits(s: &Source<'_>, key: &str, n_layers: u32) -> Result<Option<Vec<f32>>> {
    let full = s.key(key);
    if let Ok(Some(one)) = s.metadata().f32(&full) {
        return Ok(Some(vec![one; n_layers as usize]));
    }
    Ok(s.metadata().f32s(&full)?.map(|all| all.into_owned()))
}

fn activation(limit: Option<f32>) -> Activation {
    match limit {
        Some(limit) if limit > 1e-6 => Activation::SiluClamped { limit, cap_before: true },
        _ => Activation::Silu,
    }
}
