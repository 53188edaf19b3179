//! What short words of one text have become, so that a common word is merged once.

/// Words longer than this are not kept.
const MAX_LEN: usize = 15;
/// Nor are words of more tokens than this.
const MAX_IDS: usize = 7;
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
struct Entry {
    word: u128, // its bytes and, on top, its length
    ids: [u32; MAX_IDS],
    n: u32,
}

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
        let mixed = (key as u64 ^ (key >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let entry = &mut self.entries[(mixed >> 52) as usize % SIZE];
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

#[inline]
fn pack(word: &str) -> Option<u128> {
    let len = word.len();
    if len == 0 || len > MAX_LEN {
        return None;
    }
    let mut bytes = [0; 16];
    bytes[..len].copy_from_slice(word.as_bytes());
    bytes[15] = len as u8;
    Some(u128::from_le_bytes(bytes))
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
