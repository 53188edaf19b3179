//! Float arithmetic on eight lanes at a time, written once and compiled for every tier.
//!
//! A kernel is a plain inlined function generic over [`Ops`]; [`tiers!`] makes of it a function that
//! first branches on the [`Isa`](crate::Isa) and then runs a copy compiled with that tier's features.
//! All tiers do the same operations in the same order, so results are the same to the bit.
//!
//! Simple loops over slices are left to the compiler; the inner loops of dot products and of
//! attention say [`Ops::V`]. They use indices: a closure that the compiler does not inline is
//! compiled without the tier's features.

use half::{bf16, f16};

pub(crate) use oprel_quant::{LANES, Lanes, Portable};

/// Eight f32 and what a tier does with them, besides what quantizers do.
pub(crate) trait Ops: Lanes {
    /// Half-precision numbers, widened.
    fn load_f16(self, x: &[f16; LANES]) -> Self::V;
    /// bfloat16 numbers, widened.
    fn load_bf16(self, x: &[bf16; LANES]) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// e^x, as [`math::exp`](crate::math::exp).
    fn exp(self, x: Self::V) -> Self::V;
    /// Writes `x * inverse`, rounded to integers of at most 127, ties to even, NaN to 0; gives the
    /// sums of both halves.
    fn round_codes(self, x: &[f32; 32], inverse: f32, codes: &mut [i8; 32]) -> [i32; 2];
    /// The largest magnitude, NaN if there is one.
    fn magnitude(self, x: &[f32; 32]) -> f32;
}

/// Eight results of `$each` over lane `$l`.
macro_rules! each_lane {
    ($l:ident => $each:expr) => {{
        let mut lanes = [0.0; LANES];
        for $l in 0..LANES {
            lanes[$l] = $each;
        }
        lanes
    }};
}

impl Ops for Portable {
    #[inline(always)]
    fn load_f16(self, x: &[f16; LANES]) -> [f32; LANES] {
        each_lane!(l => x[l].to_f32())
    }

    #[inline(always)]
    fn load_bf16(self, x: &[bf16; LANES]) -> [f32; LANES] {
        each_lane!(l => Number::to_f32(x[l]))
    }

    #[inline(always)]
    fn fma(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => a[l].mul_add(b[l], c[l]))
    }

    #[inline(always)]
    fn exp(self, x: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => crate::math::exp(x[l]))
    }

    #[inline(always)]
    fn round_codes(self, x: &[f32; 32], inverse: f32, codes: &mut [i8; 32]) -> [i32; 2] {
        let mut sums = [0; 2];
        for i in 0..32 {
            let code = (x[i] * inverse).round_ties_even().clamp(-127.0, 127.0) as i32;
            codes[i] = code as i8;
            sums[i / 16] += code;
        }
        sums
    }

    #[inline(always)]
    fn magnitude(self, x: &[f32; 32]) -> f32 {
        // As integers, magnitudes of floats compare alike, and NaN is above all.
        f32::from_bits(x.iter().fold(0, |top, v| (v.to_bits() & 0x7fff_ffff).max(top)))
    }
}

/// Makes public functions that take an `Isa` first out of inlined ones that take an [`Ops`].
macro_rules! tiers {
    ($(
        $(#[$meta:meta])*
        $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:path;
    )*) => {$(
        $(#[$meta])*
        $vis fn $name(isa: $crate::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                $body($crate::avx2::Avx2Ops::new(), $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                $body($crate::avx2::Avx2Ops::new(), $($arg),*)
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            fn neon($($arg: $ty),*) $(-> $ret)? {
                $body($crate::neon::NeonOps::new(), $($arg),*)
            }
            match isa.tier() {
                $crate::Tier::Scalar => $body($crate::lanes::Portable, $($arg),*),
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
pub(crate) use tiers;

/// The sum of eight lanes: halves added, then quarters, then the last two.
#[inline(always)]
pub(crate) fn sum(x: [f32; LANES]) -> f32 {
    let mut q = [0.0; LANES / 2];
    for l in 0..LANES / 2 {
        q[l] = x[l] + x[l + 4];
    }
    (q[0] + q[2]) + (q[1] + q[3])
}

/// The largest of eight lanes.
#[inline(always)]
pub(crate) fn max(x: [f32; LANES]) -> f32 {
    let mut top = x[0];
    for l in 1..LANES {
        top = top.max(x[l]);
    }
    top
}

/// Numbers that a kernel reads as f32.
pub(crate) trait Number: Copy + Send + Sync + bytemuck::Pod {
    /// Eight numbers as f32.
    fn load<O: Ops>(ops: O, x: &[Self; LANES]) -> O::V;
    /// One number as f32.
    fn to_f32(self) -> f32;
}

impl Number for f32 {
    #[inline(always)]
    fn load<O: Ops>(ops: O, x: &[f32; LANES]) -> O::V {
        ops.load(x)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Number for f16 {
    #[inline(always)]
    fn load<O: Ops>(ops: O, x: &[f16; LANES]) -> O::V {
        ops.load_f16(x)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn load<O: Ops>(ops: O, x: &[bf16; LANES]) -> O::V {
        ops.load_bf16(x)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// Sum over `i` of `a[i] * b[i]`: element `i` goes to lane `i % 8` of one of two accumulators in
/// turn, and the accumulators are added at the end.
#[inline(always)]
pub(crate) fn dot<O: Ops, A: Number>(ops: O, a: &[A], b: &[f32]) -> f32 {
    dots(ops, a, [b])[0]
}

/// [`dot`] of `a` with several `b`, `a` widened once.
#[inline(always)]
pub(crate) fn dots<O: Ops, A: Number, const N: usize>(ops: O, a: &[A], b: [&[f32]; N]) -> [f32; N] {
    let mut acc = [[ops.splat(0.0); 2]; N];
    let (chunks, tail) = a.as_chunks::<16>();
    for (c, chunk) in chunks.iter().enumerate() {
        let [first, second] = halves(chunk);
        let (first, second) = (A::load(ops, first), A::load(ops, second));
        for j in 0..N {
            let (b, _) = b[j][c * 16..][..16].as_chunks::<LANES>();
            acc[j][0] = ops.fma(first, ops.load(&b[0]), acc[j][0]);
            acc[j][1] = ops.fma(second, ops.load(&b[1]), acc[j][1]);
        }
    }
    let mut out = [0.0; N];
    for j in 0..N {
        if !tail.is_empty() {
            add_tail(ops, &mut acc[j], tail, &b[j][chunks.len() * 16..]);
        }
        let mut both = [0.0; LANES];
        ops.store(ops.add(acc[j][0], acc[j][1]), &mut both);
        out[j] = sum(both);
    }
    out
}

/// Adds the products of fewer than sixteen elements to their lanes.
#[inline(always)]
fn add_tail<O: Ops, A: Number>(ops: O, acc: &mut [O::V; 2], a: &[A], b: &[f32]) {
    let mut lanes = [[0.0f32; LANES]; 2];
    ops.store(acc[0], &mut lanes[0]);
    ops.store(acc[1], &mut lanes[1]);
    for i in 0..a.len() {
        let lane = &mut lanes[i / LANES][i % LANES];
        *lane = a[i].to_f32().mul_add(b[i], *lane);
    }
    *acc = [ops.load(&lanes[0]), ops.load(&lanes[1])];
}

/// The two halves of sixteen elements.
#[inline(always)]
pub(crate) fn halves<T>(x: &[T; 16]) -> [&[T; LANES]; 2] {
    let (chunks, _) = x.as_chunks::<LANES>();
    [&chunks[0], &chunks[1]]
}
