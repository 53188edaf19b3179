//! What the tokenizers need to know of a character: its category, its lower case, its base letter.
//!
//! Everything here is Unicode 15.1, the version of the reference implementation's tables: a
//! character that a later version assigned is unassigned here, has no case and no decomposition.

mod table;

use std::sync::OnceLock;

use unicode_normalization::char::decompose_canonical;

/// Categories of a character as bits; every character has one category, some are also spaces.
pub(crate) mod class {
    pub(crate) const N: u8 = 1;
    pub(crate) const L: u8 = 2;
    /// White_Space; all of category Z has it, and so have some controls.
    pub(crate) const SPACE: u8 = 4;
    pub(crate) const M: u8 = 8;
    pub(crate) const P: u8 = 16;
    pub(crate) const S: u8 = 32;
    /// Category C but for unassigned characters.
    pub(crate) const C: u8 = 64;
    pub(crate) const UNASSIGNED: u8 = 128;
}

/// Code points below this are looked up in an array, the few runs above by binary search.
const DENSE: usize = 0x3_2400;

const ASCII: [u8; 128] = {
    let mut bits = [0; 128];
    let mut i = 0;
    while i < 128 {
        bits[i] = match i as u8 {
            b'0'..=b'9' => class::N,
            b'A'..=b'Z' | b'a'..=b'z' => class::L,
            b' ' => class::SPACE,
            9..=13 => class::C | class::SPACE,
            b'$' | b'+' | b'<'..=b'>' | b'^' | b'`' | b'|' | b'~' => class::S,
            b'!'..=b'~' => class::P,
            _ => class::C,
        };
        i += 1;
    }
    bits
};

struct Classes {
    dense: Vec<u8>,
    sparse: Vec<(u32, u8)>, // first code point of a run, its class
}

/// The bits of [`class`] that `c` has.
#[inline]
pub(crate) fn class_of(c: char) -> u8 {
    match ASCII.get(c as usize) {
        Some(&bits) => bits,
        None => wide_class(c),
    }
}

fn wide_class(c: char) -> u8 {
    let tables = classes();
    match tables.dense.get(c as usize) {
        Some(&bits) => bits,
        None => sparse_class(tables, c as u32),
    }
}

pub(crate) fn is_space(c: char) -> bool {
    class_of(c) & class::SPACE != 0
}

/// The simple lower case of `c`: always one character.
pub(crate) fn lower(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    if class_of(c) & class::UNASSIGNED != 0 {
        return c;
    }
    c.to_lowercase().next().unwrap_or(c)
}

/// The first character of the canonical decomposition of `c`: the letter without its marks.
pub(crate) fn base_letter(c: char) -> char {
    if c.is_ascii() || class_of(c) & class::UNASSIGNED != 0 {
        return c;
    }
    let mut first = None;
    decompose_canonical(c, |d| first = first.or(Some(d)));
    first.unwrap_or(c)
}

fn classes() -> &'static Classes {
    static CLASSES: OnceLock<Classes> = OnceLock::new();
    CLASSES.get_or_init(build)
}

fn build() -> Classes {
    const BITS: [u8; 8] = {
        use class::*;
        [N, L, SPACE, M, P, S, C, UNASSIGNED]
    };
    let mut dense = vec![0; DENSE];
    let mut sparse = Vec::new();
    let mut start = 0;
    for run in table::RUNS {
        let (len, bits) = ((run >> 3) as usize, BITS[(run & 7) as usize]);
        let end = start + len;
        dense[start.min(DENSE)..end.min(DENSE)].fill(bits);
        if end > DENSE {
            sparse.push((start as u32, bits));
        }
        start = end;
    }
    for control in [9, 10, 11, 12, 13, 0x85] {
        dense[control] |= class::SPACE;
    }
    Classes { dense, sparse }
}

fn sparse_class(tables: &Classes, cp: u32) -> u8 {
    let after = tables.sparse.partition_point(|&(start, _)| start <= cp);
    tables.sparse[after.saturating_sub(1)].1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fnv(values: impl Iterator<Item = u32>) -> u64 {
        values.fold(0xcbf2_9ce4_8422_2325, |h, v| {
            (h ^ u64::from(v)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    fn every_char() -> impl Iterator<Item = char> {
        '\0'..=char::MAX
    }

    // The three sums were made from the tables of llama.cpp's `unicode-data.cpp`.
    #[test]
    fn categories_of_all_characters_are_those_of_the_reference() {
        assert_eq!(fnv(every_char().map(|c| class_of(c).into())), 0xa444_bdbd_0535_ae5e);
    }

    #[test]
    fn lower_case_of_all_characters_is_that_of_the_reference() {
        assert_eq!(fnv(every_char().map(|c| lower(c).into())), 0x6cb4_860d_cb97_926d);
    }

    #[test]
    fn base_letters_of_all_characters_are_those_of_the_reference() {
        assert_eq!(fnv(every_char().map(|c| base_letter(c).into())), 0x0f4b_f9ff_9626_9845);
    }
}
