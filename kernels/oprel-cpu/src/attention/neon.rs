//! Sixteen lanes in four registers: aarch64 with NEON.
#![expect(unsafe_code, reason = "intrinsics")]

use super::cells::Cells;
use super::product::Product;
use super::wide::{LANES, ONE_BITS, Wide};
use crate::blocks::intrinsics;
use crate::lanes::{Lanes, Ops, halves};
use crate::neon::{NeonOps, exp, larger, prefetch, transpose, widen, widen_bf16};
use std::arch::aarch64::*;

/// Sixteen numbers.
type Sixteen = [float32x4_t; 4];

/// Four results of `$each` over register `$i`.
macro_rules! each {
    ($i:ident => $each:expr) => {{
        let mut registers = [vdupq_n_f32(0.0); 4];
        for $i in 0..4 {
            registers[$i] = $each;
        }
        registers
    }};
}

/// Proof that the CPU has this tier's features; made only in functions compiled for them.
#[derive(Clone, Copy)]
pub(super) struct Neon(NeonOps);

impl Neon {
    /// The proof, where it is one.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(super) fn new() -> Neon {
        Neon(NeonOps::new())
    }
}

impl Wide for Neon {
    type V = Sixteen;

    const MANY: bool = false;

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Sixteen {
        let [low, high] = halves(x);
        join([self.0.load(low), self.0.load(high)])
    }

    intrinsics! {
        fn load_f32(self, x: &[u8; 64]) -> Sixteen {
            let (x, _) = x.as_chunks::<16>();
            let four = |i: usize| vreinterpretq_f32_u8(vld1q_u8(x[i].as_ptr()));
            [four(0), four(1), four(2), four(3)]
        }

        fn load_f16(self, x: &[u8; 32]) -> Sixteen {
            let [low, high] = load_shorts(x);
            join([widen(low), widen(high)])
        }

        fn load_bf16(self, x: &[u8; 32]) -> Sixteen {
            let [low, high] = load_shorts(x);
            join([widen_bf16(low), widen_bf16(high)])
        }

        fn load_i8(self, x: &[u8; 16]) -> Sixteen {
            widen_codes(vld1q_s8(x.as_ptr().cast()))
        }

        fn load_i4(self, x: &[u8; 16], upper: bool) -> Sixteen {
            let shift = vdupq_n_s8(if upper { -4 } else { 0 });
            let codes = vandq_u8(vshlq_u8(vld1q_u8(x.as_ptr()), shift), vdupq_n_u8(15));
            widen_codes(vsubq_s8(vreinterpretq_s8_u8(codes), vdupq_n_s8(8)))
        }

        // Eight lanes of even rows, eight of odd ones, and so again.
        fn load_pairs(self, x: &[u8; 64]) -> Sixteen {
            let (x, _) = x.as_chunks::<16>();
            let eight = |i: usize| vreinterpretq_s16_u8(vld1q_u8(x[i].as_ptr()));
            let even = |i: usize| vreinterpretq_f32_s16(vuzp1q_s16(eight(i), eight(i + 1)));
            let odd = |i: usize| vreinterpretq_f32_s16(vuzp2q_s16(eight(i), eight(i + 1)));
            [even(0), odd(0), even(2), odd(2)]
        }

        fn dot_pairs(self, pairs: Sixteen, factor: Sixteen, acc: Sixteen) -> Sixteen {
            let pair = vget_low_s16(vreinterpretq_s16_f32(factor[0]));
            let mut sums = acc;
            for i in [0, 2] {
                let even = vreinterpretq_s16_f32(pairs[i]);
                let odd = vreinterpretq_s16_f32(pairs[i + 1]);
                let (low, high) = (vreinterpretq_s32_f32(acc[i]), vreinterpretq_s32_f32(acc[i + 1]));
                let low = vmlal_lane_s16::<0>(low, vget_low_s16(even), pair);
                let low = vmlal_lane_s16::<1>(low, vget_low_s16(odd), pair);
                let high = vmlal_high_lane_s16::<0>(high, even, pair);
                let high = vmlal_high_lane_s16::<1>(high, odd, pair);
                sums[i] = vreinterpretq_f32_s32(low);
                sums[i + 1] = vreinterpretq_f32_s32(high);
            }
            sums
        }

        fn widen_i32(self, x: Sixteen) -> Sixteen {
            each!(i => vcvtq_f32_s32(vreinterpretq_s32_f32(x[i])))
        }

        fn times_power(self, x: Sixteen, n: Sixteen) -> Sixteen {
            let power = |n: float32x4_t| {
                let exponent = vshlq_n_u32::<23>(vreinterpretq_u32_f32(n));
                vreinterpretq_f32_u32(vaddq_u32(exponent, vdupq_n_u32(ONE_BITS)))
            };
            each!(i => vmulq_f32(x[i], power(n[i])))
        }

        fn pairs(self, a: Sixteen, b: Sixteen) -> Sixteen {
            let lower = |x: float32x4_t| vmovn_u32(vreinterpretq_u32_f32(x));
            let pairs = |x: float32x4_t, y: float32x4_t| {
                vreinterpretq_f32_u16(vcombine_u16(lower(x), lower(y)))
            };
            [pairs(a[0], a[1]), pairs(a[2], a[3]), pairs(b[0], b[1]), pairs(b[2], b[3])]
        }

        fn to_i16(self, x: Sixteen) -> [i16; LANES] {
            let mut codes = [0; LANES];
            for (to, x) in codes.as_chunks_mut::<4>().0.iter_mut().zip(x) {
                vst1_s16(to.as_mut_ptr(), vqmovn_s32(vcvtnq_s32_f32(x)));
            }
            codes
        }

        fn store(self, x: Sixteen, to: &mut [f32; LANES]) {
            for (to, x) in to.as_chunks_mut::<4>().0.iter_mut().zip(x) {
                vst1q_f32(to.as_mut_ptr(), x);
            }
        }

        fn narrow_f16(self, x: Sixteen) -> [u8; 32] {
            let mut bytes = [0; 32];
            for (to, x) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(x) {
                vst1_u8(to.as_mut_ptr(), vreinterpret_u8_f16(vcvt_f16_f32(x)));
            }
            bytes
        }

        fn splat(self, x: f32) -> Sixteen {
            [vdupq_n_f32(x); 4]
        }

        fn splat_f16(self, x: [u8; 2]) -> Sixteen {
            [widen(vdupq_n_u16(u16::from_le_bytes(x)))[0]; 4]
        }

        fn add(self, a: Sixteen, b: Sixteen) -> Sixteen {
            each!(i => vaddq_f32(a[i], b[i]))
        }

        fn sub(self, a: Sixteen, b: Sixteen) -> Sixteen {
            each!(i => vsubq_f32(a[i], b[i]))
        }

        fn mul(self, a: Sixteen, b: Sixteen) -> Sixteen {
            each!(i => vmulq_f32(a[i], b[i]))
        }

        fn fma(self, a: Sixteen, b: Sixteen, c: Sixteen) -> Sixteen {
            each!(i => vfmaq_f32(c[i], a[i], b[i]))
        }

        fn max(self, a: Sixteen, b: Sixteen) -> Sixteen {
            each!(i => larger(a[i], b[i]))
        }

        fn exp(self, x: Sixteen) -> Sixteen {
            each!(i => exp(x[i]))
        }

        fn keep(self, x: Sixteen, from: usize, to: usize, other: Sixteen) -> Sixteen {
            let (from, to) = (vdupq_n_u32(from as u32), vdupq_n_u32(to.min(LANES) as u32));
            let lanes = vld1q_u32([0, 1, 2, 3].as_ptr());
            each!(i => {
                let lane = vaddq_u32(lanes, vdupq_n_u32(4 * i as u32));
                vbslq_f32(vandq_u32(vcgeq_u32(lane, from), vcltq_u32(lane, to)), x[i], other[i])
            })
        }

        fn transpose(self, x: [Sixteen; LANES]) -> [Sixteen; LANES] {
            let mut y = x;
            for rows in 0..4 {
                for cols in 0..4 {
                    let block = transpose(each!(i => x[4 * rows + i][cols]));
                    for i in 0..4 {
                        y[4 * cols + i][rows] = block[i];
                    }
                }
            }
            y
        }
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        prefetch(at);
    }

    #[inline(always)]
    fn product<C: Cells>(self, product: &Product<'_>, m: usize, a: &[f32], c: &mut [f32]) {
        // SAFETY: `self` proves the features.
        unsafe { run_product::<C>(product, m, a, c) }
    }
}

#[target_feature(enable = "neon")]
#[inline(never)]
fn run_product<C: Cells>(product: &Product<'_>, m: usize, a: &[f32], c: &mut [f32]) {
    product.run_wide::<Neon, C>(Neon::new(), m, a, c);
}

/// Sixteen signed bytes as numbers.
#[target_feature(enable = "neon")]
#[inline]
fn widen_codes(codes: int8x16_t) -> Sixteen {
    let (low, high) = (vmovl_s8(vget_low_s8(codes)), vmovl_high_s8(codes));
    [
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
        vcvtq_f32_s32(vmovl_high_s16(low)),
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
        vcvtq_f32_s32(vmovl_high_s16(high)),
    ]
}

/// Two vectors of eight.
#[inline(always)]
fn join([[a, b], [c, d]]: [[float32x4_t; 2]; 2]) -> Sixteen {
    [a, b, c, d]
}

/// Sixteen numbers of two bytes.
#[target_feature(enable = "neon")]
#[inline]
fn load_shorts(x: &[u8; 32]) -> [uint16x8_t; 2] {
    // SAFETY: reads the halves of an array of 32 bytes.
    unsafe {
        [
            vreinterpretq_u16_u8(vld1q_u8(x.as_ptr())),
            vreinterpretq_u16_u8(vld1q_u8(x[16..].as_ptr())),
        ]
    }
}
