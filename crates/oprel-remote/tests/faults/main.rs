//! Servers that do not do what they should, and one that does.

mod standin;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use oprel_api::{
    Answer, Cause, Constraint, EmbedRequest, EndReason, ErrorKind, Event, Failure, Input,
    InputOverflow, Message, Request, RerankRequest, Tool, ToolChoice, Trace,
};
use oprel_backend::{Backend, Events, Health, wait};
use oprel_remote::{Patience, Place, Remote};
use serde_json::json;

use standin::{Script, Standin, delta, done, finish, stream, text, usage, whole};

const PATIENCE: Patience =
    Patience { first: Duration::from_millis(800), gap: Duration::from_millis(400) };

fn place(addresses: &[SocketAddr]) -> Place {
    let urls: Vec<String> = addresses.iter().map(|a| format!("http://{a}/v1")).collect();
    Place::parse(&format!("m=vllm:{}", urls.join(","))).unwrap()
}

fn remote(servers: &[&Standin]) -> Remote {
    let addresses: Vec<_> = servers.iter().map(|s| s.address).collect();
    Remote::start(&place(&addresses), None, PATIENCE, None).unwrap()
}

fn begin(remote: &Remote, request: Request) -> Result<Events, Failure> {
    wait(remote.generate(request)).map(|mut streams| streams.remove(0))
}

fn ask(remote: &Remote, request: Request) -> Result<Answer, Failure> {
    Answer::fold(begin(remote, request)?)
}

/// What one server that does this answers.
fn one(script: Script) -> Result<Answer, Failure> {
    let server = Standin::new(vec![script]);
    ask(&remote(&[&server]), Request::prompt("hi"))
}

fn fails(script: Script) -> String {
    one(script).unwrap_err().message
}

#[test]
fn an_answer_comes_as_events_and_the_key_goes_with_the_request() {
    let server = Standin::new(vec![whole("hello")]);
    let key = Some("secret");
    let remote = Remote::start(&place(&[server.address]), key, PATIENCE, None).unwrap();
    assert_eq!((remote.kind(), remote.model()), ("remote-vllm", "far-model"));
    assert_eq!(remote.describe().context, 512);
    let answer = ask(&remote, Request::prompt("hi")).unwrap();
    assert_eq!((answer.text.as_str(), answer.end), ("hello", Some(EndReason::EndOfText)));
    assert_eq!((answer.usage.prompt_tokens, answer.usage.generated_tokens), (7, 2));
    let asked = server.asked().remove(0);
    assert_eq!(asked.path, "/v1/chat/completions");
    assert_eq!(asked.key.as_deref(), Some("Bearer secret"));
    assert_eq!(asked.body["model"], "far-model");
    assert_eq!(asked.body["messages"], json!([{"role": "user", "content": "hi"}]));
}

#[test]
fn several_answers_are_asked_for_one_by_one() {
    let server = Standin::new(vec![whole("a")]);
    let remote = remote(&[&server]);
    let mut request = Request { n: 3, ..Request::prompt("hi") };
    request.sampling.seed = Some(1);
    let streams = wait(remote.generate(request)).unwrap();
    let answers: Vec<_> = streams.into_iter().map(|s| Answer::fold(s).unwrap().text).collect();
    assert_eq!(answers, ["a", "a", "a"]);
    let mut seeds: Vec<_> = server.asked().iter().map(|a| a.body["seed"].as_u64()).collect();
    seeds.sort();
    assert_eq!(seeds, [Some(1), Some(2), Some(3)]);
}

#[test]
fn an_error_in_the_stream_is_a_failure_although_done_follows() {
    let error = json!({"error": {"message": "EngineCore died", "code": 500}}).to_string();
    let said = fails(stream(vec![text("a"), error, done()]));
    assert!(said.contains("EngineCore died"), "{said}");
}

#[test]
fn an_answer_that_breaks_off_is_a_failure() {
    let cut = Script::Stream { events: vec![text("a")], pause: Duration::ZERO, cut: true };
    assert!(fails(cut).contains("broke off"));
    assert!(fails(stream(vec![text("a"), usage(), done()])).contains("gave no reason"));
    assert!(fails(stream(vec![text("a"), finish("stop"), usage()])).contains("has no end"));
    assert!(fails(stream(vec![])).contains("broke off"));
    assert!(fails(stream(vec!["nonsense".into()])).contains("cannot be read"));
    let plain = Script::Status(200, "Content-Type: application/json\r\n", "{}".into());
    assert!(fails(plain).contains("does not stream"));
}

#[test]
fn what_came_before_a_failure_was_told_and_nothing_comes_after() {
    let server = Standin::new(vec![stream(vec![text("a"), text("b"), done()])]);
    let events: Vec<Event> = begin(&remote(&[&server]), Request::prompt("hi")).unwrap().collect();
    let texts = events.iter().filter(|e| matches!(e, Event::Text(_))).count();
    assert_eq!((texts, events.len()), (2, 3), "{events:?}");
    assert!(matches!(events.last(), Some(Event::Error(_))));
}

#[test]
fn a_refusal_is_told_with_its_cause_and_goes_to_nobody_else() {
    let body = json!({"error": {"message": "too long", "type": "exceed_context_size_error",
        "n_prompt_tokens": 900, "n_ctx": 512}})
    .to_string();
    let servers = [
        Standin::new(vec![Script::Status(400, "", body.clone())]),
        Standin::new(vec![Script::Status(400, "", body)]),
    ];
    let remote = remote(&[&servers[0], &servers[1]]);
    let failure = ask(&remote, Request::prompt("hi")).unwrap_err();
    assert_eq!(failure.cause, Some(Cause::ContextLength { prompt: 900, context: 512 }));
    assert_eq!(servers[0].asked().len() + servers[1].asked().len(), 1);
    let broken = fails(Script::Status(500, "", json!({"error": "oops"}).to_string()));
    assert!(broken.ends_with("oops"), "{broken}");
}

#[test]
fn a_conversation_that_is_too_long_is_cut_where_that_may_be_and_it_is_told() {
    let refuses = |prompt: u32| {
        let error = json!({"message": "too long", "type": "exceed_context_size_error",
            "n_prompt_tokens": prompt, "n_ctx": 512});
        Script::Status(400, "", json!({"error": error}).to_string())
    };
    let server = Standin::new(vec![refuses(900), refuses(600), whole("ok")]);
    let remote = remote(&[&server]);
    let long = "word ".repeat(50);
    let turns = (0..8).map(|i| match i % 2 {
        0 => Message::user(format!("{i} {long}")),
        _ => Message::assistant(format!("{i} {long}")),
    });
    let messages = [Message::system("s")].into_iter().chain(turns).chain([Message::user("q")]);
    let mut request = Request::chat(messages.collect());
    request.limits.input_overflow = InputOverflow::DropOldest;
    let answer = ask(&remote, request).unwrap();
    let told = answer.truncated[0];
    assert_eq!((answer.text.as_str(), told.kept_tokens, told.dropped_tokens), ("ok", 7, 893));
    let sent: Vec<usize> =
        server.asked().iter().map(|a| a.body["messages"].as_array().unwrap().len()).collect();
    assert_eq!((sent.len(), sent[0]), (3, 10));
    assert!(sent[1] < sent[0] && sent[2] < sent[1], "{sent:?}");
    assert_eq!(told.dropped_messages as usize, sent[0] - sent[2]);
    let last = server.asked().remove(2).body["messages"].clone();
    assert_eq!((&last[0]["content"], &last[sent[2] - 1]["content"]), (&json!("s"), &json!("q")));
}

#[test]
fn a_bare_text_without_a_bound_has_what_its_prompt_leaves() {
    let text = json!({"choices": [{"text": "x", "finish_reason": "length"}]}).to_string();
    let server = Standin::new(vec![stream(vec![text, done()])]);
    let answer = ask(&remote(&[&server]), Request::raw("once")).unwrap();
    assert_eq!((answer.text.as_str(), answer.end), ("x", Some(EndReason::ContextFull)));
    assert_eq!(server.asked().remove(0).body["max_tokens"], 512 - 3);
}

#[test]
fn a_busy_server_is_left_alone_for_as_long_as_it_says() {
    let busy = Script::Status(429, "Retry-After: 20\r\n", json!({"error": "full"}).to_string());
    let server = Standin::new(vec![busy.clone(), whole("late")]);
    let alone = remote(&[&server]);
    let failure = ask(&alone, Request::prompt("hi")).unwrap_err();
    assert_eq!(failure.cause, Some(Cause::Busy));
    let failure = ask(&alone, Request::prompt("hi")).unwrap_err();
    assert_eq!(failure.cause, Some(Cause::Busy), "{failure}");
    assert_eq!(server.asked().len(), 1, "it was asked again");
    // With another one nobody notices.
    let servers = [Standin::new(vec![busy]), Standin::new(vec![whole("now")])];
    let both = remote(&[&servers[0], &servers[1]]);
    for i in 0..10 {
        assert_eq!(ask(&both, Request::prompt(format!("{i}"))).unwrap().text, "now");
    }
    assert!(servers[0].asked().len() <= 1);
}

#[test]
fn a_slow_server_is_given_up_and_a_deadline_ends_an_answer() {
    let slow = |pause| Script::Stream {
        events: vec![text("a"), text("b"), finish("stop"), done()],
        pause: Duration::from_millis(pause),
        cut: false,
    };
    assert!(fails(slow(600)).contains("does not go on"));
    assert_eq!(one(slow(100)).unwrap().text, "ab");
    assert!(fails(Script::Silence).contains("does not answer"));
    let server = Standin::new(vec![slow(200)]);
    let mut request = Request::prompt("hi");
    request.limits.deadline = Some(Duration::from_millis(300));
    let answer = ask(&remote(&[&server]), request).unwrap();
    assert_eq!((answer.text.as_str(), answer.end), ("a", Some(EndReason::Deadline)));
}

#[test]
fn an_answer_that_breaks_its_constraint_is_a_failure() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}},
        "required": ["a"]});
    let constrained = || Request {
        constraint: Some(Constraint::JsonSchema(schema.clone())),
        ..Request::prompt("hi")
    };
    let servers =
        Standin::new(vec![whole("{\"b\": 1}"), whole("Sure! {\"a\": 1}"), whole("{\"a\": 1}")]);
    let remote = remote(&[&servers]);
    for wanted in ["`a` is missing", "no JSON"] {
        let failure = ask(&remote, constrained()).unwrap_err();
        assert!(failure.message.contains(wanted), "{failure}");
    }
    assert_eq!(ask(&remote, constrained()).unwrap().text, "{\"a\": 1}");
}

#[test]
fn a_call_that_was_wanted_must_come() {
    let call = delta(json!({"tool_calls": [{"index": 0, "id": "c", "type": "function",
        "function": {"name": "f", "arguments": "{\"x\": 1}"}}]}));
    let server = Standin::new(vec![whole("no"), stream(vec![call, finish("tool_calls"), done()])]);
    let remote = remote(&[&server]);
    let request = || {
        let mut request = Request::chat(vec![Message::user("q")]);
        let Input::Messages(chat) = &mut request.input else { unreachable!() };
        chat.tools = vec![Tool::new("f", "", json!({"type": "object"}))];
        chat.tool_choice = ToolChoice::Required;
        request
    };
    assert!(ask(&remote, request()).unwrap_err().message.contains("called none"));
    let answer = ask(&remote, request()).unwrap();
    assert_eq!(answer.tool_calls[0].arguments, json!({"x": 1}));
}

#[test]
fn a_server_that_is_not_there_is_not_noticed_and_comes_back() {
    let gone = Standin::new(vec![whole("x")]);
    let address = gone.address;
    let there = Standin::new(vec![whole("there")]);
    let remote = Remote::start(&place(&[address, there.address]), None, PATIENCE, None).unwrap();
    drop(gone);
    for i in 0..20 {
        assert_eq!(ask(&remote, Request::prompt(format!("{i}"))).unwrap().text, "there");
    }
    let servers = remote.servers();
    assert_eq!((servers[0].1, servers[1].1), (false, true), "{servers:?}");
    let back = Standin::at(address, vec![whole("back")]);
    let begun = Instant::now();
    while !remote.servers()[0].1 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it was not found again");
        std::thread::sleep(Duration::from_millis(50));
    }
    let texts: Vec<_> =
        (0..20).map(|i| ask(&remote, Request::prompt(format!("{i}"))).unwrap().text).collect();
    assert!(texts.contains(&"back".into()) && texts.contains(&"there".into()));
    assert!(!back.asked().is_empty());
}

#[test]
fn a_connection_that_is_closed_before_a_word_goes_elsewhere_and_later_does_not() {
    let servers = [Standin::new(vec![Script::Close]), Standin::new(vec![whole("ok")])];
    let both = remote(&[&servers[0], &servers[1]]);
    for i in 0..6 {
        assert_eq!(ask(&both, Request::prompt(format!("{i}"))).unwrap().text, "ok");
    }
    let cut = Script::Stream { events: vec![text("a")], pause: Duration::ZERO, cut: true };
    let servers = [Standin::new(vec![cut.clone()]), Standin::new(vec![cut])];
    let both = remote(&[&servers[0], &servers[1]]);
    assert!(ask(&both, Request::prompt("hi")).is_err());
    assert_eq!(servers[0].asked().len() + servers[1].asked().len(), 1);
}

#[test]
fn when_all_servers_fail_it_is_said_at_once() {
    let server = Standin::new(vec![Script::Status(500, "", "{}".into())]);
    let remote = remote(&[&server]);
    for _ in 0..3 {
        assert!(ask(&remote, Request::prompt("hi")).is_err());
    }
    assert_eq!(remote.health(), Health::Starting);
    let failure = ask(&remote, Request::prompt("hi")).unwrap_err();
    assert!(failure.message.contains("no server takes requests now"), "{failure}");
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn a_reader_that_goes_away_drops_the_connection() {
    let events = vec![text("a"); 1000];
    let endless = Script::Stream { events, pause: Duration::from_millis(20), cut: false };
    let server = Standin::new(vec![endless, Script::Silence]);
    let remote = remote(&[&server]);
    let mut events = begin(&remote, Request::prompt("hi")).unwrap();
    assert!(events.next().is_some());
    drop(events);
    let waiting = begin(&remote, Request::prompt("hi")).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    drop(waiting);
    let begun = Instant::now();
    while server.left() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(2), "{}", server.left());
        std::thread::sleep(Duration::from_millis(5));
    }
    while wait(remote.gauges()).unwrap().running > 0 {
        assert!(begun.elapsed() < Duration::from_secs(2));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn stopping_ends_open_answers_with_an_error_and_takes_no_more() {
    let events = vec![text("a"); 1000];
    let endless = Script::Stream { events, pause: Duration::from_millis(20), cut: false };
    let server = Standin::new(vec![endless]);
    let remote = remote(&[&server]);
    let mut events = begin(&remote, Request::prompt("hi")).unwrap();
    assert!(events.next().is_some());
    remote.stop();
    assert!(matches!(events.last(), Some(Event::Error(_))));
    assert_eq!(remote.health(), Health::Stopped);
    assert!(begin(&remote, Request::prompt("hi")).is_err());
    assert!(wait(remote.detokenize(vec![1], None)).is_err());
}

#[test]
fn conversations_stay_with_their_server_and_all_servers_have_some() {
    let servers: Vec<_> = (0..3).map(|_| Standin::new(vec![whole("x")])).collect();
    let remote = remote(&servers.iter().collect::<Vec<_>>());
    for i in 0..40 {
        let begins = Message::user(format!("conversation {i}"));
        let mut messages = vec![begins];
        for turn in 0..3 {
            ask(&remote, Request::chat(messages.clone())).unwrap();
            messages.extend([Message::assistant("x"), Message::user(format!("{turn}"))]);
        }
    }
    let mut of = std::collections::HashMap::new();
    for (at, server) in servers.iter().enumerate() {
        for asked in server.asked() {
            let first = asked.body["messages"][0]["content"].to_string();
            assert_eq!(*of.entry(first).or_insert(at), at);
        }
        assert!(!server.asked().is_empty());
    }
}

#[test]
fn vectors_rankings_and_tokens_are_asked_for() {
    let server = Standin::new(vec![whole("x")]);
    let remote = remote(&[&server]);
    assert_eq!(wait(remote.embed(EmbedRequest::new(["a"]))).unwrap().vectors, [vec![0.6, 0.8]]);
    let ranking = wait(remote.rerank(RerankRequest::new("q", ["a", "b"]))).unwrap();
    assert_eq!(ranking.results[0].index, 1);
    assert_eq!(wait(remote.tokenize("abc".into(), Default::default(), None)).unwrap(), [1, 2, 3]);
    assert_eq!(wait(remote.detokenize(vec![1], None)).unwrap(), "abc");
    assert_eq!(wait(remote.prompt_tokens(Request::prompt("hi"))).unwrap(), [1, 2, 3]);
    assert!(server.all_asked().iter().all(|asked| !asked.path.contains("completions")));
}

#[test]
fn what_a_request_is_a_step_of_goes_with_it_and_with_nothing_else() {
    let server = Standin::new(vec![whole("x")]);
    let remote = remote(&[&server]);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = Some(Trace { parent: parent.into(), state: Some("a=1,b=2".into()) });
    let plain = Request::prompt("hi");
    let traced = Request { trace: trace.clone(), ..plain.clone() };
    ask(&remote, traced.clone()).unwrap();
    wait(remote.prompt_tokens(traced)).unwrap();
    wait(remote.embed(EmbedRequest { trace: trace.clone(), ..EmbedRequest::new(["a"]) })).unwrap();
    wait(remote.detokenize(vec![1], trace.clone())).unwrap();
    let ranked = RerankRequest { trace: trace.clone(), ..RerankRequest::new("q", ["a", "b"]) };
    wait(remote.rerank(ranked)).unwrap();
    let with = |state: Option<&str>| [Some(parent.to_string()), state.map(str::to_string)];
    let of = |path: &str| {
        let asked = server.all_asked().into_iter().filter(|asked| asked.path == path);
        asked.map(|asked| asked.trace).next_back().unwrap()
    };
    let paths =
        ["/v1/chat/completions", "/tokenize", "/detokenize", "/v1/embeddings", "/v1/rerank"];
    for path in paths {
        assert_eq!(of(path), with(Some("a=1,b=2")), "{path}");
    }
    wait(remote.tokenize("abc".into(), Default::default(), None)).unwrap();
    assert_eq!(of("/tokenize"), [None, None]);
    wait(remote.tokenize("abc".into(), Default::default(), trace)).unwrap();
    assert_eq!(of("/tokenize"), with(Some("a=1,b=2")));
    assert_eq!(of("/v1/models"), [None, None]);
    let bare = Some(Trace { parent: parent.into(), state: None });
    ask(&remote, Request { trace: bare, ..plain.clone() }).unwrap();
    assert_eq!(of("/v1/chat/completions"), with(None));
    ask(&remote, plain).unwrap();
    assert_eq!(of("/v1/chat/completions"), [None, None]);
}

#[test]
fn what_a_server_cannot_do_is_the_requests_fault_and_says_nothing_of_its_health() {
    let server = Standin::new(vec![whole("x")]);
    let remote = remote(&[&server]);
    server.only_answers();
    for _ in 0..5 {
        let refused = wait(remote.embed(EmbedRequest::new(["a"]))).unwrap_err();
        assert_eq!(refused.cause, Some(Cause::Incapable("embeddings".into())));
        assert_eq!(refused.kind, ErrorKind::Validation);
        let said = &refused.message;
        assert!(said.starts_with("the model's server does not support embeddings: "), "{said}");
        assert!(said.ends_with("Not Found"), "{said}");
        let refused = wait(remote.rerank(RerankRequest::new("q", ["a"]))).unwrap_err();
        assert_eq!(refused.cause, Some(Cause::Incapable("rerank".into())));
        assert!(wait(remote.detokenize(vec![1], None)).is_err());
    }
    assert_eq!(ask(&remote, Request::prompt("hi")).unwrap().text, "x");
}

#[test]
fn a_bound_of_the_servers_own_is_told() {
    let server = Standin::new(vec![stream(vec![text("a b"), finish("length"), usage(), done()])]);
    let mut request = Request::prompt("hi");
    request.limits.max_tokens = Some(100);
    let remote = remote(&[&server]);
    assert_eq!(ask(&remote, request.clone()).unwrap().end, Some(EndReason::Capped));
    request.limits.max_tokens = Some(2);
    assert_eq!(ask(&remote, request).unwrap().end, Some(EndReason::MaxTokens));
}

#[test]
fn nobody_there_and_another_model_are_said_at_the_start() {
    let gone = Standin::new(vec![whole("x")]).address;
    let failure = Remote::start(&place(&[gone]), None, PATIENCE, None).unwrap_err();
    assert!(failure.message.contains(&gone.to_string()), "{failure}");
    assert!(failure.message.contains("it does not answer"), "{failure}");
    let server = Standin::new(vec![whole("x")]);
    let other = Place::parse(&format!("m=vllm:http://{}#other", server.address)).unwrap();
    let failure = Remote::start(&other, None, PATIENCE, None).unwrap_err();
    assert!(failure.message.contains("no model 'other', but far-model"), "{failure}");
}
