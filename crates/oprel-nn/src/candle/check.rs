//! What is refused before anything runs: descriptions that this executor cannot do.

use super::EXECUTOR;
use super::state::slot_of;
use crate::describe::{Block, Decoder, Input, Op, Read, Step, Write};
use crate::exec::Placement;
use crate::{Error, Result};

/// Whether every part of a description can be run.
pub(super) fn description(d: &Decoder, placement: &Placement, devices: usize) -> Result<()> {
    if d.lanes != 1 {
        return Err(unsupported("several residual lanes"));
    }
    if d.inputs.is_empty() || d.width == 0 {
        return Err(Error::Description("a decoder without inputs".into()));
    }
    if d.inputs.iter().any(|i| matches!(i, Input::NGram { .. })) {
        return Err(unsupported("n-gram embeddings"));
    }
    check_placement(d, placement, devices)?;
    for step in &d.steps {
        match step {
            Step::Layer(layer) => layer.blocks.iter().try_for_each(|b| block(b, d))?,
            Step::Mix(mix) => read(mix)?,
            Step::AltUp(_) => return Err(unsupported("alternating updates of lanes")),
            Step::Save(_) | Step::Load(_) | Step::Add(_) => {}
            Step::AddRow { .. } | Step::Norm(_) => {}
        }
    }
    Ok(())
}

fn check_placement(d: &Decoder, placement: &Placement, devices: usize) -> Result<()> {
    let of_layers = placement.layers.iter().flat_map(|p| [p.mixer, p.ffn, p.experts, p.state]);
    let mut all = of_layers.chain([placement.embed, placement.head]);
    if placement.layers.len() != d.layers().count() || all.any(|dev| dev.0 as usize >= devices) {
        let why = "the placement names other layers or devices than there are";
        return Err(Error::Description(why.into()));
    }
    Ok(())
}

fn block(block: &Block, d: &Decoder) -> Result<()> {
    read(&block.read)?;
    if block.write == Write::HyperConnection {
        return Err(unsupported("hyper-connections"));
    }
    if block.branches.is_empty() {
        return Err(Error::Description("a block without branches".into()));
    }
    block.branches.iter().try_for_each(|b| op(&b.op, d))
}

fn read(read: &Read) -> Result<()> {
    match read {
        Read::Plain(_) | Read::DepthAttention(_) => Ok(()),
        Read::HyperConnection(_) => Err(unsupported("hyper-connections")),
    }
}

fn op(op: &Op, d: &Decoder) -> Result<()> {
    match op {
        Op::Compressed(_) => return Err(unsupported("attention over compressed blocks")),
        Op::Cross(_) => return Err(unsupported("cross-attention")),
        Op::Rwkv(_) => return Err(unsupported("RWKV time mix")),
        Op::Mla(mla) if mla.indexer.is_some() => {
            return Err(unsupported("a sparse-attention indexer"));
        }
        _ => {}
    }
    if slot_of(op).is_some_and(|s| s.0 as usize >= d.slots.len()) {
        return Err(Error::Description("a layer names a slot that is not there".into()));
    }
    if let Op::Attn(a) = op
        && (a.n_kv_heads == 0 || !a.n_heads.is_multiple_of(a.n_kv_heads))
    {
        let (h, kv) = (a.n_heads, a.n_kv_heads);
        return Err(Error::Description(format!("{h} heads over {kv} key heads")));
    }
    let (rope, dim) = match op {
        Op::Attn(attn) => (attn.rope, attn.k_dim),
        Op::Mla(mla) => (mla.rope, mla.rope_dim),
        _ => (None, 0),
    };
    let Some(rope) = rope else { return Ok(()) };
    let rope = d.ropes.get(rope.0 as usize);
    let dims = rope
        .map(|r| r.dims)
        .ok_or_else(|| Error::Description("a layer names a rope that is not there".into()))?;
    if dims > dim || dims % 2 != 0 {
        return Err(Error::Description(format!("a rope of {dims} in heads of {dim}")));
    }
    Ok(())
}

pub(super) fn unsupported(what: impl Into<String>) -> Error {
    Error::Unsupported { executor: EXECUTOR, what: what.into() }
}
