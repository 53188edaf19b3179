//! What NEON does with 32 bytes and with eight f32, each in two registers.

use super::steps::{self, Fours};
use super::{Eight, NeonOps};
use crate::act::{ActGroup, WholeGroup};
use crate::blocks::{Block, Vectors, Wide, intrinsics};
use std::arch::aarch64::*;

/// 32 bytes.
type Bytes = [int8x16_t; 2];

/// Signed bytes as unsigned ones.
#[target_feature(enable = "neon")]
#[inline]
fn unsigned(x: int8x16_t) -> uint8x16_t {
    vreinterpretq_u8_s8(x)
}

/// The other way.
#[target_feature(enable = "neon")]
#[inline]
fn signed(x: uint8x16_t) -> int8x16_t {
    vreinterpretq_s8_u8(x)
}

impl<F: Fours> Vectors for NeonOps<F> {
    type B = Bytes;

    const ABOVE: bool = false;

    intrinsics! {
        fn load32(self, bytes: &[u8], at: usize) -> Bytes {
            let bytes = &bytes[at..at + 32];
            [vld1q_s8(bytes.as_ptr().cast()), vld1q_s8(bytes[16..].as_ptr().cast())]
        }

        fn four_words(self, w: [u64; 4]) -> Bytes {
            let two = |a, b| vcombine_s8(vcreate_s8(a), vcreate_s8(b));
            [two(w[0], w[1]), two(w[2], w[3])]
        }

        fn eight_words(self, w: [u32; 8]) -> Bytes {
            let [a, b] = [vld1q_u32(w.as_ptr()), vld1q_u32(w[4..].as_ptr())];
            [vreinterpretq_s8_u32(a), vreinterpretq_s8_u32(b)]
        }

        fn splat_byte(self, x: i8) -> Bytes {
            [vdupq_n_s8(x); 2]
        }

        fn nibbles(self, bytes: &[u8], at: usize) -> Bytes {
            let bytes = &bytes[at..at + 16];
            let bytes = vld1q_u8(bytes.as_ptr());
            [signed(vandq_u8(bytes, vdupq_n_u8(15))), signed(vshrq_n_u8::<4>(bytes))]
        }

        fn spread_bits(self, bits: u32) -> Bytes {
            let bytes = vreinterpretq_s8_u32(vdupq_n_u32(bits));
            let two = |first: u8| vcombine_u8(vdup_n_u8(first), vdup_n_u8(first + 1));
            let mask = [vreinterpretq_s8_u64(vdupq_n_u64(0x8040_2010_0804_0201)); 2];
            self.test([vqtbl1q_s8(bytes, two(0)), vqtbl1q_s8(bytes, two(2))], mask)
        }

        fn and(self, a: Bytes, b: Bytes) -> Bytes {
            [vandq_s8(a[0], b[0]), vandq_s8(a[1], b[1])]
        }

        fn or(self, a: Bytes, b: Bytes) -> Bytes {
            [vorrq_s8(a[0], b[0]), vorrq_s8(a[1], b[1])]
        }

        fn xor(self, a: Bytes, b: Bytes) -> Bytes {
            [veorq_s8(a[0], b[0]), veorq_s8(a[1], b[1])]
        }

        fn add_bytes(self, a: Bytes, b: Bytes) -> Bytes {
            [vaddq_s8(a[0], b[0]), vaddq_s8(a[1], b[1])]
        }

        fn sub_bytes(self, a: Bytes, b: Bytes) -> Bytes {
            [vsubq_s8(a[0], b[0]), vsubq_s8(a[1], b[1])]
        }

        fn shift_up<const SHIFT: i32>(self, x: Bytes) -> Bytes {
            [vshlq_n_s8::<SHIFT>(x[0]), vshlq_n_s8::<SHIFT>(x[1])]
        }

        fn shift_down<const SHIFT: i32>(self, x: Bytes) -> Bytes {
            // By a register, because the immediate may not be 0.
            let by = vdupq_n_s8(-(SHIFT as i8));
            [signed(vshlq_u8(unsigned(x[0]), by)), signed(vshlq_u8(unsigned(x[1]), by))]
        }

        fn test(self, x: Bytes, mask: Bytes) -> Bytes {
            [signed(vtstq_s8(x[0], mask[0])), signed(vtstq_s8(x[1], mask[1]))]
        }

        fn at_least(self, x: Bytes, least: u8) -> Bytes {
            let least = vdupq_n_u8(least);
            [signed(vcgeq_u8(unsigned(x[0]), least)), signed(vcgeq_u8(unsigned(x[1]), least))]
        }

        fn values(self, table: &[i8; 16], indices: Bytes) -> Bytes {
            let table = vld1q_s8(table.as_ptr());
            [vqtbl1q_s8(table, unsigned(indices[0])), vqtbl1q_s8(table, unsigned(indices[1]))]
        }

        fn negate(self, x: Eight) -> Eight {
            [vnegq_f32(x[0]), vnegq_f32(x[1])]
        }

        fn splat_f16(self, bits: u16) -> Eight {
            [vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))); 2]
        }

        fn four_f16(self, bits: u64) -> Eight {
            [vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(bits))); 2]
        }

        fn eight_bytes(self, bytes: u64) -> Eight {
            integers_of(vcreate_s8(bytes))
        }

        fn bytes_of_runs(self, bytes: u64) -> Eight {
            let bytes = vcreate_s8(bytes);
            let even = vreinterpret_s32_s8(vuzp1_s8(bytes, bytes));
            let odd = vreinterpret_s32_s8(vuzp2_s8(bytes, bytes));
            integers_of(vreinterpret_s8_s32(vzip1_s32(even, odd)))
        }

        fn integers(self, x: &[i32; 8]) -> Eight {
            let [a, b] = [vld1q_s32(x.as_ptr()), vld1q_s32(x[4..].as_ptr())];
            [vcvtq_f32_s32(a), vcvtq_f32_s32(b)]
        }

        fn sum(self, x: Eight) -> f32 {
            let q = vaddq_f32(x[0], x[1]);
            vpadds_f32(vadd_f32(vget_low_f32(q), vget_high_f32(q)))
        }
    }

    #[inline(always)]
    fn firsts(self, a: Eight, b: Eight) -> Eight {
        [a[0], b[0]]
    }

    #[inline(always)]
    fn seconds(self, a: Eight, b: Eight) -> Eight {
        [a[1], b[1]]
    }

    #[inline(always)]
    fn products<K: Block>(self, codes: &[Bytes; 8], act: &ActGroup) -> [Eight; 2] {
        let (act, _) = act.codes.as_chunks();
        let first = four_blocks::<F, K>(self.0, &codes[..4], &act[..4]);
        let second = four_blocks::<F, K>(self.0, &codes[4..], &act[4..8]);
        // SAFETY: `self` proves the feature.
        unsafe {
            let half = |h: usize| [vcvtq_f32_s32(first[h]), vcvtq_f32_s32(second[h])];
            [half(0), half(1)]
        }
    }

    #[inline(always)]
    fn whole<K: Block>(self, w: &Wide<NeonOps<F>>, act: &WholeGroup) -> [i32; 2] {
        let (codes, _) = act.codes.as_chunks();
        let first = four_blocks::<F, K>(self.0, &w.codes[..4], &codes[..4]);
        let second = four_blocks::<F, K>(self.0, &w.codes[4..], &codes[4..8]);
        // SAFETY: `self` proves the feature.
        unsafe { whole::<F, K>(w, [first, second], act) }
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        steps::prefetch(at);
    }

    #[inline(always)]
    fn prefetch_far(self, at: *const u8) {
        steps::prefetch_far(at);
    }
}

/// Eight bytes as f32.
#[target_feature(enable = "neon")]
#[inline]
fn integers_of(bytes: int8x8_t) -> Eight {
    let short = vmovl_s8(bytes);
    [vcvtq_f32_s32(vmovl_s16(vget_low_s16(short))), vcvtq_f32_s32(vmovl_high_s16(short))]
}

/// [`Vectors::whole`] of sums of products: those of first and second halves of four blocks, then of the
/// other four.
#[target_feature(enable = "neon")]
#[inline]
fn whole<F: Fours, K: Block>(
    w: &Wide<NeonOps<F>>,
    sums: [[int32x4_t; 2]; 2],
    act: &WholeGroup,
) -> [i32; 2] {
    let (mut p, mut mins) = (vdupq_n_s32(0), vdupq_n_s32(0));
    for half in 0..if K::HALVES { 2 } else { 1 } {
        for four in 0..2 {
            // Scales and minima are small integers.
            p = vmlaq_s32(p, vcvtq_s32_f32(w.scales[half][four]), sums[four][half]);
            if K::MINS {
                let of = sums_of::<K>(act, half, four);
                mins = vmlaq_s32(mins, vcvtq_s32_f32(w.mins[half][four]), of);
            }
        }
    }
    [vaddvq_s32(p), vaddvq_s32(mins)]
}

/// Sums of activations of four blocks, or of their first or second halves.
#[target_feature(enable = "neon")]
#[inline]
fn sums_of<K: Block>(act: &WholeGroup, half: usize, four: usize) -> int32x4_t {
    // SAFETY: arrays of eight and of four are read.
    unsafe {
        if !K::HALVES {
            return vmovl_s16(vld1_s16(act.totals.as_chunks::<4>().0[four].as_ptr()));
        }
        let pairs = vreinterpretq_s32_s16(vld1q_s16(act.runs.as_chunks::<8>().0[four].as_ptr()));
        match half {
            0 => vshrq_n_s32::<16>(vshlq_n_s32::<16>(pairs)),
            _ => vshrq_n_s32::<16>(pairs),
        }
    }
}

/// Sums of products of four blocks: of first halves and of second ones, or, where a block has one scale,
/// of blocks and of blocks again.
#[inline(always)]
fn four_blocks<F: Fours, K: Block>(fours: F, codes: &[Bytes], act: &[[i8; 32]]) -> [int32x4_t; 2] {
    // SAFETY: `fours` proves the features; arrays of 32 bytes are read.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); 4]; 2];
        for b in 0..4 {
            for half in 0..2 {
                let x = vld1q_s8(act[b][16 * half..].as_ptr());
                let sum = &mut sums[if K::HALVES { half } else { 0 }][b];
                *sum = fours.add_fours(*sum, codes[b][half], x);
            }
        }
        let first = add_all(sums[0]);
        [first, if K::HALVES { add_all(sums[1]) } else { first }]
    }
}

/// The sums of four times four integers.
#[target_feature(enable = "neon")]
#[inline]
fn add_all(x: [int32x4_t; 4]) -> int32x4_t {
    vpaddq_s32(vpaddq_s32(x[0], x[1]), vpaddq_s32(x[2], x[3]))
}
