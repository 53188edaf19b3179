//! From what a user asks for to what an engine is made for.

use oprel_nn::KvTypes;
use oprel_nn::describe::{Decoder, StateSpec, VDim};

use crate::engine::{Options, Scope};

/// Context length where neither user nor model asks for less.
const USUAL_CONTEXT: u32 = 4096;
/// Tokens of a prefill step.
const BATCH: u32 = 512;
/// Most tokens of a prefill step.
const MOST_BATCH: u32 = 8192;
/// Sequences that run at a time, where nobody says otherwise.
const USUAL_SEQUENCES: u32 = 16;
/// Most sequences that run at a time.
const MOST_SEQUENCES: u32 = 512;
/// The part of free memory that pages for several sequences may take: a fourth.
const PART: u64 = 4;
/// Free memory where the system does not tell.
const USUAL_FREE: u64 = 4 << 30;

/// What a user asks of an engine; what is left open depends on the model and on the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Most tokens of a text; unset, the model's own up to 4096.
    pub context: Option<u32>,
    /// Unset, let texts be as long as the model was trained for and memory allows.
    pub longest: bool,
    /// Sequences that run at a time; unset, 16.
    pub parallel: Option<u32>,
    /// Most tokens of prompts in one step; unset, 512.
    pub batch: Option<u32>,
    /// How keys and values are stored.
    pub kv: KvTypes,
}

impl Wish {
    /// Most tokens of a text. `fixed` is what is needed however long texts are, and `bytes_of_token` what
    /// pages of a token take.
    pub fn context(
        &self,
        (decoder, scope): (&Decoder, Scope),
        (fixed, bytes_of_token): (u64, u64),
        free: Option<u64>,
    ) -> u32 {
        let asked = self.asked((decoder, scope));
        if self.context.is_some() || !self.longest {
            return asked;
        }
        let trained = decoder.context_length;
        positions(bytes_of_token, (asked, trained), room(free, fixed)).min(trained)
    }

    /// Most tokens of a text before it is known what is free: those asked for, or the usual ones.
    pub fn asked(&self, (decoder, scope): (&Decoder, Scope)) -> u32 {
        let trained = decoder.context_length;
        match self.context {
            // An encoder reads a text whole: beyond what it was trained on it has no positions.
            Some(n) if scope == Scope::Bidirectional => n.min(trained),
            Some(n) => n,
            None => trained.min(USUAL_CONTEXT),
        }
    }

    /// Sequences that run at a time.
    pub fn sequences(&self) -> u32 {
        self.parallel.unwrap_or(USUAL_SEQUENCES).clamp(1, MOST_SEQUENCES)
    }

    /// An engine for one text of so many tokens.
    pub fn options(&self, decoder: &Decoder, context: u32) -> Options {
        let batch = self.batch.map_or(BATCH, |n| n.clamp(1, MOST_BATCH));
        Options {
            // A text that is ranked is read at once.
            batch: if decoder.classifier.is_some() { context.max(batch) } else { batch },
            sequences: self.sequences(),
            kv: self.kv,
            ..Options::new(context)
        }
    }

    /// Positions that there are pages for: a context for each sequence, while that is a small part of
    /// what is free and the rest leaves room for it. Pages take no memory before they are used.
    pub fn positions(
        &self,
        context: u32,
        (fixed, bytes_of_token): (u64, u64),
        free: Option<u64>,
    ) -> u32 {
        positions(bytes_of_token, (context, self.sequences()), room(free, fixed))
    }
}

/// What pages for several sequences may take beside what is needed anyway.
fn room(free: Option<u64>, fixed: u64) -> u64 {
    let free = free.unwrap_or(USUAL_FREE);
    (free / PART).min(free.saturating_sub(fixed))
}

fn positions(bytes_of_token: u64, (context, sequences): (u32, u32), room: u64) -> u32 {
    let wanted = u64::from(context) * u64::from(sequences);
    let positions = wanted.min(room / bytes_of_token.max(1)).min(u64::from(u32::MAX / 2));
    positions.max(u64::from(context)) as u32
}

/// Bytes of keys and values of one token, of all layers.
pub fn bytes_of_token(decoder: &Decoder, kv: KvTypes) -> u64 {
    let of_slot = |slot: &StateSpec| match *slot {
        StateSpec::Kv { heads, k, v, .. } => {
            let v = if let VDim::Own(v) = v { v } else { 0 };
            heads as usize * (kv.k.row_bytes(k as usize) + kv.v.row_bytes(v as usize))
        }
        _ => 0,
    };
    decoder.slots.iter().map(of_slot).sum::<usize>() as u64
}
