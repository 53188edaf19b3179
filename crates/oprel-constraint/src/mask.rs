//! A set of tokens.

/// A set of tokens: one bit an id, in words of 32, lowest id in the lowest bit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    words: Vec<u32>,
}

impl Mask {
    /// The empty set over ids below `n_vocab`.
    pub fn none(n_vocab: usize) -> Mask {
        Mask { words: vec![0; n_vocab.div_ceil(32)] }
    }

    /// Whether `token` is in the set; ids beyond the vocabulary never are.
    #[inline]
    pub fn allows(&self, token: u32) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 != 0)
    }

    /// The bits, `ceil(n_vocab / 32)` words; bits beyond the vocabulary are 0.
    #[inline]
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// How many tokens are in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no token is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// The tokens of the set, ascending.
    pub fn tokens(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().zip(0u32..).flat_map(|(&word, at)| {
            let rest = move |w: &u32| Some(w & (w - 1)).filter(|&w| w != 0);
            std::iter::successors(Some(word).filter(|&w| w != 0), rest)
                .map(move |w| at * 32 + w.trailing_zeros())
        })
    }

    /// Puts `token` into the set; ids beyond the vocabulary are left out.
    pub(crate) fn insert(&mut self, token: u32) {
        if let Some(word) = self.words.get_mut(token as usize / 32) {
            *word |= 1 << (token % 32);
        }
    }

    pub(crate) fn remove(&mut self, token: u32) {
        if let Some(word) = self.words.get_mut(token as usize / 32) {
            *word &= !(1 << (token % 32));
        }
    }

    /// Puts all of `other` into the set.
    pub(crate) fn extend(&mut self, other: &Mask) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, more)| *word |= more);
    }

    /// Takes over the bits below `n_vocab` of `words`.
    pub(crate) fn copy_from(&mut self, words: &[u32], n_vocab: usize) {
        self.words.clear();
        self.words.extend_from_slice(&words[..words.len().min(n_vocab.div_ceil(32))]);
        self.words.resize(n_vocab.div_ceil(32), 0);
        if let Some(last) = self.words.last_mut().filter(|_| !n_vocab.is_multiple_of(32)) {
            *last &= (1 << (n_vocab % 32)) - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_out_as_they_went_in() {
        let mut mask = Mask::none(70);
        for token in [0, 31, 32, 69, 500] {
            mask.insert(token);
        }
        assert_eq!(mask.tokens().collect::<Vec<_>>(), [0, 31, 32, 69]);
        assert_eq!((mask.count(), mask.words().len()), (4, 3));
        mask.remove(31);
        assert!(!mask.allows(31) && mask.allows(32) && !mask.allows(500));
    }

    #[test]
    fn bits_beyond_the_vocabulary_are_cleared() {
        let mut mask = Mask::none(0);
        mask.copy_from(&[u32::MAX, u32::MAX, u32::MAX], 40);
        assert_eq!(mask.words(), [u32::MAX, 0xff]);
        mask.copy_from(&[1], 70);
        assert_eq!(mask.words(), [1, 0, 0]);
    }
}
