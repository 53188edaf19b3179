//! Float arithmetic on sixteen lanes, as attention needs it: one trait, an implementation a tier.
//!
//! All tiers do the same operations in the same order, so results are the same to the bit.

use super::cells::Cells;
use super::product::Product;
use crate::math::exp;
use half::f16;

/// Lanes of a vector.
pub(super) const LANES: usize = 16;
/// The bits of 1.
pub(super) const ONE_BITS: u32 = 1f32.to_bits();

/// Sixteen f32 and what a tier does with them.
pub(super) trait Wide: Copy {
    /// Sixteen numbers.
    type V: Copy;

    /// Whether registers hold a tile four vectors wide; else it is one vector wide.
    const MANY: bool;

    /// The numbers of an array.
    fn load(self, x: &[f32; LANES]) -> Self::V;
    /// f32 as bytes, little-endian.
    fn load_f32(self, x: &[u8; 64]) -> Self::V;
    /// Half-precision numbers, widened.
    fn load_f16(self, x: &[u8; 32]) -> Self::V;
    /// bfloat16 numbers, widened.
    fn load_bf16(self, x: &[u8; 32]) -> Self::V;
    /// Integers.
    fn load_i8(self, x: &[u8; 16]) -> Self::V;
    /// The lower half of each byte, or the upper ones, less 8.
    fn load_i4(self, x: &[u8; 16], upper: bool) -> Self::V;
    /// Pairs of integers, in an order that [`Wide::dot_pairs`] knows.
    fn load_pairs(self, x: &[u8; 64]) -> Self::V;
    /// Adds to sums, i32 in the bits of `acc`, the products of pairs and the pair in all lanes of
    /// `factor`.
    fn dot_pairs(self, pairs: Self::V, factor: Self::V, acc: Self::V) -> Self::V;
    /// Numbers of i32 in the bits of `x`.
    fn widen_i32(self, x: Self::V) -> Self::V;
    /// `x` times 2^n, n being what was added to [`ROUND`](crate::math::ROUND); at least -126.
    fn times_power(self, x: Self::V, n: Self::V) -> Self::V;
    /// Pairs of the lower halves of lanes: of `a`, then of `b`.
    fn pairs(self, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest integers, even ones of two; they must fit.
    fn to_i16(self, x: Self::V) -> [i16; LANES];
    /// Writes the numbers to an array.
    fn store(self, x: Self::V, to: &mut [f32; LANES]);
    /// The bytes of half-precision numbers, rounded to nearest even.
    fn narrow_f16(self, x: Self::V) -> [u8; 32];
    /// One number sixteen times.
    fn splat(self, x: f32) -> Self::V;
    /// A half-precision number sixteen times.
    fn splat_f16(self, x: [u8; 2]) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of `a` and `b`; `b` where `a` is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// e^x of numbers that are not above 0, as [`math::exp`](crate::math::exp).
    fn exp(self, x: Self::V) -> Self::V;
    /// Lanes `from..to` of `x`, the others of `other`.
    fn keep(self, x: Self::V, from: usize, to: usize, other: Self::V) -> Self::V;
    /// Rows and columns exchanged.
    fn transpose(self, x: [Self::V; LANES]) -> [Self::V; LANES];
    /// Asks for a cache line that will be read soon, into the second level where one can choose: what
    /// is asked for meanwhile does not fit the first. Any address will do.
    fn prefetch(self, at: *const u8);
    /// [`Product::run_wide`], compiled once for each tier and kind of cells.
    fn product<C: Cells>(self, product: &Product<'_>, m: usize, a: &[f32], c: &mut [f32]);
}

/// Portable code.
#[derive(Clone, Copy)]
pub(super) struct Plain;

/// Sixteen results of `$each` over lane `$l`.
macro_rules! each_lane {
    ($l:ident => $each:expr) => {{
        let mut lanes = [0.0; LANES];
        for $l in 0..LANES {
            lanes[$l] = $each;
        }
        lanes
    }};
}

impl Wide for Plain {
    type V = [f32; LANES];

    const MANY: bool = false;

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> [f32; LANES] {
        *x
    }

    #[inline(always)]
    fn load_f32(self, x: &[u8; 64]) -> [f32; LANES] {
        let (x, _) = x.as_chunks();
        each_lane!(l => f32::from_le_bytes(x[l]))
    }

    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> [f32; LANES] {
        let (x, _) = x.as_chunks();
        each_lane!(l => f16::from_le_bytes(x[l]).to_f32())
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> [f32; LANES] {
        let (x, _) = x.as_chunks();
        each_lane!(l => f32::from_bits(u32::from(u16::from_le_bytes(x[l])) << 16))
    }

    #[inline(always)]
    fn load_i8(self, x: &[u8; 16]) -> [f32; LANES] {
        each_lane!(l => f32::from(x[l] as i8))
    }

    #[inline(always)]
    fn load_i4(self, x: &[u8; 16], upper: bool) -> [f32; LANES] {
        let shift = if upper { 4 } else { 0 };
        each_lane!(l => f32::from((x[l] >> shift & 15) as i8 - 8))
    }

    #[inline(always)]
    fn load_pairs(self, x: &[u8; 64]) -> [f32; LANES] {
        self.load_f32(x)
    }

    #[inline(always)]
    fn dot_pairs(self, a: [f32; LANES], b: [f32; LANES], acc: [f32; LANES]) -> [f32; LANES] {
        let low = |x: f32| i32::from(x.to_bits() as i16);
        let high = |x: f32| i32::from((x.to_bits() >> 16) as i16);
        let sum = |a: f32, b: f32| (low(a) * low(b)).wrapping_add(high(a) * high(b));
        let bits = |x: f32| x.to_bits() as i32;
        each_lane!(l => f32::from_bits(bits(acc[l]).wrapping_add(sum(a[l], b[l])) as u32))
    }

    #[inline(always)]
    fn widen_i32(self, x: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => x[l].to_bits() as i32 as f32)
    }

    #[inline(always)]
    fn times_power(self, x: [f32; LANES], n: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => x[l] * f32::from_bits((n[l].to_bits() << 23).wrapping_add(ONE_BITS)))
    }

    #[inline(always)]
    fn pairs(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        let lane = |i: usize| if i < LANES { a[i] } else { b[i - LANES] };
        let bits = |i: usize| lane(i).to_bits() & 0xffff;
        each_lane!(l => f32::from_bits(bits(2 * l) | bits(2 * l + 1) << 16))
    }

    #[inline(always)]
    fn to_i16(self, x: [f32; LANES]) -> [i16; LANES] {
        x.map(|x| x.round_ties_even() as i16)
    }

    #[inline(always)]
    fn store(self, x: [f32; LANES], to: &mut [f32; LANES]) {
        *to = x;
    }

    #[inline(always)]
    fn narrow_f16(self, x: [f32; LANES]) -> [u8; 32] {
        let mut bytes = [0; 32];
        for l in 0..LANES {
            bytes[2 * l..][..2].copy_from_slice(&f16::from_f32(x[l]).to_le_bytes());
        }
        bytes
    }

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; LANES] {
        [x; LANES]
    }

    #[inline(always)]
    fn splat_f16(self, x: [u8; 2]) -> [f32; LANES] {
        [f16::from_le_bytes(x).to_f32(); LANES]
    }

    #[inline(always)]
    fn add(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => a[l] + b[l])
    }

    #[inline(always)]
    fn sub(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => a[l] - b[l])
    }

    #[inline(always)]
    fn mul(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => a[l] * b[l])
    }

    #[inline(always)]
    fn fma(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => a[l].mul_add(b[l], c[l]))
    }

    #[inline(always)]
    fn max(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => if a[l] > b[l] { a[l] } else { b[l] })
    }

    #[inline(always)]
    fn exp(self, x: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => exp(x[l]))
    }

    #[inline(always)]
    fn keep(self, x: [f32; LANES], from: usize, to: usize, other: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => if (from..to).contains(&l) { x[l] } else { other[l] })
    }

    #[inline(always)]
    fn transpose(self, x: [[f32; LANES]; LANES]) -> [[f32; LANES]; LANES] {
        let mut y = x;
        for i in 0..LANES {
            for j in 0..LANES {
                y[i][j] = x[j][i];
            }
        }
        y
    }

    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    fn product<C: Cells>(self, product: &Product<'_>, m: usize, a: &[f32], c: &mut [f32]) {
        plain_product::<C>(product, m, a, c);
    }
}

#[inline(never)]
fn plain_product<C: Cells>(product: &Product<'_>, m: usize, a: &[f32], c: &mut [f32]) {
    product.run_wide::<Plain, C>(Plain, m, a, c);
}

/// The sum of sixteen lanes: halves added, then quarters, then eighths, then the last two.
#[inline(always)]
pub(super) fn sum(x: [f32; LANES]) -> f32 {
    let mut h = [0.0; 8];
    for l in 0..8 {
        h[l] = x[l] + x[l + 8];
    }
    let mut q = [0.0; 4];
    for l in 0..4 {
        q[l] = h[l] + h[l + 4];
    }
    (q[0] + q[2]) + (q[1] + q[3])
}

/// Makes functions that take an `Isa` first out of inlined ones that take a [`Wide`].
macro_rules! wide_tiers {
    ($(
        $(#[$meta:meta])*
        $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:path;
    )*) => {$(
        $(#[$meta])*
        $vis fn $name(isa: $crate::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($arg: $ty),*) {
                $body($crate::attention::avx2::Avx2::new(), $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
            fn avx512($($arg: $ty),*) {
                $body($crate::attention::avx512::Avx512::new(), $($arg),*)
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            fn neon($($arg: $ty),*) {
                $body($crate::attention::neon::Neon::new(), $($arg),*)
            }
            match isa.tier() {
                $crate::Tier::Scalar => $body($crate::attention::wide::Plain, $($arg),*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` of this tier exists only where the CPU has its features.
                #[expect(unsafe_code, reason = "calls a function with target features")]
                $crate::Tier::Avx2 | $crate::Tier::AvxVnni => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                #[expect(unsafe_code, reason = "calls a function with target features")]
                $crate::Tier::Avx512 | $crate::Tier::Avx512Bf16 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: as above.
                #[expect(unsafe_code, reason = "calls a function with target features")]
                $crate::Tier::Neon | $crate::Tier::DotProd | $crate::Tier::I8mm => unsafe {
                    neon($($arg),*)
                },
            }
        }
    )*};
}
pub(super) use wide_tiers;
