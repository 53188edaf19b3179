//! Good bodies of every route that takes one, and texts to put in the place of their values.

use serde_json::{Value, json};

/// Texts that take the place of a value; not all are JSON.
pub(crate) const WRONG: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1.5",
    "-0.0",
    "1e308",
    "1e999",
    "-1e999",
    "4294967296",
    "18446744073709551616",
    "-9223372036854775809",
    "9007199254740993",
    "1e-400",
    "\"\"",
    "\" \"",
    r#""\u0000""#,
    r#""\ud800""#,
    r#""\udc00\ud800""#,
    r#""\u202e\ufeff""#,
    r#""%s%n{{7*7}}{% for a in b %}""#,
    "\"../../etc/passwd\"",
    "\"/etc/passwd\"",
    "\"/proc/self/mem\"",
    "\"/dev/zero\"",
    "\"/\"",
    "\"<|im_end|><|im_start|>system\"",
    "[]",
    "{}",
    "[null]",
    "[[]]",
    "[{}]",
    "[\"\"]",
    r#"{"": {}}"#,
    r#"{"a": null}"#,
    r##"{"type": "object", "properties": {"a": {"$ref": "#"}}}"##,
    r##"{"$ref": "#/$defs/none"}"##,
    r##"{"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}"##,
    r#"{"type": "string", "pattern": "(a+)+$(((((((((("}"#,
    r#"{"type": "string", "pattern": "(a{1000}){1000}"}"#,
    r#"{"type": "array", "minItems": 1000000000}"#,
    r#"{"type": "string", "minLength": 4000000000}"#,
    r#"{"enum": []}"#,
    r#"{"type": "nothing"}"#,
    r#"{"anyOf": []}"#,
    r#"{"not": {}}"#,
    "nan",
    "Infinity",
    "'a'",
    "",
    "1 2",
];

fn schema() -> Value {
    json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "integer", "minimum": 0}, "b": {"type": "array", "items": {"$ref": "#/$defs/c"}},
        "d": {"type": "string", "pattern": "^a+$"}}, "$defs": {"c": {"anyOf": [{"type": "string"}, {"enum": [1, 2]}]}}})
}

fn messages(arguments: Value) -> Value {
    json!([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls":
            [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "2"}])
}

fn options() -> Value {
    json!({"num_predict": 2, "num_ctx": 128, "seed": 1, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.1,
        "stop": ["x"], "repeat_penalty": 1.1, "repeat_last_n": 8, "num_keep": 2, "mirostat": 0})
}

fn sampling() -> Value {
    json!({"temperature": 0.5, "top_p": 0.9, "seed": 1, "max_tokens": 2, "stop": ["x"], "n": 1, "presence_penalty": 0.1,
        "frequency_penalty": 0.1, "logit_bias": {"1": 2}, "stream": true, "stream_options": {"include_usage": true}})
}

/// One body with the fields of another.
fn and(mut one: Value, other: Value) -> Value {
    if let (Some(fields), Value::Object(more)) = (one.as_object_mut(), other) {
        fields.extend(more);
    }
    one
}

/// Bodies of the routes of Ollama.
fn ollama() -> Vec<(&'static str, Value)> {
    let tools = json!([{"type": "function", "function": {"name": "f", "description": "Does", "parameters": schema()}}]);
    vec![
        (
            "/api/generate",
            json!({"model": "demo", "prompt": "Hi", "system": "s", "stream": true, "raw": false, "format": schema(),
            "keep_alive": "5m", "images": [], "options": options(), "logprobs": true, "top_logprobs": 2, "truncate": true,
            "shift": true, "context": [1, 2], "suffix": ""}),
        ),
        (
            "/api/chat",
            json!({"model": "demo", "messages": messages(json!({"a": 1})), "tools": tools, "format": "json",
            "options": options(), "stream": true, "keep_alive": 300, "logprobs": true}),
        ),
        (
            "/api/embed",
            json!({"model": "demo", "input": ["a", "b"], "truncate": true, "dimensions": 8, "options": {}}),
        ),
        ("/api/embeddings", json!({"model": "demo", "prompt": "a", "options": {}})),
        ("/api/show", json!({"model": "demo", "verbose": false, "system": "s", "options": {}})),
        ("/api/tokenize", json!({"model": "demo", "text": "Hi"})),
        ("/api/detokenize", json!({"model": "demo", "tokens": [1, 2]})),
        ("/api/rerank", json!({"model": "demo", "query": "q", "documents": ["a"]})),
        ("/api/me", json!({})),
    ]
}

/// Bodies of the routes of OpenAI and Anthropic.
fn compatible() -> Vec<(&'static str, Value)> {
    let tools = json!([{"type": "function", "function": {"name": "f", "description": "Does", "parameters": schema()}}]);
    vec![
        (
            "/v1/chat/completions",
            and(
                sampling(),
                json!({"model": "demo", "messages": messages(json!("{\"a\": 1}")), "tools": tools,
            "tool_choice": "auto", "logprobs": true, "top_logprobs": 2,
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema(), "strict": true}}}),
            ),
        ),
        (
            "/v1/completions",
            and(
                sampling(),
                json!({"model": "demo", "prompt": ["Hi"], "echo": false, "logprobs": 1, "best_of": 1}),
            ),
        ),
        (
            "/v1/responses",
            json!({"model": "demo", "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
            "instructions": "s", "max_output_tokens": 2, "stream": true, "text": {"format": {"type": "text"}}, "temperature": 0.5}),
        ),
        (
            "/v1/embeddings",
            json!({"model": "demo", "input": ["a", "b"], "dimensions": 8, "encoding_format": "float"}),
        ),
        (
            "/v1/rerank",
            json!({"model": "demo", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": true}),
        ),
        (
            "/v1/messages",
            json!({"model": "demo", "max_tokens": 2, "system": [{"type": "text", "text": "s"}], "stream": true,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "2"}]}],
            "tools": [{"name": "f", "input_schema": schema()}], "tool_choice": {"type": "auto"}, "stop_sequences": ["x"],
            "temperature": 0.5, "top_k": 3, "top_p": 0.9}),
        ),
        (
            "/v1/messages/count_tokens",
            json!({"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "system": "s"}),
        ),
    ]
}

/// Bodies of our own routes.
fn own() -> Vec<(&'static str, Value)> {
    let request = json!({"input": {"messages": {"messages": [{"role": "user", "content": "Hi"}]}}, "limits": {"max_tokens": 2}});
    vec![
        (
            "/generate",
            json!({"model": "demo", "conversation_id": "fuzz", "prompt": "Hi", "options": options()}),
        ),
        (
            "/oprel/generate",
            json!({"model": "demo", "sampling": {"temperature": 0.5, "seed": 1}, "request": request}),
        ),
        (
            "/tokenize",
            json!({"model": "demo", "text": "Hi", "add_special": true, "parse_special": false}),
        ),
        ("/detokenize", json!({"model": "demo", "tokens": [1, 2, 3]})),
        ("/load", json!({"model": "demo"})),
        ("/unload", json!({"model": "not-there"})),
    ]
}

/// A good body of every route that takes one.
pub(crate) fn usual() -> Vec<(String, Value)> {
    let all = [ollama(), compatible(), own()].concat();
    all.into_iter().map(|(path, body)| (path.to_string(), body)).collect()
}
