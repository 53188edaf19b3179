//! Options that say how tokens are chosen. Numbers are checked where the request is.

use clap::Args;
use oprel::{LogitBias, SamplingPatch};

/// Each option is `None` where it is not given.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct Sampling {
    /// How varied the text is: 0 always takes the likeliest token [default: 0.8, or the model's own]
    #[arg(long, visible_alias = "temp", value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Lower the temperature by up to R where the model is sure, raise it where it is not [default: 0]
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    dynatemp_range: Option<f32>,
    /// Power that shapes the dynamic temperature [default: 1]
    #[arg(long, visible_alias = "dynatemp-exp", value_name = "X", allow_negative_numbers = true)]
    dynatemp_exponent: Option<f32>,
    /// Choose among the K likeliest tokens; 0 among all [default: 40]
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    top_k: Option<u32>,
    /// Choose among the likeliest tokens whose probabilities reach P [default: 0.9]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Drop tokens less likely than P times the likeliest [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Keep the tokens nearest to the expected surprise whose probabilities reach P [default: 1]
    #[arg(long, visible_alias = "typical", value_name = "P", allow_negative_numbers = true)]
    typical_p: Option<f32>,
    /// Drop logits more than N standard deviations below the largest; 0 drops none [default: 0]
    #[arg(long, visible_alias = "top-nsigma", value_name = "N", allow_negative_numbers = true)]
    top_n_sigma: Option<f32>,
    /// How often the likeliest choices are excluded, 0 to 1 [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    xtc_probability: Option<f32>,
    /// Probability from which a token counts as such a choice [default: 0.1]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    xtc_threshold: Option<f32>,
    /// Make recent tokens less likely: 1 changes nothing [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    repeat_penalty: Option<f32>,
    /// How many tokens back count as recent: 0 none, -1 the whole context [default: 64]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    repeat_last_n: Option<i32>,
    /// Subtracted from the logit of a recent token [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Subtracted from the logit of a recent token for each time it occurred [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Penalize what continues a repetition (DRY), by this factor; 0 is off [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    dry_multiplier: Option<f32>,
    /// Base to which that penalty grows with the length of the repetition [default: 1.75]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    dry_base: Option<f32>,
    /// Length from which a repetition is penalized [default: 2]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    dry_allowed_length: Option<u32>,
    /// How many tokens back repetitions are looked for: 0 none, -1 the whole context [default: -1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    dry_penalty_last_n: Option<i32>,
    /// Text over which no repetition reaches, instead of the usual ones; may be given several times,
    /// `none` for no such text [default: newline, colon, quote, star]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    dry_sequence_breaker: Vec<String>,
    /// Hold the surprise steady instead of cutting: 0 is off, 1 and 2 are Mirostat's versions [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    mirostat: Option<u8>,
    /// Surprise that Mirostat aims at, in bits [default: 5]
    #[arg(long, visible_alias = "mirostat-ent", value_name = "X", allow_negative_numbers = true)]
    mirostat_tau: Option<f32>,
    /// How fast Mirostat learns [default: 0.1]
    #[arg(long, visible_alias = "mirostat-lr", value_name = "X", allow_negative_numbers = true)]
    mirostat_eta: Option<f32>,
    /// Make one token likelier or less likely: 15043+1, 15043-2.5, 15043-inf forbids it; may be given
    /// several times.
    #[arg(long, value_name = "ID+X", value_parser = bias)]
    logit_bias: Vec<LogitBias>,
    /// The same seed gives the same text [default: drawn]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<u64>,
}

impl Sampling {
    /// What was asked for.
    pub(crate) fn patch(&self) -> SamplingPatch {
        let breakers = match &self.dry_sequence_breaker[..] {
            [] => None,
            [none] if none == "none" => Some(Vec::new()),
            texts => Some(texts.to_vec()),
        };
        SamplingPatch {
            temperature: self.temperature,
            dynatemp_range: self.dynatemp_range,
            dynatemp_exponent: self.dynatemp_exponent,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            top_n_sigma: self.top_n_sigma,
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: self.repeat_last_n,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed,
            mirostat: self.mirostat,
            mirostat_tau: self.mirostat_tau,
            mirostat_eta: self.mirostat_eta,
            dry_multiplier: self.dry_multiplier,
            dry_base: self.dry_base,
            dry_allowed_length: self.dry_allowed_length,
            dry_penalty_last_n: self.dry_penalty_last_n,
            dry_sequence_breakers: breakers,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            logit_bias: self.logit_bias.clone(),
        }
    }
}

/// Reads a token id with a bias that has its sign.
fn bias(text: &str) -> Result<LogitBias, String> {
    let why = || format!("'{text}' is no token id with a signed number: 15043+1, 15043-inf");
    let at = text.find(['+', '-', '=']).ok_or_else(why)?;
    let token = text[..at].parse().map_err(|_| why())?;
    let bias = text[at..].strip_prefix('=').unwrap_or(&text[at..]).parse().map_err(|_| why())?;
    Ok(LogitBias { token, bias })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_is_an_id_with_a_signed_number() {
        assert_eq!(bias("15043+1"), Ok(LogitBias { token: 15043, bias: 1.0 }));
        assert_eq!(bias("7-2.5"), Ok(LogitBias { token: 7, bias: -2.5 }));
        assert_eq!(bias("7=-1e2"), Ok(LogitBias { token: 7, bias: -100.0 }));
        assert_eq!(bias("0-inf"), Ok(LogitBias { token: 0, bias: f32::NEG_INFINITY }));
        for bad in ["", "7", "+1", "x+1", "7+", "7+x", "-1+1", "7==1"] {
            assert!(bias(bad).is_err(), "{bad}");
        }
    }
}
