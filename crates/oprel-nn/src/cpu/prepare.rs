//! Preparing a model: the plan, and all memory that steps will use.

use oprel_cpu::Kernels;

use super::acts::ActMemory;
use super::arena::zeroed;
use super::compile::{Compiler, unsupported};
use super::fine::Fine;
use super::kv::KvStore;
use super::output::HeadScratch;
use super::plan::Plan;
use super::recurrent::RecurrentStore;
use super::router::Routes;
use super::run::{Memories, Tables};
use super::sizes::{KvShape, Sizes};
use super::{EXECUTOR, Prepared};
use crate::Result;
use crate::batch::Bounds;
use crate::describe::{Decoder, Reach};
use crate::exec::{Dev, Limits, Memory, Needs, Placement};
use crate::state::groups;
use crate::weights::Weights;

/// Compiles a description and counts the memory that [`prepare`] would take.
///
/// # Errors
/// As [`Exec::prepare`](crate::Exec::prepare), save that there may not be so much memory.
pub(super) fn needs(
    decoder: &Decoder,
    weights: &Weights,
    limits: &Limits,
    kernels: &Kernels,
) -> Result<Needs> {
    weights.check()?;
    Bounds::new(EXECUTOR, decoder, limits)?;
    let mut c = Compiler::new(decoder, weights, limits, kernels);
    c.only_counts = true;
    let plan = c.plan()?;
    let sizes = Sizes::of(&c, &plan, decoder, limits)?;
    Ok(Needs {
        memory: sizes.memory(),
        idle: sizes.idle,
        decoded: sizes.decoded,
        slot_bytes: (0..decoder.slots.len()).map(|slot| sizes.slot_bytes(slot)).collect(),
        page_bytes: (0..limits.pages.len()).map(|group| sizes.page_bytes(group)).collect(),
        row_bytes: sizes.row_bytes(),
    })
}

/// Compiles a description and takes memory.
///
/// # Errors
/// As [`Exec::prepare`](crate::Exec::prepare).
pub(super) fn prepare(
    decoder: &Decoder,
    weights: &Weights,
    placement: &Placement,
    limits: &Limits,
    kernels: &Kernels,
) -> Result<(Prepared, Memory)> {
    check_placement(placement)?;
    weights.check()?;
    let bounds = Bounds::new(EXECUTOR, decoder, limits)?;
    let mut c = Compiler::new(decoder, weights, limits, kernels);
    let plan = c.plan()?;
    let sizes = Sizes::of(&c, &plan, decoder, limits)?;
    let mem = take(&sizes, &c, &plan, limits)?;
    debug_assert_eq!(sizes.memory().state, state_bytes(&mem));
    debug_assert_eq!(sizes.memory().scratch, scratch_bytes(&mem));
    let memory = sizes.memory();
    let weights = weights.clone();
    Ok((Prepared { plan, mem, weights, bounds }, memory))
}

fn check_placement(placement: &Placement) -> Result<()> {
    let places = placement.layers.iter().flat_map(|p| [p.mixer, p.ffn, p.experts, p.state]);
    match places.chain([placement.embed, placement.head]).find(|&dev| dev != Dev(0)) {
        Some(dev) => Err(unsupported(format!("a second device ({})", dev.0))),
        None => Ok(()),
    }
}

/// How many positions its layers look at, the token itself included.
fn window(reach: Reach) -> usize {
    match reach {
        Reach::Full => usize::MAX,
        Reach::Window(n) => n as usize,
    }
}

fn take(sizes: &Sizes, c: &Compiler<'_>, plan: &Plan, limits: &Limits) -> Result<Memories> {
    let kv = |shape: &KvShape| KvStore::new(shape.group, shape.heads, shape.pages, shape.types);
    let row = |&(state, conv): &(usize, usize)| RecurrentStore::new(sizes.rows, state, conv);
    let (spans, [_, n_tables, table]) = (limits.spans as usize, sizes.tables);
    let [input, inner, turned] = sizes.acts;
    Ok(Memories {
        arena: c.layout.build()?,
        acts: ActMemory::new(input, inner, turned)?,
        fine: sizes.fine.map(Fine::new).transpose()?,
        kv: each(&sizes.kv, kv)?,
        uncached: sizes.uncached.iter().map(kv).collect::<Result<_>>()?,
        recurrent: each(&sizes.recurrent, row)?,
        begun: Vec::with_capacity(spans),
        spans: Vec::with_capacity(spans),
        tables: Tables::new(spans, n_tables, table)?,
        seen: Vec::with_capacity(limits.tokens as usize),
        partials: zeroed(sizes.partials, "partial results of attention")?,
        trees: zeroed(sizes.trees, "trees of drafts")?,
        windows: groups(&c.decoder.slots).iter().map(|g| window(g.reach)).collect(),
        routes: Routes::new(sizes.routes.0, sizes.routes.1)?,
        head: HeadScratch::new(&plan.head, limits)?,
    })
}

/// A store for each slot of a kind.
fn each<T, S>(shapes: &[Option<T>], store: impl Fn(&T) -> Result<S>) -> Result<Vec<Option<S>>> {
    shapes.iter().map(|shape| shape.as_ref().map(&store).transpose()).collect()
}

fn state_bytes(mem: &Memories) -> u64 {
    let kv: u64 = mem.kv.iter().flatten().map(KvStore::bytes).sum();
    kv + mem.recurrent.iter().flatten().map(RecurrentStore::bytes).sum::<u64>()
}

fn scratch_bytes(mem: &Memories) -> u64 {
    let uncached: u64 = mem.uncached.iter().map(KvStore::bytes).sum();
    let acts = mem.trees.len() as u64
        + mem.acts.bytes()
        + mem.partials.len() as u64 * 4
        + mem.fine.as_ref().map_or(0, Fine::bytes);
    mem.arena.bytes() + acts + uncached + mem.tables.bytes() + mem.routes.bytes() + mem.head.bytes()
}
