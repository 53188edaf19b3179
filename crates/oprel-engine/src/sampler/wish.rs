//! What is asked of one choice, and the formulas that its cuts share whether tokens are few or many.

use oprel_api::Sampling;
use oprel_cpu::sampling::{Moments, Sums};

use super::random::{Purpose, uniform};

/// What is asked of one choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) how: &'a Sampling,
    pub(super) seed: u64,
    pub(super) position: u64,
    /// Mirostat's bound of surprise, in bits.
    pub(super) mu: f64,
    /// Tokens of the vocabulary, whether or not they may be chosen.
    pub(super) n_vocab: usize,
    /// The token that was chosen, where only its surprise is asked for.
    pub(super) seen: Option<u32>,
}

/// A token and, under Mirostat, its surprise in bits among those that were left; NaN if it has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) id: u32,
    pub(super) surprise: f64,
}

impl Choice {
    pub(super) fn of(id: u32) -> Choice {
        Choice { id, surprise: f64::NAN }
    }
}

impl Wish<'_> {
    /// A uniform number in [0, 1) of this position.
    pub(super) fn draw(&self, purpose: Purpose) -> f64 {
        uniform(self.seed, self.position, purpose)
    }

    /// Whether XTC applies at this position.
    pub(super) fn excludes(&self) -> bool {
        let xtc = &self.how.xtc;
        xtc.is_on() && self.draw(Purpose::Xtc) < f64::from(xtc.probability)
    }

    /// The least logit that top-n-sigma keeps.
    pub(super) fn floor(&self, most: f32, moments: Moments) -> f32 {
        let mean = moments.sum / moments.count;
        let variance = (moments.squares / moments.count - mean * mean).max(0.0);
        let least = f64::from(most) - f64::from(self.how.top_n_sigma) * variance.sqrt();
        // Rounded down, so that what lies on the bound is kept.
        (least as f32).next_down().max(f32::MIN)
    }

    /// The temperature where these tokens are left, of which the sums are those at temperature 1.
    pub(super) fn temperature(&self, left: impl FnOnce() -> Sums) -> f32 {
        let how = self.how;
        if how.dynatemp_range <= 0.0 {
            return how.temperature;
        }
        let sums = left();
        if sums.count <= 1.0 {
            return how.temperature;
        }
        let entropy = sums.weight.ln() + sums.depth / sums.weight;
        let doubt = (entropy / sums.count.ln()).clamp(0.0, 1.0);
        let least = f64::from((how.temperature - how.dynatemp_range).max(0.0));
        let most = f64::from(how.temperature) + f64::from(how.dynatemp_range);
        (least + (most - least) * doubt.powf(f64::from(how.dynatemp_exponent))) as f32
    }
}
