use super::*;

fn problem(status: u16, kind: ErrorKind) -> Problem {
    let failure = Failure::new(kind, "why");
    Problem { status, failure, id: "id".into() }
}

#[test]
fn a_complaint_has_the_type_of_its_status() {
    let table = [
        (400, ErrorKind::Validation, "invalid_request_error"),
        (413, ErrorKind::Validation, "invalid_request_error"),
        (401, ErrorKind::Validation, "authentication_error"),
        (403, ErrorKind::Validation, "permission_error"),
        (404, ErrorKind::Validation, "not_found_error"),
        (429, ErrorKind::Backend, "rate_limit_error"),
        (500, ErrorKind::Backend, "api_error"),
        (502, ErrorKind::Download, "api_error"),
        (503, ErrorKind::Memory, "server_error"),
    ];
    for (status, kind, wanted) in table {
        assert_eq!(complaint(&problem(status, kind))["error"]["type"], wanted, "{status}");
    }
    assert_eq!(
        complaint(&problem(404, ErrorKind::ModelNotFound)).to_string(),
        r#"{"error":{"message":"why","type":"not_found_error","param":null,"code":"model_not_found"}}"#
    );
    let too_long = Cause::ContextLength { prompt: 9, context: 8 };
    for (cause, param, code) in [
        (too_long, Value::Null, "context_length_exceeded"),
        (Cause::Incapable("tools".into()), json!("tools"), "unsupported_parameter"),
        (Cause::Unsupported("audio".into()), json!("audio"), "unsupported_parameter"),
    ] {
        let mut caused = problem(400, ErrorKind::Validation);
        caused.failure.cause = Some(cause);
        let body = complaint(&caused);
        assert_eq!((&body["error"]["param"], &body["error"]["code"]), (&param, &json!(code)));
    }
    let mut hinted = problem(400, ErrorKind::Validation);
    hinted.failure.hint = Some("do this".into());
    assert_eq!(complaint(&hinted)["error"]["hint"], "do this");
}

#[test]
fn every_word_for_an_effort_is_known() {
    let table = [
        ("none", Think::Off),
        ("minimal", Think::Low),
        ("low", Think::Low),
        ("medium", Think::Medium),
        ("high", Think::High),
        ("xhigh", Think::Max),
        ("ultra", Think::Max),
        ("max", Think::Max),
    ];
    for (word, think) in table {
        assert_eq!(effort(word), Ok(think));
    }
    assert!(effort("some").unwrap_err().message.contains("not \"some\""));
}
