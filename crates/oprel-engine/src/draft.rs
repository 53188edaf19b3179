//! Proposals for the next tokens, from what the text repeats.
//!
//! A model that quotes its prompt, corrects a text or writes the same call again repeats runs of tokens.
//! The tokens that followed the latest ones when they stood in the text before are proposed, and checked
//! in one step: the choice at each place is the one that would have been made anyway, so the text is the
//! same. Whether a proposal is worth its place in a step is decided from what earlier ones brought.

use std::collections::HashMap;

/// Tokens that must be alike before a proposal.
const KEY: usize = 3;
/// Most tokens of a proposal.
pub(crate) const MOST: usize = 15;
/// How fast the rate of accepted tokens follows what happened.
const FOLLOW: f64 = 0.25;
/// Steps without a proposal after one that was not worth its place, at first and at most.
const REST: (u32, u32) = (4, 256);

/// Proposes for one sequence.
#[derive(Clone, Debug)]
pub(crate) struct Drafter {
    /// Where the tokens after a run of [`KEY`] tokens begin, the latest and the one before.
    after: HashMap<[u32; KEY], [u32; 2]>,
    /// Tokens of the text that `after` knows.
    known: usize,
    /// How likely a proposed token is right if those before it are.
    rate: f64,
    /// Steps until the next proposal, and how many there were after the last bad one.
    rests: u32,
    rest: u32,
    /// Tokens proposed.
    pub(crate) drafted: u32,
    /// Of those, taken.
    pub(crate) accepted: u32,
}

impl Drafter {
    pub(crate) fn new() -> Drafter {
        Drafter {
            after: HashMap::new(),
            known: 0,
            rate: 0.7,
            rests: 0,
            rest: REST.0,
            drafted: 0,
            accepted: 0,
        }
    }

    /// The text is another one.
    pub(crate) fn forget(&mut self) {
        self.after.clear();
        self.known = 0;
    }

    /// Up to `most` tokens that may follow `tokens`. `cost` tells how many times as long as now a step
    /// would take with so many more tokens.
    pub(crate) fn propose(
        &mut self,
        tokens: &[u32],
        most: usize,
        cost: impl Fn(usize) -> Option<f64>,
    ) -> Vec<u32> {
        self.learn(tokens);
        if self.rests > 0 {
            self.rests -= 1;
            return Vec::new();
        }
        let Some(at) = self.find(tokens) else { return Vec::new() };
        let there = (tokens.len() - at).min(most.min(MOST));
        match self.worth(there, cost) {
            0 => {
                // Texts change: what did not pay is tried again some day.
                self.rate = (self.rate + 0.002).min(0.7);
                Vec::new()
            }
            n => tokens[at..at + n].to_vec(),
        }
    }

    /// Learns the places of the tokens that are new.
    fn learn(&mut self, tokens: &[u32]) {
        for end in self.known.max(KEY)..tokens.len() {
            let mut key = [0; KEY];
            key.copy_from_slice(&tokens[end - KEY..end]);
            let places = self.after.entry(key).or_insert([u32::MAX; 2]);
            *places = [end as u32, places[0]];
        }
        self.known = tokens.len();
    }

    /// Where the tokens stand that followed the latest ones before: of two places the one before which
    /// more is alike.
    fn find(&self, tokens: &[u32]) -> Option<usize> {
        let key = tokens.len().checked_sub(KEY)?;
        let key: [u32; KEY] = tokens[key..].try_into().ok()?;
        let places = self.after.get(&key)?.iter().filter(|&&at| at != u32::MAX);
        let alike = |at: usize| {
            let pairs = tokens[..at].iter().rev().zip(tokens.iter().rev());
            pairs.take(64).take_while(|(a, b)| a == b).count()
        };
        places.map(|&at| at as usize).max_by_key(|&at| (alike(at), at))
    }

    /// How many of `n` proposed tokens bring most tokens a second; 0 if none brings more.
    fn worth(&self, n: usize, cost: impl Fn(usize) -> Option<f64>) -> usize {
        let mut expected = 1.0;
        let mut right = 1.0;
        let mut best = (1.05, 0);
        for k in 1..=n {
            right *= self.rate;
            expected += right;
            // Before anything was measured, as if it cost nothing.
            let speed = cost(k).map_or(expected, |cost| expected / cost);
            if speed > best.0 {
                best = (speed, k);
            }
        }
        best.1
    }

    /// What became of a proposal: so many of its tokens were taken.
    pub(crate) fn learn_outcome(&mut self, proposed: usize, taken: usize) {
        if proposed == 0 {
            return;
        }
        self.drafted += proposed as u32;
        self.accepted += taken as u32;
        // Tokens after the first wrong one tell nothing.
        let tried = (taken + 1).min(proposed) as f64;
        let weight = 1.0 - (1.0 - FOLLOW).powf(tried);
        self.rate += weight * (taken as f64 / tried - self.rate);
        if taken == 0 {
            self.rests = self.rest;
            self.rest = (self.rest * 2).min(REST.1);
        } else {
            self.rest = REST.0;
            self.rate = self.rate.max(0.3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_before_is_proposed() {
        let mut drafter = Drafter::new();
        let text = [1, 2, 3, 4, 5, 6, 9, 1, 2, 3];
        assert_eq!(drafter.propose(&text, 8, |_| Some(1.0)), [4, 5, 6, 9, 1, 2, 3]);
        assert_eq!(drafter.propose(&text, 2, |_| Some(1.0)), [4, 5]);
        assert_eq!(drafter.propose(&[7; 2], 8, |_| Some(1.0)), [0; 0]);
    }

    #[test]
    fn of_two_places_the_one_with_more_alike_is_taken() {
        let mut drafter = Drafter::new();
        let text = [8, 1, 2, 3, 4, 0, 7, 1, 2, 3, 5, 0, 8, 1, 2, 3];
        assert_eq!(drafter.propose(&text, 1, |_| Some(1.0)), [4]);
    }

    #[test]
    fn a_proposal_that_costs_more_than_it_brings_is_not_made() {
        let mut drafter = Drafter::new();
        let text = [1, 2, 3, 4, 1, 2, 3];
        let dear = |k: usize| Some(1.0 + k as f64);
        assert_eq!(drafter.propose(&text, 4, dear), [0; 0]);
    }

    #[test]
    fn one_who_is_wrong_is_asked_less_and_less() {
        let mut drafter = Drafter::new();
        let text = [1, 2, 3, 4, 1, 2, 3];
        let mut proposals = 0;
        for _ in 0..1000 {
            let proposed = drafter.propose(&text, 4, |_| Some(1.0)).len();
            proposals += usize::from(proposed > 0);
            drafter.learn_outcome(proposed, 0);
        }
        assert!((3..16).contains(&proposals), "{proposals}");
    }
}
