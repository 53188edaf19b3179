//! What Jinja2 makes of the cases in `golden/`, byte for byte. `golden/make_golden.py` wrote it.

use oprel_chat::{ChatTemplate, LocalTime, RenderInput, SpecialTokens};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The moment that `make_golden.py` shows.
const NOW: i64 = 1_722_006_245;

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden"].iter().collect()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

fn json(name: &str) -> Value {
    serde_json::from_str(&read(name)).unwrap()
}

fn special() -> SpecialTokens {
    SpecialTokens {
        bos: Some("<s>".into()),
        eos: Some("</s>".into()),
        unk: Some("<unk>".into()),
        pad: Some("<pad>".into()),
    }
}

/// Renders a template without messages: the text, or `null` for an error.
fn render_plain(template: &str, variables: &Map<String, Value>) -> Value {
    let render = || -> oprel_chat::Result<String> {
        let template = ChatTemplate::compile(template, SpecialTokens::default())?;
        template.render(&RenderInput {
            kwargs: Some(variables),
            add_generation_prompt: false,
            ..RenderInput::new(&[], LocalTime::utc(NOW))
        })
    };
    render().map_or(Value::Null, Value::String)
}

/// Fails with every case that differs.
fn check<'a>(cases: impl Iterator<Item = (String, Value, &'a Value)>) {
    let differ: Vec<String> = cases
        .filter(|(_, got, want)| got != *want)
        .map(|(case, got, want)| format!("{case}\n  want {want}\n  got  {got}"))
        .collect();
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
}

#[test]
fn expressions_are_written_as_python_writes_them() {
    let statements = json("statements.json");
    let variables = statements["variables"].as_object().unwrap();
    let expected = json("expected.json");
    let expressions = read("expressions.txt");
    let expected = expected["expressions"].as_array().unwrap();
    assert_eq!(expressions.lines().count(), expected.len());
    check(expressions.lines().zip(expected).map(|(line, want)| {
        (line.to_owned(), render_plain(&format!("{{{{ {line} }}}}"), variables), want)
    }));
}

#[test]
fn statements_write_and_scope_as_in_jinja2() {
    let statements = json("statements.json");
    let variables = statements["variables"].as_object().unwrap();
    let expected = json("expected.json");
    let expected = expected["statements"].as_array().unwrap();
    let statements = statements["statements"].as_array().unwrap();
    assert_eq!(statements.len(), expected.len());
    check(statements.iter().zip(expected).map(|(source, want)| {
        let source = source.as_str().unwrap();
        (source.to_owned(), render_plain(source, variables), want)
    }));
}

#[test]
fn conversations_are_rendered_as_transformers_renders_them() {
    let data = json("conversations.json");
    let expected = json("expected.json");
    for (name, expected) in expected["templates"].as_object().unwrap() {
        let source = read(&format!("templates/{name}.jinja"));
        let template = ChatTemplate::compile(&source, special()).unwrap();
        let mut expected = expected.as_array().unwrap().iter();
        for (conversation, messages) in data["conversations"].as_object().unwrap() {
            for variant in data["variants"].as_array().unwrap() {
                let got = render(&template, messages, variant, &data["tools"]);
                let case = format!("{name}, {conversation}, {variant}");
                check(std::iter::once((case, got, expected.next().unwrap())));
            }
        }
        assert!(expected.next().is_none());
    }
}

fn render(template: &ChatTemplate, messages: &Value, variant: &Value, tools: &Value) -> Value {
    let with_tools = variant.get("tools").is_some();
    let input = RenderInput {
        tools: tools.as_array().map(Vec::as_slice).filter(|_| with_tools),
        add_generation_prompt: variant["add_generation_prompt"] == Value::Bool(true),
        kwargs: variant.get("kwargs").and_then(Value::as_object),
        ..RenderInput::new(messages.as_array().unwrap(), LocalTime::utc(NOW))
    };
    template.render(&input).map_or(Value::Null, Value::String)
}

#[test]
fn a_message_is_left_open_to_be_continued() {
    let template = ChatTemplate::compile(&read("templates/headed.jinja"), special()).unwrap();
    let messages = [
        serde_json::json!({"role": "user", "content": "Hi"}),
        serde_json::json!({"role": "assistant", "content": "It is "}),
    ];
    let input = RenderInput {
        continue_last: true,
        add_generation_prompt: false,
        ..RenderInput::new(&messages, LocalTime::utc(NOW))
    };
    let text = template.render(&input).unwrap();
    assert!(text.ends_with("<|head|>assistant<|/head|>It is "), "{text}");
}

#[test]
fn a_compiled_template_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<ChatTemplate>();
}
