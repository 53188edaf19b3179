//! What Go's text/template makes of the cases in `golden/go/`, byte for byte. `make_golden.go` wrote it.

use oprel_chat::{Capabilities, ChatTemplate, Error, Gap, LocalTime, RenderInput, SpecialTokens};
use serde_json::{Map, Value, json};

/// The moment that `make_golden.go` shows.
const NOW: i64 = 1_722_006_245;

fn read(name: &str) -> Value {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/go");
    serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap()
}

fn compile(source: &str) -> Result<ChatTemplate, Error> {
    ChatTemplate::compile(source, SpecialTokens::default())
}

fn render(source: &str, conversation: &Value) -> Result<String, Error> {
    let list = |name: &str| conversation[name].as_array().cloned();
    let mut kwargs = conversation["variables"].as_object().cloned().unwrap_or_default();
    if let Some(think) = conversation["think"].as_bool() {
        kwargs.insert("enable_thinking".into(), json!(think));
    }
    if let Some(level) = conversation["level"].as_str() {
        kwargs.insert("reasoning_effort".into(), json!(level));
    }
    let messages = list("messages").unwrap_or_default();
    compile(source)?.render(&RenderInput {
        tools: list("tools").as_deref(),
        kwargs: Some(&kwargs),
        ..RenderInput::new(&messages, LocalTime::utc(NOW))
    })
}

/// A comment makes plain cases Go's.
fn plain(source: &str, variables: &Value) -> Result<String, Error> {
    render(&format!("{{{{/* Go */}}}}{source}"), &json!({"variables": variables}))
}

#[test]
fn the_language_is_gos() {
    let (cases, expected) = (read("cases.json"), read("expected.json"));
    let sources = cases["plain"].as_array().unwrap();
    let expected = expected["plain"].as_array().unwrap();
    assert!(sources.len() == expected.len() && sources.len() > 50);
    let mut differ = Vec::new();
    for (source, want) in sources.iter().zip(expected) {
        let source = source.as_str().unwrap();
        let got = plain(source, &cases["variables"]).map_or(Value::Null, Value::String);
        if got != *want {
            differ.push(format!("{source}\n  want {want}\n  got  {got}"));
        }
    }
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
}

#[test]
fn conversations_are_written_as_ollama_writes_them() {
    let (cases, expected) = (read("cases.json"), read("expected.json"));
    let mut differ = Vec::new();
    for (name, want) in expected["chats"].as_object().unwrap() {
        let (template, conversation) = name.split_once('/').unwrap();
        let source = cases["templates"][template].as_str().unwrap();
        let got = render(source, &cases["conversations"][conversation]);
        let got = got.map_or_else(|e| json!(e.to_string()), Value::String);
        if got != *want {
            differ.push(format!("{name}\n  want {want}\n  got  {got}"));
        }
    }
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
}

fn say(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

#[test]
fn older_templates_are_run_once_for_each_turn_and_cut_at_the_answer() {
    let source =
        "{{ if .System }}<s>{{ .System }}</s>{{ end }}<u>{{ .Prompt }}</u><a>{{ .Response }}</a>\n";
    let chat = |messages: Vec<Value>| render(source, &json!({"messages": messages})).unwrap();
    assert_eq!(chat(vec![say("user", "Hi")]), "<u>Hi</u><a>");
    assert_eq!(
        chat(vec![say("system", "S"), say("user", "1"), say("assistant", "2"), say("user", "3")]),
        "<s>S</s><u>1</u><a>2</a>\n<u>3</u><a>"
    );
    assert_eq!(chat(vec![say("user", "1"), say("assistant", "2")]), "<u>1</u><a>2");
    // Messages of one role become one; a template that does not say where the answer goes has it at its end.
    let short = |messages: Vec<Value>| {
        render("[{{ .System }}]{{ .Prompt }}:", &json!({"messages": messages})).unwrap()
    };
    assert_eq!(short(vec![say("user", "1"), say("user", "2")]), "[]1\n\n2:");
    assert_eq!(short(vec![say("user", "1"), say("assistant", "2"), say("user", "3")]), "[]1:2[]3:");
}

#[test]
fn a_last_message_is_continued() {
    let cases = read("cases.json");
    let template = compile(cases["templates"]["chatml"].as_str().unwrap()).unwrap();
    let messages = [say("user", "Count"), say("assistant", "1, 2,")];
    let input = RenderInput {
        add_generation_prompt: false,
        continue_last: true,
        ..RenderInput::new(&messages, LocalTime::utc(NOW))
    };
    assert!(template.render(&input).unwrap().ends_with("assistant\n1, 2,"));
}

#[test]
fn what_a_template_can_say_is_found() {
    let cases = read("cases.json");
    let of = |name: &str| {
        Capabilities::of(&compile(cases["templates"][name].as_str().unwrap()).unwrap())
    };
    let tagged = of("tagged-tools");
    assert!(tagged.system && tagged.tools && tagged.thinking && tagged.tool_format.is_some());
    let plain = of("chatml");
    assert!(plain.system && !plain.tools && !plain.thinking);
}

#[test]
fn jinja_stays_jinja() {
    for source in
        ["{% if messages %}x{% endif %}", "{{ messages[0].content }}", "plain {{ bos_token }}"]
    {
        let messages = [say("user", "Hi")];
        let input = RenderInput::new(&messages, LocalTime::utc(NOW));
        assert!(!compile(source).unwrap().render(&input).unwrap().contains("no value"));
    }
}

#[test]
fn errors_say_where() {
    let line = |error: Error| match error {
        Error::Failed { line, .. } | Error::Syntax { line, .. } => line,
        other => panic!("{other:?}"),
    };
    let variables = json!({"list": []});
    assert_eq!(line(plain("\n\n{{ index .list 1 }}", &variables).unwrap_err()), 3);
    assert_eq!(line(plain("\n{{ if .x }}\n\n", &variables).unwrap_err()), 2);
    let refused = plain("\n{{ define \"x\" }}{{ end }}", &variables).unwrap_err();
    assert_eq!(refused, Error::Unsupported { line: 2, what: "`define`".into() });
}

#[test]
fn a_template_that_means_harm_ends_with_an_error() {
    let empty = json!({});
    let doubling =
        "{{ $x := \"aaaaaaaa\" }}{{ range 1000 }}{{ $x = printf \"%s%s\" $x $x }}{{ end }}";
    assert!(matches!(plain(doubling, &empty), Err(Error::OutputTooLong { .. })));
    let forever = "{{ range 1000000 }}{{ range 1000000 }}{{ end }}{{ end }}";
    assert!(matches!(plain(forever, &empty), Err(Error::OutOfFuel { .. })));
    let deep = "{{ if 1 }}".repeat(100_000);
    assert!(matches!(plain(&deep, &empty), Err(Error::TooDeep { .. })));
    let parens = format!("{{{{ {} }}}}", "(".repeat(100_000));
    assert!(matches!(plain(&parens, &empty), Err(Error::TooDeep { .. })));
    let chain = format!("{{{{ if 1 }}}}{}", "{{ else if 1 }}".repeat(10_000));
    assert!(matches!(plain(&chain, &empty), Err(Error::TooDeep { .. })));
    let huge = format!("{{{{ .x }}}}{}", " ".repeat(2 << 20));
    assert!(matches!(plain(&huge, &empty), Err(Error::TemplateTooLarge { .. })));
    let wide = plain("{{ printf \"%999999999d\" 1 }}", &empty);
    assert!(matches!(wide, Err(Error::OutputTooLong { .. })));
}

#[test]
fn nonsense_is_an_error_and_never_a_panic() {
    let mut seed = 7u64;
    let pieces = [
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        "\n",
        ".",
        ".A",
        "$",
        "$x",
        ":=",
        "=",
        "|",
        "(",
        ")",
        "\"",
        "`",
        "'",
        "if",
        "end",
        "else",
        "range",
        "with",
        "break",
        "len",
        "index",
        "slice",
        "printf",
        "1",
        "-",
        "1.5e9",
        "0x",
        "%",
        "\\u00",
        "é",
        "/*",
        "*/",
        ",",
        "nil",
        "true",
        "and",
        "json",
        "💬",
        ".Messages",
    ];
    let messages = json!({"messages": [say("user", "Hi")]});
    let mut written = 0;
    for _ in 0..20_000 {
        let mut source = String::from("{{/* Go */}}");
        for _ in 0..12 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            source += pieces[(seed >> 33) as usize % pieces.len()];
        }
        written += usize::from(render(&source, &messages).is_ok());
    }
    assert!(written > 0);
}

#[test]
fn a_number_has_one_sign_and_may_be_the_lowest() {
    let none = json!({});
    let said = |number: &str| plain(&format!("{{{{ print {number} }}}}"), &none);
    for (written, printed) in [
        ("-9223372036854775808", "-9223372036854775808"),
        ("-0x10", "-16"),
        ("+5", "5"),
        ("1_000", "1000"),
        ("-.5", "-0.5"),
    ] {
        assert_eq!(said(written).as_deref(), Ok(printed), "{written}");
    }
    for wrong in ["--9223372036854775808", "+-5", "-+5", "0x-5", "-inf", "-0x", "1-"] {
        assert!(matches!(said(wrong), Err(Error::Syntax { .. })), "{wrong}");
    }
}

#[test]
fn keys_of_a_request_reach_the_template() {
    let kwargs = Map::from_iter([("custom".to_owned(), json!("x"))]);
    let template = compile("{{ .custom }}{{ .Prompt }}").unwrap();
    let messages = [say("user", "Hi")];
    let input =
        RenderInput { kwargs: Some(&kwargs), ..RenderInput::new(&messages, LocalTime::utc(NOW)) };
    assert_eq!(template.render(&input).unwrap(), "xHi");
}

#[test]
fn a_gap_is_filled_where_the_template_says_how() {
    let template = "{{- if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>\
        {{- else }}{{ .System }}{{ .Prompt }}{{ .Response }} tail{{ end }}";
    let gap = Gap { system: None, before: "let x =", after: ";" };
    let now = LocalTime::utc(0);
    let template = compile(template).unwrap();
    assert!(template.fills_gaps());
    let text = template.render_gap(&gap, now).unwrap();
    assert_eq!(text.as_deref(), Some("<PRE>let x =<SUF>;<MID>"));
    for other in
        ["{{ .System }}{{ .Prompt }}", "{% for m in messages %}{{ m.content }}{% endfor %}"]
    {
        let template = compile(other).unwrap();
        assert!(!template.fills_gaps());
        assert_eq!(template.render_gap(&gap, now).unwrap(), None);
    }
}
