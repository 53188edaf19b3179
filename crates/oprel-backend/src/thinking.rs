//! How long a model thinks: counted token by token, and ended where a request says so.
//!
//! What is counted depends on the tokens alone, so that an answer that is resumed, preempted or
//! computed beside others ends its thinking at the same place.

use std::sync::Arc;

use oprel_api::{Input, Request};
use oprel_chat::{ThinkSplitter, ThinkTags};
use oprel_engine::{Constraint, Guide};
use oprel_tokenizer::{TokenKind, TokenizeOptions, Tokenizer};

use crate::{Error, Facts, Result};

/// The field of a request that bounds thinking.
const FIELD: &str = "max_thinking_tokens";

/// Counts the tokens that a model thinks. Those of the tags around them are none.
#[derive(Clone)]
pub(crate) struct Meter {
    tokenizer: Tokenizer,
    splitter: ThinkSplitter,
    /// Control tokens that are read: those of tags.
    marks: Arc<[u32]>,
    thought: u32,
    /// Tokens that may be the beginning of the closing tag.
    closing: Vec<u32>,
}

impl Meter {
    /// For what comes after a prompt that leaves thinking open, or does not.
    pub(crate) fn new(tokenizer: &Tokenizer, tags: &ThinkTags, inside: bool) -> Meter {
        Meter {
            tokenizer: tokenizer.clone(),
            splitter: ThinkSplitter::new(tags.clone(), inside),
            marks: tags.tokens().filter_map(|tag| tokenizer.id_of(tag)).collect(),
            thought: 0,
            closing: Vec::new(),
        }
    }

    /// Takes the next token.
    pub(crate) fn take(&mut self, token: u32) {
        let before = self.splitter.is_thinking();
        let hidden =
            self.tokenizer.kind(token) == TokenKind::Control && !self.marks.contains(&token);
        if !hidden {
            self.splitter.push(&String::from_utf8_lossy(self.tokenizer.piece(token)));
        }
        match (before, self.splitter.is_thinking()) {
            (true, true) if self.splitter.may_close() => self.closing.push(token),
            (true, true) => self.thought += 1 + self.closing.drain(..).count() as u32,
            _ => self.closing.clear(),
        }
    }

    /// Tokens of thinking until now.
    pub(crate) fn thought(&self) -> u32 {
        self.thought + self.closing.len() as u32
    }

    /// Whether the next token is one of thinking, or of the tag that ends it.
    pub(crate) fn is_thinking(&self) -> bool {
        self.splitter.is_thinking()
    }
}

/// Ends thinking after so many tokens, in front of a request's own constraint.
struct Budget {
    meter: Meter,
    most: u32,
    close: Arc<[u32]>,
    /// How much of the closing tag was forced, while it is.
    forced: Option<usize>,
    /// Thinking was closed for the model, which must not do so again.
    closed: bool,
    n_vocab: u32,
    mask: Vec<u32>,
    then: Option<Guide>,
}

/// Puts the bound of a request on thinking, if there is one, in front of its constraint. `rendered` is
/// its prompt as a template made it. A model that does not think keeps to any bound.
///
/// # Errors
/// If the model thinks, and where it ends cannot be told or not be written.
pub(crate) fn bounded(
    facts: &Facts,
    request: &Request,
    rendered: Option<&str>,
    then: Option<Guide>,
) -> Result<Option<Guide>> {
    let Some(most) = request.limits.max_thinking_tokens.filter(|_| facts.can.thinking) else {
        return Ok(then);
    };
    let Some(prompt) = rendered else {
        // Without a template thinking is text like any other.
        let other = if matches!(request.input, Input::Tokens(_)) { "tokens" } else { "raw" };
        return Err(oprel_api::Error::Conflict { field: FIELD, other }.into());
    };
    let unmarked = Error::Unmarked { field: FIELD };
    let Some(tags) = &facts.can.think_tags else { return Err(unmarked) };
    let options = TokenizeOptions { add_special: false, parse_special: true };
    let close = facts.tokenizer.tokenize(&tags.close, options);
    let mut closed = Meter::new(&facts.tokenizer, tags, true);
    close.iter().for_each(|&token| closed.take(token));
    if closed.is_thinking() {
        return Err(unmarked);
    }
    let meter = Meter::new(&facts.tokenizer, tags, tags.left_open_by(prompt));
    Ok(Some(Guide(Box::new(Budget::new(meter, most, close, facts.n_vocab, then)))))
}

impl Budget {
    fn new(meter: Meter, most: u32, close: Vec<u32>, n_vocab: u32, then: Option<Guide>) -> Budget {
        let (close, mask) = (close.into(), Vec::new());
        let mut budget =
            Budget { meter, most, close, forced: None, closed: false, n_vocab, mask, then };
        budget.check();
        budget
    }

    /// Begins to close where enough was thought. What the model has begun to close goes on.
    fn check(&mut self) {
        if self.forced.is_none() && self.meter.is_thinking() && self.meter.thought() >= self.most {
            let begun = self.meter.closing.len();
            let goes_on = self.close.starts_with(&self.meter.closing);
            self.forced = Some(if goes_on { begun } else { 0 });
        }
    }

    /// What is to come of the closing tag.
    fn due(&self) -> &[u32] {
        self.forced.and_then(|at| self.close.get(at..)).unwrap_or_default()
    }
}

/// A mask of all tokens but one.
fn all_but(token: u32, n_vocab: u32, mask: &mut Vec<u32>) -> &[u32] {
    mask.clear();
    mask.resize(n_vocab.div_ceil(32) as usize, u32::MAX);
    if let Some(last) = mask.last_mut().filter(|_| !n_vocab.is_multiple_of(32)) {
        *last = (1 << (n_vocab % 32)) - 1;
    }
    if let Some(word) = mask.get_mut(token as usize / 32) {
        *word &= !(1 << (token % 32));
    }
    mask
}

impl Constraint for Budget {
    fn prepare(&mut self) {
        if let Some(then) = &mut self.then {
            then.0.prepare();
        }
    }

    fn allowed(&mut self) -> Result<Option<&[u32]>, String> {
        if let Some(&token) = self.due().first() {
            self.mask.clear();
            self.mask.resize(self.n_vocab.div_ceil(32) as usize, 0);
            if let Some(word) = self.mask.get_mut(token as usize / 32) {
                *word |= 1 << (token % 32);
            }
            return Ok(Some(&self.mask));
        }
        match (&mut self.then, &*self.close) {
            (Some(then), _) => then.0.allowed(),
            (None, &[close]) if self.closed => {
                Ok(Some(all_but(close, self.n_vocab, &mut self.mask)))
            }
            (None, _) => Ok(None),
        }
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        if let Some(then) = &mut self.then {
            then.0.accept(token)?;
        }
        self.meter.take(token);
        self.closed |= self.due() == [token];
        self.forced = match self.due() {
            [next, _, ..] if *next == token => self.forced.map(|at| at + 1),
            _ => None,
        };
        self.check();
        Ok(())
    }

    fn forced(&mut self) -> Vec<u32> {
        match &mut self.then {
            Some(then) if self.forced.is_none() => then.0.forced(),
            _ => self.due().to_vec(),
        }
    }

    fn is_complete(&mut self) -> bool {
        self.then.as_mut().is_some_and(|then| then.0.is_complete())
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Budget {
            meter: self.meter.clone(),
            close: self.close.clone(),
            mask: Vec::new(),
            then: self.then.clone(),
            ..*self
        })
    }
}

#[cfg(test)]
mod tests;
