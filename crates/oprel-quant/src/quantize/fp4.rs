//! Quantizers of MXFP4 and NVFP4.
//!
//! Without importance the scale follows from the largest weight, as in ggml; with it, scales
//! around that one are tried and the one that leaves the least error is taken.

use crate::bytes::{e8m0_half, ue4m3_half};
use crate::codebook::FP4;

/// The code of the nearest value to `x` at scale `d`; the first of equally near ones.
fn nearest(x: f32, d: f32) -> u8 {
    let mut best = (0, (f32::from(FP4[0]) * d - x).abs());
    for (i, value) in FP4.iter().enumerate().skip(1) {
        let far = (f32::from(*value) * d - x).abs();
        if far < best.1 {
            best = (i as u8, far);
        }
    }
    best.0
}

fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |far: f32, v| if v.abs() > far { v.abs() } else { far })
}

/// Half way between neighbouring values, and by how much the upper one is more.
const STEPS: [(f32, f32); 7] =
    [(0.5, 1.0), (1.5, 1.0), (2.5, 1.0), (3.5, 1.0), (5.0, 2.0), (7.0, 2.0), (10.0, 4.0)];

/// The sum of squared errors at scale `d`, weighted; infinite or NaN where it is beyond f32.
fn loss(x: &[f32], w: &[f32], d: f32) -> f32 {
    const LANES: usize = 8;
    let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
    let mut sums = [0.0; LANES];
    for (x, w) in x.as_chunks::<LANES>().0.iter().zip(w.as_chunks::<LANES>().0) {
        let mut values = [0.0; LANES];
        for (between, step) in STEPS {
            for j in 0..LANES {
                values[j] += if x[j].abs() * inverse > between { step } else { 0.0 };
            }
        }
        for j in 0..LANES {
            let off = x[j].abs() - values[j] * d;
            sums[j] += w[j] * (off * off);
        }
    }
    sums.iter().sum()
}

/// Of the bytes around `rule`, the one whose scale leaves the least error.
fn refined(rule: u8, around: [i16; 2], top: u8, loss: impl Fn(u8) -> f32) -> u8 {
    let mut best = (rule, loss(rule));
    for step in around[0]..=around[1] {
        let byte = (i16::from(rule) + step).clamp(0, i16::from(top)) as u8;
        let loss = loss(byte);
        if loss < best.1 {
            best = (byte, loss);
        }
    }
    best.0
}

/// Codes as nibbles, the first half of the run low.
fn pack(x: &[f32], d: f32, out: &mut [u8]) {
    let half = out.len();
    for (j, byte) in out.iter_mut().enumerate() {
        *byte = nearest(x[j], d) | nearest(x[j + half], d) << 4;
    }
}

/// The scale of the largest finite weights; beyond it, values are infinite.
const TOP: u8 = 252;

/// The power of two that brings the largest weight to between 4 and 8 (of at most 6).
fn mxfp4_scale(x: &[f32]) -> u8 {
    let far = largest(x);
    // Through f64, so that a number just below a power of two goes where log2 in f32 puts it.
    let exponent = (f64::from(far).log2() as f32).floor();
    if far > 0.0 { (exponent - 2.0 + 127.0).clamp(0.0, f32::from(TOP)) as u8 } else { 0 }
}

pub(super) fn mxfp4(x: &[f32; 32], importance: Option<&[f32; 32]>, out: &mut [u8; 17]) {
    let mut scale = mxfp4_scale(x);
    if let Some(w) = importance {
        scale = refined(scale, [-1, 1], TOP, |byte| loss(x, w, e8m0_half(byte)));
    }
    out[0] = scale;
    pack(x, e8m0_half(scale), &mut out[1..]);
}

/// The UE4M3 byte of `x`, halves rounded up; 0x7e for all beyond its exponents.
fn ue4m3(x: f32) -> u8 {
    if x.is_nan() || x <= 0.0 {
        return 0;
    }
    let bits = x.to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 7;
    if exponent <= 0 {
        return (x * 512.0 + 0.5).min(7.0) as u8;
    }
    // The first four bits of the mantissa, rounded to three; a carry goes into the exponent.
    let code = (exponent as u32) << 3 | bits >> 20 & 7;
    let code = code.min(0x7f) + (bits >> 19 & 1);
    if code >= 15 << 3 { 0x7e } else { code as u8 }
}

pub(super) fn nvfp4(x: &[f32; 64], importance: Option<&[f32; 64]>, out: &mut [u8; 36]) {
    let (scales, codes) = out.split_at_mut(4);
    for (i, (x, codes)) in x.chunks_exact(16).zip(codes.chunks_exact_mut(8)).enumerate() {
        let mut scale = ue4m3(largest(x) / 6.0);
        if let Some(w) = importance {
            let w = &w[i * 16..][..16];
            scale = refined(scale, [-3, 4], 0x7e, |byte| loss(x, w, ue4m3_half(byte)));
        }
        scales[i] = scale;
        pack(x, ue4m3_half(scale), codes);
    }
}
