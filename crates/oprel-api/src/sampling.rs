//! How the next token is chosen from the logits.

use crate::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most entries of a [`Sampling::logit_bias`].
const MOST_BIASES: usize = 65_536;
/// Most entries of [`Dry::breakers`].
const MOST_BREAKERS: usize = 64;
/// Most bytes of one of them.
const LONGEST_BREAKER: usize = 40;

/// How the next token is chosen from the logits. The default is that of the field's daemons:
/// temperature 0.8, `top_k` 40, `top_p` 0.9, no penalty, a seed that the engine draws, all else off.
///
/// Written flat, with the names of llama.cpp's server: `mirostat_tau`, `dry_multiplier`, ...
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// Divides the logits; 0 always takes the likeliest token.
    pub temperature: f32,
    /// How far the temperature goes down where the model is sure, and up where it is not; 0 keeps
    /// it fixed.
    pub dynatemp_range: f32,
    /// Power to which the model's doubt (0 to 1) is raised before it sets the temperature.
    pub dynatemp_exponent: f32,
    /// Keeps the `top_k` likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps the likeliest tokens whose probabilities reach `top_p`; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens less likely than `min_p` times the likeliest; 0 drops none.
    pub min_p: f32,
    /// Keeps the tokens nearest to the expected surprise whose probabilities reach it; 1 keeps all.
    pub typical_p: f32,
    /// Drops logits more than this many standard deviations below the largest; 0 or less drops none.
    pub top_n_sigma: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 changes nothing.
    pub repeat_penalty: f32,
    /// How many tokens back count as recent: 0 none, -1 the whole context.
    pub repeat_last_n: i32,
    /// Subtracted from the logit of a recent token.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a recent token, once for each time it occurred.
    pub frequency_penalty: f32,
    /// Where the random numbers start; `None` lets the engine draw one.
    pub seed: Option<u64>,
    /// Steers towards a constant surprise instead of cutting by `top_k` and its kin.
    #[serde(flatten)]
    pub mirostat: Mirostat,
    /// Penalizes continuing a sequence that already occurred.
    #[serde(flatten)]
    pub dry: Dry,
    /// Sometimes excludes the likeliest choices.
    #[serde(flatten)]
    pub xtc: Xtc,
    /// Added to the logits of single tokens before anything else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logit_bias: Vec<LogitBias>,
}

/// Mirostat (arXiv 2007.14966): surprise held near `tau` with learning rate `eta`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mirostat {
    /// 0 (off), 1 or 2.
    #[serde(rename = "mirostat")]
    pub version: u8,
    /// Wanted surprise in bits.
    #[serde(rename = "mirostat_tau")]
    pub tau: f32,
    /// Learning rate.
    #[serde(rename = "mirostat_eta")]
    pub eta: f32,
}

/// "Don't repeat yourself": a penalty that grows with the length of the repeated sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dry {
    /// Factor of the penalty; 0 is off.
    #[serde(rename = "dry_multiplier")]
    pub multiplier: f32,
    /// Base of its growth.
    #[serde(rename = "dry_base")]
    pub base: f32,
    /// Length from which a repetition costs something.
    #[serde(rename = "dry_allowed_length")]
    pub allowed_length: u32,
    /// How many tokens back are searched: 0 none, -1 the whole context.
    #[serde(rename = "dry_penalty_last_n")]
    pub last_n: i32,
    /// Texts over which no repetition reaches.
    #[serde(rename = "dry_sequence_breakers")]
    pub breakers: Vec<String>,
}

/// "Exclude top choices": drops all but the least likely token above `threshold`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Xtc {
    /// How often it applies, 0 (never) to 1.
    #[serde(rename = "xtc_probability")]
    pub probability: f32,
    /// Probability from which a token counts as a top choice; above 0.5 there are no two.
    #[serde(rename = "xtc_threshold")]
    pub threshold: f32,
}

/// A number added to one token's logit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogitBias {
    /// The token.
    pub token: u32,
    /// Added to its logit; minus infinity forbids it, which JSON has no number for: `"-inf"`.
    #[serde(serialize_with = "write_bias", deserialize_with = "read_bias")]
    pub bias: f32,
}

fn write_bias<S: Serializer>(bias: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    match *bias == f32::NEG_INFINITY {
        true => serializer.serialize_str("-inf"),
        false => serializer.serialize_f32(*bias),
    }
}

fn read_bias<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Bias {
        Number(f32),
        Word(String),
    }
    match Bias::deserialize(deserializer)? {
        Bias::Number(bias) => Ok(bias),
        Bias::Word(word) if word == "-inf" => Ok(f32::NEG_INFINITY),
        Bias::Word(_) => Err(serde::de::Error::custom("a bias is a number or \"-inf\"")),
    }
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 0.8,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.0,
            typical_p: 1.0,
            top_n_sigma: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: None,
            mirostat: Mirostat::default(),
            dry: Dry::default(),
            xtc: Xtc::default(),
            logit_bias: Vec::new(),
        }
    }
}

impl Default for Mirostat {
    fn default() -> Mirostat {
        Mirostat { version: 0, tau: 5.0, eta: 0.1 }
    }
}

impl Default for Dry {
    fn default() -> Dry {
        let breakers = ["\n", ":", "\"", "*"].map(str::to_string).to_vec();
        Dry { multiplier: 0.0, base: 1.75, allowed_length: 2, last_n: -1, breakers }
    }
}

impl Default for Xtc {
    fn default() -> Xtc {
        Xtc { probability: 0.0, threshold: 0.1 }
    }
}

impl Sampling {
    /// The likeliest token at every step, without penalties: needs no seed.
    pub fn greedy() -> Sampling {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, ..Sampling::default() }
    }

    /// Whether the choice is without chance.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Whether recent tokens change the logits.
    pub fn penalizes(&self) -> bool {
        self.repeat_last_n != 0
            && (self.repeat_penalty != 1.0
                || self.presence_penalty != 0.0
                || self.frequency_penalty != 0.0)
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] or [`Error::TooMany`] with the name of the first field that is wrong.
    pub fn validate(&self) -> Result<()> {
        at_least("temperature", self.temperature, 0.0, "a number of 0 or more")?;
        at_least("dynatemp_range", self.dynatemp_range, 0.0, "a number of 0 or more")?;
        at_least("dynatemp_exponent", self.dynatemp_exponent, 0.0, "a number of 0 or more")?;
        fraction("top_p", self.top_p)?;
        fraction("min_p", self.min_p)?;
        fraction("typical_p", self.typical_p)?;
        finite("top_n_sigma", self.top_n_sigma)?;
        above_zero("repeat_penalty", self.repeat_penalty)?;
        if self.repeat_last_n < -1 {
            return Err(out_of_range(
                "repeat_last_n",
                "-1 (the whole context), 0 (off) or a count of tokens",
                self.repeat_last_n,
            ));
        }
        finite("presence_penalty", self.presence_penalty)?;
        finite("frequency_penalty", self.frequency_penalty)?;
        self.mirostat.validate()?;
        self.dry.validate()?;
        self.xtc.validate()?;
        self.validate_bias()
    }

    fn validate_bias(&self) -> Result<()> {
        let given = self.logit_bias.len();
        if given > MOST_BIASES {
            return Err(Error::TooMany { field: "logit_bias", given, most: MOST_BIASES });
        }
        match self.logit_bias.iter().find(|b| b.bias.is_nan() || b.bias == f32::INFINITY) {
            Some(bad) => Err(out_of_range("logit_bias", "a number or minus infinity", bad.bias)),
            None => Ok(()),
        }
    }
}

impl Mirostat {
    /// Whether it steers at all.
    pub fn is_on(&self) -> bool {
        self.version != 0
    }

    fn validate(&self) -> Result<()> {
        if self.version > 2 {
            return Err(out_of_range("mirostat", "0 (off), 1 or 2", self.version));
        }
        above_zero("mirostat_tau", self.tau)?;
        above_zero("mirostat_eta", self.eta)
    }
}

impl Dry {
    /// Whether it penalizes anything.
    pub fn is_on(&self) -> bool {
        self.multiplier != 0.0 && self.last_n != 0
    }

    fn validate(&self) -> Result<()> {
        at_least("dry_multiplier", self.multiplier, 0.0, "a number of 0 or more")?;
        at_least("dry_base", self.base, 1.0, "a number of 1 or more")?;
        if self.last_n < -1 {
            return Err(out_of_range("dry_penalty_last_n", "-1, 0 or a count", self.last_n));
        }
        let (field, given) = ("dry_sequence_breakers", self.breakers.len());
        if given > MOST_BREAKERS {
            return Err(Error::TooMany { field, given, most: MOST_BREAKERS });
        }
        let sane = |text: &String| (1..=LONGEST_BREAKER).contains(&text.len());
        match self.breakers.iter().find(|text| !sane(text)) {
            Some(bad) => Err(out_of_range(field, "texts of 1 to 40 bytes", format!("{bad:?}"))),
            None => Ok(()),
        }
    }
}

impl Xtc {
    /// Whether it can ever exclude anything: two tokens cannot both have more than half.
    pub fn is_on(&self) -> bool {
        self.probability > 0.0 && self.threshold <= 0.5
    }

    fn validate(&self) -> Result<()> {
        fraction("xtc_probability", self.probability)?;
        fraction("xtc_threshold", self.threshold)
    }
}

fn out_of_range(
    field: &'static str,
    expected: &'static str,
    value: impl std::fmt::Display,
) -> Error {
    Error::OutOfRange { field, expected, value: value.to_string() }
}

fn finite(field: &'static str, value: f32) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(out_of_range(field, "a finite number", value)) }
}

fn at_least(field: &'static str, value: f32, least: f32, expected: &'static str) -> Result<()> {
    if value.is_finite() && value >= least {
        Ok(())
    } else {
        Err(out_of_range(field, expected, value))
    }
}

fn above_zero(field: &'static str, value: f32) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(out_of_range(field, "a number above 0", value))
    }
}

fn fraction(field: &'static str, value: f32) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(out_of_range(field, "between 0 and 1", value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of(sampling: Sampling) -> &'static str {
        sampling.validate().expect_err("accepted").field()
    }

    #[test]
    fn the_default_and_greedy_are_valid() {
        assert_eq!(Sampling::default().validate(), Ok(()));
        assert_eq!(Sampling::greedy().validate(), Ok(()));
        assert!(Sampling::greedy().is_greedy() && !Sampling::default().is_greedy());
    }

    #[test]
    fn a_number_out_of_range_is_refused_by_its_name() {
        let d = Sampling::default;
        assert_eq!(field_of(Sampling { temperature: -0.1, ..d() }), "temperature");
        assert_eq!(field_of(Sampling { top_p: 1.01, ..d() }), "top_p");
        assert_eq!(field_of(Sampling { min_p: -0.01, ..d() }), "min_p");
        assert_eq!(field_of(Sampling { typical_p: 2.0, ..d() }), "typical_p");
        assert_eq!(field_of(Sampling { repeat_penalty: 0.0, ..d() }), "repeat_penalty");
        assert_eq!(field_of(Sampling { repeat_last_n: -2, ..d() }), "repeat_last_n");
    }

    #[test]
    fn nan_and_infinity_are_refused_in_every_float() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let d = Sampling::default;
            assert_eq!(field_of(Sampling { temperature: bad, ..d() }), "temperature");
            assert_eq!(field_of(Sampling { top_p: bad, ..d() }), "top_p");
            assert_eq!(field_of(Sampling { presence_penalty: bad, ..d() }), "presence_penalty");
            assert_eq!(field_of(Sampling { frequency_penalty: bad, ..d() }), "frequency_penalty");
            assert_eq!(field_of(Sampling { dynatemp_range: bad, ..d() }), "dynatemp_range");
            assert_eq!(field_of(Sampling { dynatemp_exponent: bad, ..d() }), "dynatemp_exponent");
            assert_eq!(field_of(Sampling { top_n_sigma: bad, ..d() }), "top_n_sigma");
            let mirostat = Mirostat { tau: bad, ..Mirostat::default() };
            assert_eq!(field_of(Sampling { mirostat, ..d() }), "mirostat_tau");
            let mirostat = Mirostat { eta: bad, ..Mirostat::default() };
            assert_eq!(field_of(Sampling { mirostat, ..d() }), "mirostat_eta");
            let dry = Dry { multiplier: bad, ..Dry::default() };
            assert_eq!(field_of(Sampling { dry, ..d() }), "dry_multiplier");
            let dry = Dry { base: bad, ..Dry::default() };
            assert_eq!(field_of(Sampling { dry, ..d() }), "dry_base");
            let xtc = Xtc { probability: bad, ..Xtc::default() };
            assert_eq!(field_of(Sampling { xtc, ..d() }), "xtc_probability");
            let xtc = Xtc { threshold: bad, ..Xtc::default() };
            assert_eq!(field_of(Sampling { xtc, ..d() }), "xtc_threshold");
        }
    }

    #[test]
    fn methods_are_off_by_default_and_breakers_are_short_texts() {
        let usual = Sampling::default();
        assert!(!usual.mirostat.is_on() && !usual.dry.is_on() && !usual.xtc.is_on());
        let with = |breakers: Vec<String>| Sampling {
            dry: Dry { breakers, ..Dry::default() },
            ..Sampling::default()
        };
        assert_eq!(with(vec!["x".repeat(40); 64]).validate(), Ok(()));
        for bad in [vec!["x".repeat(41)], vec![String::new()], vec!["x".to_string(); 65]] {
            assert_eq!(field_of(with(bad)), "dry_sequence_breakers");
        }
        let mirostat = Mirostat { version: 3, ..Mirostat::default() };
        assert_eq!(field_of(Sampling { mirostat, ..usual }), "mirostat");
    }

    #[test]
    fn json_is_flat_and_has_the_names_of_the_field() {
        let json = r#"{"mirostat": 2, "mirostat_tau": 4, "dry_multiplier": 0.8, "xtc_threshold": 0.2,
            "dry_sequence_breakers": ["\n"], "top_n_sigma": 1.5, "dynatemp_range": 0.5, "seed": 9}"#;
        let sampling: Sampling = serde_json::from_str(json).unwrap();
        assert_eq!(sampling.mirostat, Mirostat { version: 2, tau: 4.0, eta: 0.1 });
        assert_eq!(sampling.xtc, Xtc { probability: 0.0, threshold: 0.2 });
        assert_eq!((sampling.dry.multiplier, sampling.dry.base), (0.8, 1.75));
        assert_eq!(sampling.dry.breakers, ["\n"]);
        assert_eq!((sampling.top_n_sigma, sampling.dynatemp_range), (1.5, 0.5));
        let written = serde_json::to_string(&sampling).unwrap();
        assert_eq!(serde_json::from_str::<Sampling>(&written).unwrap(), sampling);
        let wrong = serde_json::from_str::<Sampling>(r#"{"dry_multiplier": "much"}"#);
        assert!(wrong.is_err());
    }

    #[test]
    fn a_bias_may_forbid_a_token_but_not_be_nan() {
        let with = |bias| Sampling {
            logit_bias: vec![LogitBias { token: 1, bias }],
            ..Sampling::default()
        };
        assert_eq!(with(f32::NEG_INFINITY).validate(), Ok(()));
        assert_eq!(field_of(with(f32::NAN)), "logit_bias");
        assert_eq!(field_of(with(f32::INFINITY)), "logit_bias");
    }

    #[test]
    fn a_token_stays_forbidden_in_json() {
        for bias in [f32::NEG_INFINITY, -1.5, 0.0] {
            let bias = LogitBias { token: 7, bias };
            let json = serde_json::to_string(&bias).unwrap();
            assert_eq!(serde_json::from_str::<LogitBias>(&json).unwrap(), bias, "{json}");
        }
        assert!(serde_json::from_str::<LogitBias>(r#"{"token":1,"bias":"inf"}"#).is_err());
    }

    #[test]
    fn missing_fields_of_json_take_the_default() {
        let sampling: Sampling = serde_json::from_str(r#"{"temperature": 0, "seed": 7}"#).unwrap();
        assert_eq!(sampling.seed, Some(7));
        assert_eq!(sampling.top_k, 40);
        assert!(sampling.is_greedy());
    }
}
