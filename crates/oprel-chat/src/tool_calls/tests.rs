use super::*;
use serde_json::{Value, json};

fn tools() -> Vec<Tool> {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string"}, "n": {"type": "integer"}, "b": {"type": "boolean"},
        "l": {"type": "array"}, "o": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        "e": {"type": ["string", "integer"]}}});
    vec![
        Tool::new("f", "", schema),
        Tool::new("g", "", json!({})),
        Tool::new("get_it", "", json!({})),
    ]
}

/// Text and calls of a text that comes in pieces of so many characters.
fn parse(format: ToolFormat, text: &str, size: usize) -> (String, Vec<(String, Value)>) {
    let mut parser = ToolCallParser::new(format, &tools());
    let chars: Vec<char> = text.chars().collect();
    let mut spoken = Vec::new();
    for piece in chars.chunks(size) {
        spoken.extend(parser.push(&piece.iter().collect::<String>()));
    }
    spoken.extend(parser.finish());
    let (mut said, mut calls) = (String::new(), Vec::new());
    for piece in spoken {
        match piece {
            Spoken::Text(text) => said += &text,
            Spoken::Call(call) => calls.push((call.name, call.arguments)),
        }
    }
    (said, calls)
}

fn check(format: ToolFormat, text: &str, said: &str, calls: &[(&str, Value)]) {
    let calls: Vec<_> = calls.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
    for size in 1..=text.chars().count().max(1) {
        let parsed = parse(format, text, size);
        assert_eq!(parsed, (said.to_owned(), calls.clone()), "{text:?} by {size}");
    }
}

#[test]
fn tagged_calls_are_found_between_texts() {
    let text = "Let me look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"q\": \
                \"</tool_call>\"}}\n</tool_call>\n<tool_call>{\"name\": \"g\"}</tool_call>";
    let calls = [("f", json!({"q": "</tool_call>"})), ("g", json!({}))];
    check(ToolFormat::Tagged, text, "Let me look.", &calls);
}

#[test]
fn what_is_no_call_stays_text() {
    for text in [
        "a <tool_call>oops</tool_call> b",
        "<tool_call>{\"name\": \"other\", \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"argum",
        "a < b and <tool",
    ] {
        check(ToolFormat::Tagged, text, text, &[]);
    }
    for text in ["{\"a\": 1}", "{not json", "so {\"name\": \"f\", \"parameters\": {}}"] {
        check(ToolFormat::Bare, text, text, &[]);
    }
    check(ToolFormat::Listed, "[TOOL_CALLS][1]", "[TOOL_CALLS][1]", &[]);
}

#[test]
fn a_bare_call_is_found_at_the_start_only() {
    let call = "{\"name\": \"f\", \"parameters\": {\"x\": [1, {\"y\": 2}]}}";
    let calls = [("f", json!({"x": [1, {"y": 2}]}))];
    check(ToolFormat::Bare, call, "", &calls);
    check(ToolFormat::Bare, &format!("\n<|python_tag|>{call}"), "", &calls);
    let two = format!("{call}; {call}");
    check(ToolFormat::Bare, &two, "", &[calls[0].clone(), calls[0].clone()]);
}

#[test]
fn listed_calls_are_found_in_both_shapes() {
    let calls = [("f", json!({"a": "é"})), ("g", json!({}))];
    let list = "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": \"é\"}}, \
                {\"name\": \"g\", \"arguments\": {}}]";
    check(ToolFormat::Listed, list, "", &calls);
    let named = "[TOOL_CALLS]f[ARGS]{\"a\": \"é\"}[TOOL_CALLS]g{}";
    check(ToolFormat::Listed, named, "", &calls);
}

#[test]
fn the_format_comes_from_the_template() {
    assert_eq!(ToolFormat::of("... <tool_call>\\n ..."), Some(ToolFormat::Tagged));
    let markup = "<tool_call><function=f><parameter=a>";
    assert_eq!(ToolFormat::of(markup), Some(ToolFormat::ParameterTags));
    assert_eq!(ToolFormat::of("'<|tool_call>call:' + name"), Some(ToolFormat::Gemma4));
    assert_eq!(ToolFormat::of("{{ '[TOOL_CALLS]' }}"), Some(ToolFormat::Listed));
    assert_eq!(ToolFormat::of("{{ '<|python_tag|>' }}"), Some(ToolFormat::Bare));
    assert_eq!(ToolFormat::of("plain"), None);
}

#[test]
fn text_is_not_held_back() {
    let mut parser = ToolCallParser::new(ToolFormat::Tagged, &tools());
    assert_eq!(parser.push("Hello"), [Spoken::Text("Hello".into())]);
    assert_eq!(parser.push(" <"), []);
    assert_eq!(parser.push("b>"), [Spoken::Text(" <b>".into())]);
}

#[test]
fn calls_of_python_are_found_in_all_their_places() {
    let calls = [
        ("f", json!({"a": "x, y)", "n": -3, "b": true, "l": [1.5, "z", null], "o": {"k": "it's"}})),
        ("g", json!({})),
    ];
    let f = "f(a=\"x, y)\", n=-3, b=True, l=[1.5, 'z', None], o={'k': 'it\\'s'})";
    let list = format!("[{f}, g()]");
    check(ToolFormat::Pythonic, &list, "", &calls);
    check(ToolFormat::Bare, &list, "", &calls);
    check(ToolFormat::Pythonic, &format!(" <|python_start|>{list}<|python_end|>"), "", &calls);
    let marked = format!("I look.\n<|tool_call_start|>{list}<|tool_call_end|>\n");
    check(ToolFormat::PythonTagged, &marked, "I look.", &calls);
    check(ToolFormat::ToolCode, &format!("```tool_code\n{f}\ng()\n```"), "", &calls);
    check(ToolFormat::ToolCode, &format!("```tool_code\nprint({f})\n[g()]\n```\n"), "", &calls);
    let lines = format!("<function_calls>\n{f}\ng()\n</function_calls>");
    check(ToolFormat::FunctionCalls, &lines, "", &calls);
    check(ToolFormat::Bare, "<|python_tag|>f.call(a=\"x\")", "", &[("f", json!({"a": "x"}))]);
    check(ToolFormat::Pythonic, "[f(a=\"3\", n=\"3\")]", "", &[("f", json!({"a": "3", "n": 3}))]);
    let by_place = [("f", json!({"a": "it's so", "n": 2}))];
    check(ToolFormat::Pythonic, "[f('it's so', 2)]", "", &by_place);
    for text in ["[1, 2]", "[foo(a=1)]", "[f(a=1", "[f(a=1) oops]", "[f(a=b)]", "so [f(a=1)]"] {
        check(ToolFormat::Pythonic, text, text, &[]);
    }
}

#[test]
fn a_text_that_only_begins_like_a_call_is_not_waited_for() {
    let mut parser = ToolCallParser::new(ToolFormat::Bare, &tools());
    assert_eq!(parser.push("{\"answer\": "), [Spoken::Text("{\"answer\":".into())]);
    for text in ["[see", "[{\"answer\": 1}"] {
        let mut parser = ToolCallParser::new(ToolFormat::Pythonic, &tools());
        assert_eq!(parser.push(text), [Spoken::Text(text.into())]);
    }
}

#[test]
fn messages_to_a_tool_are_calls() {
    let text = "Hm.<|start|>assistant to=functions.f<|channel|>commentary json<|message|>\
                {\"a\": \"é\"}<|call|><|start|>assistant to=g<|channel|>commentary json<|message|>{}";
    check(ToolFormat::Harmony, text, "Hm.", &[("f", json!({"a": "é"})), ("g", json!({}))]);
    let other = text.replace("functions.f", "browser.open").replace("to=g", "to=python");
    check(ToolFormat::Harmony, &other, &other, &[]);
}

#[test]
fn calls_of_a_name_and_json_are_found() {
    let calls = [("f", json!({"a": "{é}"})), ("g", json!({}))];
    let deepseek = "So<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n\
        {\"a\": \"{é}\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n\
        ```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    check(ToolFormat::DeepSeek, deepseek, "So", &calls);
    let plain = "So<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": \"{é}\"}\
        <｜tool▁call▁end｜><｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    check(ToolFormat::DeepSeekPlain, plain, "So", &calls);
    let kimi = "So <|tool_calls_section_begin|><|tool_call_begin|>functions.f:0\
        <|tool_call_argument_begin|>{\"a\": \"{é}\"}<|tool_call_end|><|tool_call_begin|>functions.g:1\
        <|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>";
    check(ToolFormat::Kimi, kimi, "So", &calls);
    let fields = "So<|tool_calls|><|tool_call:begin|>x1<|tool_call:name|>f<|tool_call:args|>\
        {\"a\": \"{é}\"}<|tool_call:end|><|tool_call:begin|>x2<|tool_call:name|>g\
        <|tool_call:args|>{}<|tool_call:end|><|calls|>";
    check(ToolFormat::Fields, fields, "So", &calls);
    let tag = "So <function=f>{\"a\": \"{é}\"}</function><function=g>{}</function>";
    check(ToolFormat::FunctionTag, tag, "So", &calls);
    let recipient = "all\nSo>>>f\n{\"a\": \"{é}\"}>>>g\n{}";
    check(ToolFormat::Recipient, recipient, "So", &calls);
    check(ToolFormat::Recipient, "f\n{\"a\": \"{é}\"}>>>g\n{}", "", &calls);
    let with_id = "So[TOOL_CALLS]f[CALL_ID]abcdef123[ARGS]{\"a\": \"{é}\"}[TOOL_CALLS]g[ARGS]{}";
    check(ToolFormat::Listed, with_id, "So", &calls);
    for text in ["[TOOL_CALLS]f[ARGS]{\"a\"", "[TOOL_CALLS]foo[ARGS]{}", "[TOOL_CALLS]f[ARGS][1]"] {
        check(ToolFormat::Listed, text, text, &[]);
    }
    let unknown = kimi.replace("functions.f", "functions.h").replace("functions.g", "functions.i");
    check(ToolFormat::Kimi, &unknown, &unknown, &[]);
}

#[test]
fn ids_that_a_model_writes_are_kept() {
    let text = "<|tool_call_begin|>functions.f:3<|tool_call_argument_begin|>{}";
    let mut parser = ToolCallParser::new(ToolFormat::Kimi, &tools());
    let [Spoken::Call(call)] = &parser.push(text)[..] else { panic!() };
    assert_eq!(call.id.as_deref(), Some("functions.f:3"));
    let mut parser = ToolCallParser::new(ToolFormat::Listed, &tools());
    let [Spoken::Call(call)] = &parser.push("[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{}")[..] else {
        panic!()
    };
    assert_eq!(call.id.as_deref(), Some("123456789"));
}

#[test]
fn arguments_in_markup_are_what_the_schema_says() {
    let arguments = json!({"a": "5 </parameter>\n", "n": 5, "b": true, "l": [1, "x"], "o": null,
        "e": "five", "z": {"k": 1}});
    let qwen = "So\n<tool_call>\n<function=f>\n<parameter=a>\n5 </parameter>\n\n</parameter>\n\
        <parameter=n>\n5\n</parameter>\n<parameter=b>\nTrue\n</parameter>\n<parameter=l>\n\
        [1, 'x']\n</parameter>\n<parameter=o>\nnull\n</parameter>\n<parameter=e>\nfive\n\
        </parameter>\n<parameter=z>\n{\"k\": 1}\n</parameter>\n</function>\n</tool_call>\n\
        <tool_call>\n<function=g>\n</function>\n</tool_call>";
    let calls = [("f", arguments), ("g", json!({}))];
    check(ToolFormat::ParameterTags, qwen, "So", &calls);
    check(ToolFormat::ParameterTags, &qwen.replace("<tool_call>\n", ""), "So", &calls);
    check(ToolFormat::ParameterTags, &qwen.replace("tool_call", "seed:tool_call"), "So", &calls);
    let invoke = "So\n<minimax:tool_call>\n<invoke name=\"f\"><parameter name=\"a\">5 </parameter>\n\
        </parameter>\n<parameter name=\"n\">5</parameter><parameter name=\"b\">true</parameter>\
        <parameter name=\"l\">[1, \"x\"]</parameter><parameter name=\"o\">null</parameter>\
        <parameter name=\"e\">five</parameter><parameter name=\"z\">{\"k\": 1}</parameter></invoke>\n\
        <invoke name=\"g\"></invoke>\n</minimax:tool_call>";
    check(ToolFormat::Invoke, invoke, "So", &calls);
    let glm = "So\n<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>5 </parameter>\n</arg_value>\n\
        <arg_key>n</arg_key>\n<arg_value>5</arg_value>\n<arg_key>b</arg_key><arg_value>true\
        </arg_value><arg_key>l</arg_key><arg_value>[1, \"x\"]</arg_value><arg_key>o</arg_key>\
        <arg_value>null</arg_value><arg_key>e</arg_key><arg_value>five</arg_value><arg_key>z</arg_key>\
        <arg_value>{\"k\": 1}</arg_value>\n</tool_call><tool_call>g</tool_call>";
    check(ToolFormat::ArgumentTags, glm, "So", &calls);
    let none = "<tool_call><function=h><parameter=a>1</parameter></function></tool_call>";
    check(ToolFormat::ParameterTags, none, none, &[]);
    let open = "<tool_call><function=f><parameter=a>1</parameter>";
    check(ToolFormat::ParameterTags, open, open, &[]);
}

#[test]
fn an_argument_may_say_itself_that_it_is_a_text() {
    let text = "\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"g\">\n<｜DSML｜parameter name=\"x\" \
        string=\"true\">5</｜DSML｜parameter>\n<｜DSML｜parameter name=\"y\" string=\"false\">5\
        </｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>";
    check(ToolFormat::DeepSeekMarkup, text, "", &[("g", json!({"x": "5", "y": 5}))]);
    let newer = text.replace("function_calls", "tool_calls");
    check(ToolFormat::DeepSeekMarkup, &newer, "", &[("g", json!({"x": "5", "y": 5}))]);
}

#[test]
fn calls_with_colons_are_found() {
    let calls = [
        ("f", json!({"a": "x, {y}", "n": 5, "l": ["p", true], "o": {"k": "v"}})),
        ("g", json!({})),
    ];
    let gemma = "So<start_function_call>call:f{a:<escape>x, {y}<escape>,n:5,l:[<escape>p<escape>,true],\
        o:{k:<escape>v<escape>}}<end_function_call><start_function_call>call:g{}<end_function_call>";
    check(ToolFormat::FunctionGemma, gemma, "So", &calls);
    let newer = "So<|tool_call>call:f{a:<|\"|>x, {y}<|\"|>,n:5,l:[<|\"|>p<|\"|>,true],\
        o:{<|\"|>k<|\"|>:<|\"|>v<|\"|>}}<tool_call|><|tool_call>call:g{}<tool_call|>";
    check(ToolFormat::Gemma4, newer, "So", &calls);
    for text in ["<|tool_call>call:h{}<tool_call|>", "<|tool_call>call:f{a:1", "<|tool_call>f{}"] {
        check(ToolFormat::Gemma4, text, text, &[]);
    }
}

#[test]
fn lists_are_found_between_all_marks() {
    let calls = [("f", json!({"a": "]"})), ("g", json!({}))];
    let list =
        "[{\"name\": \"f\", \"arguments\": {\"a\": \"]\"}}, {\"name\": \"g\", \"arguments\": {}}]";
    for (format, open, close) in [
        (ToolFormat::ToolCallList, "<TOOLCALL>", "</TOOLCALL>"),
        (ToolFormat::ToolCallsList, "\n<tool_calls>", "</tool_calls>"),
        (ToolFormat::MarkedList, "<|tool_call|>", ""),
        (ToolFormat::MarkedList, "<|tool_call|>", "<|/tool_call|>"),
        (ToolFormat::Functools, " functools", ""),
        (ToolFormat::FunctionCall, "<|function_call|>", "<|message_sep|>\n\n"),
        (ToolFormat::Action, "<|START_ACTION|>", "<|END_ACTION|>"),
        (ToolFormat::ActionBlock, "\nAction:\n```json\n", "```\n"),
        (ToolFormat::ActionBlock, " Action: ```json\n", "\n```"),
    ] {
        check(format, &format!("So{open}{list}{close}"), "So", &calls);
        check(format, &format!("So{open}[1]{close}"), &format!("So{open}[1]{close}"), &[]);
    }
    let named = list.replace("\"name\"", "\"tool_name\"").replace("arguments", "parameters");
    check(ToolFormat::Action, &format!("<|START_ACTION|>{named}<|END_ACTION|>"), "", &calls);
    let keyed = "So<|tools_prefix|>[{\"f\": {\"a\": \"]\"}}, {\"g\": {}}]<|tools_suffix|>";
    check(ToolFormat::Keyed, keyed, "So", &calls);
    let nothing =
        "Action: ```json\n[{\"tool_name\": \"directly-answer\", \"parameters\": {}}]\n```\nYes.";
    check(ToolFormat::ActionBlock, nothing, "\nYes.", &[]);
}

#[test]
fn long_calls_are_read_whole() {
    let long = "x".repeat(3 * SHORT_BYTES);
    let text =
        format!("<tool_call>{{\"name\": \"g\", \"arguments\": {{\"x\": \"{long}\"}}}}</tool_call>");
    let calls = [("g".to_owned(), json!({"x": long}))];
    for size in [1, 7, 1000] {
        assert_eq!(parse(ToolFormat::Tagged, &text, size), (String::new(), calls.to_vec()));
    }
    let endless = format!("<tool_call>{{\"x\": \"{}", "y".repeat(MOST_BYTES));
    assert_eq!(parse(ToolFormat::Tagged, &endless, 4096), (endless.clone(), vec![]));
}

#[test]
fn every_format_is_shown_by_some_template() {
    for (shown, format) in [
        ("Use exactly [func_name1(a=1), func_name2()]", ToolFormat::Pythonic),
        ("'<|tool_call_start|>[' ~ calls ~ ']<|tool_call_end|>'", ToolFormat::PythonTagged),
        ("'```tool_code\\n' ~ call ~ '\\n```'", ToolFormat::ToolCode),
        ("'<function_calls>\\n' ~ call", ToolFormat::FunctionCalls),
        ("'<|channel|>commentary to=functions.' ~ name ~ '<|message|>'", ToolFormat::Harmony),
        ("'<｜tool▁calls▁begin｜>' ~ name ~ '\\n```json'", ToolFormat::DeepSeek),
        ("'<｜tool▁calls▁begin｜>' ~ name ~ '<｜tool▁sep｜>'", ToolFormat::DeepSeekPlain),
        ("{% set mark = '｜DSML｜' %}", ToolFormat::DeepSeekMarkup),
        ("'<tool_call>' ~ name ~ '<arg_key>'", ToolFormat::ArgumentTags),
        ("'<seed:tool_call><function=' ~ name ~ '><parameter='", ToolFormat::ParameterTags),
        ("'<minimax:tool_call><invoke name='", ToolFormat::Invoke),
        ("'<|tool_call_begin|>' ~ id ~ '<|tool_call_argument_begin|>'", ToolFormat::Kimi),
        ("'<start_function_call>call:' ~ name", ToolFormat::FunctionGemma),
        ("'\\nAction:\\n```json\\n'", ToolFormat::ActionBlock),
        ("'<|START_ACTION|>['", ToolFormat::Action),
        ("'<TOOLCALL>['", ToolFormat::ToolCallList),
        ("'<tool_calls>['", ToolFormat::ToolCallsList),
        ("'<|tool_call|>['", ToolFormat::MarkedList),
        ("' functools['", ToolFormat::Functools),
        ("'<|function_call|>'", ToolFormat::FunctionCall),
        ("'<|tools_prefix|>['", ToolFormat::Keyed),
        ("'<function=' ~ name ~ '>'", ToolFormat::FunctionTag),
        ("'>>>all\\n' ~ content", ToolFormat::Recipient),
        ("'<|tool_call:begin|>' ~ id", ToolFormat::Fields),
    ] {
        assert_eq!(ToolFormat::of(shown), Some(format), "{shown}");
    }
}

const ALL: &[ToolFormat] = &[
    ToolFormat::Tagged,
    ToolFormat::Bare,
    ToolFormat::Listed,
    ToolFormat::Pythonic,
    ToolFormat::PythonTagged,
    ToolFormat::ToolCode,
    ToolFormat::FunctionCalls,
    ToolFormat::Harmony,
    ToolFormat::DeepSeek,
    ToolFormat::DeepSeekPlain,
    ToolFormat::DeepSeekMarkup,
    ToolFormat::ArgumentTags,
    ToolFormat::ParameterTags,
    ToolFormat::Invoke,
    ToolFormat::Kimi,
    ToolFormat::FunctionGemma,
    ToolFormat::Gemma4,
    ToolFormat::ActionBlock,
    ToolFormat::Action,
    ToolFormat::ToolCallList,
    ToolFormat::ToolCallsList,
    ToolFormat::MarkedList,
    ToolFormat::Functools,
    ToolFormat::FunctionCall,
    ToolFormat::Keyed,
    ToolFormat::FunctionTag,
    ToolFormat::Recipient,
    ToolFormat::Fields,
];

/// A text of marks and parts of calls in any order, the same for the same seed.
fn jumble(format: ToolFormat, seed: u64) -> String {
    const PARTS: &[&str] = &[
        "f",
        "g",
        "(",
        ")",
        "a=",
        "'x'",
        "{\"name\": \"f\", \"arguments\": {}}",
        "{",
        "}",
        "[",
        "]",
        "\n",
        " ",
        "so",
        "é",
        "{\"a\": 1}",
        "\"",
        ",",
        ":",
        "call:",
        ">",
        "<",
        "</",
        "all\n",
        ";",
        "```json",
        "<parameter=a>1</parameter>",
        "<function=f>",
        "</function>",
        "</invoke>",
        "[f()]",
        "functions.f:0",
    ];
    let marks: Vec<&str> = format.tokens().collect();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |n: usize| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) as usize % n
    };
    let mut text = String::new();
    for _ in 0..2 + next(9) {
        let mark = next(2) == 0;
        text += if mark { marks[next(marks.len())] } else { PARTS[next(PARTS.len())] };
    }
    text
}

#[test]
fn it_does_not_matter_how_a_text_is_cut() {
    for &format in ALL {
        for seed in 0..500 {
            let text = jumble(format, seed);
            let whole = parse(format, &text, text.len());
            for size in [1, 2, 3, 7] {
                assert_eq!(
                    parse(format, &text, size),
                    whole,
                    "{format:?} {seed}: {text:?} by {size}"
                );
            }
        }
    }
}
