//! Codes out of codebooks (IQ1, IQ2, IQ3) and out of base three (TQ1_0): blocks of 256 weights, two
//! groups each. `crates/oprel-quant/src/grid.rs` has the layouts.

use super::{Block, Group, Vectors, f16_all, of_blocks, u16_at, u32_at, u64_at};
use oprel_quant::codebook::{self, EIGHT_SIGNS};

/// Four words of eight codes.
#[inline(always)]
fn four_words<'a, O: Vectors>(ops: O, word: impl Fn(usize) -> &'a [i8; 8]) -> O::B {
    let word = |i: usize| u64::from_le_bytes(word(i).map(|code| code as u8));
    ops.four_words([word(0), word(1), word(2), word(3)])
}

/// Eight words of four codes.
#[inline(always)]
fn eight_words<'a, O: Vectors>(ops: O, word: impl Fn(usize) -> &'a [i8; 4]) -> O::B {
    let word = |i: usize| u32::from_le_bytes(word(i).map(|code| code as u8));
    let (a, b) = ([word(0), word(1), word(2), word(3)], [word(4), word(5), word(6), word(7)]);
    ops.eight_words([a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]])
}

/// Codes with a minus where the bit of `signs` is set.
#[inline(always)]
fn signed<O: Vectors>(ops: O, codes: O::B, signs: u32) -> O::B {
    let minus = ops.spread_bits(signs);
    ops.sub_bytes(ops.xor(codes, minus), minus)
}

/// 32 sign bits for four times seven.
fn all_signs(sevens: u32) -> u32 {
    let eight = |i: u32| EIGHT_SIGNS[(sevens >> (7 * i) & 127) as usize];
    u32::from_le_bytes([eight(0), eight(1), eight(2), eight(3)])
}

/// Nibble `i` of the bytes from `at` on, low ones first.
fn nibble(bytes: &[u8], at: usize, i: usize) -> f32 {
    f32::from(bytes[at + i / 2] >> (i % 2 * 4) & 15)
}

/// `d * (0.5 + s) * factor`, in that order.
#[inline(always)]
fn half_steps<O: Vectors>(ops: O, d: O::V, s: O::V, factor: f32) -> O::V {
    ops.mul(ops.mul(d, ops.add(ops.splat(0.5), s)), ops.splat(factor))
}

/// Nibbles of four bytes, one byte for each block: low ones for first runs, high ones for second.
#[inline(always)]
fn nibble_pairs<O: Vectors>(ops: O, bytes: u32) -> O::V {
    let (low, high) = (bytes & 0x0f0f_0f0f, bytes >> 4 & 0x0f0f_0f0f);
    ops.eight_bytes(u64::from(low) | u64::from(high) << 32)
}

pub(super) struct Iq2Xxs;

impl Block for Iq2Xxs {
    const SPAN_BYTES: usize = 66;
    const GROUPS: usize = 2;
    const BITS: u32 = 7;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let mut codes = [ops.splat_byte(0); 4];
        let mut scales = [0.0; 4];
        for b in 0..4 {
            let part = &span[2 + (4 * g + b) * 8..][..8];
            let bits = u32_at(part, 4);
            let word = |l: usize| &codebook::IQ2_XXS[usize::from(part[l])];
            codes[b] = signed(ops, four_words(ops, word), all_signs(bits));
            scales[b] = (bits >> 28) as f32;
        }
        let scales = half_steps(ops, f16_all(ops, span, 0), of_blocks(ops, scales), 0.25);
        Group { codes, scales, mins: ops.splat(0.0) }
    }
}

pub(super) struct Iq2Xs;

impl Block for Iq2Xs {
    const SPAN_BYTES: usize = 74;
    const GROUPS: usize = 2;
    const BITS: u32 = 7;
    const HALVES: bool = true;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let mut codes = [ops.splat_byte(0); 4];
        for b in 0..4 {
            let q = |l: usize| u16_at(span, 2 + ((4 * g + b) * 4 + l) * 2);
            let word = |l: usize| &codebook::IQ2_XS[usize::from(q(l) & 511)];
            let eight = |l: usize| EIGHT_SIGNS[usize::from(q(l) >> 9)];
            let signs = u32::from_le_bytes([eight(0), eight(1), eight(2), eight(3)]);
            codes[b] = signed(ops, four_words(ops, word), signs);
        }
        let scales = nibble_pairs(ops, u32_at(span, 66 + 4 * g));
        Group {
            codes,
            scales: half_steps(ops, f16_all(ops, span, 0), scales, 0.25),
            mins: ops.splat(0.0),
        }
    }
}

pub(super) struct Iq2S;

impl Block for Iq2S {
    const SPAN_BYTES: usize = 82;
    const GROUPS: usize = 2;
    const BITS: u32 = 7;
    const HALVES: bool = true;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let mut codes = [ops.splat_byte(0); 4];
        for b in 0..4 {
            let block = 4 * g + b;
            let high = usize::from(span[66 + block]);
            let low = |l: usize| usize::from(span[2 + block * 4 + l]);
            let word = |l: usize| &codebook::IQ2_S[low(l) | (high >> (2 * l) & 3) << 8];
            let signs = u32_at(span, 34 + block * 4);
            codes[b] = signed(ops, four_words(ops, word), signs);
        }
        let scales = nibble_pairs(ops, u32_at(span, 74 + 4 * g));
        Group {
            codes,
            scales: half_steps(ops, f16_all(ops, span, 0), scales, 0.25),
            mins: ops.splat(0.0),
        }
    }
}

pub(super) struct Iq3Xxs;

impl Block for Iq3Xxs {
    const SPAN_BYTES: usize = 98;
    const GROUPS: usize = 2;
    const BITS: u32 = 7;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let mut codes = [ops.splat_byte(0); 4];
        let mut scales = [0.0; 4];
        for b in 0..4 {
            let block = 4 * g + b;
            let words = &span[2 + block * 8..][..8];
            let bits = u32_at(span, 66 + 4 * block);
            let word = |l: usize| &codebook::IQ3_XXS[usize::from(words[l])];
            codes[b] = signed(ops, eight_words(ops, word), all_signs(bits));
            scales[b] = (bits >> 28) as f32;
        }
        let scales = half_steps(ops, f16_all(ops, span, 0), of_blocks(ops, scales), 0.5);
        Group { codes, scales, mins: ops.splat(0.0) }
    }
}

pub(super) struct Iq3S;

impl Block for Iq3S {
    const SPAN_BYTES: usize = 110;
    const GROUPS: usize = 2;
    const BITS: u32 = 5;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let mut codes = [ops.splat_byte(0); 4];
        let mut scales = [0.0; 4];
        for b in 0..4 {
            let block = 4 * g + b;
            let low = &span[2 + block * 8..][..8];
            let ninth = usize::from(span[66 + block]);
            let word = |l: usize| &codebook::IQ3_S[usize::from(low[l]) | (ninth >> l & 1) << 8];
            codes[b] = signed(ops, eight_words(ops, word), u32_at(span, 74 + 4 * block));
            scales[b] = 1.0 + 2.0 * nibble(span, 106, block);
        }
        let scales = ops.mul(f16_all(ops, span, 0), of_blocks(ops, scales));
        Group { codes, scales, mins: ops.splat(0.0) }
    }
}

/// Words of IQ1 in eighths, each moved an eighth up or, where `down` is -1, down.
#[inline(always)]
fn shifted<O: Vectors>(ops: O, words: O::B, down: O::B) -> O::B {
    let eighths = ops.and(ops.shift_up::<3>(words), ops.splat_byte(-8));
    ops.add_bytes(eighths, ops.or(down, ops.splat_byte(1)))
}

/// `d * (2 s + 1) / 8` for scales by lane.
#[inline(always)]
fn odd_eighths<O: Vectors>(ops: O, d: O::V, s: O::V) -> O::V {
    let odd = ops.fma(s, ops.splat(2.0), ops.splat(1.0));
    ops.mul(ops.mul(d, odd), ops.splat(0.125))
}

pub(super) struct Iq1S;

impl Block for Iq1S {
    const SPAN_BYTES: usize = 50;
    const GROUPS: usize = 2;
    const BITS: u32 = 5;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let mut codes = [ops.splat_byte(0); 4];
        let mut scales = [0.0; 4];
        for b in 0..4 {
            let block = 4 * g + b;
            let high = usize::from(u16_at(span, 34 + 2 * block));
            let low = |l: usize| usize::from(span[2 + block * 4 + l]);
            let word = |l: usize| &codebook::IQ1[low(l) | (high >> (3 * l) & 7) << 8];
            let words = four_words(ops, word);
            codes[b] = shifted(ops, words, ops.splat_byte(-((high >> 15) as i8)));
            scales[b] = (high >> 12 & 7) as f32;
        }
        let scales = odd_eighths(ops, f16_all(ops, span, 0), of_blocks(ops, scales));
        Group { codes, scales, mins: ops.splat(0.0) }
    }
}

pub(super) struct Iq1M;

impl Block for Iq1M {
    const SPAN_BYTES: usize = 56;
    const GROUPS: usize = 2;
    const BITS: u32 = 5;
    const HALVES: bool = true;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let mut codes = [ops.splat_byte(0); 4];
        for b in 0..4 {
            let block = 4 * g + b;
            let high = usize::from(u16_at(span, 32 + 2 * block));
            let low = |l: usize| usize::from(span[block * 4 + l]);
            let word = |l: usize| &codebook::IQ1[low(l) | (high >> (4 * l) & 7) << 8];
            let words = four_words(ops, word);
            // All ones for the words that move down.
            let down = |l: usize| (high as u64 >> (4 * l + 3) & 1).wrapping_neg();
            codes[b] = shifted(ops, words, ops.four_words([down(0), down(1), down(2), down(3)]));
        }
        let packed = [u16_at(span, 48), u16_at(span, 50), u16_at(span, 52), u16_at(span, 54)];
        let d = packed[0] >> 12
            | packed[1] >> 8 & 0x00f0
            | packed[2] >> 4 & 0x0f00
            | packed[3] & 0xf000;
        // Four scales of three bits in each number: two blocks of two runs.
        let of = |run: usize| f32::from(packed[2 * g + run / 4] >> (run % 4 * 3) & 7);
        let scales = ops.load(&[of(0), of(2), of(4), of(6), of(1), of(3), of(5), of(7)]);
        Group { codes, scales: odd_eighths(ops, ops.splat_f16(d), scales), mins: ops.splat(0.0) }
    }
}

pub(super) struct Tq1;

impl Block for Tq1 {
    const SPAN_BYTES: usize = 54;
    const GROUPS: usize = 2;
    const BITS: u32 = 4;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let scales = f16_all(ops, span, 52);
        let first = ops.load32(span, 0);
        let x3 = times_three(ops, first);
        let x9 = times_three(ops, x3);
        let x27 = times_three(ops, x9);
        let powers = if g == 0 {
            [first, x3, x9, x27]
        } else {
            // Sixteen bytes, then their triples; nine times that; 81 times the bytes, and behind
            // them the last sixteen: four bytes, then their triples, and so on.
            let low = ops.four_words([!0, !0, 0, 0]);
            let high = ops.four_words([0, 0, !0, !0]);
            let (a, b) = (u64_at(span, 32), u64_at(span, 40));
            let twice = ops.four_words([a, b, a, b]);
            let y = ops.or(ops.and(twice, low), ops.and(times_three(ops, twice), high));
            let y9 = times_three(ops, times_three(ops, y));
            let y81 = times_three(ops, times_three(ops, y9));
            let last = last_sixteen(u32_at(span, 48));
            let end = ops.or(ops.and(y81, low), ops.four_words([0, 0, last[0], last[1]]));
            [times_three(ops, x27), y, y9, end]
        };
        let mut codes = powers;
        for i in 0..4 {
            codes[i] = first_digit(ops, powers[i]);
        }
        Group { codes, scales, mins: ops.splat(0.0) }
    }
}

/// Three times each byte, without what does not fit.
#[inline(always)]
fn times_three<O: Vectors>(ops: O, x: O::B) -> O::B {
    ops.add_bytes(x, ops.add_bytes(x, x))
}

/// Four bytes times 1, 3, 9 and 27, without what does not fit.
#[inline(always)]
fn last_sixteen(x: u32) -> [u64; 2] {
    let (even, odd) = (x & 0x00ff_00ff, x >> 8 & 0x00ff_00ff);
    let times = |n: u32| u64::from((even * n) & 0x00ff_00ff | ((odd * n) & 0x00ff_00ff) << 8);
    [times(1) | times(3) << 32, times(9) | times(27) << 32]
}

/// The first ternary digit of each byte, less 1: what of three times the byte goes beyond it.
#[inline(always)]
fn first_digit<O: Vectors>(ops: O, x: O::B) -> O::B {
    // Each comparison gives -1 where it holds: 3 * 86 > 256, 3 * 171 > 512.
    let minus_digit = ops.add_bytes(ops.at_least(x, 86), ops.at_least(x, 171));
    ops.sub_bytes(ops.splat_byte(-1), minus_digit)
}
