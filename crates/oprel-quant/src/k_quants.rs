//! The k-quants: blocks of 256 weights whose inner scales are small integers times one f16.
//!
//! | type | bytes |
//! |---|---|
//! | Q2_K | 16 x (scale low nibble, minimum high nibble), 64 x two bits, f16 scale, f16 minimum |
//! | Q3_K | 32 x third bits, 64 x two bits, 12 bytes of 16 scales of six bits, f16 scale |
//! | Q4_K | f16 scale, f16 minimum, 12 bytes of 8 scales and 8 minima of six bits, 128 x nibbles |
//! | Q5_K | as Q4_K with 32 bytes of fifth bits before the nibbles |
//! | Q6_K | 128 x low nibbles, 64 x upper two bits, 16 x i8 scales, f16 scale |
//!
//! Minima are subtracted. Two-bit fields: byte `l` of the 32 of a half holds weights `l`,
//! `32 + l`, `64 + l`, `96 + l` of that half, lowest bits first.

use crate::Unpacked;
use crate::bytes::f16_at;

pub(crate) fn unpack_q2_k(block: &[u8], out: &mut Unpacked) {
    let (d, d_min) = (f16_at(block, 80), f16_at(block, 82));
    for (i, s) in block[..16].iter().enumerate() {
        out.scales[i] = d * f32::from(s & 15);
        out.mins[i] = -(d_min * f32::from(s >> 4));
    }
    two_bits(&block[16..80], &mut out.codes);
}

/// 64 bytes of two-bit fields in the order of Q2_K and Q3_K.
fn two_bits(qs: &[u8], codes: &mut [i8; 256]) {
    for (i, code) in codes.iter_mut().enumerate() {
        let (half, shift, l) = (i / 128, i % 128 / 32 * 2, i % 32);
        *code = (qs[half * 32 + l] >> shift & 3) as i8;
    }
}

pub(crate) fn unpack_q3_k(block: &[u8], out: &mut Unpacked) {
    let (third, packed, d) = (&block[..32], &block[96..108], f16_at(block, 108));
    for i in 0..16 {
        out.scales[i] = d * f32::from(scale_q3_k(packed, i) - 32);
    }
    two_bits(&block[32..96], &mut out.codes);
    for (i, code) in out.codes.iter_mut().enumerate() {
        // A set third bit means that the code is not negative.
        if third[i % 32] >> (i / 32) & 1 == 0 {
            *code -= 4;
        }
    }
}

/// Scale `i` of 16: four bits from the first eight bytes, two from the last four.
pub(crate) fn scale_q3_k(packed: &[u8], i: usize) -> i8 {
    let low = packed[i % 8] >> (i / 8 * 4) & 15;
    let high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
    (low | high << 4) as i8
}

/// Scale and minimum `i` of 8 from the 12 bytes of Q4_K and Q5_K.
pub(crate) fn scale_min(packed: &[u8], i: usize) -> (u8, u8) {
    if i < 4 {
        return (packed[i] & 63, packed[i + 4] & 63);
    }
    let scale = packed[i + 4] & 15 | packed[i - 4] >> 6 << 4;
    let min = packed[i + 4] >> 4 | packed[i] >> 6 << 4;
    (scale, min)
}

fn scales_and_mins(block: &[u8], out: &mut Unpacked) {
    let (d, d_min) = (f16_at(block, 0), f16_at(block, 2));
    for i in 0..16 {
        let (scale, min) = scale_min(&block[4..16], i / 2);
        out.scales[i] = d * f32::from(scale);
        out.mins[i] = -(d_min * f32::from(min));
    }
}

/// 128 bytes of nibbles: of each 32, the low ones are 32 weights, the high ones the next 32.
fn nibbles(qs: &[u8], codes: &mut [i8; 256]) {
    for (i, code) in codes.iter_mut().enumerate() {
        *code = (qs[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15) as i8;
    }
}

pub(crate) fn unpack_q4_k(block: &[u8], out: &mut Unpacked) {
    scales_and_mins(block, out);
    nibbles(&block[16..], &mut out.codes);
}

pub(crate) fn unpack_q5_k(block: &[u8], out: &mut Unpacked) {
    scales_and_mins(block, out);
    nibbles(&block[48..], &mut out.codes);
    let fifth = &block[16..48];
    for (i, code) in out.codes.iter_mut().enumerate() {
        *code |= ((fifth[i % 32] >> (i / 32) & 1) << 4) as i8;
    }
}

pub(crate) fn unpack_q6_k(block: &[u8], out: &mut Unpacked) {
    let (low, high, d) = (&block[..128], &block[128..192], f16_at(block, 208));
    for (scale, s) in out.scales.iter_mut().zip(&block[192..208]) {
        *scale = d * f32::from(*s as i8);
    }
    for (i, code) in out.codes.iter_mut().enumerate() {
        let (half, quarter, l) = (i / 128, i % 128 / 32, i % 32);
        let nibble = low[half * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
        let upper = high[half * 32 + l] >> (quarter * 2) & 3;
        *code = (nibble | upper << 4) as i8 - 32;
    }
}
