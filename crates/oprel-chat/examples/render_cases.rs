//! Renders many chat templates: one JSON object a line in, one a line out.
//!
//! For comparing with Jinja2 (`tests/golden/make_golden.py --compare`). A case has `template`,
//! `messages`, and optionally `tools`, `documents`, `add_generation_prompt`, `kwargs` and `now`
//! (seconds since 1970, UTC); a result has `text` or `error`.

use oprel_chat::{ChatTemplate, LocalTime, RenderInput, SpecialTokens};
use serde_json::{Value, json};
use std::io::{BufRead, Write};

fn main() -> std::io::Result<()> {
    let mut compiled: Option<(String, oprel_chat::Result<ChatTemplate>)> = None;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let case: Value = serde_json::from_str(&line?)?;
        let source = case["template"].as_str().unwrap_or_default();
        if compiled.as_ref().is_none_or(|(last, _)| last != source) {
            let template = ChatTemplate::compile(source, SpecialTokens::default());
            compiled = Some((source.to_owned(), template));
        }
        let Some((_, template)) = &compiled else { continue };
        let rendered = match template {
            Ok(template) => render(template, &case),
            Err(error) => Err(error.clone()),
        };
        let result = match rendered {
            Ok(text) => json!({ "text": text }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        writeln!(out, "{result}")?;
    }
    Ok(())
}

fn render(template: &ChatTemplate, case: &Value) -> oprel_chat::Result<String> {
    let list = |key: &str| case.get(key).and_then(Value::as_array).map(Vec::as_slice);
    let now = LocalTime::utc(case["now"].as_i64().unwrap_or_default());
    template.render(&RenderInput {
        tools: list("tools"),
        documents: list("documents"),
        add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap_or_default(),
        kwargs: case["kwargs"].as_object(),
        ..RenderInput::new(list("messages").unwrap_or_default(), now)
    })
}
