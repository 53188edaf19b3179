//! What is refused before anything runs: descriptions this executor cannot do, batches that break rules.

use super::EXECUTOR;
use super::state::slot_of;
use crate::batch::{Batch, See};
use crate::describe::{Block, Decoder, Input, Op, Read, Step, Write};
use crate::exec::{Limits, Placement};
use crate::state::{Group, PAGE_LEN, PageId, StateView};
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

/// Whether a batch keeps its rules and the limits, and its state is there.
pub(super) fn batch(
    b: &Batch<'_>,
    view: &StateView<'_>,
    d: &Decoder,
    groups: &[Group],
    limits: &Limits,
) -> Result<()> {
    b.check(d.width)?;
    if b.tokens.is_empty() {
        return Err(Error::Batch("no tokens".into()));
    }
    if b.tokens.len() > limits.tokens as usize || b.spans.len() > limits.spans as usize {
        let (t, s) = (b.tokens.len(), b.spans.len());
        return Err(Error::Batch(format!(
            "{t} tokens in {s} spans are more than was prepared for"
        )));
    }
    if let Some(t) = b.tokens.iter().find(|&&t| t >= d.n_vocab) {
        return Err(Error::Batch(format!("token {t} of a vocabulary of {}", d.n_vocab)));
    }
    if view.pages.len() != b.spans.len() * groups.len() {
        return Err(Error::Batch(format!("{} page tables", view.pages.len())));
    }
    spans(b, view, groups, limits)?;
    rows(view, b.spans.len(), d, limits)
}

fn spans(b: &Batch<'_>, view: &StateView<'_>, groups: &[Group], limits: &Limits) -> Result<()> {
    for (i, span) in b.spans.iter().enumerate() {
        if span.adapter.is_some() {
            return Err(unsupported("adapters"));
        }
        let end = u64::from(span.cache_start) + u64::from(span.n);
        if end > u64::from(limits.context) {
            let most = limits.context;
            return Err(Error::Batch(format!("position {} of at most {most}", end - 1)));
        }
        if let See::Tree(parents) = span.see {
            let before = |(i, &p): (usize, &i32)| p < i as i32;
            if parents.len() != span.n as usize || !parents.iter().enumerate().all(before) {
                return Err(Error::Batch("a tree whose parents do not come before".into()));
            }
        }
        for table in &view.pages[i * groups.len()..][..groups.len()] {
            let outside = |p: &&PageId| **p != PageId::NONE && p.0 >= limits.pages;
            if table.0.len() < (end as usize).div_ceil(PAGE_LEN) {
                return Err(Error::Batch(format!("span {i} ends beyond its pages")));
            }
            if let Some(page) = table.0.iter().find(outside) {
                return Err(Error::Batch(format!("page {} of {}", page.0, limits.pages)));
            }
        }
    }
    Ok(())
}

/// Rows of recurrent state; models without any take no transfers into account.
fn rows(view: &StateView<'_>, spans: usize, d: &Decoder, limits: &Limits) -> Result<()> {
    let is_recurrent =
        |s: &crate::describe::StateSpec| matches!(s, crate::describe::StateSpec::Recurrent { .. });
    if !d.slots.iter().any(is_recurrent) {
        return Ok(());
    }
    if view.recurrent.len() != spans {
        return Err(Error::Batch(format!("{} transfers of recurrent state", view.recurrent.len())));
    }
    let named = view.recurrent.iter().flat_map(|t| t.from.iter().chain(&t.to).chain(t.keep));
    match named.into_iter().find(|r| r.0 >= limits.recurrent_rows) {
        Some(r) => Err(Error::Batch(format!("recurrent row {} of {}", r.0, limits.recurrent_rows))),
        None => Ok(()),
    }
}

pub(super) fn unsupported(what: &str) -> Error {
    Error::Unsupported { executor: EXECUTOR, what: what.into() }
}
