//! What requests took, told to a collector: `cargo test -p oprel-cli --features otel --test otel`.
#![cfg(all(unix, feature = "otel"))]

mod daemon;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// A request that the collector was sent.
struct Sent {
    head: String,
    body: Value,
}

/// A stand-in for a collector: its address, and what it is sent.
fn collector() -> (String, Receiver<Sent>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let tell = tell.clone();
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while let Some(sent) = read(&mut reader) {
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
                    stream.write_all(answer.as_bytes()).unwrap();
                    let _ = tell.send(sent);
                }
            });
        }
    });
    (address, told)
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Sent> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let n = head.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
    let mut body = vec![0; n];
    reader.read_exact(&mut body).ok()?;
    Some(Sent { head, body: serde_json::from_slice(&body).unwrap() })
}

fn attribute(span: &Value, key: &str) -> Value {
    let all = span["attributes"].as_array().unwrap();
    all.iter().find(|one| one["key"] == key).map_or(Value::Null, |one| one["value"].clone())
}

#[test]
fn a_request_is_told_with_its_trace_its_tokens_and_its_failure() {
    let (address, told) = collector();
    let endpoint = format!("http://{address}/otlp");
    let set = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b"),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ("OTEL_SERVICE_NAME", "tested"),
    ];
    let mut server = daemon::start(&["--no-socket"], &set).unwrap_or_else(|o| panic!("{o:?}"));
    let heard = || told.recv_timeout(Duration::from_secs(20)).unwrap();
    let parent = |kept: &str| {
        format!("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{kept}\r\n")
    };
    let ask = |path: &str, headers: &str, body: &Value| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let (host, body) = (&server.address, body.to_string());
        let n = body.len();
        write!(stream, "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}Content-Length: {n}\r\n\r\n{body}").unwrap();
        let mut all = String::new();
        let _ = stream.read_to_string(&mut all);
        all
    };
    let chat = |model: &str, stream: bool| {
        json!({"model": model, "stream": stream, "max_tokens": 5, "temperature": 0.5,
            "messages": [{"role": "user", "content": "What is oprel?"}]})
    };
    let route = "/v1/chat/completions";
    // One whose trace is not kept is not told; what is told first is the next.
    assert!(ask(route, &parent("00"), &chat("demo", false)).contains("200 OK"));
    assert!(ask(route, &parent("01"), &chat("demo", true)).contains("[DONE]"));
    let sent = heard();
    assert!(sent.head.starts_with("post /otlp/v1/traces "), "{}", sent.head);
    assert!(
        sent.head.contains("content-type: application/json") && sent.head.contains("x-key: a b")
    );
    let all = &sent.body["resourceSpans"][0];
    let name = json!({"key": "service.name", "value": {"stringValue": "tested"}});
    assert!(all["resource"]["attributes"].as_array().unwrap().contains(&name));
    let span = &all["scopeSpans"][0]["spans"][0];
    assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(
        (&span["parentSpanId"], &span["name"]),
        (&json!("b7ad6b7169203331"), &json!("chat demo"))
    );
    assert_eq!(attribute(span, "gen_ai.usage.output_tokens"), json!({"intValue": "5"}));
    assert_eq!(attribute(span, "oprel.backend"), json!({"stringValue": "worker"}));
    let ends = attribute(span, "gen_ai.response.finish_reasons");
    assert_eq!(ends["arrayValue"]["values"][0]["stringValue"], "length");
    let first =
        attribute(span, "gen_ai.server.time_to_first_token")["doubleValue"].as_f64().unwrap();
    let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
    let took = (time("endTimeUnixNano") - time("startTimeUnixNano")) as f64 / 1e9;
    assert!(first > 0.0 && first < took && took < 60.0, "{first} of {took}");
    assert!(!sent.body.to_string().contains("What is oprel"), "no prompts");
    // One that fails before there is a model.
    assert!(ask(route, "", &chat("nope", false)).contains("404"));
    let sent = heard();
    let span = &sent.body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(attribute(span, "error.type"), json!({"stringValue": "model_not_found"}));
    assert_eq!((&span["status"]["code"], span.get("parentSpanId")), (&json!(2), None));
    // Vectors, told before the server ends.
    assert!(ask("/v1/embeddings", "", &json!({"model": "demo", "input": "hi"})).contains("200 OK"));
    server.signal("-TERM");
    assert_eq!(server.ended(), Some(0));
    let sent = heard();
    let span = &sent.body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(span["name"], "embeddings demo");
    assert!(attribute(span, "gen_ai.usage.input_tokens")["intValue"].is_string());
}

/// The first step of a batch.
fn first(sent: &Sent) -> &Value {
    &sent.body["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
}

#[test]
fn rankings_and_tokens_are_told_too_and_prompts_are_not() {
    let (address, told) = collector();
    let endpoint = format!("http://{address}");
    let set =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "1")];
    let server = daemon::start(&["--no-socket"], &set).unwrap_or_else(|o| panic!("{o:?}"));
    let messages = json!([{"role": "user", "content": "Secret?"}]);
    let count = json!({"model": "demo", "messages": messages, "max_tokens": 1});
    let text = json!({"model": "demo", "text": "Secret?"});
    let named = json!({"model": "demo", "request": {"text": "Secret?", "add_special": true, "parse_special": true}});
    let rank = json!({"model": "demo", "query": "Secret?", "documents": ["a"]});
    // What is asked, what it is called, and why it fails.
    let table = [
        ("/tokenize", &text, "tokenize demo", Value::Null),
        ("/oprel/tokenize", &named, "tokenize demo", Value::Null),
        ("/v1/messages/count_tokens", &count, "tokenize demo", Value::Null),
        ("/v1/rerank", &rank, "rerank demo", json!({"stringValue": "validation"})),
        ("/detokenize", &text, "detokenize demo", json!({"stringValue": "validation"})),
    ];
    for (path, body, name, error) in table {
        let said = server.post(path, &body.to_string());
        assert!(said.contains(if error.is_null() { "200 OK" } else { " 400 " }), "{path}: {said}");
        let sent = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(first(&sent)["name"], name, "{path}");
        assert_eq!(attribute(first(&sent), "error.type"), error, "{path}");
        assert!(!sent.body.to_string().contains("Secret"), "{path}");
    }
}

#[test]
fn a_server_elsewhere_is_told_whose_step_its_request_is() {
    let heard = |told: &Receiver<Sent>| told.recv_timeout(Duration::from_secs(20)).unwrap();
    let start = |args: &[&str], collector: Option<&str>| {
        let endpoint = collector.map(|address| format!("http://{address}"));
        let mut set = vec![("OTEL_BSP_SCHEDULE_DELAY", "1")];
        set.extend(endpoint.iter().map(|url| ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())));
        let args = [&["--no-socket"], args].concat();
        daemon::start(&args, &set).unwrap_or_else(|o| panic!("{o:?}"))
    };
    let (far_collector, far_told) = collector();
    let far = start(&[], Some(&far_collector));
    let place = format!("far=generic:http://{}/v1#demo:latest", far.address);
    let (trace, step) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let ask = |server: &daemon::Server, path: &str, body: &Value| {
        let (host, body) = (&server.address, body.to_string());
        let mut stream = TcpStream::connect(host).unwrap();
        write!(stream, "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\ntraceparent: 00-{trace}-{step}-01\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut all = String::new();
        let _ = stream.read_to_string(&mut all);
        assert!(all.contains("200 OK"), "{all}");
    };
    let chat = json!({"model": "far", "stream": false, "options": {"num_predict": 2},
        "messages": [{"role": "user", "content": "Hi"}]});
    let embed = json!({"model": "far", "input": "Hi"});
    let asks = [("/api/chat", &chat), ("/api/embed", &embed)];
    // One that is told of its own steps stands between; one that is not passes on what it was told.
    let (near_collector, near_told) = collector();
    let near = start(&["--remote", &place], Some(&near_collector));
    for (path, body) in asks {
        ask(&near, path, body);
        let (near, far) = (heard(&near_told), heard(&far_told));
        assert_eq!([&first(&near)["traceId"], &first(&far)["traceId"]], [trace, trace], "{path}");
        assert_eq!(first(&near)["parentSpanId"], step, "{path}");
        assert_eq!(first(&far)["parentSpanId"], first(&near)["spanId"], "{path}");
    }
    let silent = start(&["--remote", &place], None);
    for (path, body) in asks {
        ask(&silent, path, body);
        assert_eq!(first(&heard(&far_told))["parentSpanId"], step, "{path}");
    }
}

#[test]
fn a_collector_that_is_not_there_hurts_nobody_and_a_wrong_address_is_told() {
    let set =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_BSP_SCHEDULE_DELAY", "1")];
    let mut server = daemon::start(&["--no-socket"], &set).unwrap_or_else(|o| panic!("{o:?}"));
    let body = r#"{"model":"demo","prompt":"hi","stream":false,"options":{"num_predict":2}}"#;
    assert!(server.post("/api/generate", body).contains("200 OK"));
    server.signal("-TERM");
    assert_eq!(server.ended(), Some(0));
    assert!(server.log().contains("traces were not taken"), "{}", server.log());
    let set = [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")];
    let server = daemon::start(&["--no-socket"], &set).unwrap_or_else(|o| panic!("{o:?}"));
    assert!(server.post("/api/generate", body).contains("200 OK"));
}
