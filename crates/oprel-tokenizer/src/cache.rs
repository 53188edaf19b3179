//! What one text has taught: which tokens a short word has become, how early a pair merges. A common
//! word is merged once, and a common pair is looked up once.

use crate::hash::up_to_eight;

/// Words longer than this are not kept.
const MAX_LEN: usize = 23;
/// Nor are words of more tokens than this.
const MAX_IDS: usize = 9;
/// Entries of the table, a power of two.
const SIZE: usize = 4096;
/// Texts shorter than this repeat too little for the table to pay.
const WORTHWHILE: usize = 2048;

/// A direct-mapped table from words to their tokens, for the length of one call.
#[derive(Default)]
pub(crate) struct WordCache {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Default)]
#[repr(align(64))] // one line of a core's cache
struct Entry {
    word: Key,
    ids: [u32; MAX_IDS],
    n: u32,
}

/// A word's bytes and, last, its length.
type Key = [u64; 3];

impl WordCache {
    /// A cache fit for a text of `len` bytes.
    pub(crate) fn for_text(len: usize) -> WordCache {
        let size = if len < WORTHWHILE { 0 } else { SIZE };
        WordCache { entries: vec![Entry::default(); size] }
    }

    /// Adds the tokens of `word` to `out`: those it became before, or those that `make` adds.
    #[inline]
    pub(crate) fn get_or(
        &mut self,
        word: &str,
        out: &mut Vec<u32>,
        make: impl FnOnce(&mut Vec<u32>),
    ) {
        let Some(key) = pack(word).filter(|_| !self.entries.is_empty()) else {
            return make(out);
        };
        let entry = &mut self.entries[place(key) % SIZE];
        if entry.word == key {
            out.extend_from_slice(&entry.ids[..entry.n as usize]);
            return;
        }
        let start = out.len();
        make(out);
        let made = &out[start..];
        if made.len() <= MAX_IDS {
            entry.word = key;
            entry.n = made.len() as u32;
            entry.ids[..made.len()].copy_from_slice(made);
        }
    }
}

/// A direct-mapped table from pairs of short symbols to their rank, for the length of one call.
#[derive(Default)]
pub(crate) struct PairCache {
    entries: Vec<Pair>,
}

#[derive(Clone, Copy, Default)]
struct Pair {
    left: u64,
    right: u64,
    lens: u32, // of both sides; 0 in a free entry
    rank: u32,
}

/// Symbols longer than this are not kept.
const MAX_SYMBOL: usize = 8;

impl PairCache {
    /// A cache fit for a text of `len` bytes.
    pub(crate) fn for_text(len: usize) -> PairCache {
        let size = if len < WORTHWHILE { 0 } else { 2 * SIZE };
        PairCache { entries: vec![Pair::default(); size] }
    }

    /// The rank of a pair, as found before or as `find` finds it.
    #[inline]
    pub(crate) fn get_or(
        &mut self,
        left: &str,
        right: &str,
        find: impl FnOnce() -> Option<u32>,
    ) -> Option<u32> {
        let short = left.len() <= MAX_SYMBOL && right.len() <= MAX_SYMBOL;
        if !short || self.entries.is_empty() {
            return find();
        }
        let lens = (left.len() << 8 | right.len()) as u32;
        let (left, right) = (up_to_eight(left.as_bytes()), up_to_eight(right.as_bytes()));
        let mixed = (left.rotate_left(29) ^ right).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let entry = &mut self.entries[(mixed >> 48) as usize % (2 * SIZE)];
        if entry.left != left || entry.right != right || entry.lens != lens {
            *entry = Pair { left, right, lens, rank: find().unwrap_or(u32::MAX) };
        }
        Some(entry.rank).filter(|&rank| rank != u32::MAX)
    }
}

#[inline]
fn pack(word: &str) -> Option<Key> {
    let len = word.len();
    if len == 0 || len > MAX_LEN {
        return None;
    }
    let mut bytes = [0; 24];
    bytes[..len].copy_from_slice(word.as_bytes());
    bytes[23] = len as u8;
    let (parts, _) = bytes.as_chunks::<8>();
    Some([0, 1, 2].map(|i| u64::from_le_bytes(parts[i])))
}

#[inline]
fn place(key: Key) -> usize {
    let mixed = (key[0] ^ key[1].rotate_left(21) ^ key[2].rotate_left(42))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 48) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_made_once_and_every_word_keeps_its_own_tokens() {
        let mut cache = WordCache::for_text(1 << 20);
        for round in 0..2 {
            for n in 0..200u32 {
                let (word, mut out, mut made) = (format!("w{n}"), vec![9], false);
                cache.get_or(&word, &mut out, |out| {
                    made = true;
                    out.extend([n, n + 1]);
                });
                assert_eq!(out, [9, n, n + 1]);
                assert!(made || round == 1);
            }
        }
    }
}
