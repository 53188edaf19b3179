//! A block of 256 weights turned so that a lane is a run, scaled to magnitudes of about one.

use half::f16;

use super::lanes::{LANES, Lanes};

/// Weights and what an error in each costs: runs of `R`, eight at a time in `G` groups.
pub(crate) struct Block<const R: usize, const G: usize> {
    /// Weights times `2^-exponent`: group, element of the run, run.
    pub x: [[[f32; LANES]; R]; G],
    /// What errors cost, likewise.
    pub w: [[[f32; LANES]; R]; G],
    /// The exponent of the largest magnitude.
    pub exponent: i32,
}

/// One number for each run.
#[derive(Clone, Copy)]
pub(crate) struct PerRun<const G: usize>(pub [[f32; LANES]; G]);

impl<const G: usize> Default for PerRun<G> {
    #[inline(always)]
    fn default() -> Self {
        PerRun([[0.0; LANES]; G])
    }
}

impl<const G: usize> PerRun<G> {
    /// The largest.
    #[inline(always)]
    pub(crate) fn largest(&self) -> f32 {
        self.0.as_flattened().iter().fold(0.0, |top: f32, v| if *v > top { *v } else { top })
    }

    /// The farthest from zero, with its sign.
    #[inline(always)]
    pub(crate) fn farthest(&self) -> f32 {
        let far = |far: f32, v: &f32| if v.abs() > far.abs() { *v } else { far };
        self.0.as_flattened().iter().fold(0.0, far)
    }

    /// Each in units of `d`, rounded, 0 to `top`.
    #[inline(always)]
    pub(crate) fn over(&self, d: f32, top: f32) -> PerRun<G> {
        self.rounded(d, 0.0, top)
    }

    /// Each in units of `d`, rounded, `-bottom` to `bottom - 1`.
    #[inline(always)]
    pub(crate) fn over_signed(&self, d: f32, bottom: f32) -> PerRun<G> {
        self.rounded(d, -bottom, bottom - 1.0)
    }

    #[inline(always)]
    fn rounded(&self, d: f32, low: f32, top: f32) -> PerRun<G> {
        const WHOLE: f32 = 12_582_912.0;
        let by = if d.abs() > 1e-20 { 1.0 / d } else { 0.0 };
        let mut out = *self;
        for v in out.0.as_flattened_mut() {
            let clamped = (*v * by).max(low).min(top);
            *v = (clamped + WHOLE) - WHOLE;
        }
        out
    }
}

/// `d 2^exponent` in half precision, again divided by `2^exponent`.
#[inline(always)]
pub(crate) fn half(d: f32, exponent: i32) -> f32 {
    f16::from_bits(half_bits(d, exponent)).to_f32() * power(-exponent)
}

/// The bits of `d 2^exponent` in half precision, finite.
#[inline(always)]
pub(crate) fn half_bits(d: f32, exponent: i32) -> u16 {
    let most = f16::MAX.to_f32();
    f16::from_f32((d * power(exponent)).clamp(-most, most)).to_bits()
}

/// `2^e` of an exponent of a normal number.
#[inline(always)]
fn power(e: i32) -> f32 {
    f32::from_bits(((e.clamp(-126, 127) + 127) as u32) << 23)
}

/// The sum of the lanes, first to last.
#[inline(always)]
pub(crate) fn total<L: Lanes>(lanes: L, v: L::V) -> f32 {
    let mut all = [0.0; LANES];
    lanes.store(v, &mut all);
    all.iter().sum()
}

impl<const R: usize, const G: usize> Block<R, G> {
    /// The block of `weights`, of which an error in column `i` costs `importance[i]`.
    #[inline(always)]
    pub(crate) fn new(weights: &[f32; 256], importance: Option<&[f32; 256]>) -> Block<R, G> {
        let mut bits = 0;
        for v in weights {
            let magnitude = v.to_bits() & 0x7fff_ffff;
            // NaN counts as zero.
            bits = bits.max(if magnitude > 0x7f80_0000 { 0 } else { magnitude });
        }
        // Infinities, and all that is far beyond what a block can hold, become 2^41.
        let exponent = ((bits >> 23) as i32 - 127).clamp(-126, 40);
        let by = power(-exponent);
        let mut out = Block { x: [[[0.0; LANES]; R]; G], w: [[[1.0; LANES]; R]; G], exponent };
        for (i, v) in weights.iter().enumerate() {
            let (g, j, run) = (i / (LANES * R), i % R, i / R % LANES);
            let scaled = v * by;
            out.x[g][j][run] = if scaled.is_nan() { 0.0 } else { scaled.clamp(-2.0, 2.0) };
        }
        if let Some(importance) = importance {
            let most = importance.iter().fold(0.0, |top: f32, v| if *v > top { *v } else { top });
            // Columns that nothing reaches still get the nearest codes.
            let by = if most > f32::MIN_POSITIVE { 1.0 / most } else { 0.0 };
            for (i, v) in importance.iter().enumerate() {
                out.w[i / (LANES * R)][i % R][i / R % LANES] = v * by + 1e-6;
            }
        }
        out
    }

    /// The exponent of the largest magnitude, for storing what was found.
    #[inline(always)]
    pub(crate) fn stored(&self, d: f32) -> [u8; 2] {
        half_bits(d, self.exponent).to_le_bytes()
    }
}

/// Codes in the order of weights, `offset` added.
#[inline(always)]
pub(crate) fn in_order<const R: usize, const G: usize>(
    codes: &[[[f32; LANES]; R]; G],
    offset: f32,
) -> [u8; 256] {
    let mut out = [0; 256];
    for (i, code) in out.iter_mut().enumerate() {
        *code = (codes[i / (LANES * R)][i % R][i / R % LANES] + offset) as i32 as u8;
    }
    out
}
