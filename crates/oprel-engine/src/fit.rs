//! What an engine needs of memory, known before any is taken; and what of that fits.
//!
//! [`needs`] asks the executor what preparing a model would take, so that nothing is counted twice and
//! nothing is guessed: only what a process takes besides (its program, vocabulary, threads) is a sum of
//! measured constants.

mod choice;
mod wish;

use oprel_cpu::Isa;
use oprel_cpu::pool::SCRATCH_BYTES;
use oprel_nn::cpu;
use oprel_nn::describe::{Decoder, Input, Reach};
use oprel_nn::state::groups;
use oprel_nn::{Memory, PAGE_LEN, Weights};

use crate::Result;
use crate::engine::{Options, Scope, limits};

pub use choice::{Bytes, Choice, Room, TooLarge};
pub use wish::{Wish, bytes_of_token};

/// What a process takes before it has a model: program, allocator, threads that do not compute.
const PROCESS: u64 = 22_000_000;
/// What a token of the vocabulary takes: its text twice, its places in tables, its merge.
const OF_TOKEN: u64 = 136;
/// Rows of logits that are held at a time while one text is made: the executor's answer, what the sampler
/// changes of it, and its own tables.
const LOGIT_ROWS: u64 = 3;
/// What the engine keeps of a page: who holds it, its name, its tokens.
const OF_PAGE: u64 = 400;
/// Linux maps so many bytes of a file around what is read.
const MAPPED_AT_ONCE: u64 = 64 << 10;
/// A prompt of a recurrent model leaves a checkpoint so often.
const CHECKPOINT: u32 = 2048;

/// What is best left free of what is free: for the system's own, and for what nobody foresees.
pub fn margin(free: u64) -> u64 {
    (free / 20).max(512 << 20)
}

/// Pages of the layers that look equally far back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupNeeds {
    /// How far back.
    pub reach: Reach,
    /// Pages that there are.
    pub pages: u32,
    /// Bytes of one, of all these layers.
    pub page_bytes: u64,
}

/// Bytes that an engine and its process need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// By purpose, as the executor takes it; `state` with all its pages.
    pub memory: Memory,
    /// What usual batches use of scratch.
    pub scratch: u64,
    /// Tables of the file of which a text reads some rows alone.
    pub tables: u64,
    /// Parts of the file that are read once, to be decoded.
    pub decoded: u64,
    /// Pages, by group.
    pub groups: Vec<GroupNeeds>,
    /// By slot of the decoder: bytes of one page, or of one row of recurrent state.
    pub slots: Vec<u64>,
    /// Rows of recurrent state that there are, and bytes of one.
    pub rows: (u32, u64),
    /// Memory of the threads that compute.
    pub threads: u64,
    /// What the vocabulary takes in tables.
    pub vocabulary: u64,
    /// All that a process takes anyway.
    pub process: u64,
}

impl Needs {
    /// What is needed however long texts are.
    pub fn fixed(&self) -> u64 {
        let Memory { mapped, weights, .. } = self.memory;
        [mapped, weights, self.decoded, self.scratch, self.threads, self.vocabulary, self.process]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Bytes of pages and rows that one text of so many tokens takes.
    pub fn state(&self, tokens: u32) -> u64 {
        // One more holds what comes next.
        let of_text = tokens.div_ceil(PAGE_LEN as u32).max(1);
        let group =
            |g: &GroupNeeds| u64::from(of_text.min(g.pages)).saturating_mul(g.page_bytes + OF_PAGE);
        let pages = self.groups.iter().map(group).fold(0, u64::saturating_add);
        pages.saturating_add(self.rows.1.saturating_mul(u64::from(self.rows_of(tokens))))
    }

    /// Rows of recurrent state that one text of so many tokens takes: its own, where its prompt and itself
    /// end, those on the way, and some before the last tokens while they are checked.
    pub fn rows_of(&self, tokens: u32) -> u32 {
        (5 + tokens / CHECKPOINT).min(self.rows.0)
    }

    /// Bytes of one slot of the decoder for a text of so many tokens.
    pub fn slot(&self, slot: usize, reach: Option<Reach>, tokens: u32) -> u64 {
        let bytes = self.slots.get(slot).copied().unwrap_or(0);
        let group = self.groups.iter().find(|g| Some(g.reach) == reach);
        let n = match group {
            Some(group) => tokens.div_ceil(PAGE_LEN as u32).max(1).min(group.pages),
            None => self.rows_of(tokens),
        };
        bytes.saturating_mul(u64::from(n))
    }

    /// What is needed for one text of so many tokens.
    pub fn total(&self, tokens: u32) -> u64 {
        self.fixed().saturating_add(self.state(tokens))
    }

    /// What will be in memory after one text of so many tokens: of tables only what was read, in pieces that
    /// the system maps at once.
    pub fn expected(&self, tokens: u32) -> u64 {
        let read = u64::from(tokens).saturating_mul(MAPPED_AT_ONCE).min(self.tables);
        self.total(tokens).saturating_sub(self.tables - read)
    }

    /// The same with another model beside it.
    #[must_use]
    pub fn and(mut self, other: Needs) -> Needs {
        self.memory.mapped += other.memory.mapped;
        self.memory.weights += other.memory.weights;
        self.memory.scratch += other.memory.scratch;
        self.scratch += other.scratch;
        self.decoded += other.decoded;
        self.tables += other.tables;
        self.memory.state = self.memory.state.saturating_add(other.memory.state);
        self.groups.extend(other.groups);
        self.threads += other.threads;
        self
    }
}

/// What an engine of these options needs for a model, with kernels of this tier on so many threads.
///
/// # Errors
/// As [`Exec::prepare`](oprel_nn::Exec::prepare), save that there may not be so much memory.
pub fn needs(
    (decoder, weights): (&Decoder, &Weights),
    scope: Scope,
    options: &Options,
    (isa, threads): (Isa, usize),
) -> Result<Needs> {
    let limits = limits(decoder, scope, options);
    let exec = cpu::needs(decoder, weights, &limits, isa)?;
    let groups = groups(&decoder.slots).into_iter().zip(&limits.pages).zip(&exec.page_bytes);
    let groups = groups.map(|((group, &pages), &page_bytes)| GroupNeeds {
        reach: group.reach,
        pages,
        page_bytes,
    });
    let n_vocab = u64::from(decoder.n_vocab);
    Ok(Needs {
        groups: groups.collect(),
        slots: exec.slot_bytes,
        rows: (limits.recurrent_rows, exec.row_bytes),
        threads: (SCRATCH_BYTES as u64 + (64 << 10)) * threads as u64,
        vocabulary: n_vocab * (OF_TOKEN + 4 * LOGIT_ROWS),
        process: PROCESS,
        scratch: exec.memory.scratch - exec.idle,
        decoded: exec.decoded,
        tables: tables(decoder, weights),
        memory: exec.memory,
    })
}

/// Bytes of token tables that are not output matrices too.
fn tables(decoder: &Decoder, weights: &Weights) -> u64 {
    let is_head = |id| decoder.heads.iter().any(|h| h.out.as_ref().is_some_and(|o| o.w == id));
    let table = |input: &Input| match input {
        Input::Token { table, .. } if !is_head(*table) => weights.matrix(*table).bytes().len(),
        _ => 0,
    };
    decoder.inputs.iter().map(|input| table(input) as u64).sum()
}

#[cfg(test)]
mod tests;
