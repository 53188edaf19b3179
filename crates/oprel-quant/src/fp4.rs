//! Four-bit floating point (E2M1) with small floating-point scales: MXFP4 and NVFP4.
//!
//! | type | bytes |
//! |---|---|
//! | MXFP4 | 32 weights: power-of-two scale (E8M0), 16 x nibbles |
//! | NVFP4 | 64 weights: 4 scales (unsigned E4M3), 4 x 8 bytes of nibbles |
//!
//! Low nibbles are the first half of a run of nibbles, high nibbles the second. Source: OCP
//! Microscaling Formats 1.0.

use crate::Unpacked;
use crate::bytes::{e8m0_half, ue4m3_half};
use crate::codebook::FP4;

fn nibbles(qs: &[u8], codes: &mut [i8]) {
    let half = qs.len();
    for (j, q) in qs.iter().enumerate() {
        codes[j] = FP4[usize::from(q & 15)];
        codes[j + half] = FP4[usize::from(q >> 4)];
    }
}

pub(crate) fn unpack_mxfp4(block: &[u8], out: &mut Unpacked) {
    out.fill_scales(32, e8m0_half(block[0]));
    nibbles(&block[1..17], &mut out.codes);
}

pub(crate) fn unpack_nvfp4(block: &[u8], out: &mut Unpacked) {
    for i in 0..4 {
        out.scales[i] = ue4m3_half(block[i]);
        nibbles(&block[4 + i * 8..][..8], &mut out.codes[i * 16..]);
    }
}
