use super::*;
use oprel_api::{Limits, Message, Tool, ToolCall};

fn asked(profile: &str, request: &Request) -> Result<Ask, Failure> {
    Ask::of(Profile::named(profile).unwrap(), "far", 4096, request)
}

fn body(profile: &str, request: &Request) -> Value {
    asked(profile, request).unwrap().bodies.remove(0)
}

fn refused(profile: &str, request: &Request) -> String {
    match asked(profile, request).unwrap_err().cause {
        Some(Cause::Unsupported(field) | Cause::Incapable(field)) => field,
        other => panic!("{other:?}"),
    }
}

fn constrained(constraint: Constraint) -> Request {
    Request { constraint: Some(constraint), ..Request::prompt("hi") }
}

#[test]
fn a_conversation_is_written_without_what_a_client_made_up() {
    let mut message: Message = serde_json::from_value(json!({"role": "assistant", "content": null,
        "reasoning": "hm", "cache_control": {"type": "x"},
        "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}))
    .unwrap();
    let result: Message =
        serde_json::from_value(json!({"role": "tool", "content": "2", "name": "f"})).unwrap();
    let tool: Tool = serde_json::from_value(json!({"name": "f", "parameters": {"type": "object"},
        "strict": true, "return": "int"}))
    .unwrap();
    let mut request = Request::chat(vec![Message::user("q"), message.clone(), result]);
    let Input::Messages(chat) = &mut request.input else { unreachable!() };
    chat.tools = vec![tool];
    chat.tool_choice = ToolChoice::Named("f".into());
    let written = body("vllm", &request);
    assert_eq!(written["model"], "far");
    assert_eq!((&written["stream"], &written["max_tokens"]), (&json!(true), &Value::Null));
    let call = json!({"id": "call_1_0", "type": "function",
        "function": {"name": "f", "arguments": "{\"a\":1}"}});
    assert_eq!(
        written["messages"],
        json!([{"role": "user", "content": "q"},
            {"role": "assistant", "content": null, "reasoning": "hm", "tool_calls": [call]},
            {"role": "tool", "content": "2", "name": "f", "tool_call_id": "call_1_0"}])
    );
    let function = json!({"name": "f", "parameters": {"type": "object"}, "strict": true});
    assert_eq!(written["tools"], json!([{"type": "function", "function": function}]));
    assert_eq!(written["tool_choice"]["function"]["name"], "f");
    message.tool_calls = vec![ToolCall { id: Some("x".into()), ..ToolCall::new("f", json!({})) }];
    let written = body("sglang", &Request::chat(vec![message]));
    assert_eq!(written["messages"][0]["reasoning_content"], "hm");
    assert_eq!(written["messages"][0]["tool_calls"][0]["id"], "x");
}

#[test]
fn a_call_that_is_demanded_is_asked_for_with_its_schema() {
    let strict = |profile: &str, choice: ToolChoice, parameters: Value| {
        let tool = json!({"name": "f", "parameters": parameters});
        let mut request = Request::chat(vec![Message::user("q")]);
        let Input::Messages(chat) = &mut request.input else { unreachable!() };
        chat.tools = vec![serde_json::from_value(tool).unwrap()];
        chat.tool_choice = choice;
        body(profile, &request)["tools"][0]["function"]["strict"].clone()
    };
    let object = || json!({"type": "object"});
    assert_eq!(strict("vllm", ToolChoice::Required, object()), true);
    assert_eq!(strict("vllm", ToolChoice::Named("f".into()), object()), true);
    assert_eq!(strict("vllm", ToolChoice::Auto, object()), Value::Null);
    assert_eq!(strict("vllm", ToolChoice::None, object()), Value::Null);
    // What cannot be checked here may be more than the server can hold to.
    assert_eq!(strict("vllm", ToolChoice::Required, json!({"not": {}})), Value::Null);
    assert_eq!(strict("generic", ToolChoice::Required, object()), Value::Null);
}

#[test]
fn every_engine_gets_a_constraint_where_it_looks_for_it() {
    let schema = constrained(Constraint::JsonSchema(json!({"type": "object"})));
    let regex = constrained(Constraint::Regex("a+".into()));
    let choice = constrained(Constraint::Choice(vec!["a".into(), "b".into()]));
    let text = "root ::= \"a\"".to_string();
    let gbnf = constrained(Constraint::Grammar { syntax: GrammarSyntax::Gbnf, text });
    for profile in ["vllm", "sglang", "tabby", "llama-server", "generic"] {
        let form = &body(profile, &schema)["response_format"];
        assert_eq!(form["json_schema"]["schema"], json!({"type": "object"}), "{profile}");
    }
    assert_eq!(body("vllm", &regex)["structured_outputs"], json!({"regex": "a+"}));
    assert_eq!(body("vllm", &choice)["structured_outputs"], json!({"choice": ["a", "b"]}));
    assert_eq!(body("sglang", &choice)["regex"], "(a|b)");
    assert_eq!(body("tabby", &regex)["regex_pattern"], "a+");
    assert_eq!(body("llama-server", &choice)["grammar"], "root ::= \"a\" | \"b\"\n");
    assert_eq!(body("sglang", &gbnf)["ebnf"], "root ::= \"a\"");
    assert_eq!(refused("llama-server", &regex), "regex");
    assert_eq!(refused("generic", &choice), "choice");
    assert_eq!(refused("generic", &gbnf), "grammar");
    let bad = constrained(Constraint::JsonSchema(json!({"not": {}})));
    assert!(asked("vllm", &bad).unwrap_err().message.contains("`not`"));
}

#[test]
fn thinking_is_asked_for_as_the_engine_knows_it() {
    let with = |think| {
        let mut request = Request::chat(vec![Message::user("q")]);
        let Input::Messages(chat) = &mut request.input else { unreachable!() };
        chat.think = Some(think);
        request
    };
    let kwargs = &body("vllm", &with(Think::Off))["chat_template_kwargs"];
    assert_eq!(*kwargs, json!({"enable_thinking": false, "thinking": false}));
    let kwargs = &body("llama-server", &with(Think::High))["chat_template_kwargs"];
    assert_eq!(
        (&kwargs["enable_thinking"], &kwargs["reasoning_effort"]),
        (&json!(true), &json!("high"))
    );
    assert_eq!(body("generic", &with(Think::Off))["reasoning_effort"], "none");
    assert_eq!(body("generic", &with(Think::Low))["reasoning_effort"], "low");
}

#[test]
fn what_has_no_place_is_refused_by_name() {
    let mut request = Request::chat(vec![Message::user("q")]);
    let Input::Messages(chat) = &mut request.input else { unreachable!() };
    chat.template_kwargs.insert("date".into(), json!("today"));
    chat.template_kwargs.insert("parallel_tool_calls".into(), json!(false));
    assert_eq!(refused("generic", &request), "chat_template_kwargs");
    let written = body("vllm", &request);
    assert_eq!(written["chat_template_kwargs"], json!({"date": "today"}));
    assert_eq!(written["parallel_tool_calls"], false);
    let Input::Messages(chat) = &mut request.input else { unreachable!() };
    chat.template = Some("{{ x }}".into());
    assert_eq!(refused("vllm", &request), "template");
    let prompt = |change: fn(&mut Prompt)| {
        let mut prompt = Prompt { text: "x".into(), ..Prompt::default() };
        change(&mut prompt);
        Request::new(Input::Prompt(prompt))
    };
    assert_eq!(refused("vllm", &prompt(|p| p.suffix = Some("y".into()))), "suffix");
    assert_eq!(refused("vllm", &prompt(|p| p.context = vec![1])), "context");
    assert_eq!(refused("vllm", &Request { resume: vec![1], ..Request::prompt("x") }), "resume");
    assert_eq!(refused("generic", &Request::tokens(vec![1])), "tokens");
    let stops = Request { stop: vec!["a".into(); 5], ..Request::prompt("x") };
    assert!(asked("generic", &stops).unwrap_err().message.contains("at most 4"));
    assert!(asked("vllm", &Request { n: 65, ..Request::prompt("x") }).is_err());
}

#[test]
fn texts_and_tokens_go_to_the_route_of_texts_and_several_answers_have_several_seeds() {
    let mut request = Request { n: 3, logprobs: Some(2), ..Request::raw("once") };
    request.sampling.seed = Some(5);
    request.limits = Limits { max_tokens: Some(9), ..Limits::default() };
    let ask = asked("vllm", &request).unwrap();
    assert_eq!((ask.path, ask.bodies.len()), ("/v1/completions", 3));
    let seeds: Vec<_> = ask.bodies.iter().map(|b| b["seed"].clone()).collect();
    assert_eq!(seeds, [json!(5), json!(6), json!(7)]);
    assert_eq!((&ask.bodies[0]["prompt"], &ask.bodies[0]["logprobs"]), (&json!("once"), &json!(2)));
    assert_eq!(ask.bodies[0]["max_tokens"], 9);
    assert_eq!(ask.expects.most_tokens, Some(9));
    request.limits.max_tokens = Some(40_960);
    // Without a bound, a bare text has what its prompt leaves; llama.cpp's server does that by itself.
    let ask = asked("vllm", &request).unwrap();
    assert_eq!(ask.fit.count.unwrap().0, "/tokenize");
    assert_eq!((ask.bodies[0].get("max_tokens"), ask.expects.most_tokens), (None, None));
    let ask = asked("llama-server", &request).unwrap();
    assert_eq!((ask.bodies[0].get("max_tokens"), ask.fit.count), (None, None));
    assert_eq!(body("generic", &Request::raw("once"))["max_tokens"], 4096);
    let tokens = body("vllm", &Request::tokens(vec![3, 4]));
    assert_eq!((&tokens["prompt"], &tokens["max_tokens"]), (&json!([3, 4]), &json!(4094)));
}

#[test]
fn conversations_that_begin_alike_have_one_beginning() {
    let chat = |texts: &[&str]| {
        let messages = texts.iter().enumerate().map(|(i, text)| match i {
            0 => Message::system(*text),
            i if i % 2 == 1 => Message::user(*text),
            _ => Message::assistant(*text),
        });
        beginning(&Request::chat(messages.collect()))
    };
    assert_eq!(chat(&["s", "a"]), chat(&["s", "a", "b", "c"]));
    assert_ne!(chat(&["s", "a"]), chat(&["s", "b"]));
    assert_ne!(chat(&["s", "a"]), chat(&["t", "a"]));
    let long = "word ".repeat(1000);
    assert_eq!(
        beginning(&Request::raw(format!("{long}1"))),
        beginning(&Request::raw(format!("{long}2")))
    );
}
