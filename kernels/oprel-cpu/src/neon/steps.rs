//! Products of bytes: by the instructions for them, or without.
//!
//! The intrinsics for these instructions, and for prefetching, are not in stable Rust; each is one
//! line of assembly here.

use std::arch::aarch64::*;
use std::arch::asm;

/// Proof that the CPU has NEON, and perhaps an instruction that adds products of bytes by fours.
pub(super) trait Fours: Copy {
    /// Adds to each sum the products of four bytes of `a` and `b`.
    fn add_fours(self, sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t;

    /// The same with bytes `4 * FOUR..` of `b` for each sum.
    fn add_four<const FOUR: i32>(self, sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t;
}

/// A step of the matrix product, and proof that the CPU has the instructions for it.
pub(super) trait Step: Copy {
    /// Whether panels hold rows by pairs.
    const PAIRS: bool;

    /// Sixteen activations of two tokens, as [`Step::add_rows`] wants them.
    fn arrange(self, act: [int8x16_t; 2]) -> [int8x16_t; 2];

    /// Adds products of sixteen weights of four rows of a panel with two tokens.
    fn add_rows(
        self,
        sums: [int32x4_t; 2],
        rows: &[int8x16_t; 4],
        act: [int8x16_t; 2],
    ) -> [int32x4_t; 2];

    /// Sums of four rows, by token.
    fn by_token(self, sums: [int32x4_t; 2]) -> [int32x4_t; 2];
}

/// Rows are lanes, and four activations of a token meet all of them.
impl<F: Fours> Step for F {
    const PAIRS: bool = false;

    #[inline(always)]
    fn arrange(self, act: [int8x16_t; 2]) -> [int8x16_t; 2] {
        act
    }

    #[inline(always)]
    fn add_rows(
        self,
        mut sums: [int32x4_t; 2],
        rows: &[int8x16_t; 4],
        act: [int8x16_t; 2],
    ) -> [int32x4_t; 2] {
        for t in 0..2 {
            sums[t] = self.add_four::<0>(sums[t], rows[0], act[t]);
            sums[t] = self.add_four::<1>(sums[t], rows[1], act[t]);
            sums[t] = self.add_four::<2>(sums[t], rows[2], act[t]);
            sums[t] = self.add_four::<3>(sums[t], rows[3], act[t]);
        }
        sums
    }

    #[inline(always)]
    fn by_token(self, sums: [int32x4_t; 2]) -> [int32x4_t; 2] {
        sums
    }
}

/// A type whose values prove features; made only in functions compiled for them.
macro_rules! proof {
    ($(#[$meta:meta])* $vis:vis struct $name:ident: $features:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        $vis struct $name(());

        impl $name {
            /// The proof, where it is one.
            #[target_feature(enable = $features)]
            #[inline]
            pub(super) fn new() -> $name {
                $name(())
            }
        }
    };
}

proof! {
    /// NEON alone.
    pub(crate) struct Plain: "neon"
}
proof! {
    /// NEON with FEAT_DotProd.
    pub(super) struct DotProd: "neon,dotprod"
}
proof! {
    /// NEON with FEAT_I8MM.
    pub(super) struct I8mm: "neon,i8mm"
}

impl Fours for Plain {
    #[inline(always)]
    fn add_fours(self, sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe { add_products(sums, a, b) }
    }

    #[inline(always)]
    fn add_four<const FOUR: i32>(self, sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: `self` proves the feature.
        unsafe {
            let four = vdupq_laneq_s32::<FOUR>(vreinterpretq_s32_s8(b));
            add_products(sums, a, vreinterpretq_s8_s32(four))
        }
    }
}

/// [`Fours::add_fours`] without an instruction for it.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn add_products(sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // Activations are at least -127 and codes at least -128, so two products fit 16 bits.
    let low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    vpadalq_s16(sums, vpaddq_s16(low, vmull_high_s8(a, b)))
}

impl Fours for DotProd {
    #[inline(always)]
    fn add_fours(self, sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: `self` proves the features.
        unsafe { sdot(sums, a, b) }
    }

    #[inline(always)]
    fn add_four<const FOUR: i32>(self, sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: `self` proves the features.
        unsafe { sdot_four::<FOUR>(sums, a, b) }
    }
}

/// Each sum is of a row and a token: two rows of eight weights meet two tokens.
impl Step for I8mm {
    const PAIRS: bool = true;

    #[inline(always)]
    fn arrange(self, act: [int8x16_t; 2]) -> [int8x16_t; 2] {
        // SAFETY: `self` proves the features.
        unsafe { eights(act[0], act[1]) }
    }

    #[inline(always)]
    fn add_rows(
        self,
        [mut a, mut b]: [int32x4_t; 2],
        rows: &[int8x16_t; 4],
        act: [int8x16_t; 2],
    ) -> [int32x4_t; 2] {
        for i in 0..2 {
            // SAFETY: as above.
            unsafe {
                a = smmla(a, rows[i], act[i]);
                b = smmla(b, rows[2 + i], act[i]);
            }
        }
        [a, b]
    }

    #[inline(always)]
    fn by_token(self, [a, b]: [int32x4_t; 2]) -> [int32x4_t; 2] {
        // SAFETY: as above.
        unsafe { [vuzp1q_s32(a, b), vuzp2q_s32(a, b)] }
    }
}

/// The first eight bytes of both, then the others.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn eights(a: int8x16_t, b: int8x16_t) -> [int8x16_t; 2] {
    let (a, b) = (vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b));
    [vreinterpretq_s8_s64(vzip1q_s64(a, b)), vreinterpretq_s8_s64(vzip2q_s64(a, b))]
}

/// A function of one instruction that adds to its first operand.
macro_rules! instruction {
    ($features:literal, fn $name:ident$(<const $n:ident: i32>)?, $line:literal) => {
        #[target_feature(enable = $features)]
        #[inline]
        pub(crate) fn $name$(<const $n: i32>)?(
            mut sums: int32x4_t,
            a: int8x16_t,
            b: int8x16_t,
        ) -> int32x4_t {
            // SAFETY: the instruction reads and writes registers only, and the function is compiled
            // for what it needs.
            unsafe {
                asm!(
                    $line,
                    $(n = const $n,)?
                    sums = inout(vreg) sums,
                    a = in(vreg) a,
                    b = in(vreg) b,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
            sums
        }
    };
}

instruction!("neon,dotprod", fn sdot, "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b");
instruction!("neon,dotprod", fn sdot_four<const FOUR: i32>,
    "sdot {sums:v}.4s, {a:v}.16b, {b:v}.4b[{n}]");
instruction!("neon,i8mm", fn smmla, "smmla {sums:v}.4s, {a:v}.16b, {b:v}.16b");

/// Asks for the cache line at `at`, which may be any address.
#[inline(always)]
pub(crate) fn prefetch(at: *const u8) {
    // SAFETY: a prefetch is no access.
    unsafe {
        asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
}

/// The same to the second cache.
#[inline(always)]
pub(super) fn prefetch_far(at: *const u8) {
    // SAFETY: as above.
    unsafe {
        asm!("prfm pldl2keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
}
