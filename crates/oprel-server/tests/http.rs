//! The server over real connections, with the demo model in this process.

#[path = "http/documented.rs"]
mod documented;
#[path = "http/stored.rs"]
mod stored;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use oprel_api::Failure;
use oprel_backend::{Backend, LoadOptions, ModelSource, Native};
use oprel_hub::{Access, Store};
use oprel_server::conversations::{Bounds, Embedded};
use oprel_server::{Gate, KeepAlive, Keys, Limits, Options, Policy, Scope, Server};
use serde_json::{Value, json};
use tokio::sync::watch;

/// A server on a port of its own, until it is dropped.
struct Running {
    address: SocketAddr,
    stop: watch::Sender<u32>,
    thread: Option<std::thread::JoinHandle<()>>,
    folder: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

fn start_native(source: &ModelSource, options: &LoadOptions) -> Result<Arc<dyn Backend>, Failure> {
    Ok(Arc::new(Native::load(source, options)?))
}

fn running() -> Running {
    running_with(|_| {})
}

fn running_with(change: impl FnOnce(&mut Options)) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let load = LoadOptions { context: Some(512), threads: Some(1), ..LoadOptions::default() };
    let mut options = Options {
        addresses: vec!["127.0.0.1:0".parse().unwrap()],
        socket: Some(folder.path().join("run/oprel.sock")),
        given: Vec::new(),
        gate: Gate::default(),
        keys: Keys::at(folder.path().join("keys")),
        keys_for_all: false,
        conversations: Some(Arc::new(
            Embedded::open(&folder.path().join("c.redb"), Bounds::default()).unwrap(),
        )),
        models: Policy {
            start: Arc::new(start_native),
            elsewhere: Vec::new(),
            fetcher: Some(oprel::fetcher().unwrap()),
            catalog: Default::default(),
            store: Some(Store::open(folder.path().join("models"), Access::Write).unwrap()),
            load,
            keep_alive: KeepAlive::For(Duration::from_secs(300)),
            most: None,
            most_waiting: 16,
            patience: Duration::from_secs(5),
        },
        limits: Limits { head: Duration::from_secs(1), ..Limits::default() },
        spans: None,
        tls: None,
        most_body: 1 << 20,
        version: "0.32.0".into(),
        context: None,
    };
    change(&mut options);
    let (stop, stopped) = watch::channel(0);
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::bind(options).await.unwrap();
            tell.send(server.addresses()[0]).unwrap();
            server.run(stopped).await;
        });
    });
    Running { address: told.recv().unwrap(), stop, thread: Some(thread), folder }
}

impl Running {
    fn raw(&self, text: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        read_reply(stream)
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        let (address, n) = (self.address, body.len());
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}Content-Length: {n}\r\n\r\n{body}"
        ))
    }

    fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "", "")
    }

    fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, "", &body.to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop.send(2);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    fn lines(&self) -> Vec<Value> {
        self.body.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|l| l.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }
}

fn read_reply(mut stream: impl Read) -> Reply {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let text = String::from_utf8(all).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunked(body) } else { body.to_string() };
    Reply { status, head: head.to_string(), body }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let n = usize::from_str_radix(size, 16).unwrap_or(0);
        if n == 0 {
            break;
        }
        whole.push_str(&rest[..n]);
        body = rest[n..].trim_start_matches("\r\n");
    }
    whole
}

fn chat(n: u32) -> Value {
    json!({"model": "demo", "messages": [{"role": "user", "content": "Tell me a story."}],
        "options": {"num_predict": n, "temperature": 0, "seed": 1}})
}

#[test]
fn somebody_is_there() {
    let server = running();
    assert_eq!(server.get("/").body, "Ollama is running");
    assert_eq!(server.send("HEAD", "/", "", "").status, 200);
    assert_eq!(server.get("/api/version").json(), json!({"version": "0.32.0"}));
    let tags = server.get("/api/tags").json();
    let demo = &tags["models"][0];
    assert_eq!(
        (&demo["name"], &demo["details"]["family"]),
        (&json!("demo:latest"), &json!("llama"))
    );
    assert!(demo["size"].as_u64().unwrap() > 1 << 20 && tags["models"][1].is_null(), "{tags}");
    let missing = server.get("/nowhere");
    assert_eq!((missing.status, missing.body.as_str()), (404, "404 page not found"));
    assert_eq!(server.send("PUT", "/api/chat", "", "").status, 405);
    assert_eq!(server.get("/health").json()["ready"], true);
}

#[test]
fn an_answer_streams_and_is_the_same_at_once() {
    let server = running();
    let stream = server.post("/api/chat", &chat(6));
    assert_eq!(stream.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(stream.header("x-oprel-backend"), Some("native"));
    let lines = stream.lines();
    let last = lines.last().unwrap();
    assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!("length")));
    assert_eq!(last["eval_count"], 6);
    assert_eq!(lines.iter().filter(|l| l["done"] == true).count(), 1);
    let text: String =
        lines.iter().map(|l| l["message"]["content"].as_str().unwrap().to_string()).collect();
    let mut body = chat(6);
    body["stream"] = json!(false);
    let whole = server.post("/api/chat", &body).json();
    assert_eq!(whole["message"]["content"], text);
    // The same over the other dialects.
    let body = json!({"model": "demo", "max_tokens": 6, "temperature": 0,
        "messages": [{"role": "user", "content": "Tell me a story."}]});
    let openai = server.post("/v1/chat/completions", &body).json();
    assert_eq!(openai["choices"][0]["message"]["content"], text);
    let anthropic = server.post("/v1/messages", &body).json();
    assert_eq!(anthropic["content"][0]["text"], text);
    let own = json!({"model": "demo", "sampling": {"temperature": 0, "seed": 1}, "request": {
        "input": {"messages": {"messages": [{"role": "user", "content": "Tell me a story."}]}},
        "limits": {"max_tokens": 6}}});
    let own: String = server
        .post("/oprel/generate", &own)
        .lines()
        .iter()
        .filter_map(|l| Some(l["event"]["text"]["text"].as_str()?.to_string()))
        .collect();
    assert_eq!(own, text);
    let prompt =
        json!({"model": "demo", "prompt": "hi", "stream": false, "options": {"num_predict": 3}});
    let prompt = server.post("/api/generate", &prompt).json();
    let tokens = prompt["prompt_eval_count"].as_u64().unwrap() + 3;
    assert_eq!(prompt["context"].as_array().unwrap().len() as u64, tokens);
    let count = server.post("/v1/messages/count_tokens", &body).json();
    assert_eq!(count["input_tokens"], whole["prompt_eval_count"]);
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_the_dialect() {
    let server = running();
    let empty = server.send("POST", "/api/chat", "", "");
    assert_eq!((empty.status, empty.json()), (400, json!({"error": "missing request body"})));
    let unknown = server.post("/api/generate", &json!({"model": "nope", "prompt": "x"}));
    assert_eq!((unknown.status, unknown.json()), (404, json!({"error": "model 'nope' not found"})));
    let openai = server.post(
        "/v1/chat/completions",
        &json!({"model": "nope", "messages": [
        {"role": "user", "content": "x"}]}),
    );
    assert_eq!((openai.status, &openai.json()["error"]["type"]), (404, &json!("not_found_error")));
    let odd =
        server.send("POST", "/api/chat", "Content-Type: text/plain\r\n", &chat(1).to_string());
    assert_eq!(odd.status, 200);
    let long = json!({"model": "demo", "truncate": false, "shift": false,
        "messages": [{"role": "user", "content": "word ".repeat(2000)}]});
    let long = server.post("/api/chat", &long);
    assert_eq!(long.status, 400);
    assert!(long.body.contains("context"), "{}", long.body);
    let big = server.send("POST", "/api/chat", "", &" ".repeat(2 << 20));
    assert_eq!(big.status, 413);
    let ignored = json!({"model": "demo", "prompt": "x", "stream": false, "strange": 1,
        "options": {"num_predict": 1, "numa": true}});
    let ignored = server.post("/api/generate", &ignored);
    let named = ignored.header("x-oprel-ignored").unwrap();
    assert!(named.contains("strange") && named.contains("numa"), "{named}");
}

#[test]
fn pages_and_names_of_elsewhere_are_not_let_in() {
    let server = running();
    assert_eq!(
        server.raw("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").status,
        403
    );
    assert_eq!(server.raw("GET / HTTP/1.0\r\n\r\n").status, 403);
    let two =
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert!([400, 403].contains(&server.raw(two).status));
    let preflight = server.send("OPTIONS", "/api/chat", "Origin: http://localhost:3000\r\n", "");
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("http://localhost:3000"));
    for origin in ["https://evil.example", "null"] {
        let header = format!("Origin: {origin}\r\n");
        assert_eq!(server.send("POST", "/api/chat", &header, "{}").status, 403, "{origin}");
    }
    assert_eq!(server.send("GET", "/", "Sec-Fetch-Site: cross-site\r\n", "").status, 403);
}

#[test]
fn a_model_is_named_by_its_path_where_the_client_may_see_files() {
    let server = running();
    let missing = json!({"model": "/no/such.gguf", "prompt": "x"});
    let missing = server.post("/api/generate", &missing);
    assert_eq!(
        (missing.status, missing.json()),
        (404, json!({"error": "model '/no/such.gguf' not found"}))
    );
    let page = server.send(
        "POST",
        "/api/show",
        "Origin: http://localhost\r\n",
        &json!({"model": "/etc/passwd"}).to_string(),
    );
    assert_eq!(page.status, 404);
    let no_model = server.post("/api/show", &json!({"model": "/etc/passwd"}));
    assert!(no_model.status >= 400, "{no_model:?}");
    let shown = server.post("/api/show", &json!({"model": "demo"})).json();
    assert!(shown["model_info"].is_object() && shown["details"]["format"] == "gguf");
    assert!(shown["capabilities"].as_array().unwrap().contains(&json!("tools")));
}

#[test]
fn models_come_and_go() {
    let server = running();
    let loaded = server.post("/api/generate", &json!({"model": "demo"})).json();
    assert_eq!(loaded["done_reason"], "load");
    let ps = server.get("/api/ps").json();
    assert_eq!(ps["models"][0]["name"], "demo:latest");
    assert!(ps["models"][0]["context_length"].as_u64().unwrap() > 0);
    let gone = server.post("/api/generate", &json!({"model": "demo", "keep_alive": 0})).json();
    assert_eq!(gone["done_reason"], "unload");
    assert_eq!(server.get("/api/ps").json(), json!({"models": []}));
    let mut short = chat(2);
    short["keep_alive"] = json!("300ms");
    server.post("/api/chat", &short);
    assert_eq!(server.get("/api/ps").json()["models"].as_array().unwrap().len(), 1);
    let start = Instant::now();
    while server.get("/api/ps").json() != json!({"models": []}) {
        assert!(start.elapsed() < Duration::from_secs(5), "it stays");
        std::thread::sleep(Duration::from_millis(50));
    }
    let bad = json!({"model": "demo", "prompt": "x", "keep_alive": "30"});
    assert_eq!(server.post("/api/generate", &bad).status, 400);
}

#[test]
fn many_at_once_load_one_model_and_all_are_answered() {
    let server = running();
    let alone = {
        let mut body = chat(12);
        body["stream"] = json!(false);
        server.post("/api/chat", &body).json()["message"].clone()
    };
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let mut body = chat(12);
                body["stream"] = json!(false);
                assert_eq!(server.post("/api/chat", &body).json()["message"], alone);
            });
        }
    });
}

#[test]
fn models_that_wait_to_be_loaded_take_no_room() {
    let server = running_with(|options| {
        options.models.most = Some(1);
        options.models.patience = Duration::from_secs(60);
    });
    let names: Vec<String> = (0..3)
        .map(|n| {
            let path = server.folder.path().join(format!("{n}.gguf"));
            std::fs::copy(
                concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/oprel-demo-q8_0.gguf"),
                &path,
            )
            .unwrap();
            path.display().to_string()
        })
        .collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for name in &names {
            let server = &server;
            scope.spawn(move || {
                let body = json!({"model": name, "prompt": "Hi", "stream": false,
                    "options": {"num_predict": 1}});
                let reply = server.post("/api/generate", &body);
                assert_eq!(reply.status, 200, "{}", reply.body);
            });
        }
    });
    assert!(start.elapsed() < Duration::from_secs(40), "they waited for each other");
    assert_eq!(server.get("/api/ps").json()["models"].as_array().unwrap().len(), 1);
}

#[test]
fn a_model_that_is_wanted_again_while_it_goes_is_there() {
    let server = running();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..8 {
                    let body = json!({"model": "demo", "prompt": "Hi", "stream": false,
                        "keep_alive": 0, "options": {"num_predict": 1}});
                    let reply = server.post("/api/generate", &body);
                    assert_eq!(reply.status, 200, "{}", reply.body);
                }
            });
        }
    });
}

#[test]
fn a_client_that_goes_away_is_forgotten() {
    let server = running();
    server.post("/api/generate", &json!({"model": "demo"}));
    let body = chat(400).to_string();
    let mut stream = TcpStream::connect(server.address).unwrap();
    let n = body.len();
    write!(
        stream,
        "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {n}\r\n\r\n{body}"
    )
    .unwrap();
    let mut some = [0; 64];
    stream.read_exact(&mut some).unwrap();
    drop(stream);
    let start = Instant::now();
    let running = || {
        let text = server.get("/metrics").body;
        let line = text.lines().find(|l| l.starts_with("oprel_sequences_running")).unwrap();
        line.ends_with(" 0")
    };
    while !running() {
        assert!(start.elapsed() < Duration::from_secs(1), "it still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn metrics_add_up() {
    let server = running();
    for _ in 0..3 {
        server.post("/api/chat", &chat(2));
    }
    server.post(
        "/api/chat",
        &json!({"model": "demo", "messages": [{"role": "user", "content": "x"}],
        "options": {"top_p": 9}}),
    );
    let text = server.get("/metrics").body;
    let value = |name: &str| -> f64 {
        let lines = text.lines().filter(|l| l.starts_with(name));
        lines.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    };
    assert_eq!(value("oprel_requests_total"), 4.0, "{text}");
    assert_eq!(value("oprel_e2e_request_latency_seconds_count"), 4.0);
    assert_eq!(value("oprel_generation_tokens_total"), 6.0);
    assert_eq!(value("oprel_requests_running"), 0.0);
    let open = server.send("GET", "/metrics", "Accept: application/openmetrics-text\r\n", "");
    assert!(open.body.ends_with("# EOF\n") && !text.contains("# EOF"));
}

#[test]
fn keys_are_asked_for_where_they_must() {
    let server = running_with(|options| options.keys_for_all = true);
    let path = server.folder.path().join("keys");
    let keys = Keys::at(&path);
    assert_eq!(server.get("/api/tags").status, 200, "there are no keys yet");
    let chat_key = keys.create("a", vec![Scope::Chat], None).unwrap().text;
    std::thread::sleep(Duration::from_millis(600));
    let refused = server.get("/api/tags");
    assert_eq!(refused.status, 401);
    assert!(refused.json()["error"].as_str().unwrap().contains("key"));
    assert_eq!(server.get("/health").status, 200);
    let with = |header: &str, path: &str, body: &str| {
        let method = if body.is_empty() { "GET" } else { "POST" };
        server.send(method, path, &format!("{header}\r\n"), body).status
    };
    let bearer = format!("Authorization: Bearer {chat_key}");
    assert_eq!(with(&bearer, "/api/tags", ""), 403);
    assert_eq!(with(&bearer, "/api/chat", &chat(1).to_string()), 200);
    assert_eq!(with(&format!("x-api-key: {chat_key}"), "/api/chat", &chat(1).to_string()), 200);
    assert_eq!(with("Authorization: Bearer opk_x_y", "/api/chat", &chat(1).to_string()), 401);
    let anthropic = server.post("/v1/messages", &json!({}));
    assert_eq!((anthropic.status, &anthropic.json()["type"]), (401, &json!("error")));
    for gone in [keys.remove("a").is_ok(), std::fs::remove_file(&path).is_ok()] {
        assert!(gone);
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(server.get("/api/tags").status, 401, "what was closed does not open");
    }
}

#[cfg(unix)]
#[test]
fn the_socket_is_for_its_owner_and_goes_with_the_server() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    let mut server = running();
    let path = server.folder.path().join("run/oprel.sock");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"GET /api/version HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert_eq!(read_reply(stream).status, 200);
    let _ = server.stop.send(1);
    server.thread.take().unwrap().join().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_stopping_server_lets_answers_finish() {
    let mut server = running();
    server.post("/api/generate", &json!({"model": "demo"}));
    let address = server.address;
    let answer = std::thread::spawn(move || {
        let body = chat(300).to_string();
        let mut stream = TcpStream::connect(address).unwrap();
        let n = body.len();
        write!(stream, "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {n}\r\n\r\n{body}").unwrap();
        read_reply(stream)
    });
    std::thread::sleep(Duration::from_millis(60));
    let _ = server.stop.send(1);
    server.thread.take().unwrap().join().unwrap();
    let reply = answer.join().unwrap();
    // It was answered whole, or told that the server stops.
    assert!(reply.status == 503 || reply.lines().last().unwrap()["done"] == true, "{reply:?}");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_conversation_is_remembered_turn_by_turn() {
    let server = running();
    let turn = |text: &str| {
        let body = json!({"model": "demo", "prompt": text, "conversation_id": "c1",
            "stream": false, "options": {"num_predict": 5, "temperature": 0}});
        server.post("/generate", &body)
    };
    let first = turn("What is oprel?");
    assert_eq!(first.header("x-oprel-conversation"), Some("c1"));
    let said = first.json()["message"]["content"].clone();
    let items = || server.get("/conversations/c1").json()["items"].as_array().unwrap().clone();
    let start = Instant::now();
    while items().len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(2));
    }
    assert_eq!(items()[1]["message"]["content"], said);
    assert_eq!(items()[1]["incomplete"], true, "five tokens are not the whole");
    let second = turn("And how fast is it?");
    assert!(
        second.json()["prompt_eval_count"].as_u64() > first.json()["prompt_eval_count"].as_u64()
    );
    let all = server.get("/conversations").json();
    assert_eq!(all["conversations"][0]["id"], "c1");
    assert_eq!(server.send("DELETE", "/conversations/c1", "", "").status, 200);
    assert_eq!(server.get("/conversations/c1").status, 404);
    let bad = json!({"model": "demo", "prompt": "x", "conversation_id": "../x"});
    assert_eq!(server.post("/generate", &bad).status, 400);
}

#[test]
fn ranking_wants_a_model_that_ranks() {
    let server = running();
    let ask = |documents: Value| {
        server.post("/v1/rerank", &json!({"model": "demo", "query": "q", "documents": documents}))
    };
    let cannot = ask(json!(["a", {"text": "b"}]));
    assert_eq!(cannot.status, 400);
    assert!(cannot.body.contains("rank"), "{}", cannot.body);
    for bad in [json!([]), json!("a"), json!([1]), json!([{"title": "x"}]), Value::Null] {
        assert_eq!(ask(bad.clone()).status, 400, "{bad}");
    }
}

#[test]
fn half_a_request_does_not_wait_for_ever() {
    let server = running();
    let mut stuck: Vec<TcpStream> = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(b"POST /api/chat HTTP/1.1\r\nHost: local").unwrap();
        stuck.push(stream);
    }
    let start = Instant::now();
    assert_eq!(server.get("/health").status, 200);
    assert!(start.elapsed() < Duration::from_millis(500));
    let mut rest = Vec::new();
    // One that never says anything is closed as well.
    let mut silent = TcpStream::connect(server.address).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(silent.read_to_end(&mut rest).is_ok_and(|n| n == 0));
    stuck[0].set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // It is closed, with or without a word.
    assert!(stuck[0].read_to_end(&mut rest).is_ok());
}

#[test]
fn what_may_become_http_2_does_not_wait_for_ever_either() {
    let short =
        Limits { head: Duration::from_secs(1), stall: Duration::from_secs(1), ..Limits::default() };
    let server = running_with(|options| options.limits = short);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let whole = [&preface[..], b"\0\0\0\x04\0\0\0\0\0"].concat();
    let begun = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    };
    // A greeting that breaks off, and ones after which nothing comes, not even an answer to a ping.
    let silent = [&b"P"[..], &preface[..20], preface, &whole];
    for (mut stream, bytes) in silent.map(|bytes| (begun(bytes), bytes)) {
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(ended.is_ok() || !is_late(&ended.unwrap_err()), "{} bytes", bytes.len());
    }
    // Byte by byte it may come, in time.
    let mut slow = begun(b"");
    for byte in b"PUT / HTTP/1.0\r\n\r\n" {
        slow.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(read_reply(slow).head.starts_with("HTTP/1.0 "));
}

#[test]
fn an_answer_of_http_2_that_nobody_takes_is_given_up_while_its_connection_lives() {
    let short = Limits { stall: Duration::from_secs(1), ..Limits::default() };
    let server = running_with(|options| options.limits = short);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (mut sender, connection) = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1000);
        builder.handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap()
    });
    // It answers pings whatever else is not taken.
    let connection = runtime.spawn(connection);
    let story = json!({"model": "demo", "prompt": "Once", "raw": true,
        "options": {"num_predict": 400, "temperature": 2}});
    let mut ask = |body: &Value| {
        let request = Request::post(format!("http://{}/api/generate", server.address));
        let request = request.body(Full::from(body.to_string())).unwrap();
        runtime.block_on(sender.send_request(request)).unwrap()
    };
    let stalled = ask(&story);
    assert_eq!(stalled.status(), 200);
    let running = || {
        let text = server.get("/metrics").body;
        text.lines()
            .any(|line| line.starts_with("oprel_requests_running{") && line.ends_with("} 1"))
    };
    assert!(running());
    let start = Instant::now();
    while running() {
        assert!(start.elapsed() < Duration::from_secs(10), "it is held for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(start.elapsed() > Duration::from_millis(500), "it was not given time");
    // Others on the same connection are served, and whoever takes what comes gets all of it, however long it takes.
    let whole = runtime.block_on(ask(&story).into_body().collect()).unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&whole).contains("\"done\":true"));
    assert!(!connection.is_finished());
    assert!(runtime.block_on(stalled.into_body().collect()).is_err(), "it is told");
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
