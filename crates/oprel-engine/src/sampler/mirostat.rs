//! Mirostat (arXiv 2007.14966): how many tokens are left, from the surprise that is wanted.

use std::f64::consts::LN_2;

/// Tokens whose probabilities version 1 fits Zipf's law to.
pub(super) const FITTED: usize = 100;

/// Most surprise of one choice that is learned from, in bits.
const MOST_BITS: f64 = 64.0;

/// The bound of surprise with which a text begins.
pub(super) fn first(tau: f32) -> f64 {
    2.0 * f64::from(tau)
}

/// The bound after a surprise in bits; the same if there was none.
pub(super) fn learn(mu: f64, surprise: f64, (tau, eta): (f32, f32)) -> f64 {
    if surprise.is_nan() {
        return mu;
    }
    mu - f64::from(eta) * (surprise.min(MOST_BITS) - f64::from(tau))
}

/// The surprise in bits of a token whose weight is `e^-depth`, of a sum of weights.
pub(super) fn bits(total: f64, depth: f64) -> f64 {
    (total.ln() + depth) / LN_2
}

/// How far below the largest, over the temperature, a logit may be for a surprise of `mu` bits.
pub(super) fn depth_of(total: f64, mu: f64) -> f64 {
    mu * LN_2 - total.ln()
}

/// Version 1: how many tokens of `n_vocab` to keep, from the largest logits over the temperature,
/// largest first. At least one.
pub(super) fn count_of(largest: impl Iterator<Item = f64>, n_vocab: usize, mu: f64) -> usize {
    let (mut products, mut squares) = (0.0, 0.0);
    let mut before = None;
    for (i, x) in largest.take(FITTED).enumerate() {
        if let Some(before) = before.replace(x) {
            let rank = ((i + 1) as f64 / i as f64).ln();
            products += rank * (before - x);
            squares += rank * rank;
        }
    }
    let zipf: f64 = if squares > 0.0 { products / squares } else { 0.0 };
    let epsilon = zipf - 1.0;
    let n = n_vocab as f64;
    // At epsilon 0 the quotient tends to 1 / ln n.
    let part = if epsilon.abs() < 1e-9 { 1.0 / n.ln() } else { epsilon / (1.0 - n.powf(-epsilon)) };
    let count = (part * mu.exp2()).powf(1.0 / zipf);
    // NaN counts as none.
    (count as usize).clamp(1, n_vocab.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zipf_law_keeps_what_the_paper_says() {
        // p(i) ~ i^-s, of which the first k have the mean surprise that mu asks for.
        for (s, mu) in [(1.3, 6.0), (0.8, 9.0), (1.0, 5.0)] {
            let n = 50_000;
            let largest = (1..=FITTED).map(|i| -s * (i as f64).ln());
            let epsilon: f64 = s - 1.0;
            let part = if epsilon == 0.0 {
                1.0 / (n as f64).ln()
            } else {
                epsilon / (1.0 - (n as f64).powf(-epsilon))
            };
            let want = (part * 2_f64.powf(mu)).powf(1.0 / s) as usize;
            let got = count_of(largest, n, mu);
            assert!(got.abs_diff(want) <= 1, "{got} {want}");
        }
    }

    #[test]
    fn odd_laws_keep_at_least_one_and_at_most_all() {
        for logits in [vec![], vec![1.0], vec![1.0; 100], vec![1e38, -1e38], vec![3.0, 2.0]] {
            for mu in [-1e30, -1.0, 0.0, 10.0, 1e30] {
                let kept = count_of(logits.iter().copied(), 1000, mu);
                assert!((1..=1000).contains(&kept));
            }
        }
    }
}
