//! Eight f32 at a time: what the quantizers of k-types compute with.
//!
//! A lane is one run of weights, so that nothing is ever summed across lanes but a block's own scales.
//! `oprel-cpu` has the same operations in the instructions of each tier; all give the same bits.

/// Lanes of a vector.
pub const LANES: usize = 8;

/// Eight f32 and what is done with them, each operation rounded by itself.
pub trait Lanes: Copy {
    /// Eight numbers.
    type V: Copy;

    /// The numbers of an array.
    fn load(self, x: &[f32; LANES]) -> Self::V;
    /// Writes the numbers to an array.
    fn store(self, x: Self::V, to: &mut [f32; LANES]);
    /// One number eight times.
    fn splat(self, x: f32) -> Self::V;
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a` where it is less than `b`, else `b`.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a` where it is more than `b`, else `b`.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest integer, ties to even, of numbers below 2^22.
    fn round(self, x: Self::V) -> Self::V;
    /// `then` where `a` is less than `b`, else `otherwise`.
    fn where_less(self, a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
}

/// Portable code.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

macro_rules! each_lane {
    ($l:ident => $each:expr) => {{
        let mut lanes = [0.0f32; LANES];
        for $l in 0..LANES {
            lanes[$l] = $each;
        }
        lanes
    }};
}

impl Lanes for Portable {
    type V = [f32; LANES];

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> [f32; LANES] {
        *x
    }

    #[inline(always)]
    fn store(self, x: [f32; LANES], to: &mut [f32; LANES]) {
        *to = x;
    }

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; LANES] {
        [x; LANES]
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
    fn div(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => a[l] / b[l])
    }

    #[inline(always)]
    fn min(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => if a[l] < b[l] { a[l] } else { b[l] })
    }

    #[inline(always)]
    fn max(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        each_lane!(l => if a[l] > b[l] { a[l] } else { b[l] })
    }

    #[inline(always)]
    fn round(self, x: [f32; LANES]) -> [f32; LANES] {
        // Adding what leaves no place for a fraction rounds as `round_ties_even`, which is a call where
        // the CPU lacks it.
        const WHOLE: f32 = 12_582_912.0;
        each_lane!(l => (x[l] + WHOLE) - WHOLE)
    }

    #[inline(always)]
    fn where_less(
        self,
        a: [f32; LANES],
        b: [f32; LANES],
        then: [f32; LANES],
        otherwise: [f32; LANES],
    ) -> [f32; LANES] {
        each_lane!(l => if a[l] < b[l] { then[l] } else { otherwise[l] })
    }
}
