//! How much arithmetic this machine does on values in registers: what prefill cannot be faster than.
//!
//! Each loop repeats the instruction, or the few, with which a tier's kernels multiply and add.
#![expect(unsafe_code, reason = "calls of functions with target features")]

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::hint::black_box;
use std::time::Instant;

use crate::{Isa, Pool, Tier};

/// Sums that do not wait for each other: more than a multiplication takes cycles, times two.
const SUMS: usize = 12;
/// Additions to each sum that a thread makes at once.
const STEPS: usize = 1 << 13;
/// Chunks for each thread.
const CHUNKS: usize = 4;
/// How often all is measured; the best counts.
const ROUNDS: usize = 8;

/// Products of 8-bit integers that the pool's threads compute and add together in a second, times
/// two: a multiplication and an addition each.
pub fn integer_peak(pool: &mut Pool, isa: Isa) -> f64 {
    measure(pool, || match isa.tier() {
        Tier::Scalar => integers_scalar(),
        // SAFETY: an `Isa` of this tier, or one above, exists only where the CPU has its features.
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2 => unsafe { integers_avx2() },
        // SAFETY: the feature was detected.
        #[cfg(target_arch = "x86_64")]
        Tier::AvxVnni if is_x86_feature_detected!("avxvnni") => unsafe { integers_avxvnni() },
        // SAFETY: the tier has AVX-512 VL and VNNI where it lacks AVX-VNNI.
        #[cfg(target_arch = "x86_64")]
        Tier::AvxVnni => unsafe { integers_evex() },
        // SAFETY: as with AVX2.
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512 | Tier::Avx512Bf16 => unsafe { integers_avx512() },
        // SAFETY: as with AVX2.
        #[cfg(target_arch = "aarch64")]
        Tier::Neon => unsafe { integers_neon() },
        // SAFETY: as with AVX2.
        #[cfg(target_arch = "aarch64")]
        Tier::DotProd => unsafe { integers_dotprod() },
        // SAFETY: as with AVX2.
        #[cfg(target_arch = "aarch64")]
        Tier::I8mm => unsafe { integers_i8mm() },
    })
}

/// The same of single-precision numbers, multiplied and added at once where the tier can.
pub fn float_peak(pool: &mut Pool, isa: Isa) -> f64 {
    measure(pool, || match isa.tier() {
        Tier::Scalar => floats_scalar(),
        // SAFETY: an `Isa` of these tiers exists only where the CPU has the features.
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2 | Tier::AvxVnni => unsafe { floats_avx2() },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512 | Tier::Avx512Bf16 => unsafe { floats_avx512() },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Tier::Neon | Tier::DotProd | Tier::I8mm => unsafe { floats_neon() },
    })
}

/// The same of pairs of bf16 numbers, where the tier multiplies those.
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused_variables, reason = "only x86-64 has such a tier")
)]
pub fn bf16_peak(pool: &mut Pool, isa: Isa) -> Option<f64> {
    match isa.tier() {
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512Bf16 => Some(measure(pool, || unsafe { pairs_avx512() })),
        _ => None,
    }
}

/// Operations a second, where each call of `chunk` does as many as it says.
fn measure(pool: &mut Pool, chunk: impl Fn() -> usize + Sync) -> f64 {
    let n_chunks = pool.n_threads() * CHUNKS;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        pool.run(n_chunks, |_, _| {
            black_box(chunk());
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    (n_chunks * chunk()) as f64 / best
}

/// Numbers that portable code multiplies: few enough for the nearest cache.
const NUMBERS: usize = 2048;

fn integers_scalar() -> usize {
    let (a, b) = ([3_i8; NUMBERS], [5_i8; NUMBERS]);
    let mut sum = 0_i32;
    for _ in 0..STEPS / 64 {
        let (a, b) = (black_box(&a), black_box(&b));
        let products = a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b));
        sum = sum.wrapping_add(products.sum());
    }
    black_box(sum);
    2 * NUMBERS * (STEPS / 64)
}

fn floats_scalar() -> usize {
    // Enough for the compiler to work on some of them at once.
    let (a, b) = (black_box(0.5_f32), black_box(0.25_f32));
    let mut sums = [0.0_f32; 4 * SUMS];
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = *sum * a + b;
        }
    }
    black_box(sums);
    2 * sums.len() * STEPS
}

/// A function that adds to `SUMS` vectors of `$lanes` products, `STEPS` times.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! repeat {
    ($name:ident, $features:literal, $lanes:literal, $splat:expr, $one:expr, $step:expr) => {
        #[target_feature(enable = $features)]
        fn $name() -> usize {
            let (a, b) = (black_box($one), black_box($one));
            // The compiler may not know that all sums are the same.
            let mut sums = [$splat; SUMS].map(|x| black_box(x));
            for _ in 0..STEPS {
                for i in 0..SUMS {
                    sums[i] = ($step)(sums[i], a, b);
                }
            }
            black_box(sums);
            2 * $lanes * SUMS * STEPS
        }
    };
}

#[cfg(target_arch = "x86_64")]
repeat!(integers_avx2, "avx2", 32, _mm256_setzero_si256(), _mm256_set1_epi8(1), |sum, a, b| {
    // Pairs of bytes, then pairs of those. The sum stands for codes, which differ each time.
    _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(sum, a), b))
});

#[cfg(target_arch = "x86_64")]
repeat!(
    integers_avxvnni,
    "avx2,avxvnni",
    32,
    _mm256_setzero_si256(),
    _mm256_set1_epi8(1),
    |sum, a, b| _mm256_dpbusd_avx_epi32(sum, a, b)
);

#[cfg(target_arch = "x86_64")]
repeat!(
    integers_evex,
    "avx2,avx512vl,avx512vnni",
    32,
    _mm256_setzero_si256(),
    _mm256_set1_epi8(1),
    |sum, a, b| _mm256_dpbusd_epi32(sum, a, b)
);

#[cfg(target_arch = "x86_64")]
repeat!(
    integers_avx512,
    "avx512f,avx512vnni",
    64,
    _mm512_setzero_si512(),
    _mm512_set1_epi8(1),
    |sum, a, b| _mm512_dpbusd_epi32(sum, a, b)
);

#[cfg(target_arch = "x86_64")]
repeat!(floats_avx2, "avx2,fma", 8, _mm256_setzero_ps(), _mm256_set1_ps(0.5), |sum, a, b| {
    _mm256_fmadd_ps(sum, a, b)
});

#[cfg(target_arch = "x86_64")]
repeat!(floats_avx512, "avx512f", 16, _mm512_setzero_ps(), _mm512_set1_ps(0.5), |sum, a, b| {
    _mm512_fmadd_ps(sum, a, b)
});

#[cfg(target_arch = "x86_64")]
repeat!(pairs_avx512, "avx512f,avx512bf16", 32, _mm512_setzero_ps(), bf16_ones(), |sum, a, b| {
    _mm512_dpbf16_ps(sum, a, b)
});

/// Ones in pairs.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn bf16_ones() -> __m512bh {
    let one = _mm512_set1_ps(1.0);
    _mm512_cvtne2ps_pbh(one, one)
}

#[cfg(target_arch = "aarch64")]
repeat!(integers_neon, "neon", 16, vdupq_n_s32(0), vdupq_n_s8(1), |sum, a, b| {
    crate::neon::add_products(sum, a, b)
});

#[cfg(target_arch = "aarch64")]
repeat!(integers_dotprod, "neon,dotprod", 16, vdupq_n_s32(0), vdupq_n_s8(1), |sum, a, b| {
    crate::neon::sdot(sum, a, b)
});

#[cfg(target_arch = "aarch64")]
repeat!(integers_i8mm, "neon,i8mm", 32, vdupq_n_s32(0), vdupq_n_s8(1), |sum, a, b| {
    crate::neon::smmla(sum, a, b)
});

#[cfg(target_arch = "aarch64")]
repeat!(floats_neon, "neon", 4, vdupq_n_f32(0.0), vdupq_n_f32(0.5), |sum, a, b| {
    vfmaq_f32(sum, a, b)
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tier_has_peaks() {
        let mut pool = Pool::new(2).unwrap();
        for isa in Isa::supported() {
            assert!(integer_peak(&mut pool, isa) > 0.0 && float_peak(&mut pool, isa) > 0.0);
            assert!(bf16_peak(&mut pool, isa).is_none_or(|peak| peak > 0.0));
        }
    }
}
