//! What quantizers compute with, in NEON.
#![expect(unsafe_code, reason = "intrinsics")]

use super::steps::Fours;
use super::{Eight, NeonOps, larger};
use crate::blocks::intrinsics;
use oprel_quant::{LANES, Lanes};
use std::arch::aarch64::*;

impl<F: Fours> Lanes for NeonOps<F> {
    type V = Eight;

    intrinsics! {
        fn load(self, x: &[f32; LANES]) -> Eight {
            [vld1q_f32(x.as_ptr()), vld1q_f32(x[4..].as_ptr())]
        }

        fn store(self, x: Eight, to: &mut [f32; LANES]) {
            vst1q_f32(to.as_mut_ptr(), x[0]);
            vst1q_f32(to[4..].as_mut_ptr(), x[1]);
        }

        fn splat(self, x: f32) -> Eight {
            [vdupq_n_f32(x); 2]
        }

        fn add(self, a: Eight, b: Eight) -> Eight {
            [vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1])]
        }

        fn sub(self, a: Eight, b: Eight) -> Eight {
            [vsubq_f32(a[0], b[0]), vsubq_f32(a[1], b[1])]
        }

        fn mul(self, a: Eight, b: Eight) -> Eight {
            [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])]
        }

        fn div(self, a: Eight, b: Eight) -> Eight {
            [vdivq_f32(a[0], b[0]), vdivq_f32(a[1], b[1])]
        }

        fn min(self, a: Eight, b: Eight) -> Eight {
            [
                vbslq_f32(vcltq_f32(a[0], b[0]), a[0], b[0]),
                vbslq_f32(vcltq_f32(a[1], b[1]), a[1], b[1]),
            ]
        }

        fn max(self, a: Eight, b: Eight) -> Eight {
            [larger(a[0], b[0]), larger(a[1], b[1])]
        }

        fn round(self, x: Eight) -> Eight {
            [vrndnq_f32(x[0]), vrndnq_f32(x[1])]
        }

        fn where_less(self, a: Eight, b: Eight, then: Eight, otherwise: Eight) -> Eight {
            [
                vbslq_f32(vcltq_f32(a[0], b[0]), then[0], otherwise[0]),
                vbslq_f32(vcltq_f32(a[1], b[1]), then[1], otherwise[1]),
            ]
        }
    }
}
