//! One generation in progress: what was asked, what it has, what it says.

use std::sync::Arc;
use std::time::Duration;

use oprel_api::{EndReason, Failure, Sampled, Sampling, Usage};
use oprel_nn::batch::SeqId;

use crate::sampler::{Breakers, Sampler};

/// What a caller asks of a sequence, in tokens.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The prompt. At least one token.
    pub tokens: Vec<u32>,
    /// How tokens are chosen; a missing seed is 0, the caller draws one.
    pub sampling: Sampling,
    /// The texts of `sampling.dry.breakers` in this vocabulary.
    pub breakers: Arc<Breakers>,
    /// Most tokens to make.
    pub max_tokens: Option<u32>,
    /// Fewest tokens before one of `ends` or `stop_tokens` is accepted.
    pub min_tokens: u32,
    /// Most tokens of prompt and answer together, below the engine's own limit.
    pub context: Option<u32>,
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
}

impl Ask {
    /// A prompt with the usual sampling and no limit but the context.
    pub fn new(tokens: Vec<u32>) -> Ask {
        Ask {
            tokens,
            sampling: Sampling::default(),
            breakers: Arc::default(),
            max_tokens: None,
            min_tokens: 0,
            context: None,
            ends: Arc::from([]),
            stop_tokens: Vec::new(),
            logprobs: None,
            prompt_logprobs: None,
            deadline: None,
            reuse: true,
            leave: true,
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
    /// Prompt, then answer.
    pub(crate) tokens: Vec<u32>,
    /// How many of them are in the state.
    pub(crate) fed: usize,
    /// Of how many prompt tokens the probabilities were said.
    pub(crate) told: usize,
    pub(crate) context: u32,
    pub(crate) sampler: Sampler,
    pub(crate) times: Times,
    pub(crate) cached: u32,
    pub(crate) started: bool,
}

/// When what happened, as the caller's clock says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) submitted: Duration,
    pub(crate) started: Duration,
    pub(crate) first: Option<Duration>,
    pub(crate) last: Duration,
}

impl Sequence {
    /// Tokens of the answer so far.
    pub(crate) fn made(&self) -> u32 {
        (self.tokens.len() - self.ask.tokens.len()) as u32
    }

    /// Whether its time is over.
    pub(crate) fn is_late(&self, now: Duration) -> bool {
        self.ask.deadline.is_some_and(|d| now.saturating_sub(self.times.submitted) >= d)
    }

    /// Why it ends at this token, if it does. The token is not part of the answer.
    pub(crate) fn ends_at(&self, token: u32) -> Option<EndReason> {
        if self.ask.stop_tokens.contains(&token) {
            return Some(EndReason::StopToken(token));
        }
        self.ask.ends.contains(&token).then_some(EndReason::EndOfText)
    }

    /// Why it ends after the tokens it has, if it does.
    pub(crate) fn limit(&self) -> Option<EndReason> {
        if self.ask.max_tokens.is_some_and(|most| self.made() >= most) {
            return Some(EndReason::MaxTokens);
        }
        (self.tokens.len() >= self.context as usize).then_some(EndReason::ContextFull)
    }

    pub(crate) fn usage(&self, ended: bool) -> Usage {
        let t = &self.times;
        let ns = |from: Duration, to: Duration| to.saturating_sub(from).as_nanos() as u64;
        let first = t.first.unwrap_or(t.last);
        Usage {
            prompt_tokens: self.ask.tokens.len() as u32,
            cached_tokens: self.cached,
            generated_tokens: self.made() + u32::from(ended),
            queue_ns: ns(t.submitted, t.started),
            prefill_ns: ns(t.started, first),
            decode_ns: ns(first, t.last),
            total_ns: ns(t.submitted, t.last),
            ..Usage::default()
        }
    }
}
