//! Types with one scale a block of 32 or 128 weights, rounded as ggml's reference quantizers round.

use half::f16;

const LEN: usize = 32;

pub(super) fn blocks<const BYTES: usize>(
    src: &[f32],
    dst: &mut [u8],
    block: fn(&[f32; LEN], &mut [u8; BYTES]),
) {
    for (x, bytes) in src.as_chunks().0.iter().zip(dst.as_chunks_mut().0) {
        block(x, bytes);
    }
}

/// The reciprocal, 0 for 0.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The element farthest from zero, with its sign; the first of equals.
fn farthest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |far: f32, v| if v.abs() > far.abs() { *v } else { far })
}

/// The smallest and the largest element.
fn bounds(x: &[f32]) -> (f32, f32) {
    x.iter().fold((f32::MAX, f32::MIN), |(low, high), v| {
        (if *v < low { *v } else { low }, if *v > high { *v } else { high })
    })
}

/// `codes` as nibbles, the first half of them low.
fn pack_nibbles(codes: &[u8; LEN], qs: &mut [u8]) {
    for (j, q) in qs[..LEN / 2].iter_mut().enumerate() {
        *q = codes[j] & 15 | (codes[j + LEN / 2] & 15) << 4;
    }
}

/// Bit 4 of each code.
fn fifth_bits(codes: &[u8; LEN]) -> [u8; 4] {
    let bit = |(i, code): (usize, &u8)| u32::from(code >> 4 & 1) << i;
    codes.iter().enumerate().map(bit).sum::<u32>().to_le_bytes()
}

/// Codes of a block with a scale alone: the farthest element is exactly `-offset`.
fn symmetric(x: &[f32; LEN], offset: f32) -> (f32, [u8; LEN]) {
    let d = farthest(x) / -offset;
    let id = inverse(d);
    let top = 2.0 * offset - 1.0;
    // Adding a half and cutting off, as ggml does, differs from rounding by ties below zero.
    (d, x.map(|v| (v * id + (offset + 0.5)).min(top) as u8))
}

/// Codes 0 to `top` of a block with scale and minimum.
fn affine(x: &[f32; LEN], top: f32) -> (f32, f32, [u8; LEN]) {
    let (low, high) = bounds(x);
    let d = (high - low) / top;
    let id = inverse(d);
    (d, low, x.map(|v| ((v - low) * id + 0.5).min(top) as u8))
}

pub(super) fn q4_0(x: &[f32; LEN], out: &mut [u8; 18]) {
    let (d, codes) = symmetric(x, 8.0);
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    pack_nibbles(&codes, &mut out[2..]);
}

pub(super) fn q4_1(x: &[f32; LEN], out: &mut [u8; 20]) {
    let (d, min, codes) = affine(x, 15.0);
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    out[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
    pack_nibbles(&codes, &mut out[4..]);
}

pub(super) fn q5_0(x: &[f32; LEN], out: &mut [u8; 22]) {
    let (d, codes) = symmetric(x, 16.0);
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    out[2..6].copy_from_slice(&fifth_bits(&codes));
    pack_nibbles(&codes, &mut out[6..]);
}

pub(super) fn q5_1(x: &[f32; LEN], out: &mut [u8; 24]) {
    let (d, min, codes) = affine(x, 31.0);
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    out[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
    out[4..8].copy_from_slice(&fifth_bits(&codes));
    pack_nibbles(&codes, &mut out[8..]);
}

pub(super) fn q8_0(x: &[f32; LEN], out: &mut [u8; 34]) {
    let d = farthest(x).abs() / 127.0;
    let id = inverse(d);
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (q, v) in out[2..].iter_mut().zip(x) {
        *q = (v * id).round() as i8 as u8;
    }
}

/// Signs, and the mean size that leaves the least error; a sum in ggml's order without importance.
pub(super) fn q1_0(x: &[f32; 128], importance: Option<&[f32; 128]>, out: &mut [u8; 18]) {
    let sizes = x.map(|v| if v.is_nan() { 0.0 } else { v.abs() });
    let plain = || sizes.iter().fold(0.0, |sum: f32, v| sum + v) / 128.0;
    let d = importance.map_or_else(plain, |w| weighted_mean(&sizes, w));
    let d = d.min(f16::MAX.to_f32());
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (byte, eight) in out[2..].iter_mut().zip(x.chunks_exact(8)) {
        *byte = eight.iter().rev().fold(0, |bits, v| bits << 1 | u8::from(*v >= 0.0));
    }
}

/// The mean of `x` as weighted by `w`.
fn weighted_mean(x: &[f32], w: &[f32]) -> f32 {
    let all: f64 = w.iter().map(|w| f64::from(*w)).sum();
    let sum: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    (sum / all) as f32
}
