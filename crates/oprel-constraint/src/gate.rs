//! Holds a constraint back while a model thinks or calls a tool.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Error, Mask, Matcher, Result, Vocabulary};

/// Most tokens that can be taken back.
const MOST_REMEMBERED: usize = 1024;

/// Most space between thinking and answer, in bytes.
const MOST_SPACE: usize = 16;

/// Where an answer begins, and what may come in its place. Tags may be control tokens, other
/// tokens, or texts of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateOptions {
    /// Opens thinking; `None` for a model that does not think, or has begun to in its prompt.
    pub think_open: Option<String>,
    /// Closes thinking; `None` for a model that does not think.
    pub think_close: Option<String>,
    /// The prompt leaves thinking open.
    pub inside: bool,
    /// Open a call of a tool that may come in place of the answer.
    pub call_opens: Vec<String>,
    /// A call may open while the model thinks, and ends that.
    pub calls_within: bool,
}

/// A constraint that applies to the answer alone.
///
/// While the model thinks everything is allowed but an end; the constraint applies from the close
/// of thinking, and the space behind it is nobody's. Where the answer opens a call of a tool,
/// everything is allowed to its end. With [`GateOptions::default`] it is the bare [`Matcher`].
#[derive(Clone, Debug)]
pub struct Gate {
    matcher: Matcher,
    /// The same before any token, where thinking may begin as the constraint does.
    untouched: Option<Matcher>,
    tags: Arc<Tags>,
    state: State,
    mask: Mask,
    /// Whether `mask` is of this place; a matcher keeps its own.
    fresh: bool,
    /// What was before each of the last tokens.
    past: VecDeque<Past>,
}

/// The tags as bytes, and what follows from them for a vocabulary.
#[derive(Debug)]
struct Tags {
    think_open: Option<Vec<u8>>,
    think_close: Vec<u8>,
    call_opens: Vec<Vec<u8>>,
    calls_within: bool,
    /// What may come while the model thinks.
    thinking: Mask,
}

#[derive(Clone, Debug)]
enum State {
    /// The end of what was thought: as much as may begin the closing tag.
    Thinking { tail: Vec<u8> },
    /// The answer begins, or a tag.
    Begin(Begin),
    /// A call of a tool: nothing is held.
    Free { ended: bool },
    /// The constraint applies.
    Held,
}

#[derive(Clone, Debug)]
struct Begin {
    /// What was written, if it may become a tag.
    said: Vec<u8>,
    /// Bytes of space before the answer.
    space: usize,
    /// Whether what was written fits the constraint.
    fits: bool,
    thought: bool,
}

#[derive(Clone, Debug)]
struct Past {
    state: State,
    /// Whether the matcher took the token.
    taken: bool,
    /// The matcher that took it, if the token turned out to be of a tag and another came in its place.
    replaced: Option<Matcher>,
}

impl Gate {
    /// A gate in front of `matcher`, which has taken nothing yet.
    pub fn new(matcher: Matcher, options: &GateOptions) -> Gate {
        let vocabulary = matcher.vocabulary();
        let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
        let think_close = bytes(&options.think_close).unwrap_or_default();
        let calls = options.call_opens.iter().filter(|open| !open.is_empty());
        let tags = Tags {
            think_open: bytes(&options.think_open)
                .filter(|open| !open.is_empty() && !think_close.is_empty()),
            thinking: thinking_mask(vocabulary, &think_close),
            call_opens: calls.map(|open| open.clone().into_bytes()).collect(),
            calls_within: options.calls_within,
            think_close,
        };
        let state = if options.inside && !tags.think_close.is_empty() {
            State::Thinking { tail: Vec::new() }
        } else if tags.think_open.is_none() && tags.call_opens.is_empty() {
            State::Held
        } else {
            State::Begin(Begin { said: vec![], space: 0, fits: true, thought: false })
        };
        let mask = Mask::none(vocabulary.n_vocab());
        let (tags, past) = (Arc::new(tags), VecDeque::new());
        let untouched = tags.think_open.as_ref().map(|_| matcher.fork());
        Gate { matcher, untouched, tags, state, mask, fresh: false, past }
    }

    /// The tokens that may come next.
    ///
    /// # Errors
    /// Those of [`Matcher::allowed`].
    pub fn allowed(&mut self) -> Result<&Mask> {
        if matches!(self.state, State::Held) {
            return self.matcher.allowed();
        }
        if !self.fresh {
            self.mask = self.compute()?;
            self.fresh = true;
        }
        Ok(&self.mask)
    }

    fn compute(&mut self) -> Result<Mask> {
        let vocabulary = self.matcher.vocabulary().clone();
        match &self.state {
            State::Thinking { tail } => Ok(self.tags.while_thinking(&vocabulary, tail)),
            State::Free { ended: true } => Ok(Mask::none(vocabulary.n_vocab())),
            State::Free { ended: false } => Ok(vocabulary.producible().clone()),
            State::Held => self.matcher.allowed().cloned(),
            State::Begin(begin) => {
                let mut mask = Mask::none(vocabulary.n_vocab());
                if begin.fits {
                    mask.extend(self.matcher.allowed()?);
                }
                for token in vocabulary.producible().tokens() {
                    let bytes = vocabulary.spelling(token);
                    if self.tags.may_open(begin, bytes) || begin.takes_space(bytes) {
                        mask.insert(token);
                    }
                }
                Ok(mask)
            }
        }
    }

    /// Computes now what [`Gate::allowed`] gives then. Errors come from there.
    pub(crate) fn prepare(&mut self) {
        // An error leaves the matcher in a state that gives it again.
        let _ = self.allowed();
    }

    /// Takes `token` as the next one.
    ///
    /// # Errors
    /// [`Error::NotAllowed`], after which nothing has changed; else those of [`Matcher::accept`].
    pub fn accept(&mut self, token: u32) -> Result<()> {
        let (state, taken) = self.after(token)?;
        let state = std::mem::replace(&mut self.state, state);
        let replaced = match (&state, &self.state, &self.untouched) {
            (State::Begin(begin), now, Some(untouched)) if !begin.thought && now.has_thought() => {
                Some(std::mem::replace(&mut self.matcher, untouched.fork()))
            }
            _ => None,
        };
        if self.past.len() == MOST_REMEMBERED {
            self.past.pop_front();
        }
        self.past.push_back(Past { state, taken, replaced });
        self.fresh = false;
        Ok(())
    }

    /// The state after `token`, and whether the matcher took it.
    fn after(&mut self, token: u32) -> Result<(State, bool)> {
        let vocabulary = self.matcher.vocabulary().clone();
        let refused = Err(Error::NotAllowed { token });
        if !vocabulary.producible().allows(token) {
            return refused;
        }
        let is_end = vocabulary.ends().binary_search(&token).is_ok();
        match &self.state {
            State::Held => self.matcher.accept(token).map(|()| (State::Held, true)),
            State::Free { ended: true } => refused,
            State::Free { ended: false } => Ok((State::Free { ended: is_end }, false)),
            State::Thinking { .. } if is_end => refused,
            State::Thinking { tail } => {
                let said = [tail, vocabulary.spelling(token)].concat();
                match self.tags.after_thinking(said) {
                    Some(state) => Ok((state, false)),
                    None => refused,
                }
            }
            State::Begin(begin) => {
                let begin = begin.clone();
                self.after_begin(begin, token, vocabulary.spelling(token))
            }
        }
    }

    fn after_begin(&mut self, begin: Begin, token: u32, bytes: &[u8]) -> Result<(State, bool)> {
        let said = [&begin.said, bytes].concat();
        let opened = self.tags.opened(&begin, &said)?;
        let taken = begin.fits
            && match self.matcher.accept(token) {
                Ok(()) => true,
                Err(Error::NotAllowed { .. }) => false,
                Err(error) => return Err(error),
            };
        let state = match opened {
            Some(state) => state,
            None if self.tags.opens(&begin).any(|open| open.starts_with(&said)) => {
                State::Begin(Begin { said, fits: taken, ..begin })
            }
            None if taken => State::Held,
            None if begin.takes_space(bytes) => {
                State::Begin(Begin { space: begin.space + bytes.len(), ..begin })
            }
            None => return Err(Error::NotAllowed { token }),
        };
        Ok((state, taken))
    }

    /// The tokens that must come next, see [`Matcher::forced`].
    ///
    /// # Errors
    /// Those of [`Matcher::forced`].
    pub fn forced(&mut self) -> Result<Vec<u32>> {
        match self.state {
            State::Held => self.matcher.forced(),
            _ => Ok(Vec::new()),
        }
    }

    /// Takes all tokens that must come next, and gives them: they go into the next step with the
    /// last token, and none is sampled.
    ///
    /// # Errors
    /// Those of [`Gate::forced`] and [`Gate::accept`].
    pub fn fast_forward(&mut self) -> Result<Vec<u32>> {
        let forced = self.forced()?;
        forced.iter().try_for_each(|&token| self.accept(token))?;
        Ok(forced)
    }

    /// Whether nothing more may follow.
    pub fn is_complete(&self) -> bool {
        match self.state {
            State::Held => self.matcher.is_complete(),
            State::Free { ended } => ended,
            _ => false,
        }
    }

    /// Whether the answer may end here.
    ///
    /// # Errors
    /// Those of [`Matcher::may_end`].
    pub fn may_end(&mut self) -> Result<bool> {
        match &self.state {
            State::Held => self.matcher.may_end(),
            State::Free { .. } => Ok(true),
            State::Begin(begin) if begin.fits => self.matcher.may_end(),
            _ => Ok(false),
        }
    }

    /// Whether some token is not allowed: while it is false, sampling needs no mask but for ends
    /// and ids that are never produced.
    pub fn is_holding(&self) -> bool {
        matches!(self.state, State::Held | State::Begin(_))
    }

    /// Takes back the last `n` tokens.
    ///
    /// # Errors
    /// [`Error::Rollback`] if fewer are remembered, of 1024 at most.
    pub fn rollback(&mut self, n: usize) -> Result<()> {
        let remembered = self.past.len();
        let Some(kept) = remembered.checked_sub(n) else {
            return Err(Error::Rollback { asked: n, remembered });
        };
        let mut taken = 0;
        for past in self.past.range(kept..).rev() {
            if let Some(matcher) = &past.replaced {
                self.matcher = matcher.fork();
                taken = 0;
            }
            taken += usize::from(past.taken);
        }
        self.matcher.rollback(taken)?;
        let mut undone = self.past.drain(kept..);
        if let Some(first) = undone.next() {
            self.state = first.state;
            self.fresh = false;
        }
        Ok(())
    }

    /// Another gate at the same place, for another answer to the same request.
    pub fn fork(&self) -> Gate {
        self.clone()
    }

    /// The constraint behind it.
    pub fn matcher(&self) -> &Matcher {
        &self.matcher
    }
}

impl From<Matcher> for Gate {
    fn from(matcher: Matcher) -> Gate {
        Gate::new(matcher, &GateOptions::default())
    }
}

impl State {
    /// Whether the model thinks, or has.
    fn has_thought(&self) -> bool {
        match self {
            State::Thinking { .. } => true,
            State::Begin(begin) => begin.thought,
            State::Free { .. } | State::Held => false,
        }
    }
}

impl Begin {
    /// Whether these bytes may stand between thinking and answer.
    fn takes_space(&self, bytes: &[u8]) -> bool {
        self.thought
            && self.said.is_empty()
            && self.space + bytes.len() <= MOST_SPACE
            && is_space(bytes)
    }
}

impl Tags {
    /// The tags that may come, thinking first.
    fn opens<'a>(&'a self, begin: &Begin) -> impl Iterator<Item = &'a Vec<u8>> + use<'a> {
        let think = self.think_open.as_ref().filter(|_| !begin.thought);
        think.into_iter().chain(&self.call_opens)
    }

    /// Whether `bytes` go on with a tag, or end it.
    fn may_open(&self, begin: &Begin, bytes: &[u8]) -> bool {
        !bytes.is_empty()
            && self.opens(begin).any(|open| {
                let rest = open.strip_prefix(begin.said.as_slice()).unwrap_or_default();
                !rest.is_empty() && (rest.starts_with(bytes) || bytes.starts_with(rest))
            })
    }

    /// The state behind the tag that `said` ends, if it ends one.
    fn opened(&self, begin: &Begin, said: &[u8]) -> Result<Option<State>> {
        if let Some(open) = self.think_open.as_ref().filter(|_| !begin.thought)
            && let Some(rest) = said.strip_prefix(open.as_slice())
        {
            return Ok(self.after_thinking(rest.to_vec()));
        }
        let called = self.call_opens.iter().any(|open| said.starts_with(open));
        Ok(called.then_some(State::Free { ended: false }))
    }

    /// The state after what was thought; none if the answer has begun in the token that closes it.
    fn after_thinking(&self, said: Vec<u8>) -> Option<State> {
        let close = &self.think_close;
        if let Some(at) = said.windows(close.len()).position(|part| part == close) {
            let space = said[at + close.len()..].len();
            let begin = Begin { said: vec![], space, fits: true, thought: true };
            return is_space(&said[at + close.len()..]).then_some(State::Begin(begin));
        }
        let opens = self.call_opens.iter().filter(|_| self.calls_within);
        if opens.clone().any(|open| said.windows(open.len()).any(|part| part == open)) {
            return Some(State::Free { ended: false });
        }
        let longest = opens.chain([close]).map(Vec::len).max().unwrap_or(close.len());
        let kept = said.len() - said.len().min(longest - 1);
        Some(State::Thinking { tail: said[kept..].to_vec() })
    }

    /// What may come after these last bytes of thinking.
    fn while_thinking(&self, vocabulary: &Vocabulary, tail: &[u8]) -> Mask {
        let mut mask = self.thinking.clone();
        let close = &self.think_close;
        for begun in 1..close.len().min(tail.len() + 1) {
            if !tail.ends_with(&close[..begun]) {
                continue;
            }
            for token in self.thinking.tokens() {
                let after = vocabulary.spelling(token).strip_prefix(&close[begun..]);
                if after.is_some_and(|after| !is_space(after)) {
                    mask.remove(token);
                }
            }
        }
        mask
    }
}

fn is_space(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_whitespace)
}

/// All tokens but ends, and but those that hold the closing tag and more than space behind it.
fn thinking_mask(vocabulary: &Vocabulary, close: &[u8]) -> Mask {
    let mut mask = vocabulary.producible().clone();
    vocabulary.ends().iter().for_each(|&end| mask.remove(end));
    if close.is_empty() {
        return mask;
    }
    for token in vocabulary.producible().tokens() {
        let bytes = vocabulary.spelling(token);
        let found = bytes.windows(close.len()).position(|part| part == close);
        if found.is_some_and(|at| !is_space(&bytes[at + close.len()..])) {
            mask.remove(token);
        }
    }
    mask
}

#[cfg(test)]
mod tests;
