//! Random numbers that are a function of seed, position and purpose alone: a sequence that is
//! preempted, moved or resumed draws the same ones.

/// What a number is drawn for. Each purpose has numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Which token it is.
    Token = 0,
    /// Whether XTC applies.
    Xtc = 1,
}

/// A uniform number in [0, 1): two rounds of splitmix64's finaliser.
pub(super) fn uniform(seed: u64, position: u64, purpose: Purpose) -> f64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let golden = 0x9E37_79B9_7F4A_7C15_u64;
    // No text is so long that its positions reach those of another purpose.
    let place = position ^ ((purpose as u64) << 62);
    let z = mix(mix(seed.wrapping_add(golden)) ^ place.wrapping_mul(golden));
    (z >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_purposes_are_uniform_and_do_not_follow_each_other() {
        let n = 20_000;
        for purpose in [Purpose::Token, Purpose::Xtc] {
            let mut bins = [0.0; 20];
            (0..n).for_each(|i| bins[(uniform(7, i, purpose) * 20.0) as usize] += 1.0);
            let want = n as f64 / 20.0;
            let chi: f64 = bins.iter().map(|b: &f64| (b - want).powi(2) / want).sum();
            assert!(chi < 44.0, "chi-square of 19 degrees: {chi}");
        }
        let together: f64 = (0..n)
            .map(|i| {
                (uniform(7, i, Purpose::Token) - 0.5) * (uniform(7, i, Purpose::Xtc) - 0.5) * 12.0
            })
            .sum();
        assert!((together / n as f64).abs() < 0.03);
    }
}
