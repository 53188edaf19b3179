//! Types with one scale a block: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 of 32 weights, Q1_0 of 128.
//!
//! | type | bytes |
//! |---|---|
//! | Q4_0 | f16 scale, 16 x nibbles; code 0..15 less 8 |
//! | Q4_1 | f16 scale, f16 minimum, 16 x nibbles |
//! | Q5_0 | f16 scale, u32 fifth bits, 16 x nibbles; code 0..31 less 16 |
//! | Q5_1 | f16 scale, f16 minimum, u32 fifth bits, 16 x nibbles |
//! | Q8_0 | f16 scale, 32 x i8 |
//! | Q1_0 | f16 scale, 128 bits: set is plus, clear is minus the scale |
//!
//! Of nibbles, the low ones of the 16 bytes are weights 0 to 15, the high ones 16 to 31; bit `i`
//! of the fifth bits belongs to weight `i`.

use crate::Unpacked;
use crate::bytes::{f16_at, u32_at};

const LEN: usize = 32;

/// Nibbles of 16 bytes with `fifth` bits above them, less `offset`.
fn nibbles(qs: &[u8], fifth: u32, offset: i8, codes: &mut [i8]) {
    for (j, q) in qs[..LEN / 2].iter().enumerate() {
        let high = |i: usize| ((fifth >> i & 1) << 4) as u8;
        codes[j] = (q & 15 | high(j)) as i8 - offset;
        codes[j + LEN / 2] = (q >> 4 | high(j + LEN / 2)) as i8 - offset;
    }
}

pub(crate) fn unpack_q4_0(block: &[u8], out: &mut Unpacked) {
    out.fill_scales(LEN, f16_at(block, 0));
    nibbles(&block[2..], 0, 8, &mut out.codes);
}

pub(crate) fn unpack_q4_1(block: &[u8], out: &mut Unpacked) {
    out.fill_scales(LEN, f16_at(block, 0));
    out.fill_mins(LEN, f16_at(block, 2));
    nibbles(&block[4..], 0, 0, &mut out.codes);
}

pub(crate) fn unpack_q5_0(block: &[u8], out: &mut Unpacked) {
    out.fill_scales(LEN, f16_at(block, 0));
    nibbles(&block[6..], u32_at(block, 2), 16, &mut out.codes);
}

pub(crate) fn unpack_q5_1(block: &[u8], out: &mut Unpacked) {
    out.fill_scales(LEN, f16_at(block, 0));
    out.fill_mins(LEN, f16_at(block, 2));
    nibbles(&block[8..], u32_at(block, 4), 0, &mut out.codes);
}

pub(crate) fn unpack_q8_0(block: &[u8], out: &mut Unpacked) {
    out.fill_scales(LEN, f16_at(block, 0));
    for (code, q) in out.codes.iter_mut().zip(&block[2..]) {
        *code = *q as i8;
    }
}

pub(crate) fn unpack_q1_0(block: &[u8], out: &mut Unpacked) {
    out.fill_scales(128, f16_at(block, 0));
    for (i, code) in out.codes[..128].iter_mut().enumerate() {
        *code = if block[2 + i / 8] >> (i % 8) & 1 == 1 { 1 } else { -1 };
    }
}
