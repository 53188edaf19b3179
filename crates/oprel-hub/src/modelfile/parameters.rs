//! `PARAMETER` values as the JSON that options are.

use serde_json::{Map, Number, Value};

use super::Problem;

/// Options that once were; they are read and change nothing.
const DEPRECATED: [&str; 6] =
    ["penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock"];

/// What kind of value an option has.
#[derive(Clone, Copy)]
enum Kind {
    Int,
    Float,
    Bool,
    Texts,
}

/// Options with their kinds: Ollama's (with Mirostat, which it no longer has), then those that only oprel has.
const KINDS: &[(Kind, &[&str])] = &[
    (
        Kind::Int,
        &[
            "num_ctx",
            "num_batch",
            "num_gpu",
            "main_gpu",
            "num_thread",
            "draft_num_predict",
            "num_keep",
            "seed",
            "num_predict",
            "top_k",
            "repeat_last_n",
            "mirostat",
            "dry_allowed_length",
            "dry_penalty_last_n",
        ],
    ),
    (
        Kind::Float,
        &[
            "top_p",
            "min_p",
            "typical_p",
            "temperature",
            "repeat_penalty",
            "presence_penalty",
            "frequency_penalty",
            "mirostat_tau",
            "mirostat_eta",
            "dynatemp_range",
            "dynatemp_exponent",
            "top_n_sigma",
            "dry_multiplier",
            "dry_base",
            "xtc_probability",
            "xtc_threshold",
        ],
    ),
    (Kind::Bool, &["use_mmap", "numa"]),
    (Kind::Texts, &["stop", "dry_sequence_breakers"]),
];

/// Whether an option of former times is meant, for a warning.
pub fn deprecated(name: &str) -> bool {
    DEPRECATED.contains(&name)
}

/// Adds `name value` to options, typed. Texts that are given again add up; any other value is replaced. What is
/// deprecated is left out.
///
/// # Errors
/// [`Problem::Unknown`], [`Problem::Value`].
pub fn typed(options: &mut Map<String, Value>, name: &str, value: &str) -> Result<(), Problem> {
    if deprecated(name) {
        return Ok(());
    }
    let kind = KINDS.iter().find(|(_, names)| names.contains(&name));
    let (kind, _) = kind.ok_or_else(|| Problem::Unknown(name.to_owned()))?;
    let wrong = |kind| Problem::Value { kind, value: value.to_owned() };
    let value = match kind {
        Kind::Int => Value::from(value.parse::<i64>().map_err(|_| wrong("int"))?),
        Kind::Float => Value::Number(float(value).ok_or_else(|| wrong("float"))?),
        Kind::Bool => Value::Bool(truth(value).ok_or_else(|| wrong("bool"))?),
        Kind::Texts => {
            let texts = options.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(texts) = texts {
                texts.push(value.into());
            }
            return Ok(());
        }
    };
    options.insert(name.to_owned(), value);
    Ok(())
}

/// A number of 32 bits, with as few digits as tell it from its neighbours.
fn float(text: &str) -> Option<Number> {
    let number: f32 = text.parse().ok()?;
    Number::from_f64(number.to_string().parse().ok()?)
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}
