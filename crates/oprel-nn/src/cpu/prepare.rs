//! Preparing a model: the plan, and all memory that steps will use.

use oprel_cpu::Kernels;

use super::acts::ActMemory;
use super::arena::zeroed;
use super::compile::{Compiler, unsupported};
use super::fine::Fine;
use super::kv::KvStore;
use super::output::HeadScratch;
use super::recurrent::RecurrentStore;
use super::router::Routes;
use super::run::{Memories, Tables};
use super::{EXECUTOR, Prepared};
use crate::batch::Bounds;
use crate::describe::{Decoder, Reach, StateSpec, VDim};
use crate::exec::{Dev, Limits, Memory, Placement};
use crate::state::{KvType, PAGE_LEN, groups};
use crate::weights::Weights;
use crate::{Error, Result};

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
    let kv = kv_stores(decoder, limits)?;
    let recurrent = recurrent_stores(decoder, limits)?;
    let uncached = uncached_stores(&c, limits)?;
    let words = |a_token: usize| a_token.saturating_mul(limits.tokens as usize);
    let tables = limits.context.div_ceil(PAGE_LEN as u32).max(1) as usize;
    let head = HeadScratch::new(&plan.head, limits)?;
    let mem = Memories {
        arena: c.layout.build()?,
        acts: ActMemory::new(
            words(c.input_words()),
            words(c.act_words()),
            words(c.turned_words()),
        )?,
        fine: Fine::of(&c)?,
        kv,
        uncached,
        recurrent,
        begun: Vec::with_capacity(limits.spans as usize),
        spans: Vec::with_capacity(limits.spans as usize),
        tables: Tables::new(limits.spans as usize, c.n_groups + 1, tables)?,
        seen: Vec::with_capacity(limits.tokens as usize),
        partials: zeroed(c.partials, "partial results of attention")?,
        trees: zeroed((limits.tokens as usize).saturating_pow(2), "trees of drafts")?,
        windows: groups(&decoder.slots).iter().map(|g| window(g.reach)).collect(),
        routes: Routes::new(limits.tokens as usize * c.experts.1, c.experts.0)?,
        head,
    };
    let memory = Memory {
        mapped: c.mapped_bytes(),
        weights: c.converted,
        state: state_bytes(&mem),
        scratch: scratch_bytes(&mem),
    };
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

fn kv_stores(decoder: &Decoder, limits: &Limits) -> Result<Vec<Option<KvStore>>> {
    let groups = groups(&decoder.slots);
    let store = |(i, slot): (usize, &StateSpec)| match *slot {
        StateSpec::Kv { heads, k, v, .. } => {
            let group = groups.iter().position(|g| g.slots.contains(&i)).unwrap_or(0);
            let shape = (heads as usize, k as usize, v);
            KvStore::new(group, shape, limits.pages[group] as usize, limits.kv).map(Some)
        }
        StateSpec::Recurrent { .. } => Ok(None),
        _ => Err(unsupported(format!("state of kind {slot:?}"))),
    };
    decoder.slots.iter().enumerate().map(store).collect()
}

fn recurrent_stores(decoder: &Decoder, limits: &Limits) -> Result<Vec<Option<RecurrentStore>>> {
    let store = |slot: &StateSpec| match *slot {
        StateSpec::Recurrent { state, conv } => {
            RecurrentStore::new(limits.recurrent_rows as usize, state, conv).map(Some)
        }
        _ => Ok(None),
    };
    decoder.slots.iter().map(store).collect()
}

fn uncached_stores(c: &Compiler<'_>, limits: &Limits) -> Result<Vec<KvStore>> {
    let pages = limits.tokens as usize / PAGE_LEN + limits.spans as usize;
    let store = |&(heads, k, v): &(usize, usize, usize)| {
        let v = u32::try_from(v).map_err(|_| Error::Description(format!("a value of {v}")))?;
        KvStore::new(c.n_groups, (heads, k, VDim::Own(v)), pages, KvType::F32.into())
    };
    c.uncached.iter().map(store).collect()
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
