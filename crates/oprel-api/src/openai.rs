//! OpenAI's dialect: chat completions, completions, responses, embeddings, models.
//!
//! A field that OpenAI knows and that would change the answer is honoured or refused by its name;
//! one that changes nothing here is named in [`Call::ignored`]. Beyond OpenAI's fields, those of
//! `extension` are read.
//!
//! [`Call::ignored`]: crate::dialect::Call::ignored

mod chat;
mod completions;
mod embeddings;
mod logprobs;
mod messages;
mod models;
mod responses;
mod tools;

pub use chat::chat;
pub use completions::completions;
pub use embeddings::embeddings;
pub use models::{Listed, model, models};
pub use responses::responses;

pub(crate) use messages::{decode, tool_of};
pub(crate) use tools::known_choice;

use serde_json::{Map, Value, json};

use messages::message_in;
use tools::choice_of;

use crate::body::{Fields, wrong};
use crate::dialect::{Moment, Problem, Stay};
use crate::{
    Cause, EndReason, ErrorKind, Failure, Request, Sampling, SamplingPatch, Think, Truncation,
    Usage, extension,
};

/// Most answers to one request.
const MOST_ANSWERS: u32 = 128;

/// How a request that failed before it had an answer is told.
pub fn complaint(problem: &Problem) -> Value {
    let kind = match problem.status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        503 => "server_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    error_body(kind, &problem.failure)
}

/// A failure after the stream began: there is no status any more.
fn late_error(failure: &Failure) -> Value {
    let kind = match failure.kind {
        ErrorKind::Validation => "invalid_request_error",
        ErrorKind::ModelNotFound => "not_found_error",
        ErrorKind::Memory => "server_error",
        ErrorKind::Download | ErrorKind::Backend => "api_error",
    };
    error_body(kind, failure)
}

fn error_body(kind: &str, failure: &Failure) -> Value {
    let (param, code) = match (&failure.cause, failure.kind) {
        (Some(Cause::ContextLength { .. }), _) => (None, Some("context_length_exceeded")),
        (Some(Cause::Incapable(field) | Cause::Unsupported(field)), _) => {
            (Some(field.as_str()), Some("unsupported_parameter"))
        }
        (_, ErrorKind::ModelNotFound) => (None, Some("model_not_found")),
        _ => (None, None),
    };
    let mut error = json!({"message": failure.message, "type": kind, "param": param, "code": code});
    if let Some(hint) = &failure.hint {
        error["hint"] = json!(hint);
    }
    json!({"error": error})
}

/// The dialect's defaults; what a model's maker suggests counts before them.
pub(crate) fn base() -> Sampling {
    Sampling { temperature: 1.0, top_p: 1.0, top_k: 0, ..Sampling::default() }
}

/// What requests for text have in common.
struct Said {
    model: String,
    stream: bool,
    include_usage: bool,
    wish: SamplingPatch,
    stay: Stay,
    ignored: Vec<String>,
}

/// Reads it; limits, stop texts, constraint, count and client go to the request.
fn said(fields: &mut Fields, request: &mut Request) -> Result<Said, Failure> {
    let model = model_of(fields)?;
    let mut ignored = Vec::new();
    let (wish, stay) = extension::read(fields, request, &mut ignored)?;
    let mut include_usage = false;
    if let Some(mut options) = fields.object("stream_options")? {
        include_usage = options.take("include_usage")?.unwrap_or(false);
        ignored.extend(options.left());
    }
    let names = ["max_completion_tokens", "max_tokens"];
    for most in names.map(|name| extension::most(fields, name)) {
        let limit = &mut request.limits.max_tokens;
        *limit = [most?, *limit].into_iter().flatten().min();
    }
    request.stop = extension::stop(fields, "stop")?;
    request.constraint = extension::constraint(fields)?;
    request.n = fields.take("n")?.unwrap_or(1);
    if !(1..=MOST_ANSWERS).contains(&request.n) {
        return Err(wrong(format!("n must be between 1 and {MOST_ANSWERS}")));
    }
    request.client = client(fields)?;
    let stream = fields.take("stream")?.unwrap_or(false);
    Ok(Said { model, stream, include_usage, wish, stay, ignored })
}

/// The model, as the client names it.
fn model_of(fields: &mut Fields) -> Result<String, Failure> {
    let model: Option<String> = fields.take("model")?;
    model.filter(|name| !name.trim().is_empty()).ok_or_else(|| wrong("model is required"))
}

/// For whom: the name of a user, by its old or its new field.
fn client(fields: &mut Fields) -> Result<String, Failure> {
    let safety = fields.take("safety_identifier")?;
    let user: Option<String> = fields.take("user")?;
    Ok(user.or(safety).unwrap_or_default())
}

/// Checks what can be checked before a model is there.
fn check(request: &Request, wish: &SamplingPatch) -> Result<(), Failure> {
    request.validate()?;
    wish.over(base()).validate()?;
    Ok(())
}

/// How hard to think, by the word for it.
pub(crate) fn effort(word: &str) -> Result<Think, Failure> {
    Ok(match word {
        "none" => Think::Off,
        "minimal" | "low" => Think::Low,
        "medium" => Think::Medium,
        "high" => Think::High,
        "max" | "xhigh" | "ultra" => Think::Max,
        other => {
            let known = "none, minimal, low, medium, high, xhigh or max";
            return Err(wrong(format!("reasoning effort must be {known}, not {other:?}")));
        }
    })
}

/// The word for it.
fn effort_word(think: Think) -> &'static str {
    match think {
        Think::Off => "none",
        Think::On => "medium",
        Think::Max => "xhigh",
        other => other.effort().unwrap_or("medium"),
    }
}

/// Seconds since 1970.
fn seconds(moment: &Moment) -> u64 {
    moment.unix_ns / 1_000_000_000
}

/// Why an answer ended, in the dialect's words.
fn finish_reason(end: Option<&EndReason>, called: bool) -> &'static str {
    match end {
        Some(end) if !end.is_natural() => "length",
        _ if called => "tool_calls",
        _ => "stop",
    }
}

/// What the dialect has no word for: what was left out, and an end that is no length. `None` where
/// there is nothing to say.
pub(crate) fn more(truncated: &[Truncation], end: Option<&EndReason>) -> Option<Value> {
    let mut more = Map::new();
    if !truncated.is_empty() {
        more.insert("truncated".into(), json!(truncated));
    }
    if let Some(end) = end.filter(|end| end.is_told_besides()) {
        more.insert("end".into(), json!(end));
    }
    (!more.is_empty()).then_some(Value::Object(more))
}

fn usage_json(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.generated_tokens,
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.thinking_tokens},
    })
}

#[cfg(test)]
mod tests;
