//! One generation in progress: what was asked, what it has, what it says.

use std::sync::Arc;
use std::time::Duration;

use oprel_api::{EndReason, Failure, Sampled, Sampling, Truncation, Usage};
use oprel_nn::batch::SeqId;

use crate::draft::{Drafter, Follow};
use crate::engine::Loading;
use crate::guide::Guide;
use crate::name::Names;
use crate::sampler::{Breakers, Sampler};
use crate::state::Holding;

/// What a caller asks of a sequence, in tokens.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The prompt. At least one token.
    pub tokens: Vec<u32>,
    /// What was made of it already, by this engine or another one: it goes on as if it had never
    /// stopped. These tokens are not said again.
    pub produced: Vec<u32>,
    /// How tokens are chosen; a missing seed is 0, the caller draws one.
    pub sampling: Sampling,
    /// Which tokens may be chosen.
    pub guide: Option<Guide>,
    /// The texts of `sampling.dry.breakers` in this vocabulary.
    pub breakers: Arc<Breakers>,
    /// Most tokens to make.
    pub max_tokens: Option<u32>,
    /// Fewest tokens before one of `ends` or `stop_tokens` is accepted.
    pub min_tokens: u32,
    /// Most tokens of prompt and answer together, below the engine's own limit.
    pub context: Option<u32>,
    /// When the context is full, forget the older half of the text after so many tokens, and go on.
    pub shift: Option<u32>,
    /// Tokens with which the model ends a text.
    pub ends: Arc<[u32]>,
    /// Further tokens that end this answer.
    pub stop_tokens: Vec<u32>,
    /// Alternatives to report with each token; `None` reports no probabilities.
    pub logprobs: Option<u32>,
    /// The same for the tokens of the prompt.
    pub prompt_logprobs: Option<u32>,
    /// Longest time from submission.
    pub deadline: Option<Duration>,
    /// What the state already holds of the prompt may be used.
    pub reuse: bool,
    /// What this sequence computes may be used by later ones.
    pub leave: bool,
    /// Pages are shared only among those of the same salt.
    pub salt: Option<String>,
    /// For whom; clients share the engine fairly.
    pub client: Arc<str>,
    /// Higher goes first.
    pub priority: i32,
    /// Tokens may be proposed, from what the text repeats or by a smaller model, and checked several at
    /// a time.
    pub speculate: bool,
    /// Tokens to make instead of those that were chosen: measurements of a given text.
    pub replay: Option<Arc<[u32]>>,
}

impl Ask {
    /// A prompt with the usual sampling and no limit but the context.
    pub fn new(tokens: Vec<u32>) -> Ask {
        Ask {
            tokens,
            produced: Vec::new(),
            sampling: Sampling::default(),
            guide: None,
            breakers: Arc::default(),
            max_tokens: None,
            min_tokens: 0,
            context: None,
            shift: None,
            ends: Arc::from([]),
            stop_tokens: Vec::new(),
            logprobs: None,
            prompt_logprobs: None,
            deadline: None,
            reuse: true,
            leave: true,
            salt: None,
            client: Arc::from(""),
            priority: 0,
            speculate: true,
            replay: None,
        }
    }
}

/// What a sequence says. Bytes of tokens are left to the caller, who has the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub enum Says {
    /// Probabilities of prompt tokens, from the second on.
    Prompt(Vec<Sampled>),
    /// A token was made. The one that ends the text is not said.
    Token(Sampled),
    /// The older part of the text was forgotten, for the context was full.
    Truncated(Truncation),
    /// The vector of a text, (width).
    Vector(Vec<f32>),
    /// It is over; what it took.
    End(EndReason, Usage),
    /// It failed; nothing follows.
    Failed(Failure),
}

/// A sequence in the engine.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: SeqId,
    pub(crate) ask: Ask,
    /// What came first, among all sequences.
    pub(crate) order: u64,
    /// Prompt, then answer, without what was forgotten.
    pub(crate) tokens: Vec<u32>,
    /// Tokens of the answer so far, with those forgotten.
    pub(crate) made: u32,
    /// How many of `tokens` are in the state.
    pub(crate) fed: usize,
    /// Of how many prompt tokens the probabilities were said.
    pub(crate) told: usize,
    pub(crate) context: u32,
    pub(crate) sampler: Sampler,
    pub(crate) drafter: Drafter,
    /// What a smaller model holds of the text.
    pub(crate) follow: Option<Follow>,
    pub(crate) times: Times,
    pub(crate) cached: u32,
    /// Names of its pages.
    pub(crate) names: Names,
    /// What it holds while it runs.
    pub(crate) holding: Option<Holding>,
    /// All but its latest tokens are in the state: it makes tokens.
    pub(crate) decodes: bool,
    /// It had to give up its pages and waits for others.
    pub(crate) was_preempted: bool,
    /// A batch with it failed; it runs alone until one went well.
    pub(crate) alone: bool,
    /// Another sequence computes what this one's prompt begins with, up to so many tokens.
    pub(crate) waits_for: Option<(SeqId, usize)>,
    /// Pages of it are being brought from a store.
    pub(crate) loading: Option<Loading>,
    /// Tokens made before it came here from whose logits its sampler has still to learn.
    pub(crate) unseen: usize,
}

/// When what happened, as the caller's clock says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) submitted: Duration,
    pub(crate) started: Option<Duration>,
    pub(crate) first: Option<Duration>,
    pub(crate) last: Duration,
}

impl Sequence {
    /// Tokens that are not in the state.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.fed
    }

    /// Counts positions of the whole text, with what was forgotten: where the next draw is.
    pub(crate) fn position(&self) -> u64 {
        self.ask.tokens.len() as u64 + u64::from(self.made)
    }

    /// Whether its time is over.
    pub(crate) fn is_late(&self, now: Duration) -> bool {
        self.ask.deadline.is_some_and(|d| now.saturating_sub(self.times.submitted) >= d)
    }

    /// Whether the probabilities of prompt tokens are still to be said.
    pub(crate) fn tells_prompt(&self) -> bool {
        self.ask.prompt_logprobs.is_some() && self.told < self.ask.tokens.len()
    }

    /// Where the last message of its text ends: that which the model is to answer, a few tokens before the
    /// prompt does.
    pub(crate) fn message_end(&self) -> Option<usize> {
        self.tokens.iter().rposition(|t| self.ask.ends.contains(t)).map(|i| i + 1)
    }

    /// Tokens of its beginning whose logits nobody needs: what others computed may serve for these.
    pub(crate) fn reusable(&self) -> usize {
        self.tokens.len() - self.unseen - 1
    }

    /// Of how many of the next `n` tokens' rows the logits are needed.
    pub(crate) fn rows_of(&self, n: usize) -> usize {
        if self.tells_prompt() || (self.unseen > 0 && self.fed + n > self.reusable()) {
            return n;
        }
        usize::from(n == self.pending())
    }

    /// Whether what others computed may serve it.
    pub(crate) fn reuses(&self) -> bool {
        self.ask.reuse && !self.tells_prompt()
    }

    /// Why it ends at this token, if it does. The token is not part of the answer.
    pub(crate) fn ends_at(&self, token: u32) -> Option<EndReason> {
        if self.ask.stop_tokens.contains(&token) {
            return Some(EndReason::StopToken(token));
        }
        self.ask.ends.contains(&token).then_some(EndReason::EndOfText)
    }

    /// Tokens that may not be chosen now.
    pub(crate) fn banned(&self) -> Vec<u32> {
        let early = self.made < self.ask.min_tokens;
        if early { [&self.ask.ends, &self.ask.stop_tokens[..]].concat() } else { Vec::new() }
    }

    /// Why it ends after the tokens it has, if it does.
    pub(crate) fn limit(&mut self) -> Option<EndReason> {
        if self.ask.max_tokens.is_some_and(|most| self.made >= most) {
            return Some(EndReason::MaxTokens);
        }
        if self.ask.guide.as_mut().is_some_and(|guide| guide.0.is_complete()) {
            return Some(EndReason::Complete);
        }
        (!self.has_room()).then_some(EndReason::ContextFull)
    }

    /// Whether another token fits before the context is full.
    pub(crate) fn has_room(&self) -> bool {
        self.tokens.len() < self.context as usize
    }

    /// Takes a token into the text.
    pub(crate) fn push(&mut self, token: u32) {
        self.tokens.push(token);
        self.made += 1;
    }

    /// Forgets the older half of the text after its first tokens, if the context is full and that is
    /// wanted. What is left is another text: it is fed again.
    pub(crate) fn shift(&mut self) -> Option<Truncation> {
        let keep = self.ask.shift? as usize;
        let len = self.tokens.len();
        if len < self.context as usize {
            return None;
        }
        // Room for one token at least, and one to go on from.
        let keep = keep.min(len.saturating_sub(2));
        let dropped = (len - keep).div_ceil(2).max(1);
        self.tokens.drain(keep..keep + dropped);
        self.names.forget_after(keep);
        Some(Truncation {
            dropped_messages: 0,
            dropped_tokens: dropped as u32,
            kept_tokens: self.tokens.len() as u32,
            during_answer: true,
        })
    }

    pub(crate) fn usage(&self, ended: bool) -> Usage {
        let t = &self.times;
        let ns = |from: Duration, to: Duration| to.saturating_sub(from).as_nanos() as u64;
        let started = t.started.unwrap_or(t.last);
        let first = t.first.unwrap_or(t.last);
        Usage {
            prompt_tokens: self.ask.tokens.len() as u32,
            cached_tokens: self.cached,
            generated_tokens: self.made + u32::from(ended),
            drafted_tokens: self.drafter.drafted,
            accepted_tokens: self.drafter.accepted,
            queue_ns: ns(t.submitted, started),
            prefill_ns: ns(started, first),
            decode_ns: ns(first, t.last),
            total_ns: ns(t.submitted, t.last),
            ..Usage::default()
        }
    }
}
