//! Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q1_0: one scale a block.

use super::{Block, Group, Vectors, f16_all, f16_of_blocks, u32_at};

/// Nibbles at `at` with the fifth bits of the u32 at `fifth` above them.
#[inline(always)]
fn five_bits<O: Vectors>(ops: O, span: &[u8], at: usize, fifth: usize) -> O::B {
    let high = ops.and(ops.spread_bits(u32_at(span, fifth)), ops.splat_byte(16));
    ops.or(ops.nibbles(span, at), high)
}

pub(super) struct Q4_0;

impl Block for Q4_0 {
    const SPAN_BYTES: usize = 4 * 18;
    const GROUPS: usize = 1;
    const BITS: u32 = 4;
    const ABOVE: i8 = 8;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], _: usize) -> Group<O> {
        let mut codes = [ops.splat_byte(0); 4];
        for b in 0..4 {
            codes[b] = ops.nibbles(span, b * 18 + 2);
        }
        Group { codes, scales: f16_of_blocks(ops, span, 0, 18), mins: ops.splat(0.0) }
    }
}

pub(super) struct Q4_1;

impl Block for Q4_1 {
    const SPAN_BYTES: usize = 4 * 20;
    const GROUPS: usize = 1;
    const MINS: bool = true;
    const BITS: u32 = 4;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], _: usize) -> Group<O> {
        let mut codes = [ops.splat_byte(0); 4];
        for b in 0..4 {
            codes[b] = ops.nibbles(span, b * 20 + 4);
        }
        let mins = f16_of_blocks(ops, span, 2, 20);
        Group { codes, scales: f16_of_blocks(ops, span, 0, 20), mins }
    }
}

pub(super) struct Q5_0;

impl Block for Q5_0 {
    const SPAN_BYTES: usize = 4 * 22;
    const GROUPS: usize = 1;
    const BITS: u32 = 5;
    const ABOVE: i8 = 16;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], _: usize) -> Group<O> {
        let mut codes = [ops.splat_byte(0); 4];
        for b in 0..4 {
            codes[b] = five_bits(ops, span, b * 22 + 6, b * 22 + 2);
        }
        Group { codes, scales: f16_of_blocks(ops, span, 0, 22), mins: ops.splat(0.0) }
    }
}

pub(super) struct Q5_1;

impl Block for Q5_1 {
    const SPAN_BYTES: usize = 4 * 24;
    const GROUPS: usize = 1;
    const MINS: bool = true;
    const BITS: u32 = 5;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], _: usize) -> Group<O> {
        let mut codes = [ops.splat_byte(0); 4];
        for b in 0..4 {
            codes[b] = five_bits(ops, span, b * 24 + 8, b * 24 + 4);
        }
        let mins = f16_of_blocks(ops, span, 2, 24);
        Group { codes, scales: f16_of_blocks(ops, span, 0, 24), mins }
    }
}

pub(super) struct Q8_0;

impl Block for Q8_0 {
    const SPAN_BYTES: usize = 4 * 34;
    const GROUPS: usize = 1;
    const BITS: u32 = 8;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], _: usize) -> Group<O> {
        let mut codes = [ops.splat_byte(0); 4];
        for b in 0..4 {
            codes[b] = ops.load32(span, b * 34 + 2);
        }
        Group { codes, scales: f16_of_blocks(ops, span, 0, 34), mins: ops.splat(0.0) }
    }
}

pub(super) struct Q1_0;

impl Block for Q1_0 {
    const SPAN_BYTES: usize = 18;
    const GROUPS: usize = 1;
    const BITS: u32 = 4;
    const ABOVE: i8 = 1;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], _: usize) -> Group<O> {
        let mut codes = [ops.splat_byte(0); 4];
        for b in 0..4 {
            let set = ops.spread_bits(u32_at(span, 2 + 4 * b));
            codes[b] = ops.and(set, ops.splat_byte(2));
        }
        Group { codes, scales: f16_all(ops, span, 0), mins: ops.splat(0.0) }
    }
}
