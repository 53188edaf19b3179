//! Quantizers of types whose codes are words of a codebook: IQ1, IQ2 and IQ3.
//!
//! Layouts are described where they are unpacked (`crate::grid`).

mod book;
mod search;

use super::target::Target;
use crate::{Lanes, QuantType};
use search::{Coded, Shape, Signs};

/// A type: how it is searched, and how it is written.
pub(super) struct Kind<const LEN: usize, const BETWEEN: usize> {
    shape: Shape<LEN, BETWEEN>,
    /// Writes to a block of zeros.
    pack: fn(&Coded, &mut [u8]),
}

/// Types of words of eight, of 256 weights in runs of 16 or 32.
pub(super) fn of_eight(ty: QuantType) -> Option<Kind<8, 2>> {
    let (shape, pack): (_, fn(&Coded, &mut [u8])) = match ty {
        QuantType::IQ2_XXS => (shape(&book::IQ2_XXS, 16, 0.125, Signs::Even, 18.0), iq2_xxs),
        QuantType::IQ2_XS => (shape(&book::IQ2_XS, 16, 0.125, Signs::Even, 20.0), iq2_xs),
        QuantType::IQ2_S => (shape(&book::IQ2_S, 16, 0.125, Signs::Each, 22.0), iq2_s),
        QuantType::IQ1_S => (iq1_shape(true), iq1_s),
        QuantType::IQ1_M => (iq1_shape(false), iq1_m),
        _ => return None,
    };
    Some(Kind { shape, pack })
}

/// Types of words of four, of 256 weights in runs of 32.
pub(super) fn of_four(ty: QuantType) -> Option<Kind<4, 7>> {
    let (shape, pack): (_, fn(&Coded, &mut [u8])) = match ty {
        QuantType::IQ3_XXS => (shape(&book::IQ3_XXS, 16, 0.25, Signs::Even, 24.0), iq3_xxs),
        QuantType::IQ3_S => (shape(&book::IQ3_S, 16, 1.0, Signs::Each, 6.5), iq3_s),
        _ => return None,
    };
    Some(Kind { shape, pack })
}

impl<const LEN: usize, const BETWEEN: usize> Kind<LEN, BETWEEN> {
    /// Block after block in runs of `R`. One function for several types: it is large and compiled for
    /// every tier.
    #[inline(always)]
    pub(super) fn quantize<const R: usize, L: Lanes>(
        &self,
        lanes: L,
        src: &[f32],
        importance: Option<&[f32]>,
        dst: &mut [u8],
    ) {
        let (blocks, importance) = (src.as_chunks().0, importance.map(|w| w.as_chunks().0));
        let block_bytes = dst.len() / blocks.len().max(1);
        for i in 0..blocks.len() {
            let to = &mut dst[i * block_bytes..][..block_bytes];
            to.fill(0);
            if let Some(target) = Target::new(&blocks[i], importance.map(|w| &w[i % w.len()])) {
                (self.pack)(&self.shape.code::<R, L>(lanes, target), to);
            }
        }
    }
}

fn shape<const LEN: usize, const BETWEEN: usize>(
    book: &'static book::Book<LEN, BETWEEN>,
    levels: u8,
    unit: f32,
    signs: Signs,
    typical: f32,
) -> Shape<LEN, BETWEEN> {
    Shape { book, levels, unit, signs, run_shifts: true, typical }
}

/// Two levels a byte.
fn nibbles(levels: &[u8], out: &mut [u8]) {
    for (byte, pair) in out.iter_mut().zip(levels.chunks_exact(2)) {
        *byte = pair[0] | pair[1] << 4;
    }
}

/// Seven sign bits for each of four eights; the eighth follows from them.
fn four_sevens(signs: &[u8]) -> u32 {
    signs.iter().rev().fold(0, |bits, eight| bits << 7 | u32::from(eight & 127))
}

/// The low bytes of word numbers.
fn low_bytes(words: &[u16], out: &mut [u8]) {
    for (byte, word) in out.iter_mut().zip(words) {
        *byte = *word as u8;
    }
}

fn iq2_xxs(coded: &Coded, out: &mut [u8]) {
    out[..2].copy_from_slice(&coded.d);
    for (i, part) in out[2..].chunks_exact_mut(8).enumerate() {
        low_bytes(&coded.words[i * 4..][..4], &mut part[..4]);
        let bits = four_sevens(&coded.signs[i * 4..][..4]) | u32::from(coded.levels[i]) << 28;
        part[4..].copy_from_slice(&bits.to_le_bytes());
    }
}

fn iq2_xs(coded: &Coded, out: &mut [u8]) {
    out[..2].copy_from_slice(&coded.d);
    for (i, part) in out[2..66].chunks_exact_mut(2).enumerate() {
        let bits = coded.words[i] | u16::from(coded.signs[i] & 127) << 9;
        part.copy_from_slice(&bits.to_le_bytes());
    }
    nibbles(&coded.levels, &mut out[66..]);
}

fn iq2_s(coded: &Coded, out: &mut [u8]) {
    out[..2].copy_from_slice(&coded.d);
    low_bytes(&coded.words, &mut out[2..34]);
    out[34..66].copy_from_slice(&coded.signs);
    for (byte, four) in out[66..74].iter_mut().zip(coded.words.chunks_exact(4)) {
        *byte = four.iter().rev().fold(0, |bits, word| bits << 2 | (word >> 8) as u8);
    }
    nibbles(&coded.levels, &mut out[74..]);
}

fn iq3_xxs(coded: &Coded, out: &mut [u8]) {
    out[..2].copy_from_slice(&coded.d);
    low_bytes(&coded.words, &mut out[2..66]);
    for (i, part) in out[66..].chunks_exact_mut(4).enumerate() {
        let bits = four_sevens(&coded.signs[i * 4..][..4]) | u32::from(coded.levels[i]) << 28;
        part.copy_from_slice(&bits.to_le_bytes());
    }
}

fn iq3_s(coded: &Coded, out: &mut [u8]) {
    out[..2].copy_from_slice(&coded.d);
    low_bytes(&coded.words, &mut out[2..66]);
    for (byte, eight) in out[66..74].iter_mut().zip(coded.words.chunks_exact(8)) {
        *byte = eight.iter().rev().fold(0, |bits, word| bits << 1 | (word >> 8) as u8);
    }
    out[74..106].copy_from_slice(&coded.signs);
    nibbles(&coded.levels[..8], &mut out[106..]);
}

/// Codes of IQ1 are eighths, and so is the unit.
fn iq1_shape(run_shifts: bool) -> Shape<8, 2> {
    Shape { run_shifts, ..shape(&book::IQ1, 8, 0.125, Signs::Words, 5.5) }
}

fn iq1_s(coded: &Coded, out: &mut [u8]) {
    out[..2].copy_from_slice(&coded.d);
    low_bytes(&coded.words, &mut out[2..34]);
    for (i, part) in out[34..].chunks_exact_mut(2).enumerate() {
        let words = &coded.words[i * 4..][..4];
        let upper = words.iter().rev().fold(0, |bits, word| bits << 3 | word >> 8);
        let shift = u16::from(coded.shifts[i * 4]);
        let bits = upper | u16::from(coded.levels[i]) << 12 | shift << 15;
        part.copy_from_slice(&bits.to_le_bytes());
    }
}

fn iq1_m(coded: &Coded, out: &mut [u8]) {
    low_bytes(&coded.words, &mut out[..32]);
    let high = |i: usize| (coded.words[i] >> 8) as u8 | coded.shifts[i] << 3;
    for (i, byte) in out[32..48].iter_mut().enumerate() {
        *byte = high(2 * i) | high(2 * i + 1) << 4;
    }
    let d = u16::from_le_bytes(coded.d);
    for (i, part) in out[48..].chunks_exact_mut(2).enumerate() {
        let levels = &coded.levels[i * 4..][..4];
        let levels = levels.iter().rev().fold(0, |bits, level| bits << 3 | u16::from(*level));
        part.copy_from_slice(&(levels | (d >> (4 * i) & 15) << 12).to_le_bytes());
    }
}
