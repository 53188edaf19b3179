//! Where a text may be cut without changing its tokens.
//!
//! Models without a pre-tokenizer merge over whole lines. But where no token has two characters
//! side by side, nothing ever merges across a place between the two, and the parts of a text that
//! is cut there can be merged, and remembered, one by one.

/// The space of such vocabularies, U+2581.
pub(crate) const SPACE: char = '▁';

/// The pairs of characters that may merge: a set that errs to the side of too many.
pub(crate) struct Seams {
    bits: Vec<u64>,
}

/// Bits of the set; 32 KiB stay in a core's cache.
const BITS: u32 = 18;

impl Seams {
    /// Holds the pairs of neighbours that tokens or merges have.
    pub(crate) fn new(pairs: impl Iterator<Item = (char, char)>) -> Seams {
        let mut bits = vec![0; 1 << (BITS - 6)];
        for (a, b) in pairs {
            let (word, bit) = place(a, b);
            bits[word] |= 1 << bit;
        }
        Seams { bits }
    }

    #[inline]
    fn joins(&self, a: char, b: char) -> bool {
        let (word, bit) = place(a, b);
        self.bits[word] >> bit & 1 == 1
    }

    /// Calls `each` with the parts of `text`.
    pub(crate) fn cut<'t>(&self, text: &'t str, mut each: impl FnMut(&'t str)) {
        let (mut start, mut before) = (0, None);
        for (i, c) in text.char_indices() {
            if let Some(before) = before
                && !self.joins(before, c)
            {
                each(&text[start..i]);
                start = i;
            }
            before = Some(c);
        }
        if start < text.len() {
            each(&text[start..]);
        }
    }
}

/// ASCII pairs have places of their own, all others share the rest.
#[inline]
fn place(a: char, b: char) -> (usize, u32) {
    let (a, b) = (a as u32, b as u32);
    let bit = if a < 128 && b < 128 {
        a << 7 | b
    } else {
        let mixed = (u64::from(a) << 32 | u64::from(b)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed >> (64 - BITS)) as u32) | 1 << 14
    };
    ((bit >> 6) as usize, bit & 63)
}

/// The pairs of neighbours in `text`.
pub(crate) fn neighbours(text: &str) -> impl Iterator<Item = (char, char)> + '_ {
    text.chars().zip(text.chars().skip(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_where_no_token_reaches_across() {
        let seams = Seams::new(["▁a", ".▁", "▁▁", "äö"].into_iter().flat_map(neighbours));
        let mut parts = Vec::new();
        seams.cut("▁ab▁▁.▁a▁äö", |part| parts.push(part));
        assert_eq!(parts, ["▁a", "b", "▁▁", ".▁a", "▁", "äö"]);
    }

    #[test]
    fn a_pair_that_was_put_in_is_never_cut() {
        let all: Vec<char> = (0x20..0x3000).step_by(17).filter_map(char::from_u32).collect();
        let seams = Seams::new(all.iter().copied().zip(all.iter().copied().skip(3)));
        for (&a, &b) in all.iter().zip(all.iter().skip(3)) {
            assert!(seams.joins(a, b));
        }
    }
}
