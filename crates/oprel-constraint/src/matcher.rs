//! One constraint, followed token by token.

use std::fmt;
use std::sync::Arc;

use oprel_api::Constraint;

use crate::compile::{Source, failure};
use crate::{Error, Mask, Result, Vocabulary};

/// A constraint and how far an answer has come in it.
///
/// A clone goes its own way from here: nothing is shared that one could spoil for the other.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let tokenizer: oprel_tokenizer::Tokenizer = todo!();
/// use oprel_api::Constraint;
/// use oprel_constraint::{Matcher, Vocabulary};
///
/// let vocabulary = Vocabulary::new(&tokenizer, 128_256)?;
/// let mut matcher = Matcher::new(&vocabulary, &Constraint::JsonObject)?;
/// for token in matcher.forced()? {
///     matcher.accept(token)?;
/// }
/// let allowed = matcher.allowed()?;
/// let token = allowed.tokens().next().expect("some token can go on");
/// matcher.accept(token)?;
/// # Ok(())
/// # }
/// ```
pub struct Matcher {
    vocabulary: Arc<Vocabulary>,
    inner: llguidance::Matcher,
    mask: Mask,
    /// Whether `mask` is of this place.
    fresh: bool,
    /// Tokens taken, an end not among them.
    n_taken: usize,
    /// An end was taken.
    ended: bool,
}

impl Matcher {
    /// Compiles `constraint`; nothing of the answer is written yet.
    ///
    /// # Errors
    /// What is wrong with the constraint, by name and place; [`Error::TooLarge`] and
    /// [`Error::TooComplex`] for what no request needs.
    pub fn new(vocabulary: &Arc<Vocabulary>, constraint: &Constraint) -> Result<Matcher> {
        Matcher::of(vocabulary, Source::of(constraint)?)
    }

    pub(crate) fn of(vocabulary: &Arc<Vocabulary>, source: Source) -> Result<Matcher> {
        let parser = source.compile(vocabulary)?;
        Ok(Matcher {
            inner: llguidance::Matcher::new(Ok(parser)),
            vocabulary: vocabulary.clone(),
            mask: Mask::none(vocabulary.n_vocab()),
            fresh: false,
            n_taken: 0,
            ended: false,
        })
    }

    /// The tokens that may come next. Ends are among them only where the text is complete.
    ///
    /// # Errors
    /// [`Error::DeadEnd`] if there are none, [`Error::TooComplex`] if they cannot be told in time.
    pub fn allowed(&mut self) -> Result<&Mask> {
        if !self.fresh {
            self.compute()?;
            self.fresh = true;
        }
        Ok(&self.mask)
    }

    fn compute(&mut self) -> Result<()> {
        let n_vocab = self.vocabulary.n_vocab();
        if self.ended {
            self.mask = Mask::none(n_vocab);
            return Ok(());
        }
        if self.is_complete() {
            self.mask = Mask::none(n_vocab);
            self.vocabulary.ends().iter().for_each(|&end| self.mask.insert(end));
            return Ok(());
        }
        let mask = self.inner.compute_mask();
        let mask = mask.map_err(|e| self.failure(&e.to_string()))?;
        self.mask.copy_from(mask.as_slice(), n_vocab);
        Ok(())
    }

    /// Takes `token` as the next one.
    ///
    /// # Errors
    /// [`Error::NotAllowed`], after which nothing has changed; [`Error::TooComplex`].
    pub fn accept(&mut self, token: u32) -> Result<()> {
        let refused = Err(Error::NotAllowed { token });
        if self.ended || (self.fresh && !self.mask.allows(token)) {
            return refused;
        }
        if self.vocabulary.ends().binary_search(&token).is_ok() {
            self.ended = self.may_end()?;
            self.fresh &= !self.ended;
            return if self.ended { Ok(()) } else { refused };
        }
        if token as usize >= self.vocabulary.n_vocab() || self.is_complete() {
            return refused;
        }
        let taken = match std::mem::take(&mut self.fresh) {
            true => self.inner.consume_token(token).map(|()| 1),
            false => self.inner.try_consume_tokens(&[token]),
        };
        if taken.map_err(|e| self.failure(&e.to_string()))? == 0 {
            return refused;
        }
        self.n_taken += 1;
        Ok(())
    }

    /// The tokens that must come next, in the way the model's tokenizer cuts their text; often
    /// none. They are not taken by this.
    ///
    /// # Errors
    /// [`Error::TooComplex`] if they cannot be told in time.
    pub fn forced(&mut self) -> Result<Vec<u32>> {
        if self.is_complete() || !self.vocabulary.forces() {
            return Ok(Vec::new());
        }
        let tokens = self.inner.compute_ff_tokens();
        match self.inner.get_error() {
            Some(message) => Err(self.failure(&message)),
            None => Ok(tokens),
        }
    }

    /// Whether nothing more may follow: the text is complete and cannot go on, or an end was taken.
    pub fn is_complete(&self) -> bool {
        self.ended || (self.inner.is_stopped() && !self.inner.is_error())
    }

    /// Whether the text is complete as it is, so that the answer may end here.
    ///
    /// # Errors
    /// [`Error::TooComplex`] if it cannot be told in time.
    pub fn may_end(&mut self) -> Result<bool> {
        if self.is_complete() {
            return Ok(true);
        }
        let accepting = self.inner.is_accepting();
        accepting.map_err(|e| self.failure(&e.to_string()))
    }

    /// Takes back the last `n` tokens.
    ///
    /// # Errors
    /// [`Error::Rollback`] if fewer were taken.
    pub fn rollback(&mut self, n: usize) -> Result<()> {
        let remembered = self.n_taken + usize::from(self.ended);
        if n > remembered {
            return Err(Error::Rollback { asked: n, remembered });
        }
        if n == 0 {
            return Ok(());
        }
        let of_text = n - usize::from(self.ended);
        self.inner.rollback(of_text).map_err(|e| self.failure(&e.to_string()))?;
        self.n_taken -= of_text;
        self.ended = false;
        self.fresh = false;
        Ok(())
    }

    /// Another matcher at the same place, for another answer to the same request.
    pub fn fork(&self) -> Matcher {
        self.clone()
    }

    /// The vocabulary it was made for.
    pub fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    /// What a message of the matcher means.
    fn failure(&self, message: &str) -> Error {
        let says = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
        if says(&["NoExtensionBias"]) {
            return Error::DeadEnd;
        }
        match failure(message, false) {
            Error::Grammar { reason, .. }
                if says(&["lexer error", "Parser Error", "TooComplex"]) =>
            {
                Error::TooComplex { reason }
            }
            Error::Grammar { reason, .. } => Error::Internal { reason },
            other => other,
        }
    }
}

impl Clone for Matcher {
    fn clone(&self) -> Matcher {
        Matcher {
            vocabulary: self.vocabulary.clone(),
            inner: self.inner.deep_clone(),
            mask: self.mask.clone(),
            fresh: self.fresh,
            n_taken: self.n_taken,
            ended: self.ended,
        }
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("n_taken", &self.n_taken)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
