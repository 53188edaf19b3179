//! The k-quants and TQ2_0: blocks of 256 weights, two groups each.

use super::{Block, Group, Vectors, bytes_of_blocks, f16_all, u16_at, u32_at, u64_at};

/// `(bytes >> SHIFT) & mask` for each byte; `mask` must drop what comes from the byte above.
#[inline(always)]
fn field<O: Vectors, const SHIFT: i32>(ops: O, bytes: O::B, mask: i8) -> O::B {
    ops.and(ops.shift_down::<SHIFT>(bytes), ops.splat_byte(mask))
}

/// The two nibbles of the 32 bytes at `at`: the low ones, then the high ones.
#[inline(always)]
fn nibbles_at<O: Vectors>(ops: O, bytes: &[u8], at: usize) -> [O::B; 2] {
    let bytes = ops.load32(bytes, at);
    [field::<O, 0>(ops, bytes, 15), field::<O, 4>(ops, bytes, 15)]
}

/// The four two-bit fields of the 32 bytes at `at`, lowest first.
#[inline(always)]
fn two_bits<O: Vectors>(ops: O, bytes: &[u8], at: usize) -> [O::B; 4] {
    let bytes = ops.load32(bytes, at);
    [
        field::<O, 0>(ops, bytes, 3),
        field::<O, 2>(ops, bytes, 3),
        field::<O, 4>(ops, bytes, 3),
        field::<O, 6>(ops, bytes, 3),
    ]
}

/// `value` in the bytes where bit `bit` of `bytes` is set.
#[inline(always)]
fn where_set<O: Vectors>(ops: O, bytes: O::B, bit: usize, value: i8) -> O::B {
    ops.and(ops.test(bytes, ops.splat_byte((1u8 << bit) as i8)), ops.splat_byte(value))
}

/// Four scales and four minima of six bits, of group `g`, from the 12 bytes at 4.
#[inline(always)]
fn six_bit_pairs(block: &[u8], g: usize) -> (u32, u32) {
    let (a, b, c) = (u32_at(block, 4), u32_at(block, 8), u32_at(block, 12));
    if g == 0 {
        return (a & 0x3f3f_3f3f, b & 0x3f3f_3f3f);
    }
    let scales = c & 0x0f0f_0f0f | (a >> 6 & 0x0303_0303) << 4;
    let mins = c >> 4 & 0x0f0f_0f0f | (b >> 6 & 0x0303_0303) << 4;
    (scales, mins)
}

/// Scales and minima of group `g` of Q4_K and Q5_K.
#[inline(always)]
fn scales_and_mins<O: Vectors>(ops: O, block: &[u8], g: usize) -> (O::V, O::V) {
    let (scales, mins) = six_bit_pairs(block, g);
    (bytes_of_blocks(ops, scales), bytes_of_blocks(ops, mins))
}

pub(super) struct Q4K;

impl Block for Q4K {
    const SPAN_BYTES: usize = 144;
    const GROUPS: usize = 2;
    const MINS: bool = true;
    const BITS: u32 = 4;
    const WHOLE: bool = true;

    #[inline(always)]
    fn numbers(span: &[u8]) -> [u16; 2] {
        [u16_at(span, 0), u16_at(span, 2)]
    }

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let (scales, mins) = scales_and_mins(ops, span, g);
        let [a, b] = nibbles_at(ops, span, 16 + 64 * g);
        let [c, d] = nibbles_at(ops, span, 48 + 64 * g);
        Group { codes: [a, b, c, d], scales, mins }
    }
}

pub(super) struct Q5K;

impl Block for Q5K {
    const SPAN_BYTES: usize = 176;
    const GROUPS: usize = 2;
    const MINS: bool = true;
    const BITS: u32 = 5;
    const WHOLE: bool = true;

    #[inline(always)]
    fn numbers(span: &[u8]) -> [u16; 2] {
        [u16_at(span, 0), u16_at(span, 2)]
    }

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let (scales, mins) = scales_and_mins(ops, span, g);
        let fifth = ops.load32(span, 16);
        let [a, b] = nibbles_at(ops, span, 48 + 64 * g);
        let [c, d] = nibbles_at(ops, span, 80 + 64 * g);
        let mut codes = [a, b, c, d];
        for i in 0..4 {
            codes[i] = ops.or(codes[i], where_set(ops, fifth, 4 * g + i, 16));
        }
        Group { codes, scales, mins }
    }
}

pub(super) struct Q6K;

impl Block for Q6K {
    const SPAN_BYTES: usize = 210;
    const GROUPS: usize = 2;
    const BITS: u32 = 6;
    const ABOVE: i8 = 32;
    const HALVES: bool = true;
    const WHOLE: bool = true;

    #[inline(always)]
    fn numbers(span: &[u8]) -> [u16; 2] {
        [u16_at(span, 208), 0]
    }

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let [a, c] = nibbles_at(ops, span, 64 * g);
        let [b, d] = nibbles_at(ops, span, 64 * g + 32);
        let high = two_bits(ops, span, 128 + 32 * g);
        let mut codes = [a, b, c, d];
        for i in 0..4 {
            codes[i] = ops.or(codes[i], ops.shift_up::<4>(high[i]));
        }
        let scales = ops.bytes_of_runs(u64_at(span, 192 + 8 * g));
        Group { codes, scales, mins: ops.splat(0.0) }
    }
}

pub(super) struct Q2K;

impl Block for Q2K {
    const SPAN_BYTES: usize = 84;
    const GROUPS: usize = 2;
    const MINS: bool = true;
    const BITS: u32 = 4;
    const HALVES: bool = true;
    const WHOLE: bool = true;

    #[inline(always)]
    fn numbers(span: &[u8]) -> [u16; 2] {
        [u16_at(span, 80), u16_at(span, 82)]
    }

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let both = u64_at(span, 8 * g);
        let low = 0x0f0f_0f0f_0f0f_0f0f;
        let scales = ops.bytes_of_runs(both & low);
        let mins = ops.bytes_of_runs(both >> 4 & low);
        Group { codes: two_bits(ops, span, 16 + 32 * g), scales, mins }
    }
}

pub(super) struct Q3K;

impl Block for Q3K {
    const SPAN_BYTES: usize = 110;
    const GROUPS: usize = 2;
    const BITS: u32 = 4;
    const ABOVE: i8 = 4;
    const HALVES: bool = true;
    const WHOLE: bool = true;

    #[inline(always)]
    fn numbers(span: &[u8]) -> [u16; 2] {
        [u16_at(span, 108), 0]
    }

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let third = ops.load32(span, 0);
        let mut codes = two_bits(ops, span, 32 + 32 * g);
        for i in 0..4 {
            let plus = where_set(ops, third, 4 * g + i, 4);
            codes[i] = ops.add_bytes(codes[i], plus);
        }
        let scales = ops.bytes_of_runs(scales_q3(span, g));
        Group { codes, scales, mins: ops.splat(0.0) }
    }
}

/// Eight scales of six bits, less 32, of group `g`, from the 12 bytes at 96.
#[inline(always)]
fn scales_q3(block: &[u8], g: usize) -> u64 {
    let low = u64_at(block, 96) >> (4 * g) & 0x0f0f_0f0f_0f0f_0f0f;
    let high = u32_at(block, 104) >> (4 * g);
    let high = u64::from(high & 0x0303_0303) | u64::from(high >> 2 & 0x0303_0303) << 32;
    // Bytes are below 64, so setting bit 7 keeps the subtraction within each byte; flipping the
    // bit back gives the difference.
    let six = low | high << 4;
    ((six | 0x8080_8080_8080_8080) - 0x2020_2020_2020_2020) ^ 0x8080_8080_8080_8080
}

pub(super) struct Tq2;

impl Block for Tq2 {
    const SPAN_BYTES: usize = 66;
    const GROUPS: usize = 2;
    const BITS: u32 = 4;
    const ABOVE: i8 = 1;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let codes = two_bits(ops, span, 32 * g);
        Group { codes, scales: f16_all(ops, span, 64), mins: ops.splat(0.0) }
    }
}
