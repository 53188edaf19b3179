use super::*;

const S: u64 = 1_000_000_000;

fn details() -> Details {
    Details {
        format: "gguf".into(),
        family: "llama".into(),
        families: vec!["llama".into()],
        parameter_size: "1.2B".into(),
        quantization_level: "Q4_K_M".into(),
        ..Details::default()
    }
}

#[test]
fn an_empty_list_is_a_list() {
    assert_eq!(tags(Vec::new()).to_string(), r#"{"models":[]}"#);
    assert_eq!(ps(Vec::new()).to_string(), r#"{"models":[]}"#);
    assert_eq!(version("0.32.1").to_string(), r#"{"version":"0.32.1"}"#);
}

#[test]
fn what_changed_last_comes_first() {
    let tag = |name: &str, at| Tag {
        name: name.into(),
        model: name.into(),
        modified_at: Timestamp { unix_ns: at * S, offset_s: 7200 },
        size: 5,
        digest: "ab".into(),
        details: details(),
        capabilities: Vec::new(),
    };
    let mut able = tag("b:latest", 9);
    able.capabilities = vec!["completion".into()];
    able.details.context_length = Some(4096);
    let body = tags(vec![tag("a:latest", 1), able]);
    let expected = r#"{"models":[{"name":"b:latest","model":"b:latest","modified_at":"1970-01-01T02:00:09+02:00","size":5,"digest":"ab","details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"1.2B","quantization_level":"Q4_K_M","context_length":4096},"capabilities":["completion"]},{"name":"a:latest","model":"a:latest","modified_at":"1970-01-01T02:00:01+02:00","size":5,"digest":"ab","details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"1.2B","quantization_level":"Q4_K_M"}}]}"#;
    assert_eq!(body.to_string(), expected);
}

#[test]
fn what_stays_longest_comes_first() {
    let now = Timestamp::utc(1_787_306_400 * S);
    let running = |name: &str, expires_at| Running {
        name: name.into(),
        model: name.into(),
        expires_at,
        context_length: 4096,
        ..Running::default()
    };
    let soon = Timestamp::utc(now.unix_ns + 300 * S);
    let body = ps(vec![running("a:latest", soon), running("b:latest", now.never())]);
    let none = r#"{"parent_model":"","format":"","family":"","families":[],"parameter_size":"","quantization_level":""}"#;
    let entry = |name: &str, at: &str| {
        format!(
            r#"{{"name":"{name}","model":"{name}","size":0,"digest":"","details":{none},"expires_at":"{at}","size_vram":0,"context_length":4096}}"#
        )
    };
    let never = entry("b:latest", "2318-12-01T09:47:16.854775807Z");
    let soon = entry("a:latest", "2026-08-21T10:05:00Z");
    assert_eq!(body.to_string(), format!(r#"{{"models":[{never},{soon}]}}"#));
}

#[test]
fn what_a_model_is_always_has_details_metadata_and_capabilities() {
    let expected = r#"{"license":"","modelfile":"","parameters":"","template":"","details":{"parent_model":"","format":"","family":"","families":[],"parameter_size":"","quantization_level":""},"model_info":{},"capabilities":[],"modified_at":"1970-01-01T00:00:00Z"}"#;
    assert_eq!(show(&Show::default()).to_string(), expected);
}

#[test]
fn parameters_are_lines_with_quoted_texts() {
    let parameters = json!({"temperature": 0.6, "stop": ["<|eot|>", "a\n"], "num_ctx": 4096});
    let lines = parameter_lines(parameters.as_object().unwrap());
    let pad = |name: &str| format!("{name:<30}");
    let expected = [
        format!("{} 4096", pad("num_ctx")),
        format!("{} \"<|eot|>\"", pad("stop")),
        format!("{} \"a\\n\"", pad("stop")),
        format!("{} 0.6", pad("temperature")),
    ];
    assert_eq!(lines, expected.join("\n"));
    assert_eq!(parameter_lines(&Map::new()), "");
}
