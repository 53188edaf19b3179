//! "Don't repeat yourself": tokens that would continue a repetition lose
//! `multiplier * base^(length - allowed_length)`, where `length` counts the tokens at the end of the
//! text that stand elsewhere in the window, before that token. No repetition reaches back over a
//! breaker.
//!
//! Lengths are found for all places at once in linear time, by the Z function of the reversed window.

use oprel_api::Dry;

use super::board::Logits;
use super::edits::{edit, last};

/// Most tokens of a breaker after its first.
const LONGEST_TAIL: usize = 20;

/// The texts that break repetitions, as tokens of one vocabulary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breakers {
    /// Tokens that hold a whole breaker (bits).
    whole: Vec<u32>,
    /// Tokens that hold a whole breaker or the beginning of one (bits).
    any: Vec<u32>,
    /// Tokens with the beginning of a breaker, and the tokens of its rest; in the order of tokens.
    tails: Vec<(u32, Vec<u32>)>,
}

impl Breakers {
    /// Finds the breakers in a vocabulary of `n_vocab`. `piece` gives the text of a token;
    /// `tokenize` the tokens of a rest of a breaker, none where it is no text.
    ///
    /// A breaker that two tokens share is known by its usual tokens: those of its rest.
    pub fn find<'a>(
        breakers: &[String],
        n_vocab: u32,
        piece: impl Fn(u32) -> &'a [u8],
        tokenize: impl Fn(&[u8]) -> Vec<u32>,
    ) -> Breakers {
        let mut found = Breakers::default();
        let breakers: Vec<&[u8]> =
            breakers.iter().map(String::as_bytes).filter(|b| !b.is_empty()).collect();
        if breakers.is_empty() {
            return found;
        }
        let words = (n_vocab as usize).div_ceil(32);
        (found.whole, found.any) = (vec![0; words], vec![0; words]);
        let mut begins = [false; 256];
        breakers.iter().for_each(|b| begins[usize::from(b[0])] = true);
        for id in 0..n_vocab {
            let text = piece(id);
            if text.iter().any(|&byte| begins[usize::from(byte)]) {
                breakers.iter().for_each(|breaker| found.look(id, text, breaker, &tokenize));
            }
        }
        found.tails.sort_unstable();
        found.tails.dedup();
        found
    }

    fn look(
        &mut self,
        id: u32,
        text: &[u8],
        breaker: &[u8],
        tokenize: &impl Fn(&[u8]) -> Vec<u32>,
    ) {
        let (word, bit) = (id as usize / 32, 1 << (id % 32));
        if text.windows(breaker.len()).any(|part| part == breaker) {
            self.whole[word] |= bit;
            self.any[word] |= bit;
            return;
        }
        for n in (1..breaker.len()).filter(|&n| text.ends_with(&breaker[..n])) {
            let mut tail = tokenize(&breaker[n..]);
            tail.truncate(LONGEST_TAIL);
            if !tail.is_empty() {
                self.any[word] |= bit;
                self.tails.push((id, tail));
            }
        }
    }

    /// Whether a token by itself breaks a repetition.
    fn breaks(&self, id: u32) -> bool {
        super::allowed::has(&self.whole, id)
    }

    /// How many tokens follow the last breaker; all of them if there is none.
    fn since_last(&self, tokens: &[u32]) -> usize {
        if self.any.is_empty() {
            return tokens.len();
        }
        for (after, &id) in tokens.iter().rev().enumerate() {
            if !super::allowed::has(&self.any, id) {
                continue;
            }
            let following = &tokens[tokens.len() - after..];
            let from = self.tails.partition_point(|(head, _)| *head < id);
            let tails = self.tails[from..].iter().take_while(|(head, _)| *head == id);
            let longest = tails
                .filter(|(_, tail)| following.starts_with(tail))
                .map(|(_, tail)| tail.len())
                .max()
                .or(self.breaks(id).then_some(0));
            if let Some(n) = longest {
                return after - n;
            }
        }
        tokens.len()
    }
}

/// Repetitions at the end of a text, and room to find them.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Tokens that would continue one, and its length.
    found: Vec<(u32, u32)>,
    /// Of every place, counted from the end, how many tokens before it are those at the end.
    same: Vec<u32>,
}

impl Repeats {
    /// Looks for repetitions; whether there are any. `longest` (n_vocab) holds zeros, before and
    /// after.
    pub(super) fn find(
        &mut self,
        dry: &Dry,
        breakers: &Breakers,
        tokens: &[u32],
        longest: &mut [u32],
    ) -> bool {
        self.found.clear();
        let window = last(tokens, dry.last_n);
        let allowed = dry.allowed_length as usize;
        if !dry.is_on() || window.len() <= allowed {
            return false;
        }
        let limit = breakers.since_last(window);
        if limit < allowed {
            return false;
        }
        self.match_ends(window);
        let n = window.len();
        // Lengths are stored plus one: zero is none.
        for (k, &same) in self.same.iter().enumerate().skip(1) {
            let (length, next) = ((same as usize).min(limit), window[n - k]);
            let Some(known) = longest.get_mut(next as usize) else { continue };
            if length < allowed || breakers.breaks(next) {
                continue;
            }
            if *known == 0 {
                self.found.push((next, 0));
            }
            *known = (*known).max(length as u32 + 1);
        }
        for (id, length) in &mut self.found {
            *length = std::mem::take(&mut longest[*id as usize]) - 1;
        }
        !self.found.is_empty()
    }

    /// The Z function of the window, read from its end.
    fn match_ends(&mut self, window: &[u32]) {
        let n = window.len();
        let at = |i: usize| window[n - 1 - i];
        self.same.clear();
        self.same.resize(n, 0);
        let (mut left, mut right) = (0, 0);
        for k in 1..n {
            let known = if k < right { self.same[k - left] as usize } else { 0 };
            let mut length = known.min(right.saturating_sub(k));
            if k + length >= right {
                while k + length < n && at(length) == at(k + length) {
                    length += 1;
                }
                (left, right) = (k, k + length);
            }
            self.same[k] = length as u32;
        }
    }

    /// Takes the penalties from the logits. They end before the range of numbers does: what repeats
    /// may still be all that is left.
    pub(super) fn penalize(&self, dry: &Dry, logits: &mut (impl Logits + ?Sized)) {
        for &(id, length) in &self.found {
            let power = f64::from(length) - f64::from(dry.allowed_length);
            let penalty = f64::from(dry.multiplier) * f64::from(dry.base).powf(power);
            edit(logits, id, |logit| (f64::from(logit) - penalty).max(f64::from(f32::MIN)) as f32);
        }
    }
}

#[cfg(test)]
mod tests;
