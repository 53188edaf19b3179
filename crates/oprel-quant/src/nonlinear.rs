//! Types whose nibbles index sixteen unevenly spaced values: IQ4_NL and IQ4_XS.
//!
//! | type | bytes |
//! |---|---|
//! | IQ4_NL | 32 weights: f16 scale, 16 x nibbles |
//! | IQ4_XS | 256 weights: f16 scale, u16 upper two bits and 4 bytes lower four bits of 8 scales, 128 x nibbles |
//!
//! Of each 16 bytes the low nibbles are 16 weights, the high nibbles the next 16.

use crate::Unpacked;
use crate::bytes::{f16_at, u16_at};
use crate::codebook::IQ4;

fn nibbles(qs: &[u8], codes: &mut [i8]) {
    for (j, q) in qs[..16].iter().enumerate() {
        codes[j] = IQ4[usize::from(q & 15)];
        codes[j + 16] = IQ4[usize::from(q >> 4)];
    }
}

pub(crate) fn unpack_iq4_nl(block: &[u8], out: &mut Unpacked) {
    out.fill_scales(32, f16_at(block, 0));
    nibbles(&block[2..], &mut out.codes);
}

pub(crate) fn unpack_iq4_xs(block: &[u8], out: &mut Unpacked) {
    let (d, high, low) = (f16_at(block, 0), u16_at(block, 2), &block[4..8]);
    for i in 0..8 {
        let scale = low[i / 2] >> (i % 2 * 4) & 15 | ((high >> (2 * i) & 3) << 4) as u8;
        out.scales[2 * i..2 * i + 2].fill(d * f32::from(scale as i8 - 32));
        nibbles(&block[8 + i * 16..], &mut out.codes[i * 32..]);
    }
}
