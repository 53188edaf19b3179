//! Nibbles that index sixteen values: IQ4_NL, IQ4_XS, MXFP4, NVFP4.

use super::{Block, Group, Vectors, bytes_of_blocks, f16_of_blocks, of_blocks};
use super::{u16_at, u64_at};
use oprel_quant::codebook::{FP4, IQ4};
use oprel_quant::{e8m0_half, ue4m3_half};

/// Values of the nibbles of four times 16 bytes, `step` apart.
#[inline(always)]
fn four<O: Vectors>(ops: O, table: &[i8; 16], span: &[u8], at: usize, step: usize) -> [O::B; 4] {
    let mut codes = [ops.splat_byte(0); 4];
    for b in 0..4 {
        codes[b] = ops.values(table, ops.nibbles(span, at + b * step));
    }
    codes
}

pub(super) struct Iq4Nl;

impl Block for Iq4Nl {
    const SPAN_BYTES: usize = 4 * 18;
    const GROUPS: usize = 1;
    const BITS: u32 = 8;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], _: usize) -> Group<O> {
        let codes = four(ops, &IQ4, span, 2, 18);
        Group { codes, scales: f16_of_blocks(ops, span, 0, 18), mins: ops.splat(0.0) }
    }
}

pub(super) struct Iq4Xs;

impl Block for Iq4Xs {
    const SPAN_BYTES: usize = 136;
    const GROUPS: usize = 2;
    const BITS: u32 = 8;
    const WHOLE: bool = true;

    #[inline(always)]
    fn numbers(span: &[u8]) -> [u16; 2] {
        [u16_at(span, 0), 0]
    }

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], g: usize) -> Group<O> {
        let codes = four(ops, &IQ4, span, 8 + 64 * g, 16);
        // Four scales of six bits, each to a byte.
        let low = u32::from(u16_at(span, 4 + 2 * g));
        let low = (low | low << 8) & 0x00ff_00ff;
        let low = (low | low << 4) & 0x0f0f_0f0f;
        let high = u32::from(span[2 + g]);
        let high = (high | high << 12) & 0x000f_000f;
        let high = (high | high << 6) & 0x0303_0303;
        let scales = ops.add(bytes_of_blocks(ops, low | high << 4), ops.splat(-32.0));
        Group { codes, scales, mins: ops.splat(0.0) }
    }
}

/// [`e8m0_half`] of each byte.
static E8M0_HALF: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut x = 0;
    while x < 256 {
        table[x] = e8m0_half(x as u8);
        x += 1;
    }
    table
};

pub(super) struct Mxfp4;

impl Block for Mxfp4 {
    const SPAN_BYTES: usize = 4 * 17;
    const GROUPS: usize = 1;
    const BITS: u32 = 5;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], _: usize) -> Group<O> {
        let codes = four(ops, &FP4, span, 1, 17);
        let scale = |b: usize| E8M0_HALF[usize::from(span[b * 17])];
        let scales = of_blocks(ops, [scale(0), scale(1), scale(2), scale(3)]);
        Group { codes, scales, mins: ops.splat(0.0) }
    }
}

/// [`ue4m3_half`] of each byte.
static E4M3_HALF: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut x = 0;
    while x < 256 {
        table[x] = ue4m3_half(x as u8);
        x += 1;
    }
    table
};

pub(super) struct Nvfp4;

impl Block for Nvfp4 {
    const SPAN_BYTES: usize = 2 * 36;
    const GROUPS: usize = 1;
    const BITS: u32 = 5;
    const HALVES: bool = true;

    #[inline(always)]
    fn group<O: Vectors>(ops: O, span: &[u8], _: usize) -> Group<O> {
        // Runs lie in blocks of four; a run has 8 bytes, low nibbles first.
        let run = |i: usize| i / 4 * 36 + i % 4;
        let scale = |i: usize| E4M3_HALF[usize::from(span[run(i)])];
        let low = 0x0f0f_0f0f_0f0f_0f0f;
        let mut codes = [ops.splat_byte(0); 4];
        for b in 0..4 {
            let at = b / 2 * 36 + 4 + b % 2 * 16;
            let (first, second) = (u64_at(span, at), u64_at(span, at + 8));
            let words = [first & low, first >> 4 & low, second & low, second >> 4 & low];
            codes[b] = ops.values(&FP4, ops.four_words(words));
        }
        let [a, b, c, d] = [scale(0), scale(2), scale(4), scale(6)];
        let scales = ops.load(&[a, b, c, d, scale(1), scale(3), scale(5), scale(7)]);
        Group { codes, scales, mins: ops.splat(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oprel_quant::{QuantType, dequantize};

    #[test]
    fn scales_are_those_of_the_definition() {
        for x in 0..=255u8 {
            let mut weights = [0.0; 64];
            let mut block = [0x11; 36];
            block[..4].fill(x);
            dequantize(QuantType::NVFP4, &block, &mut weights).unwrap();
            assert_eq!(E4M3_HALF[usize::from(x)], weights[0], "{x}");
            let mut block = [0x11; 17];
            block[0] = x;
            dequantize(QuantType::MXFP4, &block, &mut weights[..32]).unwrap();
            assert_eq!(E8M0_HALF[usize::from(x)], weights[0], "{x}");
        }
    }
}
