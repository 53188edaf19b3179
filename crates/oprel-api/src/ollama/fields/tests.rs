use super::*;
use serde_json::json;

fn fields(body: &str) -> Fields {
    Fields::of_body(body.as_bytes()).unwrap()
}

#[test]
fn keys_match_in_any_case_and_the_last_counts() {
    let mut all = fields(r#"{"MODEL":"a","model":"b","Model":null,"other":1}"#);
    assert_eq!(all.said(), ["MODEL", "model", "other"]);
    assert_eq!(all.text("model"), Ok(Some("b".into())));
    assert_eq!(all.text("model"), Ok(None));
    assert_eq!(all.ignored(), ["other"]);
}

#[test]
fn a_body_is_one_object() {
    let bad = [
        ("", "missing request body"),
        (" \r\n", "missing request body"),
        ("[]", "the body must be an object, not a list"),
        ("{\"a\":}", "the body is not JSON: expected value at line 1 column 6"),
        ("{} {}", "the body is not JSON: trailing characters at line 1 column 4"),
    ];
    for (body, why) in bad {
        assert_eq!(Fields::of_body(body.as_bytes()).err().unwrap().message, why, "{body}");
    }
    assert!(fields("null").said().is_empty());
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let why = Fields::of_body(deep.as_bytes()).err().unwrap().message;
    assert!(why.contains("recursion limit"), "{why}");
    assert!(Fields::of_body(b"{\"a\":\"\xff\"}").is_err());
}

#[test]
fn a_value_of_another_kind_is_refused_by_its_name() {
    let all = || Fields::at("messages[1]", json!({"a": {"b": 1}})).unwrap();
    let message = |failure: Failure| failure.message;
    let not = |expected| format!("messages[1].A must be {expected}, not an object");
    assert_eq!(message(all().text("A").unwrap_err()), not("a string"));
    assert_eq!(message(all().flag("A").unwrap_err()), not("a boolean"));
    assert_eq!(message(all().whole("A").unwrap_err()), not("a whole number"));
    assert_eq!(message(all().list("A").unwrap_err()), not("a list"));
    let mut texts = Fields::at("x", json!({"a": ["b", 2]})).unwrap();
    assert_eq!(message(texts.texts("a").unwrap_err()), "x.a[1] must be a string, not 2");
    let why = Fields::at("options", json!([])).err().unwrap().message;
    assert_eq!(why, "options must be an object, not a list");
}

#[test]
fn whole_numbers_may_be_written_with_a_point() {
    let numbers = [
        (json!(5), Some(5)),
        (json!(5.0), Some(5)),
        (json!(-2e3), Some(-2000)),
        (json!(5.5), None),
        (json!(1e19), None),
        (json!("5"), None),
    ];
    for (value, n) in numbers {
        assert_eq!(whole(&value), n, "{value}");
    }
}
