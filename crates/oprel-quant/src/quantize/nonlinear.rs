//! Quantizers of IQ4_NL and IQ4_XS: sixteen unevenly spaced values times a scale that may be
//! negative, since the values reach farther down than up.

use super::target::{Target, half_scale};
use crate::codebook::IQ4;
use crate::{LANES, Lanes};

const RUN: usize = 32;

/// Half way between neighbouring values.
const BETWEEN: [f32; 15] = {
    let mut between = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        between[i] = (IQ4[i] as f32 + IQ4[i + 1] as f32) * 0.5;
        i += 1;
    }
    between
};

/// Where the farthest weight of a run may come to lie, for the scales that are tried.
const TRIED: [f32; 14] = [
    -168.0, -152.0, -140.0, -130.0, -121.0, -113.0, -104.0, //
    85.0, 93.0, 101.0, 109.0, 118.0, 128.0, 142.0,
];

/// How often the best of them is refined.
const REFINED: usize = 3;

/// How a run fares at some scale.
#[derive(Clone, Copy)]
struct Fit {
    /// Weights times values, summed.
    along: f32,
    /// Squares of values, summed.
    energy: f32,
}

impl Fit {
    /// The scale that suits the chosen values best.
    #[inline(always)]
    fn scale(self) -> f32 {
        if self.energy > 0.0 { self.along / self.energy } else { 0.0 }
    }

    /// By how much the best scale lessens the squared error.
    #[inline(always)]
    fn gain(self) -> f32 {
        self.along * self.scale()
    }

    /// By how much `scale` lessens it.
    #[inline(always)]
    fn gain_at(self, scale: f32) -> f32 {
        scale * (2.0 * self.along - scale * self.energy)
    }
}

#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Nearest values at `scale`.
#[inline(always)]
fn fit<L: Lanes>(lanes: L, x: &[f32; RUN], w: &[f32; RUN], scale: f32) -> Fit {
    let (inverse, zero) = (lanes.splat(inverse(scale)), lanes.splat(0.0));
    let (mut along, mut energy) = (zero, zero);
    for i in 0..RUN / LANES {
        let (x, w) = (&x.as_chunks().0[i], &w.as_chunks().0[i]);
        let x = lanes.load(x);
        let u = lanes.mul(x, inverse);
        let mut value = lanes.splat(f32::from(IQ4[0]));
        for i in 0..BETWEEN.len() {
            let step = lanes.splat(f32::from(IQ4[i + 1]) - f32::from(IQ4[i]));
            let step = lanes.where_less(lanes.splat(BETWEEN[i]), u, step, zero);
            value = lanes.add(value, step);
        }
        let weighted = lanes.mul(lanes.load(w), value);
        along = lanes.add(along, lanes.mul(weighted, x));
        energy = lanes.add(energy, lanes.mul(weighted, value));
    }
    Fit { along: sum(lanes, along), energy: sum(lanes, energy) }
}

/// The best scale that is found for a run.
#[inline(always)]
fn free_scale<L: Lanes>(lanes: L, x: &[f32; RUN], w: &[f32; RUN]) -> f32 {
    let mut far = 0.0f32;
    for v in x {
        far = if v.abs() > far.abs() { *v } else { far };
    }
    if far == 0.0 {
        return 0.0;
    }
    let mut best = Fit { along: 0.0, energy: 0.0 };
    for step in 0..TRIED.len() + REFINED {
        let tried = TRIED.get(step);
        let scale = if let Some(place) = tried { far / place } else { best.scale() };
        let found = fit(lanes, x, w, scale);
        if found.gain() > best.gain() {
            best = found;
        } else if tried.is_none() {
            break;
        }
    }
    best.scale()
}

/// The sum of eight lanes, in a fixed order.
#[inline(always)]
pub(super) fn sum<L: Lanes>(lanes: L, v: L::V) -> f32 {
    let mut x = [0.0; LANES];
    lanes.store(v, &mut x);
    ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))
}

/// Codes at `scale` as nibbles, the first 16 weights low.
fn pack(x: &[f32; RUN], scale: f32, out: &mut [u8]) {
    let inverse = inverse(scale);
    let code = |v: f32| BETWEEN.iter().map(|b| u8::from(v * inverse > *b)).sum::<u8>();
    for (j, byte) in out[..RUN / 2].iter_mut().enumerate() {
        *byte = code(x[j]) | code(x[j + RUN / 2]) << 4;
    }
}

#[inline(always)]
pub(super) fn iq4_nl<L: Lanes>(
    lanes: L,
    x: &[f32; RUN],
    w: Option<&[f32; RUN]>,
    out: &mut [u8; 18],
) {
    out.fill(0);
    let Some(mut target) = Target::new(x, w) else { return };
    target.favour_large();
    let (bits, scale) = half_scale(free_scale(lanes, &target.x, &target.w), target.one);
    out[..2].copy_from_slice(&bits);
    pack(&target.x, scale, &mut out[2..]);
}

/// The integer scales of the runs at `d`, and the `d` that suits the values that come of them.
#[inline(always)]
fn levels<L: Lanes>(lanes: L, target: &Target<256>, free: &[f32; 8], d: f32) -> ([i8; 8], f32) {
    let (mut along, mut energy) = (0.0, 0.0);
    let (runs, weights) = (target.x.as_chunks::<RUN>().0, target.w.as_chunks::<RUN>().0);
    let mut levels = [0; 8];
    for i in 0..8 {
        let exact = (free[i] * inverse(d)).clamp(-32.0, 31.0);
        let low = exact.floor();
        let mut best = (low, Fit { along: 0.0, energy: 0.0 }, f32::NEG_INFINITY);
        for level in [low, if low < exact { low + 1.0 } else { low }] {
            let fit = fit(lanes, &runs[i], &weights[i], level * d);
            // At level 0 there are no values: the nearest ones are not what is stored.
            let gain = if level == 0.0 { 0.0 } else { fit.gain_at(level * d) };
            if gain > best.2 {
                best = (level, fit, gain);
            }
        }
        let (level, fit, _) = best;
        along += level * fit.along;
        energy += level * level * fit.energy;
        levels[i] = level as i8;
    }
    (levels, if energy > 0.0 { along / energy } else { d })
}

#[inline(always)]
pub(super) fn iq4_xs<L: Lanes>(
    lanes: L,
    x: &[f32; 256],
    w: Option<&[f32; 256]>,
    out: &mut [u8; 136],
) {
    out.fill(0);
    let Some(mut target) = Target::new(x, w) else { return };
    target.favour_large();
    let (runs, weights) = (target.x.as_chunks::<RUN>().0, target.w.as_chunks::<RUN>().0);
    let (mut free, mut far) = ([0.0f32; 8], 0.0f32);
    for i in 0..8 {
        free[i] = free_scale(lanes, &runs[i], &weights[i]);
        far = if free[i].abs() > far.abs() { free[i] } else { far };
    }
    let (_, d) = levels(lanes, &target, &free, far / -32.0);
    let (_, d) = half_scale(d, target.one);
    let (levels, d) = levels(lanes, &target, &free, d);
    let (bits, d) = half_scale(d, target.one);
    out[..2].copy_from_slice(&bits);
    let mut high = 0;
    for (i, level) in levels.iter().enumerate() {
        let stored = (level + 32) as u8;
        out[4 + i / 2] |= (stored & 15) << (i % 2 * 4);
        high |= u16::from(stored >> 4) << (2 * i);
        pack(&runs[i], f32::from(*level) * d, &mut out[8 + i * 16..]);
    }
    out[2..4].copy_from_slice(&high.to_le_bytes());
}
