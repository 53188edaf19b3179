//! The smaller model: what it holds of each text, and what it says next.
//!
//! It has pages of its own, shared by name as those of the large model are. It reads a text when it is
//! first asked about it, and goes on greedily, all sequences in one batch a token. What it computed of
//! tokens that were not taken is written over: only keys and values at positions count.

use std::time::Duration;

use oprel_nn::describe::{Decoder, StateSpec};
use oprel_nn::{Exec, Limits, Memory, Placement, StepOut, Transfer, Weights};

use super::{HOPE, MOST};
use crate::pace::Pace;
use crate::sequence::Sequence;
use crate::spans::Spans;
use crate::state::{Holding, State};
use crate::{Error, Result};

/// Most tokens that a sequence may lack and still go on in the same step; up to so many tokens the time of
/// a step is measured for each number on its own.
const FEW: usize = 32;
/// Fewest tokens of a piece of a text that is read.
const PIECE: usize = 32;
/// The part of all time that may be spent on trials: texts read and tokens said that prove nothing yet.
const ALLOWANCE: f64 = 0.01;
/// What may be spent on them in advance, in steps of the large model.
const STAKE: f64 = 3.0;
/// Checked tokens after which its rate is believed.
const PROVEN: u32 = 32;
/// How fast the rate over all texts follows what happened.
const FOLLOW: f64 = 0.05;
/// Its first steps, whose times tell nothing.
const COLD: u32 = 3;
/// Steps of the large model without one of it after which its times are measured again.
const REMEASURE: u32 = 512;
/// What a step takes of the time of one of the large model, if nothing tells.
const USUAL_SHARE: f64 = 0.1;

/// A smaller model of the same vocabulary, and who runs it.
pub struct DraftModel<'a> {
    /// Runs it; not prepared yet.
    pub exec: Box<dyn Exec>,
    /// What it is.
    pub decoder: &'a Decoder,
    /// Its weights.
    pub weights: &'a Weights,
    /// Where it runs.
    pub placement: &'a Placement,
}

/// What the smaller model holds of a text.
#[derive(Debug)]
pub(crate) struct Follow {
    holding: Holding,
    /// Tokens of the text when it was last asked.
    text: usize,
    /// What it said after them.
    said: Vec<u32>,
    /// How many of both are in its state.
    fed: usize,
}

/// What the smaller model is to do for a sequence in a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// The place of the sequence among those that run.
    pub(crate) at: usize,
    /// How many tokens it is to say, or to read.
    pub(crate) n: usize,
    /// Whether that is to be paid from what may be spent on trials.
    pub(crate) on_trial: bool,
}

/// The smaller model at work.
pub(crate) struct Model {
    exec: Box<dyn Exec>,
    limits: Limits,
    memory: Memory,
    state: State,
    pace: Pace,
    out: StepOut,
    caches: bool,
    /// What a step takes of the time of one of the large model, until that was measured.
    share: f64,
    /// How likely a token is right if those before it are, over all texts.
    rate: f64,
    /// Tokens from which that is known.
    checked: u32,
    /// Seconds that may be spent on trials, whatever they bring.
    purse: f64,
    /// Steps until their times tell: the first ones read weights from the file.
    cold: u32,
    /// Steps of the large model since its last one.
    idle: u32,
    /// It failed once and is not asked again.
    is_broken: bool,
    /// Tokens of texts that it read apart from going on.
    n_read: u64,
}

/// Why a model cannot propose tokens for one with so many of them; `None` if it can.
pub fn why_no_draft(decoder: &Decoder, n_vocab: u32) -> Option<String> {
    if decoder.slots.iter().any(|s| matches!(s, StateSpec::Recurrent { .. })) {
        return Some("it has recurrent layers, whose state cannot take back a token".into());
    }
    if !decoder.heads.iter().any(|h| h.out.is_some()) {
        return Some("it makes no text".into());
    }
    let n = decoder.n_vocab;
    (n != n_vocab).then(|| format!("its vocabulary has {n} tokens, not {n_vocab}"))
}

impl Follow {
    /// How much of the text is in the state. The last token is always fed: its logits are needed.
    fn known(&self, tokens: &[u32]) -> usize {
        let since = tokens.get(self.text..).unwrap_or_default();
        let right = self.said.iter().zip(since).take_while(|(said, is)| said == is).count();
        self.fed.min(self.text + right).min(tokens.len() - 1)
    }

    /// Forgets what it said that is not in the text.
    fn catch_up(&mut self, tokens: &[u32]) {
        self.fed = self.known(tokens);
        self.text = tokens.len();
        self.said.clear();
    }
}

impl Model {
    /// Prepares the executor for as many sequences as the large model's, with as many positions.
    ///
    /// # Errors
    /// If the model cannot propose for the large one, or memory cannot be had.
    pub(crate) fn new(
        mut model: DraftModel<'_>,
        limits: Limits,
        n_vocab: u32,
        large: Memory,
        caches: bool,
    ) -> Result<Model> {
        let DraftModel { decoder, weights, placement, .. } = model;
        if let Some(why) = why_no_draft(decoder, n_vocab) {
            return Err(Error::Draft { why });
        }
        let memory = model.exec.prepare(decoder, weights, placement, &limits)?;
        let bytes = |m: Memory| (m.mapped + m.weights) as f64;
        let share = bytes(memory) / bytes(large);
        Ok(Model {
            exec: model.exec,
            state: State::new(&decoder.slots, &limits),
            limits,
            memory,
            pace: Pace::new(Pace::STRETCH),
            out: StepOut::default(),
            caches,
            share: if share > 0.0 && share.is_finite() { share } else { USUAL_SHARE },
            rate: HOPE,
            checked: 0,
            purse: 0.0,
            cold: COLD,
            idle: 0,
            is_broken: false,
            n_read: 0,
        })
    }

    pub(crate) fn memory(&self) -> Memory {
        self.memory
    }

    /// How likely its next token is right, over all texts, and how many tokens tell if they are enough.
    pub(crate) fn rate(&self) -> (f64, u32) {
        (self.rate, if self.is_known() { self.checked } else { 0 })
    }

    /// It was asked, and so many tokens were taken.
    pub(crate) fn learn(&mut self, proposed: usize, taken: usize) {
        let tried = (taken + 1).min(proposed);
        for i in 0..tried {
            self.rate += FOLLOW * (f64::from(u8::from(i < taken)) - self.rate);
        }
        self.checked = self.checked.saturating_add(tried as u32);
    }

    /// The large model made a step.
    pub(crate) fn earn(&mut self, took: Duration) {
        self.purse += ALLOWANCE * took.as_secs_f64();
        self.idle += 1;
        if self.idle >= REMEASURE {
            // It may have been measured at a bad moment.
            (self.pace, self.idle) = (Pace::new(Pace::STRETCH), 0);
        }
    }

    /// Tokens of a sequence that it has not read; at least one.
    pub(crate) fn lacks(&self, s: &Sequence) -> usize {
        let known = match &s.follow {
            Some(follow) => follow.known(&s.tokens),
            None if self.shares(s) => {
                let tokens = &s.tokens[..s.tokens.len() - 1];
                self.state.has(tokens, s.names.clone().of(tokens))
            }
            None => 0,
        };
        s.tokens.len() - known
    }

    /// Tokens of a sequence that it has not read, if it can go on with it at once.
    pub(crate) fn ready(s: &Sequence) -> Option<usize> {
        let follow = s.follow.as_ref()?;
        Some(s.tokens.len() - follow.known(&s.tokens)).filter(|&lacks| lacks <= FEW)
    }

    /// Whether enough was checked of what it said to know how often it is right.
    pub(crate) fn is_known(&self) -> bool {
        self.checked >= PROVEN
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Seconds that a step of so many tokens takes, as measured or as those of the large model tell.
    pub(crate) fn seconds(&self, tokens: usize, large: &Pace) -> Option<f64> {
        let of = |pace: &Pace| match tokens > FEW {
            // A step of few takes what one of one does.
            true => match (pace.reading(tokens), pace.estimate(1)) {
                (Some(read), Some(least)) => Some(read.max(least)),
                _ => pace.estimate(tokens),
            },
            false => pace.estimate(tokens),
        };
        of(&self.pace).or_else(|| Some(self.share * of(large)?))
    }

    /// Whether reading a text pays that takes so many seconds, of what is saved of `spell` seconds.
    pub(crate) fn pays_to_read(&self, seconds: f64, saved: f64, spell: f64) -> bool {
        self.is_known() && seconds <= saved * spell / 2.0
    }

    /// Whether so many seconds may be spent on a trial; `step` is what one of the large model takes.
    pub(crate) fn may_try(&self, seconds: f64, step: f64) -> bool {
        seconds <= self.purse + STAKE * step
    }

    /// Tokens of a text to read beside others, so that it takes about so long.
    pub(crate) fn piece(&self, lacks: usize, seconds: f64, large: &Pace) -> usize {
        let one = self.seconds(lacks, large).map(|all| all / lacks as f64);
        let n = one.map_or(PIECE, |one| (seconds / one) as usize);
        n.max(PIECE).min(lacks)
    }

    /// Goes on with some sequences and reads on in another; what it says, which may be less.
    pub(crate) fn propose(
        &mut self,
        running: &mut [Sequence],
        asked: &[Wish],
        reads: Option<Wish>,
        clock: &dyn Fn() -> Duration,
    ) -> Vec<Vec<u32>> {
        let mut room = self.limits.tokens as usize;
        let mut going: Vec<Wish> = Vec::new();
        for &wish in asked {
            let s = &mut running[wish.at];
            let near = self.follow(s, FEW.min(room)).filter(|(n, lacks)| n == lacks);
            if let Some((fed, _)) = near {
                room -= fed;
                going.push(wish);
            }
        }
        let mut reads = reads.and_then(|wish| {
            let (n, _) = self.follow(&mut running[wish.at], wish.n.min(room))?;
            (n > 0).then_some(Wish { n, ..wish })
        });
        for _ in 0..MOST {
            going.retain(|wish| self.has_room(&mut running[wish.at], wish.n));
            if going.is_empty() && reads.is_none() {
                break;
            }
            if self.step(running, &going, reads.take(), clock).is_err() {
                self.is_broken = true;
                break;
            }
        }
        let said = |wish: &Wish| match &running[wish.at].follow {
            Some(follow) if !self.is_broken => follow.said.clone(),
            _ => Vec::new(),
        };
        asked.iter().map(said).collect()
    }

    /// Takes up a text where it is known; how many tokens of it, at most so many, are to be fed, and how
    /// many it lacks. `None` if there is no page for them.
    fn follow(&mut self, s: &mut Sequence, most: usize) -> Option<(usize, usize)> {
        if s.follow.is_none() {
            let publishes = s.ask.leave && self.caches;
            let begun = match self.shares(s) {
                true => {
                    let tokens = &s.tokens[..s.tokens.len() - 1];
                    let named = (tokens, s.names.of(tokens));
                    self.state.begin(&mut *self.exec, named, publishes).ok()?
                }
                false => (self.state.empty(s.names.root(), publishes), 0),
            };
            let (holding, fed) = begun;
            s.follow = Some(Follow { holding, text: s.tokens.len(), said: Vec::new(), fed });
        }
        let follow = s.follow.as_mut()?;
        follow.catch_up(&s.tokens);
        let lacks = s.tokens.len() - follow.fed;
        let n = lacks.min(most);
        self.state.extend(&mut follow.holding, follow.fed + n).ok()?;
        Some((n, lacks))
    }

    /// Whether it has still to say some of `n` tokens of a sequence, and has a page for the next.
    fn has_room(&mut self, s: &mut Sequence, n: usize) -> bool {
        let Some(follow) = s.follow.as_mut().filter(|follow| follow.said.len() < n) else {
            return false;
        };
        let end = follow.text + follow.said.len();
        self.state.extend(&mut follow.holding, end).is_ok()
    }

    /// One batch: all that is not in the state of those who go on, and a piece of a text.
    fn step(
        &mut self,
        running: &mut [Sequence],
        going: &[Wish],
        reads: Option<Wish>,
        clock: &dyn Fn() -> Duration,
    ) -> oprel_nn::Result<()> {
        let mut spans = Spans::default();
        let mut on_trial = 0;
        for (wish, most, rows) in going
            .iter()
            .map(|wish| (wish, usize::MAX, 1))
            .chain(reads.iter().map(|wish| (wish, wish.n, 0)))
        {
            let before = spans.n_tokens();
            add(&mut spans, &running[wish.at], most, rows);
            on_trial += if wish.on_trial { spans.n_tokens() - before } else { 0 };
        }
        let n = spans.n_tokens();
        let before = clock();
        spans.run(&mut *self.exec, &mut self.out)?;
        self.record(n, on_trial, clock().saturating_sub(before));
        let n_vocab = self.out.got.first().map_or(0, |got| got.values.len() / going.len().max(1));
        for (i, wish) in going.iter().enumerate() {
            let row = &self.out.got[0].values[i * n_vocab..(i + 1) * n_vocab];
            let s = &mut running[wish.at];
            let Some(follow) = s.follow.as_mut() else { continue };
            follow.fed = follow.text + follow.said.len();
            follow.said.push(likeliest(row));
            self.state.advance(&mut follow.holding, &s.tokens, &mut s.names, follow.text);
        }
        if let Some(wish) = reads {
            let s = &mut running[wish.at];
            if let Some(follow) = s.follow.as_mut() {
                follow.fed += wish.n;
                self.n_read += wish.n as u64;
                self.state.advance(&mut follow.holding, &s.tokens, &mut s.names, follow.fed);
            }
        }
        // Nobody keeps these pages elsewhere.
        self.state.take_evicted();
        Ok(())
    }

    fn record(&mut self, n: usize, on_trial: usize, took: Duration) {
        self.idle = 0;
        if self.cold > 0 {
            self.cold -= 1;
            return;
        }
        self.purse -= took.as_secs_f64() * on_trial as f64 / n as f64;
        match n > FEW {
            true => self.pace.record(0, n, took),
            false => self.pace.record(n, 0, took),
        }
    }

    /// Whether what it computed of other texts serves this one.
    fn shares(&self, s: &Sequence) -> bool {
        s.ask.reuse && self.caches
    }

    /// A sequence goes. What was computed of its text stays, if others may use it.
    pub(crate) fn leave(&mut self, s: &mut Sequence) {
        if let Some(mut follow) = s.follow.take() {
            follow.catch_up(&s.tokens);
            self.state.leave(follow.holding, &s.tokens, &mut s.names, follow.fed);
        }
    }

    /// The text is another one, or nothing that was computed counts.
    pub(crate) fn forget(&mut self, s: &mut Sequence) {
        if let Some(follow) = s.follow.take() {
            self.state.release(follow.holding);
        }
    }

    /// Tokens of texts that it read before it could go on.
    pub(crate) fn n_read(&self) -> u64 {
        self.n_read
    }

    /// Pages that sequences hold, for tests.
    #[cfg(test)]
    pub(crate) fn n_held(&self) -> usize {
        self.state.n_held()
    }
}

/// Adds what of a text, and of what was said after it, is not in the state: at most so many tokens.
fn add<'a>(spans: &mut Spans<'a>, s: &'a Sequence, most: usize, rows: usize) {
    let Some(follow) = &s.follow else { return };
    let text = &s.tokens[..follow.text];
    let (fed, rest) = text.split_at(follow.fed.min(text.len()));
    let (said_fed, said) = follow.said.split_at(follow.fed - fed.len());
    let next = [&rest[..rest.len().min(most)], said];
    let state = (follow.holding.pages.as_slice(), Transfer::default());
    spans.sequence(s.id, [fed, said_fed], next, rows, state);
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|(i, a), (j, b)| a.total_cmp(b).then(j.cmp(i)));
    best.map_or(0, |(i, _)| i as u32)
}
