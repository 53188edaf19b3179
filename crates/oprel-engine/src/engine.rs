//! The engine: a queue of sequences, one of them running, one executor.
//!
//! [`Engine::step`] feeds a piece of the running sequence's prompt, or its last token, and chooses the
//! next one. What a finished sequence left in the state serves the next one whose prompt begins with
//! the same tokens.

use std::collections::VecDeque;
use std::time::Duration;

use oprel_api::{EndReason, Failure, Sampled, Usage};
use oprel_nn::batch::SeqId;
use oprel_nn::describe::{Decoder, StateSpec};
use oprel_nn::state::{PageId, RowId, groups};
use oprel_nn::{
    Batch, Exec, KvType, Limits, Memory, PAGE_LEN, PageTable, Placement, Pooling, Pos, RowSet, See,
    Span, StateView, StepOut, Transfer, Want, Weights, What,
};

use crate::bounds::Bounds;
use crate::logprob;
use crate::sampler::{Given, Sampler, Scratch};
use crate::sequence::{Ask, Says, Sequence, Times};
use crate::{Error, Result};

/// What an engine is made for.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Context length: most tokens of a sequence.
    pub context: u32,
    /// Most tokens of a step.
    pub batch: u32,
    /// How keys and values are stored.
    pub kv: KvType,
}

/// What tokens of the model see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// What is before them: generators.
    Causal,
    /// The whole text: encoders.
    Bidirectional,
}

/// Most rows of logits that one step gives: prompt probabilities come in pieces of this.
const LOGIT_ROWS: u32 = 64;

/// Sequences over one executor.
pub struct Engine {
    exec: Box<dyn Exec>,
    memory: Memory,
    limits: Limits,
    scope: Scope,
    bounds: Bounds,
    recurrent: bool,
    n_groups: usize,
    queue: VecDeque<Sequence>,
    running: Option<Sequence>,
    ended: Option<(SeqId, Usage)>,
    /// The tokens whose state is in the pages and the recurrent row.
    resident: Vec<u32>,
    pages: Vec<PageId>,
    positions: Vec<i32>,
    out: StepOut,
    scratch: Scratch,
    next_id: u32,
}

impl Engine {
    /// Prepares the executor and takes all memory that sequences will need.
    ///
    /// # Errors
    /// If the executor cannot run the description, or memory cannot be had.
    pub fn new(
        mut exec: Box<dyn Exec>,
        decoder: &Decoder,
        weights: &Weights,
        placement: &Placement,
        scope: Scope,
        options: &Options,
    ) -> Result<Engine> {
        let context = options.context.max(1);
        let limits = Limits {
            tokens: match scope {
                Scope::Causal => options.batch.clamp(1, context),
                Scope::Bidirectional => context,
            },
            spans: 1,
            logit_rows: LOGIT_ROWS.min(context),
            context,
            pages: context.div_ceil(PAGE_LEN as u32),
            recurrent_rows: 1,
            kv: options.kv,
        };
        let memory = exec.prepare(decoder, weights, placement, &limits)?;
        Ok(Engine {
            exec,
            memory,
            limits,
            scope,
            bounds: Bounds {
                context,
                longest_embedded: limits.tokens,
                n_vocab: decoder.n_vocab,
                generates: scope == Scope::Causal && decoder.heads.iter().any(|h| h.out.is_some()),
            },
            recurrent: decoder.slots.iter().any(|s| matches!(s, StateSpec::Recurrent { .. })),
            n_groups: groups(&decoder.slots).len(),
            queue: VecDeque::new(),
            running: None,
            ended: None,
            resident: Vec::new(),
            pages: (0..limits.pages).map(PageId).collect(),
            positions: Vec::new(),
            out: StepOut::default(),
            scratch: Scratch::new(),
            next_id: 0,
        })
    }

    /// Memory that was taken.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// What sequences must keep to.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Nothing is running or waiting.
    pub fn is_idle(&self) -> bool {
        self.running.is_none() && self.queue.is_empty()
    }

    /// Queues a sequence.
    ///
    /// # Errors
    /// As [`Bounds::check`].
    pub fn submit(&mut self, ask: Ask, now: Duration) -> Result<SeqId> {
        self.bounds.check(&ask)?;
        let context = self.bounds.context_of(&ask);
        let sampler = Sampler::new(ask.sampling.clone())?.with_breakers(ask.breakers.clone());
        let id = SeqId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let times = Times { submitted: now, last: now, ..Times::default() };
        let tokens = ask.tokens.clone();
        let sequence = Sequence {
            id,
            ask,
            tokens,
            fed: 0,
            told: 0,
            context,
            sampler,
            times,
            cached: 0,
            started: false,
        };
        self.queue.push_back(sequence);
        Ok(id)
    }

    /// Ends a sequence whose answer nobody wants any more. Says nothing of it.
    pub fn cancel(&mut self, id: SeqId) {
        self.queue.retain(|s| s.id != id);
        if let Some(gone) = self.running.take_if(|s| s.id == id)
            && !gone.ask.leave
        {
            self.resident.clear();
        }
    }

    /// What a sequence took until now, if it is running or was the last to end.
    pub fn usage(&self, id: SeqId) -> Option<Usage> {
        let running = self.running.as_ref().filter(|s| s.id == id).map(|s| s.usage(false));
        running.or(self.ended.filter(|(ended, _)| *ended == id).map(|(_, usage)| usage))
    }

    /// Moves the running sequence by one batch, or starts the next one. `clock` gives the time as
    /// [`Engine::submit`] counts it; what came of the step is appended to `says`.
    pub fn step(&mut self, clock: &dyn Fn() -> Duration, says: &mut Vec<(SeqId, Says)>) {
        self.end_late(clock(), says);
        let Some(mut sequence) = self.running.take().or_else(|| self.queue.pop_front()) else {
            return;
        };
        if !sequence.started {
            self.start(&mut sequence, clock());
        }
        match self.advance(&mut sequence, clock, says) {
            Ok(None) => self.running = Some(sequence),
            Ok(Some(end)) => {
                if !sequence.ask.leave {
                    self.resident.clear();
                }
                let by_token = matches!(end, EndReason::EndOfText | EndReason::StopToken(_));
                let usage = sequence.usage(by_token);
                self.ended = Some((sequence.id, usage));
                says.push((sequence.id, Says::End(end, usage)));
            }
            Err(error) => {
                self.resident.clear();
                says.push((sequence.id, Says::Failed(Failure::from(error))));
            }
        }
    }

    /// Ends sequences whose time is over before their turn came.
    fn end_late(&mut self, now: Duration, says: &mut Vec<(SeqId, Says)>) {
        self.queue.retain_mut(|s| {
            if !s.is_late(now) {
                return true;
            }
            (s.times.started, s.times.last) = (now, now);
            says.push((s.id, Says::End(EndReason::Deadline, s.usage(false))));
            false
        });
    }

    /// Takes over what the state already holds of the prompt. The last prompt token is always fed:
    /// its logits are needed.
    fn start(&mut self, sequence: &mut Sequence, now: Duration) {
        sequence.started = true;
        sequence.times.started = now;
        let most = sequence.ask.tokens.len() - 1;
        let same =
            self.resident.iter().zip(&sequence.ask.tokens).take_while(|(a, b)| a == b).count();
        let reusable = sequence.ask.reuse
            && sequence.ask.prompt_logprobs.is_none()
            // A recurrent state cannot be cut back: it serves only if all of it is wanted.
            && (!self.recurrent || (same == self.resident.len() && same <= most));
        sequence.fed = if reusable { same.min(most) } else { 0 };
        sequence.cached = sequence.fed as u32;
        self.resident.truncate(sequence.fed);
    }

    /// One batch of a sequence; why it ended, if it did.
    fn advance(
        &mut self,
        s: &mut Sequence,
        clock: &dyn Fn() -> Duration,
        says: &mut Vec<(SeqId, Says)>,
    ) -> Result<Option<EndReason>> {
        let now = clock();
        if s.is_late(now) {
            s.times.last = now;
            return Ok(Some(EndReason::Deadline));
        }
        let makes_none = s.ask.max_tokens == Some(0);
        if makes_none && s.ask.prompt_logprobs.is_none() {
            return Ok(Some(EndReason::MaxTokens));
        }
        self.feed(s, says)?;
        s.times.last = clock();
        if s.fed < s.tokens.len() {
            return Ok(None);
        }
        if makes_none {
            return Ok(Some(EndReason::MaxTokens));
        }
        let rows = &self.out.got[0].values;
        let logits = &rows[rows.len() - self.bounds.n_vocab as usize..];
        let early = s.made() < s.ask.min_tokens;
        let banned =
            if early { [&s.ask.ends, &s.ask.stop_tokens[..]].concat() } else { Vec::new() };
        let given = Given { banned: &banned, ..Given::after(&s.tokens) };
        let token = s.sampler.choose(&mut self.scratch, logits, given)?;
        s.times.first.get_or_insert(s.times.last);
        if let Some(end) = s.ends_at(token) {
            return Ok(Some(end));
        }
        says.push((s.id, Says::Token(logprob::sampled(logits, token, s.ask.logprobs))));
        s.tokens.push(token);
        Ok(s.limit())
    }

    /// Feeds the next piece of what is not yet in the state. With the last piece come its logits.
    fn feed(&mut self, s: &mut Sequence, says: &mut Vec<(SeqId, Says)>) -> Result<()> {
        let left = s.tokens.len() - s.fed;
        // A sequence that is fed again has told of its prompt already.
        let prompt_rows = s.ask.prompt_logprobs.is_some() && s.told < s.ask.tokens.len();
        let most = if prompt_rows { self.limits.logit_rows } else { self.limits.tokens } as usize;
        let n = left.min(most).min(self.limits.tokens as usize);
        let of = if prompt_rows { RowSet::All } else { RowSet::Last };
        let want = [Want { of, what: What::Logits }];
        let want = if prompt_rows || n == left { &want[..] } else { &[] };
        let piece = s.fed..s.fed + n;
        self.resident.truncate(s.fed);
        self.run(&s.tokens[piece.clone()], s.fed, See::Causal, want)?;
        self.resident.extend_from_slice(&s.tokens[piece.clone()]);
        s.fed += n;
        if prompt_rows && s.fed > s.told {
            let again = s.told.saturating_sub(piece.start);
            let mut probabilities =
                self.prompt_probabilities(s, piece.start, &self.out.got[0].values);
            probabilities.drain(..again.min(probabilities.len()));
            s.told = s.fed;
            says.push((s.id, Says::Prompt(probabilities)));
        }
        Ok(())
    }

    /// Row `i` of `rows` tells of the token after position `start + i`.
    fn prompt_probabilities(&self, s: &Sequence, start: usize, rows: &[f32]) -> Vec<Sampled> {
        let next = s.ask.tokens.iter().skip(start + 1);
        rows.chunks_exact(self.bounds.n_vocab as usize)
            .zip(next)
            .map(|(row, &token)| logprob::sampled(row, token, s.ask.prompt_logprobs))
            .collect()
    }

    /// One batch of one span on the executor.
    fn run(&mut self, tokens: &[u32], at: usize, see: See<'_>, want: &[Want]) -> Result<()> {
        let n = tokens.len() as u32;
        let spans = [Span { see, ..Span::causal(SeqId(0), n, at as u32) }];
        self.positions.clear();
        self.positions.extend((at..at + tokens.len()).map(|p| p as i32));
        let tables = vec![PageTable(&self.pages); self.n_groups];
        let row = Some(RowId(0));
        let recurrent = [Transfer { from: row.filter(|_| at > 0), to: row, keep: &[] }];
        let batch =
            Batch { spans: &spans, tokens, pos: Pos::Text(&self.positions), embeds: &[], want };
        let state = StateView { pages: &tables, recurrent: &recurrent };
        Ok(self.exec.step(&batch, &state, &mut self.out, None)?)
    }

    /// One vector for a text, (width). The state of the running sequence is lost to reuse.
    ///
    /// # Errors
    /// If the text is empty or longer than the context, or the executor fails.
    pub fn embed(&mut self, tokens: &[u32], pooling: Pooling) -> Result<Vec<f32>> {
        self.whole(tokens, What::Pool(pooling))
    }

    /// Logits of every token of a text, (n, n_vocab), fed in pieces of these lengths, the rest in one.
    ///
    /// # Errors
    /// If the text is empty or longer than the context, or the executor fails.
    pub fn logits(&mut self, tokens: &[u32], pieces: &[usize]) -> Result<Vec<f32>> {
        self.check_whole(tokens)?;
        let want = [Want { of: RowSet::All, what: What::Logits }];
        let most = self.limits.logit_rows.min(self.limits.tokens) as usize;
        let mut out = Vec::new();
        let mut pieces = pieces.iter().copied().chain(std::iter::repeat(usize::MAX));
        let mut at = 0;
        while at < tokens.len() {
            let end = pieces.next().unwrap_or(usize::MAX).saturating_add(at).min(tokens.len());
            while at < end {
                let n = (end - at).min(most);
                self.run(&tokens[at..at + n], at, See::Causal, &want)?;
                out.extend_from_slice(&self.out.got[0].values);
                at += n;
            }
        }
        Ok(out)
    }

    fn whole(&mut self, tokens: &[u32], what: What) -> Result<Vec<f32>> {
        let most = self.bounds.longest_embedded;
        if tokens.len() > most as usize {
            return Err(Error::TextTooLong { tokens: tokens.len(), most });
        }
        self.check_whole(tokens)?;
        let see = match self.scope {
            Scope::Causal => See::Causal,
            Scope::Bidirectional => See::All,
        };
        let want = [Want { of: RowSet::Span(0), what }];
        self.run(tokens, 0, see, &want)?;
        Ok(std::mem::take(&mut self.out.got[0].values))
    }

    fn check_whole(&mut self, tokens: &[u32]) -> Result<()> {
        self.bounds.check_tokens(tokens)?;
        let context = self.limits.context;
        if tokens.len() > context as usize {
            return Err(Error::PromptTooLong { tokens: tokens.len(), context });
        }
        // A sequence in progress loses its state; it is fed again from its tokens.
        self.resident.clear();
        if let Some(s) = &mut self.running {
            s.fed = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
