//! Types whose codes are words of a codebook, 256 weights a block: IQ1, IQ2 and IQ3.
//!
//! | type | bytes |
//! |---|---|
//! | IQ2_XXS | f16 scale, 8 x (4 word numbers, u32 of 4 x 7 sign bits and a scale of 4 bits) |
//! | IQ2_XS | f16 scale, 32 x u16 (9 bits word, 7 signs), 8 bytes of 16 scales |
//! | IQ2_S | f16 scale, 32 low bytes of word numbers, 32 x signs, 8 x upper bits, 8 bytes of 16 scales |
//! | IQ3_XXS | f16 scale, 64 word numbers, 8 x u32 of 4 x 7 sign bits and a scale of 4 bits |
//! | IQ3_S | f16 scale, 64 low bytes of word numbers, 8 x ninth bits, 32 x signs, 4 bytes of 8 scales |
//! | IQ1_S | f16 scale, 32 low bytes of word numbers, 8 x u16 (4 x 3 upper bits, 3 bits scale, sign of the shift) |
//! | IQ1_M | 32 low bytes of word numbers, 16 bytes (2 x 3 upper bits and the shift's sign), 4 x u16 (4 scales of 3 bits, 4 bits of the f16 scale) |
//!
//! Seven sign bits stand for eight: the eighth makes the number of minus signs even. Words of IQ1
//! are -1, 0 or 1 shifted by an eighth up or down, so its codes are eighths.

use crate::Unpacked;
use crate::bytes::{f16_at, u16_at, u32_at};
use crate::codebook;
use half::f16;

/// The eight sign bits that the lowest seven bits stand for.
fn eight_signs(seven: u32) -> u8 {
    codebook::EIGHT_SIGNS[(seven & 127) as usize]
}

/// Writes `word` with a minus where the bit of `signs` is set.
fn signed(word: &[i8], signs: u8, codes: &mut [i8]) {
    for (j, (code, w)) in codes.iter_mut().zip(word).enumerate() {
        *code = if signs >> j & 1 == 1 { -w } else { *w };
    }
}

/// Scales of two runs of 16 out of the nibbles of `byte`, as the IQ2 types mean them.
fn scales_iq2(d: f32, byte: u8, scales: &mut [f32]) {
    scales[0] = d * (0.5 + f32::from(byte & 15)) * 0.25;
    scales[1] = d * (0.5 + f32::from(byte >> 4)) * 0.25;
}

pub(crate) fn unpack_iq2_xxs(block: &[u8], out: &mut Unpacked) {
    let d = f16_at(block, 0);
    for i in 0..8 {
        let part = &block[2 + i * 8..][..8];
        let bits = u32_at(part, 4);
        let scale = d * (0.5 + (bits >> 28) as f32) * 0.25;
        out.scales[2 * i..2 * i + 2].fill(scale);
        for l in 0..4 {
            let word = &codebook::IQ2_XXS[usize::from(part[l])];
            signed(word, eight_signs(bits >> (7 * l)), &mut out.codes[i * 32 + l * 8..]);
        }
    }
}

pub(crate) fn unpack_iq2_xs(block: &[u8], out: &mut Unpacked) {
    let d = f16_at(block, 0);
    for i in 0..8 {
        scales_iq2(d, block[66 + i], &mut out.scales[2 * i..]);
    }
    for i in 0..32 {
        let q = u16_at(block, 2 + 2 * i);
        let word = &codebook::IQ2_XS[usize::from(q & 511)];
        signed(word, eight_signs(u32::from(q >> 9)), &mut out.codes[i * 8..]);
    }
}

pub(crate) fn unpack_iq2_s(block: &[u8], out: &mut Unpacked) {
    let d = f16_at(block, 0);
    let (low, signs, high, scales) = (&block[2..], &block[34..], &block[66..], &block[74..]);
    for i in 0..8 {
        scales_iq2(d, scales[i], &mut out.scales[2 * i..]);
    }
    for i in 0..32 {
        let upper = usize::from(high[i / 4] >> (i % 4 * 2) & 3);
        let word = &codebook::IQ2_S[usize::from(low[i]) | upper << 8];
        signed(word, signs[i], &mut out.codes[i * 8..]);
    }
}

pub(crate) fn unpack_iq3_xxs(block: &[u8], out: &mut Unpacked) {
    let d = f16_at(block, 0);
    let words = &block[2..66];
    for i in 0..8 {
        let bits = u32_at(block, 66 + 4 * i);
        let scale = d * (0.5 + (bits >> 28) as f32) * 0.5;
        out.scales[2 * i..2 * i + 2].fill(scale);
        for l in 0..8 {
            let word = &codebook::IQ3_XXS[usize::from(words[i * 8 + l])];
            let signs = eight_signs(bits >> (7 * (l / 2))) >> (l % 2 * 4);
            signed(word, signs, &mut out.codes[i * 32 + l * 4..]);
        }
    }
}

pub(crate) fn unpack_iq3_s(block: &[u8], out: &mut Unpacked) {
    let d = f16_at(block, 0);
    let (low, ninth, signs, scales) = (&block[2..], &block[66..], &block[74..], &block[106..]);
    for i in 0..8 {
        let s = scales[i / 2] >> (i % 2 * 4) & 15;
        out.scales[2 * i..2 * i + 2].fill(d * f32::from(1 + 2 * s));
        for l in 0..8 {
            let upper = usize::from(ninth[i] >> l & 1);
            let word = &codebook::IQ3_S[usize::from(low[i * 8 + l]) | upper << 8];
            let signs = signs[i * 4 + l / 2] >> (l % 2 * 4);
            signed(word, signs, &mut out.codes[i * 32 + l * 4..]);
        }
    }
}

/// Writes a word of IQ1 in eighths, each moved one eighth down or up.
fn shifted(word: &[i8; 8], down: bool, codes: &mut [i8]) {
    let shift = if down { -1 } else { 1 };
    for (code, w) in codes.iter_mut().zip(word) {
        *code = w * 8 + shift;
    }
}

pub(crate) fn unpack_iq1_s(block: &[u8], out: &mut Unpacked) {
    let d = f16_at(block, 0);
    for i in 0..8 {
        let high = u16_at(block, 34 + 2 * i);
        let scale = d * f32::from(2 * (high >> 12 & 7) + 1) * 0.125;
        out.scales[2 * i..2 * i + 2].fill(scale);
        for l in 0..4 {
            let upper = usize::from(high >> (3 * l) & 7);
            let word = &codebook::IQ1[usize::from(block[2 + i * 4 + l]) | upper << 8];
            shifted(word, high >> 15 == 1, &mut out.codes[i * 32 + l * 8..]);
        }
    }
}

pub(crate) fn unpack_iq1_m(block: &[u8], out: &mut Unpacked) {
    let scales: [u16; 4] = std::array::from_fn(|i| u16_at(block, 48 + 2 * i));
    let bits = scales.iter().enumerate().fold(0, |bits, (i, s)| bits | s >> 12 << (4 * i));
    let d = f16::from_bits(bits).to_f32();
    for i in 0..16 {
        let scale = scales[i / 4] >> (i % 4 * 3) & 7;
        out.scales[i] = d * f32::from(2 * scale + 1) * 0.125;
    }
    for i in 0..32 {
        let high = block[32 + i / 2] >> (i % 2 * 4);
        let word = &codebook::IQ1[usize::from(block[i]) | usize::from(high & 7) << 8];
        shifted(word, high & 8 != 0, &mut out.codes[i * 8..]);
    }
}
