//! The fuzz target without a fuzzer: a bounded number of mutated files, the same ones each time.

use crate::fixpoint;
use crate::raw::{ARRAY, BOOL, F32, Q8_0, Raw, STR, U8, U32};

/// Numbers that are near an edge of something.
const EDGES: [u64; 14] = [
    0,
    1,
    7,
    8,
    13,
    31,
    63,
    255,
    65_536,
    1 << 20,
    u32::MAX as u64,
    1 << 61,
    i64::MAX as u64,
    u64::MAX,
];

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n.max(1)
    }
}

fn seed(version: u32, big_endian: bool) -> Vec<u8> {
    let raw = Raw::versioned(version, big_endian, 3, 7)
        .key("general.architecture", STR)
        .str("llama")
        .key("general.alignment", U32)
        .u32(16)
        .key("flag", BOOL)
        .u8(1)
        .array("tokens", STR, 3)
        .str("<s>")
        .str("")
        .str("ä")
        .array("scores", 6, 2)
        .f32(0.5)
        .f32(-1.0)
        .array("nested", ARRAY, 2)
        .u32(U8)
        .length(3)
        .put(&[1, 2, 3])
        .u32(STR)
        .length(1)
        .str("deep")
        .key("split.count", 2)
        .u16(1);
    let raw = raw.tensor("a", &[3, 2], F32, 0).tensor("b", &[32, 2], Q8_0, 32);
    raw.tensor("empty", &[0, 5], F32, 16).pad(16).data(32 + 68 + 12).bytes
}

fn mutate(file: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(file.len());
    match random.below(6) {
        0 => file[at] = random.next() as u8,
        1 => file[at] ^= 1 << random.below(8),
        2 => file.truncate(at),
        3 => {
            // An edge as a number of four or eight bytes.
            let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
            let n = if random.below(2) == 0 { 4 } else { 8 };
            let end = (at + n).min(file.len());
            file[at..end].copy_from_slice(&edge[..end - at]);
        }
        4 => {
            let from = random.below(file.len());
            let n = random.below(64).min(file.len() - from);
            let piece = file[from..from + n].to_vec();
            file.splice(at..at, piece);
        }
        _ => {
            let n = random.below(16).min(file.len() - at);
            file.drain(at..at + n);
        }
    }
}

#[test]
fn mutated_files_are_read_or_refused() {
    let mut random = Random(0x6f70_7265_6c21);
    for (version, big_endian) in [(1, false), (2, false), (3, false), (3, true)] {
        let seed = seed(version, big_endian);
        fixpoint::holds(&seed);
        for _ in 0..5_000 {
            let mut file = seed.clone();
            for _ in 0..=random.below(4) {
                if !file.is_empty() {
                    mutate(&mut file, &mut random);
                }
            }
            fixpoint::holds(&file);
        }
    }
}

#[test]
fn every_byte_of_a_file_may_be_anything() {
    let seed = seed(3, false);
    for at in 0..seed.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut file = seed.clone();
            file[at] = byte;
            fixpoint::holds(&file);
        }
    }
}
