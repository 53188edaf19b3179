//! SentencePiece's precompiled normalisation: a compact double array from character sequences to
//! their replacements.
//!
//! Layout: the array's length in bytes as u32, the array of u32, then the replacements, each ended
//! by a zero. An entry has its base in bits 10 to 30 (shifted by 8 more if bit 9 is set), its label
//! in bits 0 to 7, and bit 8 set if its base leads to a replacement's offset. See Kanda 2018.

use crate::error::{Error, Result};

/// The replacements of a Unigram vocabulary.
#[derive(Default)]
pub(crate) struct CharsMap {
    array: Vec<u32>,
    texts: Vec<u8>,
}

/// Longer replacements are not made: no character has one (the longest known are of 33 bytes), and
/// a text must not grow without bounds.
const LONGEST: usize = 256;

impl CharsMap {
    /// Reads the table; none at all replaces nothing.
    pub(crate) fn read(blob: &[u8]) -> Result<CharsMap> {
        if blob.is_empty() {
            return Ok(CharsMap::default());
        }
        let damaged = |why| Error::CharsMap { why };
        let (len, rest) = blob.split_first_chunk().ok_or(damaged("it has no length"))?;
        let len = u32::from_le_bytes(*len) as usize;
        if len >= rest.len() {
            return Err(damaged("its array is longer than the whole"));
        }
        let (array, texts) = rest.split_at(len);
        let (entries, _) = array.as_chunks::<4>();
        Ok(CharsMap {
            array: entries.iter().map(|e| u32::from_le_bytes(*e)).collect(),
            texts: texts.to_vec(),
        })
    }

    /// The replacement of the longest sequence that `text` begins with, and that sequence's length.
    ///
    /// An entry that leads outside the table ends the search: damage replaces nothing.
    pub(crate) fn longest(&self, text: &[u8]) -> Option<(&[u8], usize)> {
        let mut at = base(*self.array.first()?);
        let mut found = None;
        for (i, &byte) in text.iter().enumerate() {
            at ^= u32::from(byte);
            let Some(&entry) = self.array.get(at as usize) else { break };
            if byte == 0 || entry & (1 << 31 | 0xFF) != u32::from(byte) {
                break;
            }
            at ^= base(entry);
            if entry >> 8 & 1 == 1 {
                let Some(&leaf) = self.array.get(at as usize) else { break };
                found = Some((leaf & !(1 << 31), i + 1));
            }
        }
        let (offset, len) = found?;
        let text = self.texts.get(offset as usize..)?;
        let end = text.iter().take(LONGEST + 1).position(|&b| b == 0)?;
        Some((&text[..end], len))
    }
}

fn base(entry: u32) -> u32 {
    (entry >> 10) << ((entry & (1 << 9)) >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_points_outside_itself_replaces_nothing() {
        for fill in [0x00, 0xFF, 0x61, 0x80] {
            let mut blob = 64u32.to_le_bytes().to_vec();
            blob.extend([fill; 80]);
            let map = CharsMap::read(&blob).expect("long enough");
            for byte in 0..=255 {
                map.longest(&[byte; 9]);
            }
        }
    }

    /// A table whose only replacement, for `a`, is `to`.
    fn of_a(to: &[u8]) -> CharsMap {
        let mut array = [0u32; 256];
        array[0] = 1 << 10; // the root's base is 1
        array[1 ^ 0x61] = 2 << 10 | 1 << 8 | 0x61;
        array[1 ^ 0x61 ^ 2] = 1 << 31; // at offset 0
        let mut blob = 1024u32.to_le_bytes().to_vec();
        blob.extend(array.iter().flat_map(|entry| entry.to_le_bytes()));
        blob.extend(to);
        blob.push(0);
        CharsMap::read(&blob).expect("a table")
    }

    #[test]
    fn a_replacement_is_made_if_it_is_short() {
        assert_eq!(of_a(b"xyz").longest(b"ab"), Some((&b"xyz"[..], 1)));
        assert_eq!(of_a(b"xyz").longest(b"b"), None);
        assert!(of_a(&[b'x'; LONGEST]).longest(b"a").is_some());
        assert!(of_a(&[b'x'; LONGEST + 1]).longest(b"a").is_none());
    }

    #[test]
    fn a_table_shorter_than_it_says_is_refused() {
        assert!(CharsMap::read(&[1]).is_err());
        assert!(CharsMap::read(&[4, 0, 0, 0, 1, 2, 3, 4]).is_err());
        assert!(CharsMap::read(&[255, 255, 255, 255, 1, 2, 3, 4]).is_err());
        assert!(CharsMap::read(&[]).is_ok());
    }
}
