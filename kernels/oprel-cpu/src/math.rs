//! Elementary functions on f32 that the compiler can vectorize: the same bits in every tier.
//!
//! Errors were measured over all f32 (`exp`, `tanh`) or a dense grid (`erfc`); tests hold them.

/// e^x, within 2 units in the last place; 0 below -104, infinite above 88.73, NaN for NaN.
///
/// Range reduction by ln 2 in two parts, then the polynomial of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let t = x.clamp(EXP_LOWEST, EXP_HIGHEST);
    let shifted = t.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, t));
    let mut p = EXP_COEFFICIENTS[0];
    for c in &EXP_COEFFICIENTS[1..] {
        p = p.mul_add(r, *c);
    }
    let y = p.mul_add(r * r, r) + 1.0;
    // 2^n in two factors, because n itself may be beyond an exponent.
    let n = shifted.to_bits() as i32 - ROUND.to_bits() as i32;
    let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
    y * power(n >> 1) * power(n - (n >> 1))
}

/// Below this, e^x is 0.
pub(crate) const EXP_LOWEST: f32 = -105.0;
/// Above this, e^x is infinite.
pub(crate) const EXP_HIGHEST: f32 = 89.0;
/// The upper bits of ln 2.
pub(crate) const LN2_HIGH: f32 = 0.693_359_4;
/// The rest of it.
pub(crate) const LN2_LOW: f32 = -2.121_944_4e-4;
/// Added to a small number it leaves the nearest integer in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;
/// The polynomial behind 1 + r, highest power first.
pub(crate) const EXP_COEFFICIENTS: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// 2^x from -1/2 to 1/2 within 2.6e-6 of itself, which is less than an integer of 16 bits tells;
/// highest power first.
pub(crate) const EXP2_COEFFICIENTS: [f32; 5] =
    [9.570_102e-3, 5.591_786e-2, 2.402_474_5e-1, 6.931_218e-1, 0.999_999_3];

/// tanh x, within 3 units in the last place.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let z = x * x;
    let mut p = -5.704_989e-3_f32;
    p = p.mul_add(z, 2.063_909e-2);
    p = p.mul_add(z, -5.373_971_6e-2);
    p = p.mul_add(z, 1.333_144_2e-1);
    p = p.mul_add(z, -3.333_328e-1);
    let small = (p * z).mul_add(x, x);
    let large = (1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0)).copysign(x);
    if x.abs() < 0.625 { small } else { large }
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The complementary error function, relative error below 2e-6 (Press et al., Numerical Recipes,
/// a Chebyshev fit in 1 / (1 + |x| / 2)).
#[inline(always)]
pub(crate) fn erfc(x: f32) -> f32 {
    let z = x.abs();
    let t = 1.0 / z.mul_add(0.5, 1.0);
    let mut p = 0.170_872_77_f32;
    p = p.mul_add(t, -0.822_152_2);
    p = p.mul_add(t, 1.488_515_9);
    p = p.mul_add(t, -1.135_204);
    p = p.mul_add(t, 0.278_868_07);
    p = p.mul_add(t, -0.186_288_06);
    p = p.mul_add(t, 0.096_784_18);
    p = p.mul_add(t, 0.374_091_96);
    p = p.mul_add(t, 1.000_023_7);
    p = p.mul_add(t, -1.265_512_2);
    let tail = t * exp((-z).mul_add(z, p));
    if x < 0.0 { 2.0 - tail } else { tail }
}

/// ln x of a positive normal number, within 2 units in the last place of 1 + |ln x|.
///
/// The mantissa is taken to between sqrt(1/2) and sqrt(2), then the polynomial of Cephes' `logf`.
#[inline(always)]
fn ln(x: f32) -> f32 {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let shifted = x.to_bits().wrapping_sub(SQRT_HALF);
    let e = (shifted as i32 >> 23) as f32;
    let z = f32::from_bits((shifted & 0x007f_ffff) + SQRT_HALF) - 1.0;
    let mut p = 7.037_683_6e-2_f32;
    p = p.mul_add(z, -1.151_461e-1);
    p = p.mul_add(z, 1.167_699_9e-1);
    p = p.mul_add(z, -1.242_014_1e-1);
    p = p.mul_add(z, 1.424_932_3e-1);
    p = p.mul_add(z, -1.666_805_7e-1);
    p = p.mul_add(z, 2.000_071_5e-1);
    p = p.mul_add(z, -2.499_999_4e-1);
    p = p.mul_add(z, 0.333_333_3);
    let square = z * z;
    let low = e.mul_add(LN2_LOW, p * square * z);
    e.mul_add(LN2_HIGH, z + (-0.5f32).mul_add(square, low))
}

/// ln(1 + e^x), relative error below 1e-6.
#[inline(always)]
pub(crate) fn softplus(x: f32) -> f32 {
    let y = exp(x);
    let u = 1.0 + y;
    // What rounding lost in u is put back as a factor (Kahan); where nothing of y is left in u,
    // ln(1 + y) is y.
    let log = if u == 1.0 { y } else { ln(u) * (y / (u - 1.0)) };
    if x > 20.0 { x } else { log }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units in the last place of the expected number.
    fn ulps(got: f32, expected: f64) -> f64 {
        let rounded = expected as f32;
        let next = f32::from_bits(rounded.abs().to_bits() + 1);
        (f64::from(got) - expected).abs() / f64::from(next - rounded.abs())
    }

    fn every(step: usize) -> impl Iterator<Item = f32> {
        (0..=u32::MAX).step_by(step).map(f32::from_bits).filter(|x| x.is_finite())
    }

    #[test]
    fn exp_is_within_two_ulps_of_the_true_value() {
        for x in every(9973).filter(|x| (-103.0..88.7).contains(x)) {
            assert!(ulps(exp(x), f64::from(x).exp()) <= 2.0, "{x}: {}", exp(x));
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(88.8), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_within_three_ulps_of_the_true_value() {
        for x in every(9973) {
            assert!(ulps(tanh(x), f64::from(x).tanh()) <= 3.0, "{x}: {}", tanh(x));
        }
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn erfc_has_its_known_values() {
        // From Abramowitz and Stegun, table 7.1, and erfc's asymptotic series.
        let known = [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (2.0, 4.677_734_981_047_266e-3),
            (3.0, 2.209_049_699_858_544e-5),
            (5.0, 1.537_459_794_428_035e-12),
        ];
        for (x, expected) in known {
            let error = (f64::from(erfc(x)) - expected).abs() / expected;
            assert!(error < 2e-6, "{x}: {error}");
            assert!((f64::from(erfc(-x)) - (2.0 - expected)).abs() < 3e-7, "{x}");
        }
    }

    #[test]
    fn softplus_is_linear_far_out_and_vanishes_below() {
        assert_eq!(softplus(30.0), 30.0);
        assert!((f64::from(softplus(0.0)) - 2f64.ln()).abs() < 1e-7);
        assert!(softplus(-30.0) > 0.0 && softplus(-30.0) < 1e-12);
        for x in (-800..200).map(|i| i as f32 * 0.1) {
            let expected = f64::from(x).exp().ln_1p();
            assert!((f64::from(softplus(x)) - expected).abs() <= 1e-6 * expected, "{x}");
        }
        assert!(softplus(f32::NAN).is_nan());
    }
}
