//! How much memory a compiled model takes, known before it is taken: [`prepare`](super::prepare) takes
//! just this, and plans count it.

use super::compile::{Compiler, unsupported};
use super::fine::Fine;
use super::kv::KvStore;
use super::output::HeadScratch;
use super::plan::Plan;
use super::recurrent::RecurrentStore;
use super::router::Routes;
use crate::describe::{Decoder, StateSpec, VDim};
use crate::exec::{Limits, Memory};
use crate::state::{KvType, KvTypes, PAGE_LEN, groups};
use crate::{Error, Result};

/// A slot of keys and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct KvShape {
    /// Which page table of a span leads to it.
    pub(super) group: usize,
    /// Heads, elements of a key, and of a value.
    pub(super) heads: (usize, usize, VDim),
    pub(super) pages: usize,
    pub(super) types: KvTypes,
}

/// Lengths of all that is taken.
#[derive(Debug)]
pub(super) struct Sizes {
    /// f32 words of quantized inputs of blocks, of other quantized rows, and of rows turned.
    pub(super) acts: [usize; 3],
    /// For encoders.
    pub(super) fine: Option<[usize; 2]>,
    /// By slot.
    pub(super) kv: Vec<Option<KvShape>>,
    pub(super) uncached: Vec<KvShape>,
    /// By slot: elements of a row, the recurrent part and the convolution's.
    pub(super) recurrent: Vec<Option<(usize, usize)>>,
    pub(super) rows: usize,
    /// Spans, tables of each, pages of a table.
    pub(super) tables: [usize; 3],
    pub(super) partials: usize,
    pub(super) trees: usize,
    /// Pairs of a token and an expert, and experts.
    pub(super) routes: (usize, usize),
    head: u64,
    arena: u64,
    /// Bytes that usual batches do not touch.
    pub(super) idle: u64,
    mapped: u64,
    converted: u64,
    pub(super) decoded: u64,
}

impl Sizes {
    /// Those of a compiled model.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for state of a kind that there is no memory for.
    pub(super) fn of(
        c: &Compiler<'_>,
        plan: &Plan,
        decoder: &Decoder,
        limits: &Limits,
    ) -> Result<Sizes> {
        let (tokens, spans) = (limits.tokens as usize, limits.spans as usize);
        let words = |a_token: usize| a_token.saturating_mul(tokens);
        Ok(Sizes {
            acts: [words(c.input_words()), words(c.act_words()), words(c.turned_words())],
            fine: Fine::words(c),
            kv: kv_shapes(decoder, limits)?,
            uncached: uncached_shapes(c, limits)?,
            recurrent: decoder.slots.iter().map(recurrent_shape).collect(),
            rows: limits.recurrent_rows as usize,
            tables: [
                spans,
                c.n_groups + 1,
                limits.context.div_ceil(PAGE_LEN as u32).max(1) as usize,
            ],
            partials: c.partials,
            trees: tokens.saturating_pow(2),
            routes: (tokens * c.experts.1, c.experts.0),
            head: HeadScratch::bytes_of(&plan.head, limits),
            arena: c.layout.bytes(),
            idle: c.layout.idle_bytes(),
            mapped: c.mapped_bytes(),
            converted: c.converted,
            decoded: c.decoded,
        })
    }

    /// Bytes, by purpose.
    pub(super) fn memory(&self) -> Memory {
        let kv: u64 = self.kv.iter().flatten().map(KvShape::bytes).fold(0, u64::saturating_add);
        let uncached = self.uncached.iter().map(KvShape::bytes).fold(0, u64::saturating_add);
        let words = self.acts.iter().chain(self.fine.iter().flatten()).copied();
        let words =
            words.chain([self.partials]).fold(0, |sum: u64, n| sum.saturating_add(n as u64));
        let tables = self.tables.iter().fold(4, |n: u64, &m| n.saturating_mul(m as u64));
        let (pairs, experts) = self.routes;
        let scratch = [
            self.arena,
            words.saturating_mul(4),
            self.trees as u64,
            uncached,
            tables,
            Routes::bytes_of(pairs, experts),
            self.head,
        ];
        Memory {
            mapped: self.mapped,
            weights: self.converted,
            state: kv.saturating_add(self.row_bytes().saturating_mul(self.rows as u64)),
            scratch: scratch.into_iter().fold(0, u64::saturating_add),
        }
    }

    /// Bytes of a page or a row of one slot.
    pub(super) fn slot_bytes(&self, slot: usize) -> u64 {
        match (self.kv[slot], self.recurrent[slot]) {
            (Some(shape), _) => shape.page_bytes(),
            (None, Some((state, conv))) => RecurrentStore::row_bytes_of(state, conv),
            (None, None) => 0,
        }
    }

    /// Bytes of a page of all slots of a group.
    pub(super) fn page_bytes(&self, group: usize) -> u64 {
        let slots = self.kv.iter().flatten().filter(|slot| slot.group == group);
        slots.map(KvShape::page_bytes).sum()
    }

    /// Bytes of a row of recurrent state of all slots.
    pub(super) fn row_bytes(&self) -> u64 {
        let slots = self.recurrent.iter().flatten();
        slots.map(|&(state, conv)| RecurrentStore::row_bytes_of(state, conv)).sum()
    }
}

impl KvShape {
    fn page_bytes(&self) -> u64 {
        let layout = KvStore::layout_of(self.heads, self.types);
        (layout.k_page_bytes() + layout.v_page_bytes()) as u64
    }

    fn bytes(&self) -> u64 {
        self.page_bytes().saturating_mul(self.pages as u64)
    }
}

fn kv_shapes(decoder: &Decoder, limits: &Limits) -> Result<Vec<Option<KvShape>>> {
    let groups = groups(&decoder.slots);
    let shape = |(i, slot): (usize, &StateSpec)| match *slot {
        StateSpec::Kv { heads, k, v, .. } => {
            let group = groups.iter().position(|g| g.slots.contains(&i)).unwrap_or(0);
            let pages = limits.pages[group] as usize;
            let heads = (heads as usize, k as usize, v);
            Ok(Some(KvShape { group, heads, pages, types: limits.kv }))
        }
        StateSpec::Recurrent { .. } => Ok(None),
        _ => Err(unsupported(format!("state of kind {slot:?}"))),
    };
    decoder.slots.iter().enumerate().map(shape).collect()
}

fn recurrent_shape(slot: &StateSpec) -> Option<(usize, usize)> {
    match *slot {
        StateSpec::Recurrent { state, conv } => Some((state, conv)),
        _ => None,
    }
}

fn uncached_shapes(c: &Compiler<'_>, limits: &Limits) -> Result<Vec<KvShape>> {
    let pages = limits.tokens as usize / PAGE_LEN + limits.spans as usize;
    let shape = |&(heads, k, v): &(usize, usize, usize)| {
        let v = u32::try_from(v).map_err(|_| Error::Description(format!("a value of {v}")))?;
        let heads = (heads, k, VDim::Own(v));
        Ok(KvShape { group: c.n_groups, heads, pages, types: KvType::F32.into() })
    };
    c.uncached.iter().map(shape).collect()
}
