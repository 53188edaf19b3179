//! Fields that the dialects over `/v1` accept beyond their own: every sampler, the context, how
//! long the model stays, constraints, and an `options` object with the same names.

mod constraint;

pub(crate) use constraint::{constraint, schema_in};

use serde_json::{Map, Value};

use crate::body::{Fields, Texts, wrong};
use crate::dialect::Stay;
use crate::ollama::keep_alive;
use crate::{Failure, InputOverflow, LogitBias, OutputOverflow, Request, SamplingPatch};

/// What may stand in `options` as well as beside it.
const OPTIONS: &[&str] = &[
    "temperature",
    "dynatemp_range",
    "dynatemp_exponent",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "top_n_sigma",
    "repeat_penalty",
    "repetition_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "xtc_probability",
    "xtc_threshold",
    "logit_bias",
    "num_ctx",
    "num_predict",
    "num_thread",
    "num_keep",
    "stop",
];

/// A bias from which on a token is forbidden.
const FORBIDS: f32 = -100.0;

/// Reads them all but `stop` and constraints: limits and cache go to the request.
pub(crate) fn read(
    fields: &mut Fields,
    request: &mut Request,
    ignored: &mut Vec<String>,
) -> Result<(SamplingPatch, Stay), Failure> {
    if let Some(mut options) = fields.object("options")? {
        fields.fill(&mut options, OPTIONS);
        ignored.extend(options.left());
    }
    let wish = sampling(fields)?;
    limits(fields, request)?;
    request.ignore_end = fields.take("ignore_eos")?.unwrap_or(false);
    request.stop_tokens = fields.take("stop_token_ids")?.unwrap_or_default();
    request.priority = fields.take("priority")?.unwrap_or(0);
    request.cache.salt = fields.take("cache_salt")?;
    request.cache.read = fields.take("cache_prompt")?.unwrap_or(true);
    let stay = stay(fields)?;
    request.limits.context = stay.context;
    Ok((wish, stay))
}

/// How long the model is to stay, and how it is to be loaded.
pub(crate) fn stay(fields: &mut Fields) -> Result<Stay, Failure> {
    let keep_alive = fields.value("keep_alive");
    Ok(Stay {
        keep_alive: keep_alive.map(|value| keep_alive::read(&value)).transpose()?,
        // 0 leaves it to the server.
        context: fields.take("num_ctx")?.filter(|&n: &u32| n > 0),
        threads: fields.take("num_thread")?.filter(|&n: &usize| n > 0),
    })
}

/// Options of a request for vectors: nothing is sampled.
pub(crate) fn stay_with_options(
    fields: &mut Fields,
    ignored: &mut Vec<String>,
) -> Result<Stay, Failure> {
    if let Some(mut options) = fields.object("options")? {
        fields.fill(&mut options, &["num_ctx", "num_thread"]);
        ignored.extend(options.left());
    }
    stay(fields)
}

/// Texts that end the answer: one or a list.
pub(crate) fn stop(fields: &mut Fields, name: &str) -> Result<Vec<String>, Failure> {
    Ok(fields.take::<Texts>(name)?.map(Vec::from).unwrap_or_default())
}

/// A most number of tokens; negative is no limit.
pub(crate) fn most(fields: &mut Fields, name: &str) -> Result<Option<u32>, Failure> {
    Ok(fields.take::<i64>(name)?.and_then(|n| u32::try_from(n).ok()))
}

fn limits(fields: &mut Fields, request: &mut Request) -> Result<(), Failure> {
    let limits = &mut request.limits;
    limits.max_tokens = most(fields, "num_predict")?;
    limits.min_tokens = fields.take("min_tokens")?.unwrap_or(0);
    limits.max_thinking_tokens = fields.take("max_thinking_tokens")?;
    if fields.take("truncate")?.unwrap_or(false) {
        limits.input_overflow = InputOverflow::DropOldest;
    }
    let keep = fields.take("num_keep")?.unwrap_or(4);
    if fields.take("shift")?.unwrap_or(false) {
        limits.output_overflow = OutputOverflow::Shift { keep };
    }
    Ok(())
}

fn sampling(fields: &mut Fields) -> Result<SamplingPatch, Failure> {
    let penalty = fields.take("repetition_penalty")?;
    Ok(SamplingPatch {
        temperature: fields.take("temperature")?,
        dynatemp_range: fields.take("dynatemp_range")?,
        dynatemp_exponent: fields.take("dynatemp_exponent")?,
        // -1 keeps all, as 0 does.
        top_k: fields.take("top_k")?.map(|n: i64| u32::try_from(n).unwrap_or(0)),
        top_p: fields.take("top_p")?,
        min_p: fields.take("min_p")?,
        typical_p: fields.take("typical_p")?,
        top_n_sigma: fields.take("top_n_sigma")?,
        repeat_penalty: fields.take("repeat_penalty")?.or(penalty),
        repeat_last_n: fields.take("repeat_last_n")?,
        presence_penalty: fields.take("presence_penalty")?,
        frequency_penalty: fields.take("frequency_penalty")?,
        seed: seed(fields)?,
        mirostat: fields.take("mirostat")?,
        mirostat_tau: fields.take("mirostat_tau")?,
        mirostat_eta: fields.take("mirostat_eta")?,
        dry_multiplier: fields.take("dry_multiplier")?,
        dry_base: fields.take("dry_base")?,
        dry_allowed_length: fields.take("dry_allowed_length")?,
        dry_penalty_last_n: fields.take("dry_penalty_last_n")?,
        dry_sequence_breakers: fields.take("dry_sequence_breakers")?,
        xtc_probability: fields.take("xtc_probability")?,
        xtc_threshold: fields.take("xtc_threshold")?,
        logit_bias: logit_bias(fields)?,
    })
}

/// Any integer is a seed; -1 leaves it to the engine.
fn seed(fields: &mut Fields) -> Result<Option<u64>, Failure> {
    match fields.value("seed") {
        None => Ok(None),
        Some(value) => match (value.as_u64(), value.as_i64()) {
            (Some(seed), _) => Ok(Some(seed)),
            (_, Some(-1)) => Ok(None),
            (_, Some(negative)) => Ok(Some(negative as u64)),
            _ => Err(wrong(format!("seed must be an integer, not {value}"))),
        },
    }
}

/// `{"1234": -100}`: -100 forbids a token.
fn logit_bias(fields: &mut Fields) -> Result<Vec<LogitBias>, Failure> {
    let biases: Map<String, Value> = fields.take("logit_bias")?.unwrap_or_default();
    let read = |(token, bias): (String, Value)| {
        let wanted = || wrong("logit_bias must map ids of tokens to numbers from -100 to 100");
        let token = token.parse().map_err(|_| wanted())?;
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        let bias = bias.ok_or_else(wanted)? as f32;
        Ok(LogitBias { token, bias: if bias <= FORBIDS { f32::NEG_INFINITY } else { bias } })
    };
    biases.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::KeepAlive;

    fn read_all(json: &str) -> Result<(Request, SamplingPatch, Stay, Vec<String>), Failure> {
        let mut fields = Fields::parse(json.as_bytes())?;
        let (mut request, mut ignored) = (Request::raw("x"), Vec::new());
        let (wish, stay) = read(&mut fields, &mut request, &mut ignored)?;
        ignored.extend(fields.left());
        Ok((request, wish, stay, ignored))
    }

    #[test]
    fn every_name_of_a_sampling_is_read_flat_and_in_options() {
        let all = serde_json::to_value(crate::Sampling::default()).unwrap();
        for (name, value) in all.as_object().unwrap() {
            for json in [
                serde_json::json!({ name: value }),
                serde_json::json!({"options": { name: value }}),
            ] {
                let (_, wish, _, ignored) = read_all(&json.to_string()).unwrap();
                assert!(ignored.is_empty(), "{name}");
                let said = serde_json::to_value(&wish).unwrap();
                assert_eq!(&said[name], value, "{name}");
            }
        }
    }

    #[test]
    fn what_stands_beside_options_counts_before_them() {
        let json = r#"{"top_k": 3, "options": {"top_k": 9, "num_ctx": 512, "num_thread": 2,
            "num_gpu": 1, "num_predict": -1}, "keep_alive": 0, "num_batch": 7}"#;
        let (request, wish, stay, ignored) = read_all(json).unwrap();
        assert_eq!(wish.top_k, Some(3));
        assert_eq!((stay.context, stay.threads), (Some(512), Some(2)));
        assert_eq!(stay.keep_alive, Some(KeepAlive::For(Default::default())));
        assert_eq!((request.limits.context, request.limits.max_tokens), (Some(512), None));
        assert_eq!(ignored, ["options.num_gpu", "num_batch"]);
    }

    #[test]
    fn seeds_are_any_integer_and_minus_one_is_none() {
        for (seed, wanted) in [("7", Some(7)), ("-1", None), ("-2", Some(u64::MAX - 1))] {
            let (_, wish, ..) = read_all(&format!("{{\"seed\": {seed}}}")).unwrap();
            assert_eq!(wish.seed, wanted);
        }
        assert!(read_all(r#"{"seed": 1.5}"#).is_err());
    }

    #[test]
    fn biases_are_by_token_and_the_lowest_forbids() {
        let (_, wish, ..) = read_all(r#"{"logit_bias": {"5": -100, "6": 1.5}}"#).unwrap();
        let bias = |token, bias| LogitBias { token, bias };
        assert_eq!(wish.logit_bias, [bias(5, f32::NEG_INFINITY), bias(6, 1.5)]);
        for bad in [r#"{"x": 1}"#, r#"{"1": 101}"#, r#"{"1": "a"}"#, "[1]"] {
            let failure = read_all(&format!("{{\"logit_bias\": {bad}}}")).unwrap_err();
            assert!(failure.message.starts_with("logit_bias"), "{bad}");
        }
    }

    #[test]
    fn limits_and_what_happens_at_the_edge_of_the_context() {
        let json = r#"{"truncate": true, "shift": true, "num_keep": 9, "min_tokens": 2,
            "max_thinking_tokens": 5, "ignore_eos": true, "stop_token_ids": [3], "priority": -1,
            "cache_salt": "s", "cache_prompt": false}"#;
        let (request, _, _, ignored) = read_all(json).unwrap();
        assert!(ignored.is_empty());
        let limits = &request.limits;
        assert_eq!(limits.input_overflow, InputOverflow::DropOldest);
        assert_eq!(limits.output_overflow, OutputOverflow::Shift { keep: 9 });
        assert_eq!((limits.min_tokens, limits.max_thinking_tokens), (2, Some(5)));
        assert_eq!((request.ignore_end, request.priority), (true, -1));
        assert_eq!(request.stop_tokens, [3]);
        assert_eq!((request.cache.salt.as_deref(), request.cache.read), (Some("s"), false));
        let (request, ..) = read_all("{}").unwrap();
        assert_eq!(request, Request::raw("x"));
    }
}
