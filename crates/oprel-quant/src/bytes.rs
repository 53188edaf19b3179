//! Little-endian numbers out of a block, and the small floating-point formats of scales.
//!
//! Offsets are constants inside a block whose length has been checked.

use half::f16;

/// The u16 at `at`.
pub(crate) fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// The u32 at `at`.
pub(crate) fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from(u16_at(block, at)) | u32::from(u16_at(block, at + 2)) << 16
}

/// The half-precision number at `at`.
pub(crate) fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_bits(u16_at(block, at)).to_f32()
}

/// Half of the power of two that an E8M0 byte means: 2^(x - 128). Half, because the codes of
/// MXFP4 are stored doubled. 255 is no NaN here, as in ggml (`ggml_e8m0_to_fp32_half`).
pub const fn e8m0_half(x: u8) -> f32 {
    match x {
        0 | 1 => f32::from_bits(0x0020_0000 << x),
        _ => f32::from_bits((x as u32 - 1) << 23),
    }
}

/// Half of the unsigned E4M3 number of NVFP4: bias 7, top bit ignored, 0x7f is zero
/// (`ggml_ue4m3_to_fp32`).
pub const fn ue4m3_half(x: u8) -> f32 {
    if x == 0x7f {
        return 0.0;
    }
    let (exponent, mantissa) = ((x >> 3 & 15) as u32, (x & 7) as f32);
    let value = match exponent {
        0 => mantissa / 512.0,
        _ => (1.0 + mantissa / 8.0) * f32::from_bits((exponent + 127 - 7) << 23),
    };
    value * 0.5
}
