//! Greedy merging of neighbours, best pair first: the heart of both kinds of byte-pair encoding.
//!
//! Knows neither vocabulary nor ranks: the caller says how good a pair is. Of equally good pairs
//! the leftmost is merged first. Takes n log n steps for a word of n characters.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Words up to this many symbols are merged by looking at all pairs each time.
const SHORT: usize = 48;

/// Buffers of a merge, kept from word to word.
#[derive(Default)]
pub(crate) struct Merger {
    parts: Vec<(u32, u32)>, // start of a symbol, rank of the pair that starts there
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Pair>>,
}

#[derive(Clone, Copy)]
struct Symbol {
    prev: u32,
    next: u32,
    start: u32,
    len: u32, // 0 once it is part of its left neighbour
}

/// A candidate: ordered by rank, then by place. It is outdated when the two symbols from `left`
/// on are no longer `len` bytes long.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    rank: u32,
    left: u32,
    len: u32,
}

const NONE: u32 = u32::MAX;

impl Merger {
    /// Merges the characters of `word` and gives each final symbol to `out`.
    ///
    /// `rank(start, middle, end)` is the rank of the pair of symbols that these bytes of the word
    /// are, lower ones first, `None` for a pair that does not merge.
    pub(crate) fn merge<'w>(
        &mut self,
        word: &'w str,
        mut rank: impl FnMut(usize, usize, usize) -> Option<u32>,
        mut out: impl FnMut(&'w str),
    ) {
        let symbols = word.chars().take(SHORT + 1).count();
        if symbols <= SHORT {
            self.merge_short(word, &mut rank);
            let ends = self.parts.iter().skip(1).map(|part| part.0 as usize);
            let mut start = 0;
            for end in ends {
                out(&word[start..end]);
                start = end;
            }
        } else {
            self.merge_long(word, &mut rank);
            for s in self.symbols.iter().filter(|s| s.len > 0) {
                out(&word[s.start as usize..(s.start + s.len) as usize]);
            }
        }
    }

    fn merge_short(
        &mut self,
        word: &str,
        mut rank: impl FnMut(usize, usize, usize) -> Option<u32>,
    ) {
        let parts = &mut self.parts;
        parts.clear();
        parts.extend(word.char_indices().map(|(i, _)| (i as u32, NONE)));
        parts.push((word.len() as u32, NONE));
        let mut rank_at = |parts: &[(u32, u32)], i: usize| match parts.get(i..i + 3) {
            Some(p) => rank(p[0].0 as usize, p[1].0 as usize, p[2].0 as usize).unwrap_or(NONE),
            None => NONE,
        };
        for i in 0..parts.len() {
            parts[i].1 = rank_at(parts, i);
        }
        while let Some((best, _)) =
            parts.iter().enumerate().filter(|(_, p)| p.1 != NONE).min_by_key(|(_, p)| p.1)
        {
            parts.remove(best + 1);
            parts[best].1 = rank_at(parts, best);
            if let Some(before) = best.checked_sub(1) {
                parts[before].1 = rank_at(parts, before);
            }
        }
    }

    fn merge_long(&mut self, word: &str, mut rank: impl FnMut(usize, usize, usize) -> Option<u32>) {
        self.symbols.clear();
        self.queue.clear();
        for (i, (start, c)) in word.char_indices().enumerate() {
            let (prev, next) = ((i as u32).wrapping_sub(1), i as u32 + 1);
            self.symbols.push(Symbol { prev, next, start: start as u32, len: c.len_utf8() as u32 });
        }
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
        let mut seeds = std::mem::take(&mut self.queue).into_vec();
        seeds.extend((0..self.symbols.len()).filter_map(|i| self.pair(i as u32, &mut rank)));
        self.queue = seeds.into();
        while let Some(Reverse(best)) = self.queue.pop() {
            let left = self.symbols[best.left as usize];
            if left.len == 0 || left.next == NONE {
                continue;
            }
            let right = self.symbols[left.next as usize];
            if left.len + right.len != best.len {
                continue;
            }
            self.join(best.left, left.next);
            if left.prev != NONE {
                let pair = self.pair(left.prev, &mut rank);
                self.queue.extend(pair);
            }
            let pair = self.pair(best.left, &mut rank);
            self.queue.extend(pair);
        }
    }

    fn join(&mut self, left: u32, right: u32) {
        let Symbol { next, len, .. } = self.symbols[right as usize];
        self.symbols[right as usize].len = 0;
        self.symbols[left as usize].len += len;
        self.symbols[left as usize].next = next;
        if next != NONE {
            self.symbols[next as usize].prev = left;
        }
    }

    /// The candidate that starts at symbol `left`.
    fn pair(
        &self,
        left: u32,
        rank: &mut impl FnMut(usize, usize, usize) -> Option<u32>,
    ) -> Option<Reverse<Pair>> {
        let a = self.symbols[left as usize];
        if a.next == NONE {
            return None;
        }
        let b = self.symbols[a.next as usize];
        let rank = rank(a.start as usize, b.start as usize, (b.start + b.len) as usize)?;
        Some(Reverse(Pair { rank, left, len: a.len + b.len }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rank by a rule that has ties, so that the order among them shows.
    fn rank(word: &str) -> impl Fn(usize, usize, usize) -> Option<u32> + '_ {
        move |start, middle, end| {
            let (a, b) = (&word[start..middle], &word[middle..end]);
            let sum =
                a.bytes().chain(b.bytes()).fold(7u32, |h, b| h.wrapping_mul(31) ^ u32::from(b));
            (a.len() + b.len() < 6 && sum % 3 != 0).then_some(sum % 7)
        }
    }

    #[test]
    fn short_and_long_words_merge_alike() {
        let mut merger = Merger::default();
        let mut state = 1u32;
        for n in 0..SHORT {
            for _ in 0..50 {
                let word: String = (0..n)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        ['a', 'b', 'c', 'é'][(state >> 24) as usize % 4]
                    })
                    .collect();
                let mut short = Vec::new();
                merger.merge(&word, rank(&word), |s| short.push(s));
                merger.merge_long(&word, rank(&word));
                let long = merger.symbols.iter().filter(|s| s.len > 0);
                let long: Vec<&str> =
                    long.map(|s| &word[s.start as usize..][..s.len as usize]).collect();
                assert_eq!(short, long);
                assert_eq!(short.concat(), word);
            }
        }
    }
}
