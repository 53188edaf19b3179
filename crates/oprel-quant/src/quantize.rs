//! f32 to stored weights, rounded as ggml's reference quantizers round.

use crate::{Error, QuantType};
use half::{bf16, f16};

const LEN: usize = 32;

/// Writes the weights `src` as `ty` to `dst`.
///
/// A block with a NaN or an infinity has a scale that is NaN or infinite, and codes without
/// meaning.
///
/// # Errors
/// [`Error::Length`] if `dst` is not exactly the bytes of `src.len()` weights,
/// [`Error::CannotQuantize`] for types other than F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
pub fn quantize(ty: QuantType, src: &[f32], dst: &mut [u8]) -> Result<(), Error> {
    Error::check_length(ty, src.len(), dst.len())?;
    match ty {
        QuantType::F32 => numbers(src, dst, f32::to_le_bytes),
        QuantType::F16 => numbers(src, dst, |x| f16::from_f32(x).to_le_bytes()),
        QuantType::BF16 => numbers(src, dst, |x| bf16::from_f32(x).to_le_bytes()),
        QuantType::Q4_0 => blocks(src, dst, quantize_q4_0),
        QuantType::Q4_1 => blocks(src, dst, quantize_q4_1),
        QuantType::Q5_0 => blocks(src, dst, quantize_q5_0),
        QuantType::Q5_1 => blocks(src, dst, quantize_q5_1),
        QuantType::Q8_0 => blocks(src, dst, quantize_q8_0),
        _ => return Err(Error::CannotQuantize { ty }),
    }
    Ok(())
}

fn numbers<const N: usize>(src: &[f32], dst: &mut [u8], write: impl Fn(f32) -> [u8; N]) {
    for (bytes, x) in dst.as_chunks_mut().0.iter_mut().zip(src) {
        *bytes = write(*x);
    }
}

fn blocks<const BYTES: usize>(
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

fn quantize_q4_0(x: &[f32; LEN], out: &mut [u8; 18]) {
    let (d, codes) = symmetric(x, 8.0);
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    pack_nibbles(&codes, &mut out[2..]);
}

fn quantize_q4_1(x: &[f32; LEN], out: &mut [u8; 20]) {
    let (d, min, codes) = affine(x, 15.0);
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    out[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
    pack_nibbles(&codes, &mut out[4..]);
}

fn quantize_q5_0(x: &[f32; LEN], out: &mut [u8; 22]) {
    let (d, codes) = symmetric(x, 16.0);
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    out[2..6].copy_from_slice(&fifth_bits(&codes));
    pack_nibbles(&codes, &mut out[6..]);
}

fn quantize_q5_1(x: &[f32; LEN], out: &mut [u8; 24]) {
    let (d, min, codes) = affine(x, 31.0);
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    out[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
    out[4..8].copy_from_slice(&fifth_bits(&codes));
    pack_nibbles(&codes, &mut out[8..]);
}

fn quantize_q8_0(x: &[f32; LEN], out: &mut [u8; 34]) {
    let d = farthest(x).abs() / 127.0;
    let id = inverse(d);
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (q, v) in out[2..].iter_mut().zip(x) {
        *q = (v * id).round() as i8 as u8;
    }
}
