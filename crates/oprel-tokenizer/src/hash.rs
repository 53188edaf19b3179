//! A hash table from strings to their numbers that stores no strings.
//!
//! The caller keeps the strings and says what equals what; a slot holds half of the hash and the
//! number. Seeded per process, so that a file cannot choose its collisions.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

/// Numbers found by the hash of the string they stand for.
#[derive(Debug, Default)]
pub(crate) struct Index {
    slots: Vec<u64>, // hash's upper half, number + 1; 0 is free
    mask: usize,
}

/// Tables are filled region by region: this many regions, so that each fits a core's cache.
const REGIONS: usize = 64;

impl Index {
    /// A table of `entries`, hashes and numbers below `u32::MAX`. Of two that `same` accepts the
    /// first stays unless `replace` says otherwise.
    pub(crate) fn new(
        entries: &[(u64, u32)],
        same: impl Fn(u32, u32) -> bool,
        mut replace: impl FnMut(u32, u32) -> bool,
    ) -> Index {
        let size = (entries.len() + entries.len() / 2 + 2).next_power_of_two();
        let mut index = Index { slots: vec![0; size], mask: size - 1 };
        for (hash, number) in by_region(entries, size) {
            let slot = index.slot(hash, |other| same(other, number));
            let old = index.slots[slot];
            if old == 0 || replace(old as u32 - 1, number) {
                index.slots[slot] = hash >> 32 << 32 | (u64::from(number) + 1);
            }
        }
        index
    }

    /// Where the number is that is stored under `hash` and that `is` accepts, or would be.
    #[inline]
    fn slot(&self, hash: u64, is: impl Fn(u32) -> bool) -> usize {
        let mut at = hash as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 || slot >> 32 == hash >> 32 && is(slot as u32 - 1) {
                return at;
            }
            at = (at + 1) & self.mask;
        }
    }

    /// The number stored under `hash` that `is` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let slot = self.slots[self.slot(hash, is)];
        (slot != 0).then(|| slot as u32 - 1)
    }
}

/// `entries` in the order of the regions of a table of `size` slots, and in their own within each.
fn by_region(entries: &[(u64, u32)], size: usize) -> Vec<(u64, u32)> {
    let region_bits = size.ilog2().saturating_sub(REGIONS.ilog2());
    let region = |hash: u64| (hash as usize & (size - 1)) >> region_bits;
    let mut starts = [0; REGIONS + 1];
    for &(hash, _) in entries {
        starts[region(hash) + 1] += 1;
    }
    for i in 1..=REGIONS {
        starts[i] += starts[i - 1];
    }
    let mut sorted = vec![(0, 0); entries.len()];
    for &(hash, number) in entries {
        let place = &mut starts[region(hash)];
        sorted[*place] = (hash, number);
        *place += 1;
    }
    sorted
}

/// The hash of a string, by folded multiplication over eight bytes a step.
#[inline]
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut h = seed() ^ (bytes.len() as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let mut rest = bytes;
    while rest.len() > 8
        && let Some((head, tail)) = rest.split_first_chunk()
    {
        h = fold(h ^ u64::from_le_bytes(*head));
        rest = tail;
    }
    fold(h ^ up_to_eight(rest))
}

/// Up to eight bytes as a number; of equally many, different bytes give different numbers.
#[inline]
pub(crate) fn up_to_eight(bytes: &[u8]) -> u64 {
    match bytes {
        [] => 0,
        &[a] => a.into(),
        &[a, b] => u16::from_le_bytes([a, b]).into(),
        &[a, b, c] => u32::from_le_bytes([a, b, c, 0]).into(),
        _ => match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(head), Some(tail)) => {
                u64::from(u32::from_le_bytes(*head)) << 32 | u64::from(u32::from_le_bytes(*tail))
            }
            _ => 0,
        },
    }
}

/// The hash of a pair of strings from the hashes of both.
#[inline]
pub(crate) fn pair(left: u64, right: u64) -> u64 {
    fold(left.rotate_left(23) ^ right)
}

#[inline]
fn fold(x: u64) -> u64 {
    let product = u128::from(x) * 0x9E37_79B9_7F4A_7C15_u128;
    (product as u64) ^ (product >> 64) as u64
}

#[inline]
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| RandomState::new().hash_one(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_any_length_that_differ_in_one_byte_differ_in_hash() {
        for len in 0..40 {
            let text = vec![b'x'; len];
            assert_ne!(hash(&text), hash(&vec![b'x'; len + 1]));
            for i in 0..len {
                let mut other = text.clone();
                other[i] ^= 4;
                assert_ne!(hash(&text), hash(&other), "byte {i} of {len}");
            }
        }
    }
}
