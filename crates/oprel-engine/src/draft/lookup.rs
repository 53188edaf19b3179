//! Proposals from what the text repeats: the tokens that followed the latest ones when they stood in
//! the text before.

use std::collections::HashMap;

/// Tokens that must be alike before a proposal.
const KEY: usize = 3;

/// Where runs of tokens stand in one text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookup {
    /// Where the tokens after a run of [`KEY`] tokens begin, the latest and the one before.
    after: HashMap<[u32; KEY], [u32; 2]>,
    /// Tokens of the text that `after` knows.
    known: usize,
}

impl Lookup {
    /// The text is another one.
    pub(crate) fn forget(&mut self) {
        self.after.clear();
        self.known = 0;
    }

    /// Up to `most` tokens that may follow `tokens`.
    pub(crate) fn find<'a>(&mut self, tokens: &'a [u32], most: usize) -> &'a [u32] {
        self.learn(tokens);
        match self.place(tokens) {
            Some(at) => &tokens[at..tokens.len().min(at + most)],
            None => &[],
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
    fn place(&self, tokens: &[u32]) -> Option<usize> {
        let key = tokens.len().checked_sub(KEY)?;
        let key: [u32; KEY] = tokens[key..].try_into().ok()?;
        let places = self.after.get(&key)?.iter().filter(|&&at| at != u32::MAX);
        let alike = |at: usize| {
            let pairs = tokens[..at].iter().rev().zip(tokens.iter().rev());
            pairs.take(64).take_while(|(a, b)| a == b).count()
        };
        places.map(|&at| at as usize).max_by_key(|&at| (alike(at), at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_before_is_proposed() {
        let mut lookup = Lookup::default();
        let text = [1, 2, 3, 4, 5, 6, 9, 1, 2, 3];
        assert_eq!(lookup.find(&text, 8), [4, 5, 6, 9, 1, 2, 3]);
        assert_eq!(lookup.find(&text, 2), [4, 5]);
        assert_eq!(lookup.find(&[7; 2], 8), [0; 0]);
    }

    #[test]
    fn of_two_places_the_one_with_more_alike_is_taken() {
        let mut lookup = Lookup::default();
        let text = [8, 1, 2, 3, 4, 0, 7, 1, 2, 3, 5, 0, 8, 1, 2, 3];
        assert_eq!(lookup.find(&text, 1), [4]);
    }
}
