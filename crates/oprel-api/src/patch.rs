//! The part of a sampling that somebody has an opinion on: a model's maker, a request.

use crate::{LogitBias, Sampling};
use serde::{Deserialize, Serialize};

/// A [`Sampling`] of which only some numbers are said. Written flat, with the same names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // the fields are those of `Sampling`
pub struct SamplingPatch {
    pub temperature: Option<f32>,
    pub dynatemp_range: Option<f32>,
    pub dynatemp_exponent: Option<f32>,
    pub top_k: Option<u32>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub typical_p: Option<f32>,
    pub top_n_sigma: Option<f32>,
    pub repeat_penalty: Option<f32>,
    pub repeat_last_n: Option<i32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub seed: Option<u64>,
    pub mirostat: Option<u8>,
    pub mirostat_tau: Option<f32>,
    pub mirostat_eta: Option<f32>,
    pub dry_multiplier: Option<f32>,
    pub dry_base: Option<f32>,
    pub dry_allowed_length: Option<u32>,
    pub dry_penalty_last_n: Option<i32>,
    pub dry_sequence_breakers: Option<Vec<String>>,
    pub xtc_probability: Option<f32>,
    pub xtc_threshold: Option<f32>,
    /// Added to those of the sampling below.
    pub logit_bias: Vec<LogitBias>,
}

impl SamplingPatch {
    /// What is said here, else what is said below.
    #[must_use]
    pub fn or(self, below: SamplingPatch) -> SamplingPatch {
        SamplingPatch {
            temperature: self.temperature.or(below.temperature),
            dynatemp_range: self.dynatemp_range.or(below.dynatemp_range),
            dynatemp_exponent: self.dynatemp_exponent.or(below.dynatemp_exponent),
            top_k: self.top_k.or(below.top_k),
            top_p: self.top_p.or(below.top_p),
            min_p: self.min_p.or(below.min_p),
            typical_p: self.typical_p.or(below.typical_p),
            top_n_sigma: self.top_n_sigma.or(below.top_n_sigma),
            repeat_penalty: self.repeat_penalty.or(below.repeat_penalty),
            repeat_last_n: self.repeat_last_n.or(below.repeat_last_n),
            presence_penalty: self.presence_penalty.or(below.presence_penalty),
            frequency_penalty: self.frequency_penalty.or(below.frequency_penalty),
            seed: self.seed.or(below.seed),
            mirostat: self.mirostat.or(below.mirostat),
            mirostat_tau: self.mirostat_tau.or(below.mirostat_tau),
            mirostat_eta: self.mirostat_eta.or(below.mirostat_eta),
            dry_multiplier: self.dry_multiplier.or(below.dry_multiplier),
            dry_base: self.dry_base.or(below.dry_base),
            dry_allowed_length: self.dry_allowed_length.or(below.dry_allowed_length),
            dry_penalty_last_n: self.dry_penalty_last_n.or(below.dry_penalty_last_n),
            dry_sequence_breakers: self.dry_sequence_breakers.or(below.dry_sequence_breakers),
            xtc_probability: self.xtc_probability.or(below.xtc_probability),
            xtc_threshold: self.xtc_threshold.or(below.xtc_threshold),
            logit_bias: [below.logit_bias, self.logit_bias].concat(),
        }
    }

    /// What is said here, over what is said below.
    pub fn over(&self, below: Sampling) -> Sampling {
        let mut all = below;
        set(&mut all.temperature, self.temperature);
        set(&mut all.dynatemp_range, self.dynatemp_range);
        set(&mut all.dynatemp_exponent, self.dynatemp_exponent);
        set(&mut all.top_k, self.top_k);
        set(&mut all.top_p, self.top_p);
        set(&mut all.min_p, self.min_p);
        set(&mut all.typical_p, self.typical_p);
        set(&mut all.top_n_sigma, self.top_n_sigma);
        set(&mut all.repeat_penalty, self.repeat_penalty);
        set(&mut all.repeat_last_n, self.repeat_last_n);
        set(&mut all.presence_penalty, self.presence_penalty);
        set(&mut all.frequency_penalty, self.frequency_penalty);
        set(&mut all.mirostat.version, self.mirostat);
        set(&mut all.mirostat.tau, self.mirostat_tau);
        set(&mut all.mirostat.eta, self.mirostat_eta);
        set(&mut all.dry.multiplier, self.dry_multiplier);
        set(&mut all.dry.base, self.dry_base);
        set(&mut all.dry.allowed_length, self.dry_allowed_length);
        set(&mut all.dry.last_n, self.dry_penalty_last_n);
        set(&mut all.dry.breakers, self.dry_sequence_breakers.clone());
        set(&mut all.xtc.probability, self.xtc_probability);
        set(&mut all.xtc.threshold, self.xtc_threshold);
        all.logit_bias.extend_from_slice(&self.logit_bias);
        all.seed = self.seed.or(all.seed);
        all
    }
}

/// All of a sampling.
impl From<Sampling> for SamplingPatch {
    fn from(all: Sampling) -> SamplingPatch {
        SamplingPatch {
            temperature: Some(all.temperature),
            dynatemp_range: Some(all.dynatemp_range),
            dynatemp_exponent: Some(all.dynatemp_exponent),
            top_k: Some(all.top_k),
            top_p: Some(all.top_p),
            min_p: Some(all.min_p),
            typical_p: Some(all.typical_p),
            top_n_sigma: Some(all.top_n_sigma),
            repeat_penalty: Some(all.repeat_penalty),
            repeat_last_n: Some(all.repeat_last_n),
            presence_penalty: Some(all.presence_penalty),
            frequency_penalty: Some(all.frequency_penalty),
            seed: all.seed,
            mirostat: Some(all.mirostat.version),
            mirostat_tau: Some(all.mirostat.tau),
            mirostat_eta: Some(all.mirostat.eta),
            dry_multiplier: Some(all.dry.multiplier),
            dry_base: Some(all.dry.base),
            dry_allowed_length: Some(all.dry.allowed_length),
            dry_penalty_last_n: Some(all.dry.last_n),
            dry_sequence_breakers: Some(all.dry.breakers),
            xtc_probability: Some(all.xtc.probability),
            xtc_threshold: Some(all.xtc.threshold),
            logit_bias: all.logit_bias,
        }
    }
}

fn set<T>(field: &mut T, said: Option<T>) {
    if let Some(said) = said {
        *field = said;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays_and_biases_add_up() {
        let bias = |token| LogitBias { token, bias: 1.0 };
        let below =
            Sampling { top_k: 7, seed: Some(1), logit_bias: vec![bias(1)], ..Default::default() };
        let patch = SamplingPatch {
            temperature: Some(0.1),
            logit_bias: vec![bias(2)],
            ..SamplingPatch::default()
        };
        let all = patch.over(below.clone());
        assert_eq!((all.temperature, all.top_k, all.seed), (0.1, 7, Some(1)));
        assert_eq!(all.logit_bias, [bias(1), bias(2)]);
        assert_eq!(SamplingPatch::default().over(below.clone()), below);
    }

    #[test]
    fn every_name_of_a_sampling_is_a_name_of_the_patch() {
        let all = Sampling { seed: Some(3), ..Sampling::default() };
        let json = serde_json::to_value(&all).unwrap();
        let patch: SamplingPatch = serde_json::from_value(json).unwrap();
        let zero = Sampling {
            temperature: 9.0,
            top_k: 9,
            mirostat: crate::Mirostat { version: 2, tau: 9.0, eta: 9.0 },
            xtc: crate::Xtc { probability: 0.9, threshold: 0.9 },
            ..Sampling::default()
        };
        assert_eq!(patch.over(zero.clone()), all);
        assert_eq!(SamplingPatch::from(all.clone()).over(zero), all);
    }
}
