//! Quantizers of TQ1_0 and TQ2_0: -1, 0 or 1 times one scale.
//!
//! Without importance the scale is the largest weight, as in ggml: models made for these types
//! hold nothing but three values. With importance it is the one that leaves the least error.

use super::target::{Target, half_scale};
use half::f16;

/// Digits 0, 1, 2 and the scale's bits.
fn digits(x: &[f32; 256], importance: Option<&[f32; 256]>) -> ([u8; 2], [u8; 256]) {
    let searched = importance.and_then(|_| Target::new(x, importance)).map(|target| {
        let (bits, d) = half_scale(best_scale(&target), target.one);
        (bits, if d == 0.0 { 0.0 } else { 1.0 / d }, target.x)
    });
    let (bits, inverse, x) = searched.unwrap_or_else(|| {
        let d = x.iter().fold(0.0, |far: f32, v| if v.abs() > far { v.abs() } else { far });
        let d = d.min(f16::MAX.to_f32());
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        (f16::from_f32(d).to_le_bytes(), inverse, *x)
    });
    (bits, x.map(|v| ((v * inverse).round().clamp(-1.0, 1.0) as i8 + 1) as u8))
}

/// The scale with the least error: of all choices of the farthest weights that are not zero, the
/// one whose mean takes most of the square sum.
fn best_scale(target: &Target<256>) -> f32 {
    let mut order: [u8; 256] = std::array::from_fn(|i| i as u8);
    let size = |i: u8| target.x[usize::from(i)].abs();
    order.sort_by(|a, b| size(*b).total_cmp(&size(*a)));
    let (mut sum, mut weight, mut best, mut scale) = (0.0, 0.0, 0.0, 0.0);
    for i in order {
        let w = f64::from(target.w[usize::from(i)]);
        sum += w * f64::from(size(i));
        weight += w;
        if sum * sum > best * weight {
            (best, scale) = (sum * sum / weight, sum / weight);
        }
    }
    scale as f32
}

pub(super) fn tq1_0(x: &[f32; 256], importance: Option<&[f32; 256]>, out: &mut [u8; 54]) {
    let (scale, digits) = digits(x, importance);
    pack_digits::<5>(&digits[..160], &mut out[..32]);
    pack_digits::<5>(&digits[160..240], &mut out[32..48]);
    pack_digits::<4>(&digits[240..], &mut out[48..52]);
    out[52..].copy_from_slice(&scale);
}

/// `N` digits a byte, of which the first is the most significant of five, as a fraction of 256.
fn pack_digits<const N: usize>(digits: &[u8], bytes: &mut [u8]) {
    let stride = bytes.len();
    for (m, byte) in bytes.iter_mut().enumerate() {
        let number = (0..5).fold(0, |number, n| {
            number * 3 + if n < N { u16::from(digits[m + n * stride]) } else { 0 }
        });
        *byte = (number * 256).div_ceil(243) as u8;
    }
}

pub(super) fn tq2_0(x: &[f32; 256], importance: Option<&[f32; 256]>, out: &mut [u8; 66]) {
    let (scale, digits) = digits(x, importance);
    for (i, byte) in out[..64].iter_mut().enumerate() {
        let (half, l) = (i / 32, i % 32);
        *byte = (0..4).fold(0, |bits, n| bits | digits[half * 128 + n * 32 + l] << (2 * n));
    }
    out[64..].copy_from_slice(&scale);
}
