//! The engine: sequences that wait, sequences that run, one executor.
//!
//! [`Engine::step`] makes one batch of the latest tokens of all that decode and pieces of the prompts of
//! others, runs it, and chooses tokens. Pages that a sequence fills serve whoever begins with the same
//! tokens. Nothing that shares a batch changes what a sequence says.

mod admit;
mod choose;
mod load;
mod plan;
mod propose;
mod run;
mod spill;
mod vectors;

use std::collections::VecDeque;
use std::time::Duration;

use oprel_api::{EndReason, Gauges, Usage};
use oprel_nn::batch::SeqId;
use oprel_nn::describe::{Decoder, Reach, StateSpec};
use oprel_nn::state::groups;
use oprel_nn::{Exec, KvTypes, Limits, Memory, PAGE_LEN, Placement, StepOut, Weights};

use crate::bounds::Bounds;
use crate::draft::{self, DraftModel, Drafter};
use crate::name::{Name, Names};
use crate::pace::Pace;
use crate::queue::Queue;
use crate::sampler::{Sampler, Scratch};
use crate::sequence::{Ask, Says, Sequence, Times};
use crate::state::State;
use crate::store::{PageKey, PageStore};
use crate::{Error, Result};
pub(crate) use load::Loading;
pub use vectors::Becomes;
use vectors::Text;

/// What an engine is made for.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Context length: most tokens of a sequence.
    pub context: u32,
    /// Most tokens of a step.
    pub batch: u32,
    /// Most sequences that run at a time.
    pub sequences: u32,
    /// Positions that there are pages for, all sequences and the prefix cache together; at least a
    /// context.
    pub positions: u32,
    /// States of recurrent models that are kept for later sequences, beside those that run.
    pub checkpoints: u32,
    /// Most sequences that wait.
    pub queue: u32,
    /// How many times as long as undisturbed a stream may wait for a token while prompts are read.
    pub stretch: f64,
    /// How keys and values are stored.
    pub kv: KvTypes,
    /// Tells apart whatever makes other numbers of the same tokens: part of every page's name.
    pub fingerprint: Vec<u8>,
    /// What was computed serves later sequences.
    pub cache: bool,
}

impl Options {
    /// For one sequence of this length at a time, or several shorter ones.
    pub fn new(context: u32) -> Options {
        Options {
            context,
            batch: 512,
            sequences: 16,
            positions: context,
            checkpoints: 4,
            queue: 1024,
            stretch: Pace::STRETCH,
            kv: KvTypes::default(),
            fingerprint: Vec::new(),
            cache: true,
        }
    }
}

/// What tokens of the model see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// What is before them: generators.
    Causal,
    /// The whole text: encoders.
    Bidirectional,
}

/// Fewest rows of logits that a step can give: prompt probabilities come in pieces of this.
const LOGIT_ROWS: u32 = 64;

/// Sequences over one executor.
pub struct Engine {
    exec: Box<dyn Exec>,
    memory: Memory,
    limits: Limits,
    scope: Scope,
    bounds: Bounds,
    options: Options,
    state: State,
    queue: Queue,
    running: Vec<Sequence>,
    texts: VecDeque<Text>,
    ended: Vec<(SeqId, Usage)>,
    pace: Pace,
    /// Proposes tokens.
    draft: Option<draft::Model>,
    gauges: Gauges,
    /// Where whole pages and checkpoints are kept too.
    store: Option<Box<dyn PageStore>>,
    /// What is to be written there.
    spills: VecDeque<PageKey>,
    out: StepOut,
    scratch: Scratch,
    next_id: u32,
    order: u64,
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
        let limits = limits(decoder, scope, options);
        let memory = exec.prepare(decoder, weights, placement, &limits)?;
        Ok(Engine {
            exec,
            memory,
            scope,
            bounds: Bounds {
                context: limits.context,
                // A step may hold more tokens than a text has positions.
                longest_embedded: limits.tokens.min(limits.context),
                n_vocab: decoder.n_vocab,
                generates: scope == Scope::Causal && decoder.heads.iter().any(|h| h.out.is_some()),
            },
            state: State::new(&decoder.slots, &limits),
            options: options.clone(),
            limits,
            queue: Queue::default(),
            running: Vec::new(),
            texts: VecDeque::new(),
            ended: Vec::new(),
            pace: Pace::new(options.stretch),
            draft: None,
            gauges: Gauges::default(),
            store: None,
            spills: VecDeque::new(),
            out: StepOut::default(),
            scratch: Scratch::new(),
            next_id: 0,
            order: 0,
        })
    }

    /// Lets a smaller model propose tokens, where that pays. Takes all memory that it will need.
    ///
    /// # Errors
    /// [`Error::Draft`] if it has another vocabulary or cannot take tokens back; if the executor cannot
    /// run it, or memory cannot be had.
    pub fn with_draft(mut self, model: DraftModel<'_>) -> Result<Engine> {
        let options = Options { checkpoints: 0, ..self.options.clone() };
        let mut limits = limits(model.decoder, Scope::Causal, &options);
        limits.logit_rows = limits.spans;
        let (n_vocab, caches) = (self.bounds.n_vocab, options.cache);
        self.draft = Some(draft::Model::new(model, limits, n_vocab, self.memory, caches)?);
        Ok(self)
    }

    /// Memory that was taken, for both models where one proposes tokens.
    pub fn memory(&self) -> Memory {
        let draft = self.draft.as_ref().map(draft::Model::memory).unwrap_or_default();
        Memory {
            mapped: self.memory.mapped + draft.mapped,
            weights: self.memory.weights + draft.weights,
            state: self.memory.state + draft.state,
            scratch: self.memory.scratch + draft.scratch,
        }
    }

    /// What sequences must keep to.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// What it is doing.
    pub fn gauges(&self) -> Gauges {
        let (pages_held, pages_cached, pages) = self.state.usage();
        Gauges {
            running: self.running.len(),
            waiting: self.queue.len() + self.texts.len(),
            pages_held,
            pages_cached,
            pages,
            names: self.state.n_names(),
            draft_read_tokens: self.draft.as_ref().map_or(0, draft::Model::n_read),
            ..self.gauges
        }
    }

    /// Nothing is running or waiting.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.queue.is_empty() && self.texts.is_empty()
    }

    /// Queues a sequence.
    ///
    /// # Errors
    /// As [`Bounds::check`]; [`Error::Busy`] if too many wait.
    pub fn submit(&mut self, ask: Ask, now: Duration) -> Result<SeqId> {
        self.bounds.check(&ask)?;
        let most = self.options.queue as usize;
        if self.queue.len() >= most {
            return Err(Error::Busy { waiting: most });
        }
        let sampler = Sampler::new(ask.sampling.clone())?.with_breakers(ask.breakers.clone());
        let context = self.bounds.context_of(&ask);
        let root = Name::root(&self.options.fingerprint, ask.salt.as_deref());
        let (id, order) = self.new_id();
        let mut sequence = Sequence {
            id,
            order,
            tokens: ask.tokens.clone(),
            made: 0,
            fed: 0,
            told: 0,
            context,
            sampler,
            drafter: Drafter::new(self.draft.as_ref().map_or((draft::HOPE, 0), draft::Model::rate)),
            follow: None,
            times: Times { submitted: now, last: now, ..Times::default() },
            cached: 0,
            names: Names::new(root),
            holding: None,
            decodes: false,
            was_preempted: false,
            alone: false,
            waits_for: None,
            loading: None,
            unseen: 0,
            ask,
        };
        resume(&mut sequence)?;
        self.queue.push(sequence);
        Ok(id)
    }

    fn new_id(&mut self) -> (SeqId, u64) {
        let id = SeqId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.order += 1;
        (id, self.order)
    }

    /// Ends a sequence whose answer nobody wants any more. Says nothing of it.
    pub fn cancel(&mut self, id: SeqId) {
        self.queue.remove_where(|s| s.id == id);
        self.texts.retain(|t| t.id != id);
        if let Some(at) = self.running.iter().position(|s| s.id == id) {
            let mut gone = self.running.remove(at);
            self.let_go(&mut gone);
            self.queue.close(&gone.ask.client);
        }
    }

    /// What a sequence took until now, if it runs or waits or ended in the last step.
    pub fn usage(&self, id: SeqId) -> Option<Usage> {
        let open = self.running.iter().find(|s| s.id == id).or_else(|| self.queue.get(id));
        let ended = self.ended.iter().find(|(ended, _)| *ended == id);
        open.map(|s| s.usage(false)).or(ended.map(|(_, usage)| *usage))
    }

    /// Runs one batch. `clock` gives the time as [`Engine::submit`] counts it; what came of the step is
    /// appended to `says`. `false` if there was nothing to run: all that is open waits for a store.
    pub fn step(&mut self, clock: &dyn Fn() -> Duration, says: &mut Vec<(SeqId, Says)>) -> bool {
        self.ended.clear();
        self.end_late(clock(), says);
        self.take_fetched(says);
        self.admit(clock(), says);
        let Some(plan) = self.plan(clock, says) else { return false };
        self.gauges.steps += 1;
        self.save_evicted();
        let before = clock();
        let outcome = self.run(&plan);
        let after = clock();
        match outcome {
            Ok(()) => {
                let (decoded, prompt) = (plan.n_decoded(), plan.n_prompt());
                let took = after.saturating_sub(before);
                self.pace.record(decoded, prompt, took);
                if let Some(draft) = &mut self.draft {
                    draft.earn(took);
                }
                self.take_results(plan, after, says);
            }
            Err(error) => self.take_failure(plan, &error, says),
        }
        self.spill_a_few();
        true
    }

    /// Ends sequences whose time is over.
    fn end_late(&mut self, now: Duration, says: &mut Vec<(SeqId, Says)>) {
        let late = |s: &Sequence| s.is_late(now);
        for mut sequence in self.queue.remove_where(late) {
            sequence.times.last = now;
            sequence.times.started.get_or_insert(now);
            says.push((sequence.id, Says::End(EndReason::Deadline, sequence.usage(false))));
        }
        let over: Vec<usize> =
            (0..self.running.len()).filter(|&i| late(&self.running[i])).collect();
        for i in over.into_iter().rev() {
            self.running[i].times.last = now;
            self.end(i, EndReason::Deadline, says);
        }
    }

    /// A running sequence is over.
    fn end(&mut self, at: usize, reason: EndReason, says: &mut Vec<(SeqId, Says)>) {
        let mut sequence = self.running.remove(at);
        self.let_go(&mut sequence);
        self.queue.close(&sequence.ask.client);
        let by_token = matches!(reason, EndReason::EndOfText | EndReason::StopToken(_));
        let usage = sequence.usage(by_token);
        self.gauges.drafted_tokens += u64::from(usage.drafted_tokens);
        self.gauges.accepted_tokens += u64::from(usage.accepted_tokens);
        self.ended.push((sequence.id, usage));
        says.push((sequence.id, Says::End(reason, usage)));
    }

    /// Gives back what a sequence holds.
    fn let_go(&mut self, sequence: &mut Sequence) {
        if let Some(holding) = sequence.holding.take() {
            let names = holding.names.clone();
            self.state.leave(holding, &sequence.tokens, &mut sequence.names, sequence.fed);
            if sequence.ask.leave {
                self.note_spills(&names, &sequence.tokens);
            }
        }
        if let Some(draft) = &mut self.draft {
            draft.leave(sequence);
        }
        sequence.loading = None;
        sequence.fed = 0;
        sequence.decodes = false;
    }
}

/// Takes over what was made of a sequence before.
fn resume(sequence: &mut Sequence) -> Result<()> {
    if sequence.sampler.has_history() {
        // What the sampler learned is learned again from the tokens, which must all be there.
        let exact = sequence.ask.shift.is_none() && sequence.ask.guide.is_none();
        if !sequence.ask.produced.is_empty() && !exact {
            return Err(Error::Unsupported { field: "resume" });
        }
        sequence.unseen = sequence.ask.produced.len();
    }
    for token in std::mem::take(&mut sequence.ask.produced) {
        if let Some(guide) = &mut sequence.ask.guide {
            guide.0.accept(token).map_err(|why| Error::Constraint { why })?;
        }
        sequence.push(token);
        sequence.shift();
    }
    if sequence.tokens.len() > sequence.context as usize {
        let (tokens, context) = (sequence.tokens.len(), sequence.context);
        return Err(Error::PromptTooLong { tokens, context });
    }
    Ok(())
}

/// What an executor is prepared for.
pub(crate) fn limits(decoder: &Decoder, scope: Scope, options: &Options) -> Limits {
    let context = options.context.max(1);
    let tokens = match scope {
        Scope::Causal => options.batch.clamp(1, context.max(options.sequences)),
        Scope::Bidirectional => context.max(options.batch),
    };
    let spans = options.sequences.clamp(1, tokens);
    // One more: a sequence that begins in the middle of a page copies it.
    let full = options.positions.max(context).div_ceil(PAGE_LEN as u32) + 1;
    let pages = |reach: Reach| match reach {
        Reach::Full => full,
        // Those that run, and windows before places from which others may go on.
        Reach::Window(n) => {
            let one = n.saturating_add(tokens).div_ceil(PAGE_LEN as u32) + 3;
            full.min(one.saturating_mul(spans).saturating_add(full / 4))
        }
    };
    let recurrent = decoder.slots.iter().any(|s| matches!(s, StateSpec::Recurrent { .. }));
    let drafts = if recurrent { draft::MOST as u32 } else { 0 };
    Limits {
        tokens,
        spans,
        logit_rows: LOGIT_ROWS.max(spans).min(tokens),
        context,
        pages: groups(&decoder.slots).iter().map(|g| pages(g.reach)).collect(),
        recurrent_rows: spans + options.checkpoints + drafts,
        kv: options.kv,
    }
}

#[cfg(test)]
mod tests;
