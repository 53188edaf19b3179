//! Anthropic's dialect: messages, and counting their tokens.
//!
//! A field that Anthropic knows and that would change the answer is honoured or refused by its
//! name; one that changes nothing here is named in [`Call::ignored`]. Beyond Anthropic's fields,
//! those of `extension` are read.
//!
//! [`Call::ignored`]: crate::dialect::Call::ignored

mod content;
mod messages;
mod tools;
mod voice;

pub use messages::{count_tokens, messages};

use serde_json::{Value, json};

use crate::dialect::Problem;
use crate::ollama::Timestamp;
use crate::openai::Listed;
use crate::{Cause, EndReason, ErrorKind, Failure, Usage};

/// How a request that failed before it had an answer is told.
pub fn complaint(problem: &Problem) -> Value {
    let kind = match problem.status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    error_body(kind, &problem.failure, &problem.id)
}

/// The body of a count of tokens.
pub fn counted(tokens: u32) -> Value {
    json!({"input_tokens": tokens})
}

/// The body of the list of models, whole: there are no further pages.
pub fn models(listed: &[Listed]) -> Value {
    let id = |model: Option<&Listed>| model.map(|m| m.id.clone());
    json!({
        "data": listed.iter().map(model).collect::<Vec<_>>(),
        "has_more": false,
        "first_id": id(listed.first()),
        "last_id": id(listed.last()),
    })
}

/// The body of one model.
pub fn model(listed: &Listed) -> Value {
    let created = Timestamp::utc(listed.created.saturating_mul(1_000_000_000));
    json!({
        "type": "model",
        "id": listed.id,
        "display_name": listed.id,
        "created_at": created,
    })
}

/// A failure after the stream began: there is no status any more.
fn late_error(failure: &Failure, id: &str) -> Value {
    let kind = match failure.kind {
        ErrorKind::Validation => "invalid_request_error",
        ErrorKind::ModelNotFound => "not_found_error",
        ErrorKind::Memory => "overloaded_error",
        ErrorKind::Download | ErrorKind::Backend => "api_error",
    };
    error_body(kind, failure, id)
}

fn error_body(kind: &str, failure: &Failure, id: &str) -> Value {
    let message = match failure.cause {
        // Clients know by these words that it is time to forget something.
        Some(Cause::ContextLength { prompt, context }) => {
            format!("prompt is too long: {prompt} tokens > {context} maximum")
        }
        _ => failure.message.clone(),
    };
    let mut error = json!({"type": kind, "message": message});
    if let Some(hint) = &failure.hint {
        error["hint"] = json!(hint);
    }
    json!({"type": "error", "error": error, "request_id": format!("req_{id}")})
}

/// Why an answer ended, and the client's stop text that ended it.
fn stop_reason<'a>(
    end: Option<&'a EndReason>,
    called: bool,
    stops: &[String],
) -> (&'static str, Option<&'a str>) {
    match end {
        Some(end) if !end.is_natural() => ("max_tokens", None),
        _ if called => ("tool_use", None),
        // The model's own stop texts are not the client's business.
        Some(EndReason::StopText(text)) if stops.contains(text) => ("stop_sequence", Some(text)),
        _ => ("end_turn", None),
    }
}

/// Cached tokens of the prompt count apart from the others.
fn usage_json(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens.saturating_sub(usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.generated_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_has_the_type_of_its_status_and_an_id() {
        let table = [
            (400, "invalid_request_error"),
            (422, "invalid_request_error"),
            (401, "authentication_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (413, "request_too_large"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (503, "overloaded_error"),
            (529, "overloaded_error"),
        ];
        for (status, wanted) in table {
            let failure = Failure::new(ErrorKind::Backend, "why");
            let body = complaint(&Problem { status, failure, id: "abc".into() });
            assert_eq!(
                body.to_string(),
                format!(
                    "{{\"type\":\"error\",\"error\":{{\"type\":\"{wanted}\",\"message\":\"why\"}},\
                     \"request_id\":\"req_abc\"}}"
                )
            );
        }
        let failure = Failure::new(ErrorKind::Validation, "why")
            .because(Cause::ContextLength { prompt: 9, context: 8 });
        let body = complaint(&Problem { status: 400, failure, id: "abc".into() });
        assert_eq!(body["error"]["message"], "prompt is too long: 9 tokens > 8 maximum");
        assert_eq!(counted(7).to_string(), r#"{"input_tokens":7}"#);
    }

    #[test]
    fn models_are_listed_as_this_dialect_lists_them() {
        assert_eq!(
            models(&[]).to_string(),
            r#"{"data":[],"has_more":false,"first_id":null,"last_id":null}"#
        );
        let one = Listed { id: "m:q4".into(), created: 5, owned_by: "ns".into() };
        let body = models(&[one]);
        assert_eq!((&body["first_id"], &body["last_id"]), (&json!("m:q4"), &json!("m:q4")));
        assert_eq!(
            body["data"][0].to_string(),
            r#"{"type":"model","id":"m:q4","display_name":"m:q4","created_at":"1970-01-01T00:00:05Z"}"#
        );
    }

    #[test]
    fn each_end_has_its_reason() {
        use EndReason::*;
        let stops = ["x".to_string()];
        let table = [
            (EndOfText, false, ("end_turn", None)),
            (Complete, false, ("end_turn", None)),
            (EndOfText, true, ("tool_use", None)),
            (StopText("x".into()), false, ("stop_sequence", Some("x"))),
            (StopText("of the model".into()), false, ("end_turn", None)),
            (MaxTokens, true, ("max_tokens", None)),
            (ContextFull, false, ("max_tokens", None)),
        ];
        for (end, called, wanted) in table {
            assert_eq!(stop_reason(Some(&end), called, &stops), wanted);
        }
    }
}
