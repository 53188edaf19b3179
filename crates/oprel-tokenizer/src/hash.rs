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

impl Index {
    /// A table for up to `n` numbers, each below `u32::MAX`.
    pub(crate) fn with_capacity(n: usize) -> Index {
        let size = (n + n / 2 + 2).next_power_of_two();
        Index { slots: vec![0; size], mask: size - 1 }
    }

    /// The number stored under `hash` that `is` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = hash as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if slot >> 32 == hash >> 32 && is(slot as u32 - 1) {
                return Some(slot as u32 - 1);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Stores `number`, unless `is` accepts one that is there: then that one is given back.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        number: u32,
        is: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let mut at = hash as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                self.slots[at] = hash >> 32 << 32 | (u64::from(number) + 1);
                return None;
            }
            if slot >> 32 == hash >> 32 && is(slot as u32 - 1) {
                return Some(slot as u32 - 1);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Puts `number` where `old`, stored under the same `hash`, was.
    pub(crate) fn replace(&mut self, hash: u64, old: u32, number: u32) {
        let mut at = hash as usize & self.mask;
        while self.slots[at] != 0 {
            if self.slots[at] as u32 == old + 1 {
                self.slots[at] = hash >> 32 << 32 | (u64::from(number) + 1);
                return;
            }
            at = (at + 1) & self.mask;
        }
    }
}

/// The hash of a string, by folded multiplication over eight bytes a step.
#[inline]
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut h = seed() ^ bytes.len() as u64;
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        h = fold(h ^ u64::from_le_bytes(*head));
        rest = tail;
    }
    let mut last = 0;
    for &b in rest {
        last = last << 8 | u64::from(b);
    }
    fold(h ^ last)
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
