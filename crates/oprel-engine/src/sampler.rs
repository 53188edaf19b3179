//! From logits to a token.
//!
//! # Order
//! 1. **Constraint** and **bans**: what is not allowed, and what is banned, leaves the running.
//! 2. **Logit bias** is added.
//! 3. **Penalties** for the last `repeat_last_n` tokens: repeat, then frequency and presence.
//! 4. **DRY** ([`Breakers`]).
//! 5. Temperature 0 ends here: the likeliest token, the smaller id among equals.
//! 6. **Mirostat**, if it is on, divides by the temperature, cuts and draws; nothing below applies.
//! 7. Cuts, each over what the one before left, at temperature 1: **top-n-sigma**, **top-k**,
//!    **typical**, **top-p**, **min-p**, **XTC**.
//! 8. **Temperature**, fixed or dynamic, and the draw.
//!
//! This is llama.cpp's default order, and its formulas, but for this:
//! * penalties and DRY also apply under Mirostat;
//! * temperature 0 is greedy also with a dynamic temperature or Mirostat;
//! * typical and top-p keep tokens until their probabilities reach the share, not exceed it;
//! * the dynamic temperature counts the tokens that top-n-sigma left, not those it took out;
//! * at temperatures near 0 tokens of equal logits stay equally likely.
//!
//! # Chance
//! All that is drawn is a function of seed, position and purpose alone (`random.rs`), so that a
//! sequence that is preempted, moved or resumed goes on with the same text. Only Mirostat has a
//! history: [`Sampler::observe`] gives it to a sampler that did not make the choices itself.
//!
//! # Speed
//! Tokens are sorted only where they are few (`few.rs`): those that `top_k` or a constraint leaves, or
//! all of a small vocabulary. Of many (`many.rs`), the cuts and the draw are found without sorting.

mod allowed;
mod board;
mod dry;
mod edits;
mod few;
mod many;
mod mirostat;
pub(crate) mod peaks;
mod random;
mod spread;
mod wish;

use std::cmp::Ordering;
use std::sync::Arc;

use oprel_api::Sampling;

use crate::{Error, Result};
use board::Board;
pub use dry::Breakers;
use edits::Edits;
use many::Many;
use peaks::Peaks;
use spread::Spread;
use wish::{Choice, Wish};

/// The largest number of tokens all of which are sorted.
const FEW: usize = 2048;

/// Chooses tokens for one sequence. A clone goes on as the original would.
#[derive(Clone, Debug)]
pub struct Sampler {
    how: Sampling,
    seed: u64,
    breakers: Arc<Breakers>,
    state: State,
}

/// What a sampler has learned from its choices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Mirostat's bound of surprise, in bits.
    mu: f64,
}

/// Where a token is to be chosen, and among which.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// The tokens before it: prompt and answer, as far as they are remembered.
    pub tokens: &'a [u32],
    /// How many tokens came before it, remembered or not.
    pub position: u64,
    /// Tokens that are not to be chosen.
    pub banned: &'a [u32],
    /// The only tokens that may be chosen: bit `id % 32` of word `id / 32`. Tokens beyond the words
    /// may not.
    pub allowed: Option<&'a [u32]>,
}

/// Room to work in; any sampler may use it. It holds nothing between choices.
#[derive(Debug)]
pub struct Scratch {
    /// Logits, where some had to be changed (n_vocab).
    edited: Vec<f32>,
    edits: Edits,
    peaks: Peaks,
    spread: Spread,
    /// What is still in the running, where it is little.
    left: Vec<Candidate>,
}

impl Scratch {
    /// Room that grows as it is needed.
    pub fn new() -> Scratch {
        Scratch {
            edited: Vec::new(),
            edits: Edits::default(),
            peaks: Peaks::default(),
            spread: Spread::new(),
            left: Vec::new(),
        }
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl<'a> Given<'a> {
    /// After these tokens, any token.
    pub fn after(tokens: &'a [u32]) -> Given<'a> {
        Given { tokens, position: tokens.len() as u64, ..Given::default() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
    p: f64,
}

impl Candidate {
    /// One whose probability is not known yet.
    fn new(id: u32, logit: f32) -> Candidate {
        // Minus zero becomes zero: it is no less likely.
        Candidate { id, logit: logit + 0.0, p: 0.0 }
    }

    /// Likeliest first; the smaller id first among equals.
    fn likelier(&self, other: &Candidate) -> Ordering {
        other.logit.total_cmp(&self.logit).then(self.id.cmp(&other.id))
    }

    /// How far below the largest logit it is, over a temperature.
    fn depth(&self, most: f32, temperature: f32) -> f64 {
        // Colder is as cold.
        (f64::from(most) - f64::from(self.logit)) / f64::from(temperature.max(1e-30))
    }
}

impl Sampler {
    /// Whether a sampler can be made of this.
    ///
    /// # Errors
    /// [`Error::Sampling`] with the name of a number that is out of range.
    pub fn check(how: &Sampling) -> Result<()> {
        Ok(how.validate()?)
    }

    /// A sampler without breakers; a missing seed is 0.
    ///
    /// # Errors
    /// As [`Sampler::check`].
    pub fn new(how: Sampling) -> Result<Sampler> {
        Sampler::check(&how)?;
        let state = State { mu: mirostat::first(how.mirostat.tau) };
        let seed = how.seed.unwrap_or(0);
        Ok(Sampler { how, seed, breakers: Arc::default(), state })
    }

    /// The same with the breakers of DRY, which [`Sampling`] has as texts.
    #[must_use]
    pub fn with_breakers(self, breakers: Arc<Breakers>) -> Sampler {
        Sampler { breakers, ..self }
    }

    /// The same with another seed: what it has learned stays.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Sampler {
        Sampler { seed, ..self }
    }

    /// Whether its choices depend on earlier ones beyond the tokens themselves.
    pub fn has_history(&self) -> bool {
        self.how.mirostat.is_on() && !self.how.is_greedy()
    }

    /// What it has learned until now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Goes back to what it had learned.
    pub fn restore(&mut self, state: State) {
        self.state = state;
    }

    /// The next token, from the model's logits (n_vocab).
    ///
    /// # Errors
    /// [`Error::Logits`] if there is nothing to choose from, or one of those is NaN.
    pub fn choose(
        &mut self,
        scratch: &mut Scratch,
        logits: &[f32],
        given: Given<'_>,
    ) -> Result<u32> {
        let choice = self.pick(scratch, logits, &given, None)?;
        self.learn(choice);
        Ok(choice.id)
    }

    /// Learns from a token as if it had chosen it itself. One that it could not have chosen, being
    /// banned, not allowed or of no logit, teaches nothing.
    ///
    /// # Errors
    /// As [`Sampler::choose`].
    pub fn observe(
        &mut self,
        scratch: &mut Scratch,
        logits: &[f32],
        given: Given<'_>,
        chosen: u32,
    ) -> Result<()> {
        if self.has_history() {
            let choice = self.pick(scratch, logits, &given, Some(chosen))?;
            self.learn(choice);
        }
        Ok(())
    }

    fn learn(&mut self, choice: Choice) {
        let m = &self.how.mirostat;
        self.state.mu = mirostat::learn(self.state.mu, choice.surprise, (m.tau, m.eta));
    }

    fn pick(
        &self,
        scratch: &mut Scratch,
        logits: &[f32],
        given: &Given<'_>,
        seen: Option<u32>,
    ) -> Result<Choice> {
        let wish = Wish {
            how: &self.how,
            seed: self.seed,
            position: given.position,
            mu: self.state.mu,
            n_vocab: logits.len(),
            seen,
        };
        let edits = scratch.edits.begin((&self.how, &self.breakers), given, logits.len());
        match given.allowed {
            Some(words) if allowed::count(words, logits.len()) <= FEW => {
                pick_of_allowed(scratch, logits, given, words, &wish)
            }
            _ => pick_of_all(scratch, logits, given, edits, &wish),
        }
    }
}

/// A choice among the few tokens that are allowed.
fn pick_of_allowed(
    scratch: &mut Scratch,
    logits: &[f32],
    given: &Given<'_>,
    words: &[u32],
    wish: &Wish<'_>,
) -> Result<Choice> {
    let left = &mut scratch.left;
    left.clear();
    allowed::each(words, logits.len(), |id| {
        left.push(Candidate::new(id, logits[id as usize]));
    });
    if left.iter().any(|c| c.logit.is_nan()) {
        return Err(NAN);
    }
    scratch.edits.apply(wish.how, given, &mut left[..]);
    left.retain(|c| c.logit.is_finite());
    if left.is_empty() {
        return Err(NOTHING);
    }
    left.iter_mut().for_each(|c| c.logit += 0.0);
    few::cut_to_sigma(left, wish);
    Ok(few::choose(left, wish))
}

/// A choice among all tokens, or all but a few.
fn pick_of_all(
    scratch: &mut Scratch,
    logits: &[f32],
    given: &Given<'_>,
    edits: bool,
    wish: &Wish<'_>,
) -> Result<Choice> {
    let Scratch { edited, edits: changes, peaks, spread, left } = scratch;
    let how = wish.how;
    let mut board = Board::new(logits, edited);
    let mut allowed = given.allowed;
    // Only what looks at single tokens looks at the words; the rest at a copy without the others.
    let whole = how.mirostat.is_on() || how.top_k == 0 || how.top_n_sigma > 0.0;
    if (edits || (whole && !how.is_greedy()))
        && let Some(words) = allowed.take()
    {
        board.mask(words);
    }
    if edits {
        changes.apply(how, given, board.edit());
    }
    if let Some(words) = allowed.filter(|_| how.is_greedy())
        && peaks.scan(logits, None)
        && let Some((best, _)) = peaks.likeliest(logits, None)
        && allowed::has(words, best)
    {
        // The likeliest of all is also that of those that are allowed; to find it costs less.
        return Ok(Choice::of(best));
    }
    if !peaks.scan(board.logits(), allowed) {
        return Err(NAN);
    }
    let (best, most) = peaks.likeliest(board.logits(), allowed).ok_or(NOTHING)?;
    if how.is_greedy() || (how.top_k == 1 && !how.mirostat.is_on()) {
        return Ok(Choice::of(best));
    }
    let k = if how.mirostat.is_on() { 0 } else { how.top_k as usize };
    if logits.len() > FEW && !peaks.tell(k) {
        if let Some(words) = allowed {
            board.mask(words);
        }
        return Ok(Many::new(board, peaks, spread, most).choose(wish));
    }
    let mut least = peaks.reached_by(k);
    if how.top_n_sigma > 0.0 && !how.mirostat.is_on() {
        least = least.max(wish.floor(most, spread.moments(board.logits(), most)));
    }
    left.clear();
    peaks.each_in(board.logits(), least..=f32::MAX, allowed, |id, logit| {
        left.push(Candidate::new(id, logit));
        true
    });
    Ok(few::choose(left, wish))
}

const NAN: Error = Error::Logits { what: "NaN" };
const NOTHING: Error = Error::Logits { what: "none that may be chosen is finite" };

#[cfg(test)]
mod tests;
