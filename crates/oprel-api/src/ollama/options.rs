//! The object `options`: how to choose tokens, how far to go, and how the model is to be loaded.

use serde_json::Value;

use crate::dialect::Stay;
use crate::{Failure, LogitBias, SamplingPatch};

use super::fields::{Fields, kind, whole, wrong};

/// Tokens at the start that outlive a full context, if nobody says how many.
const KEEP: u32 = 4;
/// The shortest context that a model is given.
const SHORTEST_CONTEXT: u32 = 4;

/// What the options say. Keys are told apart by case, unlike all others.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Options {
    /// How to choose.
    pub(super) wish: SamplingPatch,
    /// Texts that end the answer.
    pub(super) stop: Vec<String>,
    /// Context length, as it was said; 0 is nothing said.
    pub(super) context: Option<u32>,
    /// Threads.
    pub(super) threads: Option<usize>,
    /// Most tokens to make; `None` is no limit.
    pub(super) max_tokens: Option<u32>,
    /// End when the context is full, whatever else was said.
    pub(super) fill: bool,
    /// Tokens at the start that outlive a full context.
    pub(super) keep: Option<u32>,
    /// Whether tokens may be proposed.
    pub(super) speculate: Option<bool>,
    /// Keys that say how to generate, as opposed to how to load.
    pub(super) of_generation: Vec<String>,
    /// Keys that change nothing here.
    pub(super) ignored: Vec<String>,
}

impl Options {
    /// Takes `options` from a request.
    pub(super) fn take(fields: &mut Fields) -> Result<Options, Failure> {
        match fields.take("options") {
            Some(value) => Options::of(Fields::at("options", value)?.rest()),
            None => Ok(Options::default()),
        }
    }

    /// Reads the object itself.
    pub(super) fn of(
        entries: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<Options, Failure> {
        let mut options = Options::default();
        for (key, value) in entries {
            if !value.is_null() {
                options.set(&key, &value)?;
            }
        }
        Ok(options)
    }

    /// How the model is to be loaded. To generate takes room for a few tokens at least.
    pub(super) fn stay(&self, generates: bool) -> Stay {
        let least = if generates { SHORTEST_CONTEXT } else { 1 };
        Stay {
            keep_alive: None,
            context: self.context.map(|n| n.max(least)),
            threads: self.threads,
        }
    }

    /// Tokens at the start that outlive a full context.
    pub(super) fn keep(&self) -> u32 {
        self.keep.unwrap_or(KEEP)
    }

    /// Names of all keys that change nothing where nothing is generated.
    pub(super) fn ignored_without_generation(mut self) -> Vec<String> {
        self.ignored.append(&mut self.of_generation);
        self.ignored
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), Failure> {
        let name = format!("options.{key}");
        match key {
            "num_ctx" => self.context = Some(count(key, value)?).filter(|&n| n > 0),
            "num_thread" => {
                self.threads = Some(count(key, value)? as usize).filter(|&n| n > 0);
            }
            // They place and batch the work; its results are the same.
            "num_batch" | "num_gpu" | "main_gpu" => {
                integer(key, value)?;
                self.ignored.push(name);
            }
            "use_mmap" => {
                boolean(key, value)?;
                self.ignored.push(name);
            }
            _ if self.set_generation(key, value)? => self.of_generation.push(name),
            // Unknown, or of former times: `penalize_newline`, `low_vram`, `numa`, `tfs_z`, ...
            _ => self.ignored.push(name),
        }
        Ok(())
    }

    /// Whether the key says how to generate.
    fn set_generation(&mut self, key: &str, value: &Value) -> Result<bool, Failure> {
        if let Some(slot) = float_slot(&mut self.wish, key) {
            *slot = Some(float(key, value)?);
            return Ok(true);
        }
        let wish = &mut self.wish;
        match key {
            "num_predict" => {
                let n = integer(key, value)?;
                self.max_tokens = u32::try_from(n.min(i64::from(u32::MAX))).ok();
                self.fill = n == -2;
            }
            // Below zero the whole prompt is kept.
            "num_keep" => self.keep = Some(u32::try_from(integer(key, value)?).unwrap_or(u32::MAX)),
            // How many are proposed follows from how often they prove right.
            "draft_num_predict" => {
                let n = integer(key, value)?;
                self.speculate = Some(n > 0);
                if n > 0 {
                    self.ignored.push(format!("options.{key}"));
                }
            }
            "stop" => {
                self.stop = texts(key, value)?;
                self.stop.retain(|text| !text.is_empty());
            }
            "seed" => wish.seed = Some(integer(key, value)?).filter(|&n| n != -1).map(|n| n as u64),
            // Below zero all are kept, as with 0.
            "top_k" => {
                wish.top_k = Some(integer(key, value)?.clamp(0, i64::from(u32::MAX)) as u32);
            }
            "repeat_last_n" => wish.repeat_last_n = Some(fit(key, value)?),
            "mirostat" => wish.mirostat = Some(fit(key, value)?),
            "dry_allowed_length" => wish.dry_allowed_length = Some(fit(key, value)?),
            "dry_penalty_last_n" => wish.dry_penalty_last_n = Some(fit(key, value)?),
            "dry_sequence_breakers" => wish.dry_sequence_breakers = Some(texts(key, value)?),
            "logit_bias" => wish.logit_bias = biases(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn float_slot<'a>(wish: &'a mut SamplingPatch, key: &str) -> Option<&'a mut Option<f32>> {
    Some(match key {
        "temperature" => &mut wish.temperature,
        "dynatemp_range" => &mut wish.dynatemp_range,
        "dynatemp_exponent" => &mut wish.dynatemp_exponent,
        "top_p" => &mut wish.top_p,
        "min_p" => &mut wish.min_p,
        "typical_p" => &mut wish.typical_p,
        "top_n_sigma" => &mut wish.top_n_sigma,
        "repeat_penalty" => &mut wish.repeat_penalty,
        "presence_penalty" => &mut wish.presence_penalty,
        "frequency_penalty" => &mut wish.frequency_penalty,
        "mirostat_tau" => &mut wish.mirostat_tau,
        "mirostat_eta" => &mut wish.mirostat_eta,
        "dry_multiplier" => &mut wish.dry_multiplier,
        "dry_base" => &mut wish.dry_base,
        "xtc_probability" => &mut wish.xtc_probability,
        "xtc_threshold" => &mut wish.xtc_threshold,
        _ => return None,
    })
}

fn not(key: &str, expected: &str) -> Failure {
    wrong(format!("option {key:?} must be of type {expected}"))
}

/// A number, cut to a whole one. Casts saturate.
fn integer(key: &str, value: &Value) -> Result<i64, Failure> {
    let cut = || value.as_f64().map(|x| x as i64);
    value.as_i64().or_else(cut).ok_or_else(|| not(key, "integer"))
}

fn fit<T: TryFrom<i64>>(key: &str, value: &Value) -> Result<T, Failure> {
    let n = integer(key, value)?;
    T::try_from(n).map_err(|_| wrong(format!("option {key:?} is out of range: {n}")))
}

/// A number of something, of which there may be 0.
fn count(key: &str, value: &Value) -> Result<u32, Failure> {
    let n = integer(key, value)?;
    if n < 0 {
        return Err(wrong(format!("option {key:?} must be 0 or more, not {n}")));
    }
    Ok(u32::try_from(n).unwrap_or(u32::MAX))
}

fn float(key: &str, value: &Value) -> Result<f32, Failure> {
    value.as_f64().map(|x| x as f32).ok_or_else(|| not(key, "float32"))
}

fn boolean(key: &str, value: &Value) -> Result<bool, Failure> {
    value.as_bool().ok_or_else(|| not(key, "boolean"))
}

fn texts(key: &str, value: &Value) -> Result<Vec<String>, Failure> {
    let list = value.as_array().ok_or_else(|| not(key, "array"))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list.iter().map(text).collect::<Option<_>>().ok_or_else(|| not(key, "an array of strings"))
}

/// `[{"token": 1, "bias": 2}]`, `[[1, 2]]` or `{"1": 2}`; `false` for a bias forbids the token.
fn biases(value: &Value) -> Result<Vec<LogitBias>, Failure> {
    let bias = |value: &Value| match value {
        Value::Bool(false) => Some(f32::NEG_INFINITY),
        other => other.as_f64().map(|x| x as f32),
    };
    let token = |value: &Value| whole(value).and_then(|n| u32::try_from(n).ok());
    let one = |entry: &Value| match entry {
        Value::Array(pair) if pair.len() == 2 => {
            Some(LogitBias { token: token(&pair[0])?, bias: bias(&pair[1])? })
        }
        Value::Object(o) if o.len() == 2 => {
            Some(LogitBias { token: token(o.get("token")?)?, bias: bias(o.get("bias")?)? })
        }
        _ => None,
    };
    let all: Option<Vec<LogitBias>> = match value {
        Value::Array(list) => list.iter().map(one).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(token, value)| {
                Some(LogitBias { token: token.parse().ok()?, bias: bias(value)? })
            })
            .collect(),
        other => return Err(wrong(format!("option \"logit_bias\" is {}", kind(other)))),
    };
    all.ok_or_else(|| not("logit_bias", "array of pairs of a token and a number"))
}

#[cfg(test)]
mod tests;
