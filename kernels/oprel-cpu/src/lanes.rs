//! Float arithmetic on eight lanes at a time, written once and compiled for every tier.
//!
//! A kernel is a plain inlined function over `[f32; 8]` and `f32::mul_add`; [`tiers!`] makes of it
//! a function that first branches on the [`Isa`](crate::Isa) and then runs a copy compiled with
//! that tier's features. All tiers do the same operations in the same order, so results are the
//! same to the bit.

use half::{bf16, f16};

/// Lanes of a vector.
pub(crate) const LANES: usize = 8;

/// What a tier does with instructions of its own because the compiler would not find them.
pub(crate) trait Ops: Copy {
    /// Eight half-precision numbers as f32.
    fn widen_f16(self, x: &[f16; LANES]) -> [f32; LANES];
}

/// Portable code.
#[derive(Clone, Copy)]
pub(crate) struct ScalarOps;

impl Ops for ScalarOps {
    #[inline(always)]
    fn widen_f16(self, x: &[f16; LANES]) -> [f32; LANES] {
        x.map(f16::to_f32)
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
            match isa.tier() {
                $crate::Tier::Scalar => $body($crate::lanes::ScalarOps, $($arg),*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` of this tier exists only where the CPU has its features.
                #[expect(unsafe_code, reason = "calls a function with target features")]
                $crate::Tier::Avx2 => unsafe { avx2($($arg),*) },
            }
        }
    )*};
}
pub(crate) use tiers;

/// `acc + a * b`, lane by lane, each rounded once.
#[inline(always)]
pub(crate) fn fma(acc: &mut [f32; LANES], a: [f32; LANES], b: [f32; LANES]) {
    for l in 0..LANES {
        acc[l] = a[l].mul_add(b[l], acc[l]);
    }
}

/// The sum of eight lanes: halves added, then quarters, then the last two.
#[inline(always)]
pub(crate) fn sum(x: [f32; LANES]) -> f32 {
    let q: [f32; 4] = std::array::from_fn(|l| x[l] + x[l + 4]);
    (q[0] + q[2]) + (q[1] + q[3])
}

/// The largest of eight lanes.
#[inline(always)]
pub(crate) fn max(x: [f32; LANES]) -> f32 {
    let q: [f32; 4] = std::array::from_fn(|l| x[l].max(x[l + 4]));
    (q[0].max(q[2])).max(q[1].max(q[3]))
}

/// Numbers that a kernel reads as f32.
pub(crate) trait Number: Copy + Send + Sync + bytemuck::Pod {
    /// Eight numbers as f32.
    fn widen<O: Ops>(ops: O, x: &[Self; LANES]) -> [f32; LANES];
    /// One number as f32.
    fn to_f32(self) -> f32;
}

impl Number for f32 {
    #[inline(always)]
    fn widen<O: Ops>(_: O, x: &[f32; LANES]) -> [f32; LANES] {
        *x
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Number for f16 {
    #[inline(always)]
    fn widen<O: Ops>(ops: O, x: &[f16; LANES]) -> [f32; LANES] {
        ops.widen_f16(x)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn widen<O: Ops>(_: O, x: &[bf16; LANES]) -> [f32; LANES] {
        x.map(|x| f32::from_bits(u32::from(x.to_bits()) << 16))
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
    let mut acc = [[0.0; LANES]; 2];
    let (a16, a_tail) = a.as_chunks::<16>();
    let (b16, b_tail) = b.as_chunks::<16>();
    for (a, b) in a16.iter().zip(b16) {
        let ([a0, a1], [b0, b1]) = (halves(a), halves(b));
        fma(&mut acc[0], A::widen(ops, a0), *b0);
        fma(&mut acc[1], A::widen(ops, a1), *b1);
    }
    for (i, (a, b)) in a_tail.iter().zip(b_tail).enumerate() {
        let lane = &mut acc[i / LANES][i % LANES];
        *lane = a.to_f32().mul_add(*b, *lane);
    }
    sum(std::array::from_fn(|l| acc[0][l] + acc[1][l]))
}

/// The two halves of sixteen elements.
#[inline(always)]
pub(crate) fn halves<T>(x: &[T; 16]) -> [&[T; LANES]; 2] {
    let (chunks, _) = x.as_chunks::<LANES>();
    [&chunks[0], &chunks[1]]
}
