//! Types of three values, 256 weights a block: TQ1_0 and TQ2_0.
//!
//! | type | bytes |
//! |---|---|
//! | TQ1_0 | 48 bytes of five ternary digits, 4 bytes of four, f16 scale |
//! | TQ2_0 | 64 x two bits, f16 scale |
//!
//! A byte of TQ1_0 is a fraction of 256 in base three: multiplied by three, what carries out of
//! the byte is the next digit. Digits run over bytes first: the first digit of 32 bytes, then the
//! second, ...; then so over the next 16 bytes; then over the last four.

use crate::Unpacked;
use crate::bytes::f16_at;

pub(crate) fn unpack_tq1_0(block: &[u8], out: &mut Unpacked) {
    out.fill_scales(256, f16_at(block, 52));
    let (first, rest) = out.codes.split_at_mut(160);
    let (second, last) = rest.split_at_mut(80);
    digits(&block[..32], first);
    digits(&block[32..48], second);
    digits(&block[48..52], last);
}

fn digits(bytes: &[u8], codes: &mut [i8]) {
    for (n, codes) in codes.chunks_exact_mut(bytes.len()).enumerate() {
        for (code, byte) in codes.iter_mut().zip(bytes) {
            let rest = byte.wrapping_mul(3u8.pow(n as u32));
            *code = ((u16::from(rest) * 3) >> 8) as i8 - 1;
        }
    }
}

pub(crate) fn unpack_tq2_0(block: &[u8], out: &mut Unpacked) {
    out.fill_scales(256, f16_at(block, 64));
    for (i, code) in out.codes.iter_mut().enumerate() {
        let (half, shift, l) = (i / 128, i % 128 / 32 * 2, i % 32);
        *code = (block[half * 32 + l] >> shift & 3) as i8 - 1;
    }
}
