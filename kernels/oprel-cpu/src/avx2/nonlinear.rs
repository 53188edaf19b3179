//! Nibbles that index sixteen values: IQ4_NL, IQ4_XS, MXFP4, NVFP4.

use super::blocks::{Block, Group, f16_all, f16_of_blocks, load16, nibbles, no_mins, u16_at};
use std::arch::x86_64::*;

/// The values of IQ4.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// Twice the E2M1 numbers.
const FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// What each byte below 16 stands for.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn values(table: &[i8; 16], indices: __m256i) -> __m256i {
    // SAFETY: 16 bytes are read from an array of 16.
    unsafe {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        _mm256_shuffle_epi8(table, indices)
    }
}

/// Values of the nibbles of four times 16 bytes, `step` apart.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn four(table: &[i8; 16], span: &[u8], at: usize, step: usize) -> [__m256i; 4] {
    let codes = |b: usize| values(table, nibbles(load16(span, at + b * step)));
    [codes(0), codes(1), codes(2), codes(3)]
}

pub(crate) struct Iq4Nl;

impl Block for Iq4Nl {
    const SPAN_BYTES: usize = 4 * 18;
    const GROUPS: usize = 1;
    const BITS: u32 = 8;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], _: usize) -> Group {
        let codes = four(&IQ4, span, 2, 18);
        Group { codes, scales: f16_of_blocks(span, 0, 18), mins: no_mins() }
    }
}

pub(crate) struct Iq4Xs;

impl Block for Iq4Xs {
    const SPAN_BYTES: usize = 136;
    const GROUPS: usize = 2;
    const BITS: u32 = 8;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], g: usize) -> Group {
        let codes = four(&IQ4, span, 8 + 64 * g, 16);
        let (low, high) =
            (u32::from(u16_at(span, 4 + 2 * g)), u32::from(u16_at(span, 2)) >> (8 * g));
        let scales = {
            let low = _mm256_srlv_epi32(_mm256_set1_epi32(low as i32), shifts(4));
            let high = _mm256_srlv_epi32(_mm256_set1_epi32(high as i32), shifts(2));
            let low = _mm256_and_si256(low, _mm256_set1_epi32(15));
            let high = _mm256_slli_epi32::<4>(_mm256_and_si256(high, _mm256_set1_epi32(3)));
            let scales = _mm256_sub_epi32(_mm256_or_si256(low, high), _mm256_set1_epi32(32));
            _mm256_mul_ps(f16_all(span, 0), _mm256_cvtepi32_ps(scales))
        };
        Group { codes, scales, mins: no_mins() }
    }
}

/// 0, step, 2 step, 3 step in both halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn shifts(step: i32) -> __m256i {
    _mm256_setr_epi32(0, step, 2 * step, 3 * step, 0, step, 2 * step, 3 * step)
}

pub(crate) struct Mxfp4;

impl Block for Mxfp4 {
    const SPAN_BYTES: usize = 4 * 17;
    const GROUPS: usize = 1;
    const BITS: u32 = 5;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], _: usize) -> Group {
        let codes = four(&FP4, span, 1, 17);
        let exponent = |b: usize| i32::from(span[b * 17]);
        let scales = {
            let e = _mm_setr_epi32(exponent(0), exponent(1), exponent(2), exponent(3));
            // 2^(e - 128): an exponent field of e - 1, or below that a subnormal number.
            let normal = _mm_slli_epi32::<23>(_mm_sub_epi32(e, _mm_set1_epi32(1)));
            let subnormal = _mm_sllv_epi32(_mm_set1_epi32(0x0020_0000), e);
            let small = _mm_cmplt_epi32(e, _mm_set1_epi32(2));
            let bits = _mm_castsi128_ps(_mm_blendv_epi8(normal, subnormal, small));
            _mm256_set_m128(bits, bits)
        };
        Group { codes, scales, mins: no_mins() }
    }
}

/// Half of each unsigned E4M3 number, as NVFP4 scales it.
static E4M3_HALF: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut x = 0;
    while x < 256 {
        let (exponent, mantissa) = ((x >> 3 & 15) as u32, (x & 7) as f32);
        table[x] = match exponent {
            0 => mantissa / 1024.0,
            // The exponent's bias of 7, and one less for the half.
            _ => (1.0 + mantissa / 8.0) * f32::from_bits((exponent + 127 - 8) << 23),
        };
        x += 1;
    }
    table[0x7f] = 0.0;
    table
};

pub(crate) struct Nvfp4;

impl Block for Nvfp4 {
    const SPAN_BYTES: usize = 2 * 36;
    const GROUPS: usize = 1;
    const BITS: u32 = 5;
    const HALVES: bool = true;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn group(span: &[u8], _: usize) -> Group {
        // Runs lie in blocks of four; a run has 8 bytes, low nibbles first.
        let run = |i: usize| i / 4 * 36 + i % 4;
        let scale = |i: usize| E4M3_HALF[usize::from(span[run(i)])];
        let codes = |b: usize| {
            let bytes = load16(span, b / 2 * 36 + 4 + b % 2 * 16);
            let mask = _mm_set1_epi8(15);
            let low = _mm_and_si128(bytes, mask);
            let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), mask);
            let (first, second) = (_mm_unpacklo_epi64(low, high), _mm_unpackhi_epi64(low, high));
            values(&FP4, _mm256_set_m128i(second, first))
        };
        let codes = [codes(0), codes(1), codes(2), codes(3)];
        let scales = _mm256_setr_ps(
            scale(0),
            scale(2),
            scale(4),
            scale(6),
            scale(1),
            scale(3),
            scale(5),
            scale(7),
        );
        Group { codes, scales, mins: no_mins() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_of_nvfp4_are_those_of_the_definition() {
        for x in 0..=255u8 {
            let mut block = [0x11; 36];
            block[..4].fill(x);
            let mut weights = [0.0; 64];
            oprel_quant::dequantize(oprel_quant::QuantType::NVFP4, &block, &mut weights).unwrap();
            assert_eq!(E4M3_HALF[usize::from(x)], weights[0], "{x}");
        }
    }
}
