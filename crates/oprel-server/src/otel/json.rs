//! What is sent: OTLP's `ExportTraceServiceRequest` as JSON, with the names of the conventions for generative AI. Numbers
//! of 64 bits are texts there, ids hexadecimal.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::Span;
use crate::span::hex;

/// OTLP's numbers for a step that serves a request, and for one that failed.
const SERVER: u32 = 2;
const FAILED: u32 = 2;
/// Flags of a step: its trace is kept; whether its parent is elsewhere is known, and it is.
const KEPT: u32 = 1;
const PARENT_ELSEWHERE: u32 = 0x300;

/// What is sent of these requests.
pub(super) fn body(resource: &[(String, String)], spans: &[Span]) -> Value {
    let resource: Vec<Value> = resource.iter().map(|(key, value)| text(key, value)).collect();
    let spans: Vec<Value> = spans.iter().map(span).collect();
    let scope = json!({"name": "oprel", "version": env!("CARGO_PKG_VERSION")});
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }]})
}

/// One request.
fn span(span: &Span) -> Value {
    let begun = span.begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let name = format!("{} {}", span.operation, span.model);
    let mut said = json!({
        "traceId": hex(&span.trace),
        "spanId": hex(&span.id),
        "flags": if span.parent.is_some() { KEPT | PARENT_ELSEWHERE } else { KEPT },
        "name": name.trim(),
        "kind": SERVER,
        "startTimeUnixNano": begun.as_nanos().to_string(),
        "endTimeUnixNano": (begun + span.took).as_nanos().to_string(),
        "attributes": attributes(span),
    });
    if let Some(parent) = span.parent {
        said["parentSpanId"] = json!(hex(&parent.span));
    }
    if let Some((_, message)) = &span.error {
        said["status"] = json!({"code": FAILED, "message": message});
    }
    said
}

fn attributes(span: &Span) -> Vec<Value> {
    let mut all = vec![
        text("gen_ai.operation.name", span.operation),
        text("gen_ai.provider.name", "oprel"),
        text("gen_ai.request.model", &span.model),
    ];
    if let Some(backend) = span.backend {
        all.push(text("gen_ai.response.model", &span.model));
        all.push(text("oprel.backend", backend));
    }
    all.extend(span.max_tokens.map(|n| number("gen_ai.request.max_tokens", n)));
    if let Some((temperature, top_p)) = span.sampling {
        all.push(real("gen_ai.request.temperature", shown(temperature)));
        all.push(real("gen_ai.request.top_p", shown(top_p)));
    }
    if span.answers != 1 {
        all.push(number("gen_ai.request.choice.count", span.answers));
    }
    if let Some(usage) = &span.usage {
        all.push(number("gen_ai.usage.input_tokens", usage.prompt_tokens));
        all.push(number("gen_ai.usage.output_tokens", usage.generated_tokens));
        all.push(number("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens));
    }
    let first = span.first_token.map(|time| time.as_secs_f64());
    all.extend(first.map(|seconds| real("gen_ai.server.time_to_first_token", seconds)));
    if !span.ends.is_empty() {
        let ends: Vec<Value> = span.ends.iter().map(|end| json!({"stringValue": end})).collect();
        let ends = json!({"arrayValue": {"values": ends}});
        all.push(json!({"key": "gen_ai.response.finish_reasons", "value": ends}));
    }
    all.extend(span.error.as_ref().map(|(word, _)| text("error.type", word)));
    all
}

/// A number as its user wrote it: 0.1 and not what is nearest to it in more digits.
fn shown(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn number(key: &str, value: u32) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

fn real(key: &str, value: f64) -> Value {
    json!({"key": key, "value": {"doubleValue": value}})
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use oprel_api::Usage;

    use super::*;
    use crate::Parent;

    fn chat() -> Span {
        Span {
            parent: Some(Parent { trace: [0xab; 16], span: [1; 8], is_kept: true }),
            trace: [0xab; 16],
            id: [2; 8],
            operation: "chat",
            model: "demo".into(),
            backend: Some("worker"),
            max_tokens: Some(4),
            sampling: Some((0.1, 1.0)),
            answers: 1,
            begun: SystemTime::UNIX_EPOCH + Duration::from_nanos(5_000_000_000_000_000_001),
            took: Duration::from_nanos(9),
            first_token: Some(Duration::from_millis(20)),
            usage: Some(Usage { prompt_tokens: 7, generated_tokens: 4, ..Usage::default() }),
            ends: vec!["length"],
            error: None,
        }
    }

    fn sent(span: Span) -> Value {
        let resource = [("service.name".to_string(), "oprel".to_string())];
        body(&resource, &[span])["resourceSpans"][0].take()
    }

    fn attribute(span: &Value, key: &str) -> Value {
        let all = span["attributes"].as_array().unwrap();
        all.iter().find(|one| one["key"] == key).map_or(Value::Null, |one| one["value"].clone())
    }

    #[test]
    fn a_request_is_told_by_the_names_of_the_conventions() {
        let sent = sent(chat());
        assert_eq!(
            sent["resource"]["attributes"],
            json!([{"key": "service.name", "value": {"stringValue": "oprel"}}])
        );
        let span = &sent["scopeSpans"][0]["spans"][0];
        assert_eq!((&span["name"], &span["kind"]), (&json!("chat demo"), &json!(2)));
        assert_eq!(span["traceId"], "ab".repeat(16));
        assert_eq!(
            (&span["parentSpanId"], &span["flags"]),
            (&json!("01".repeat(8)), &json!(0x301))
        );
        assert_eq!(span["spanId"], "02".repeat(8));
        assert_eq!(span["startTimeUnixNano"], "5000000000000000001");
        assert_eq!(span["endTimeUnixNano"], "5000000000000000010");
        let table = [
            ("gen_ai.operation.name", json!({"stringValue": "chat"})),
            ("gen_ai.provider.name", json!({"stringValue": "oprel"})),
            ("gen_ai.request.model", json!({"stringValue": "demo"})),
            ("gen_ai.request.max_tokens", json!({"intValue": "4"})),
            ("gen_ai.request.temperature", json!({"doubleValue": 0.1})),
            ("gen_ai.usage.input_tokens", json!({"intValue": "7"})),
            ("gen_ai.usage.output_tokens", json!({"intValue": "4"})),
            ("gen_ai.server.time_to_first_token", json!({"doubleValue": 0.02})),
            ("error.type", Value::Null),
        ];
        for (key, wanted) in table {
            assert_eq!(attribute(span, key), wanted, "{key}");
        }
        let ends = attribute(span, "gen_ai.response.finish_reasons");
        assert_eq!(ends, json!({"arrayValue": {"values": [{"stringValue": "length"}]}}));
        assert!(span.get("status").is_none());
    }

    #[test]
    fn a_failure_has_its_kind_and_a_request_without_a_parent_none() {
        let failed = Span {
            parent: None,
            error: Some(("memory", "no room".into())),
            usage: None,
            ends: Vec::new(),
            ..chat()
        };
        let sent = sent(failed);
        let span = &sent["scopeSpans"][0]["spans"][0];
        assert_eq!(span["status"], json!({"code": 2, "message": "no room"}));
        assert_eq!(attribute(span, "error.type"), json!({"stringValue": "memory"}));
        assert!(span.get("parentSpanId").is_none());
        assert_eq!(attribute(span, "gen_ai.usage.input_tokens"), Value::Null);
    }
}
