//! Sets of tokens as words of bits: token `id` is bit `id % 32` of word `id / 32`. Tokens beyond the
//! words are not in the set.

/// Tokens of a word.
pub(super) const WORD: usize = 32;

/// Whether a token is in the set.
pub(super) fn has(words: &[u32], id: u32) -> bool {
    words.get(id as usize / WORD).is_some_and(|word| word >> (id as usize % WORD) & 1 == 1)
}

/// How many of the first `n` tokens are in the set.
pub(super) fn count(words: &[u32], n: usize) -> usize {
    let whole = words.len().min(n / WORD);
    let part = words.get(n / WORD).map_or(0, |word| word & ((1 << (n % WORD)) - 1));
    words[..whole].iter().map(|word| word.count_ones() as usize).sum::<usize>()
        + part.count_ones() as usize
}

/// Gives those of the first `n` tokens that are in the set, in order.
pub(super) fn each(words: &[u32], n: usize, mut each: impl FnMut(u32)) {
    for (i, &word) in words.iter().enumerate().take(n.div_ceil(WORD)) {
        let mut left = word;
        while left != 0 {
            let id = (i * WORD) as u32 + left.trailing_zeros();
            if (id as usize) < n {
                each(id);
            }
            left &= left - 1;
        }
    }
}

/// Logits of at most a word's tokens, minus infinity where they are not in the set.
#[inline(always)]
pub(super) fn mask(word: u32, logits: &mut [f32]) {
    for (l, logit) in logits.iter_mut().enumerate() {
        *logit = if word & (1 << l) == 0 { f32::NEG_INFINITY } else { *logit };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_up_to_where_words_and_vocabulary_end() {
        let words = [1 << 31 | 1, 0, u32::MAX];
        for (n, ids) in [
            (0, vec![]),
            (1, vec![0]),
            (31, vec![0]),
            (32, vec![0, 31]),
            (66, vec![0, 31, 64, 65]),
            (500, [vec![0, 31], (64..96).collect()].concat()),
        ] {
            let mut found = Vec::new();
            each(&words, n, |id| found.push(id));
            assert_eq!(found, ids);
            assert_eq!(count(&words, n), ids.len());
        }
        assert!(has(&words, 31) && !has(&words, 30) && has(&words, 95) && !has(&words, 96));
    }
}
