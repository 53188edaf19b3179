//! llama.cpp's server as a child: a fake one that does what it should not, and the real one where it is found.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use oprel_api::{Answer, Constraint, EndReason, Failure, Request, Trace};
use oprel_backend::{Backend, Health, LoadOptions, wait};
use oprel_remote::{LlamaLaunch, LlamaPatience, LlamaServer};
use serde_json::{Value, json};

/// Says to this program that it is the fake, and how it behaves.
const FAKE: &str = "OPREL_TEST_FAKE_LLAMA";

/// A program that is this test as the fake.
fn program(folder: &Path, behaviour: &str) -> PathBuf {
    let path = folder.join("llama-server");
    let own = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'version: 0.7.0 (build 11669, fake)' >&2; exit 0; fi\n\
         {FAKE}='{behaviour}' ARGUMENTS=\"$*\" exec '{}' --exact --nocapture --ignored fake\n",
        own.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn launch(program: PathBuf, model: PathBuf) -> LlamaLaunch {
    let patience = LlamaPatience { stall: Duration::from_millis(800), ..LlamaPatience::default() };
    let options = LoadOptions {
        context: Some(512),
        parallel: Some(2),
        threads: Some(1),
        ..LoadOptions::default()
    };
    LlamaLaunch { program, leash: Vec::new(), model, options, patience }
}

fn start(behaviour: &str) -> (Result<LlamaServer, Failure>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path(), behaviour);
    (LlamaServer::start(&launch(program, "/no/model.gguf".into())), folder)
}

fn ask(server: &LlamaServer, text: &str) -> Result<Answer, Failure> {
    let mut streams = wait(server.generate(Request::prompt(text)))?;
    Answer::fold(streams.remove(0))
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn it_is_asked_over_its_own_socket_with_its_own_key() {
    let (server, _folder) = start("well");
    let server = server.unwrap();
    assert_eq!((server.kind(), server.health()), ("llama-server", Health::Ready));
    let said = ask(&server, "arguments").unwrap().text;
    assert!(said.contains("--parallel 2 --ctx-size 1024"), "{said}");
    assert!(said.contains("--host /") && !said.contains("--api-key "), "{said}");
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_string();
    let trace = Some(Trace { parent: parent.clone(), state: None });
    let mut streams = wait(server.generate(Request { trace, ..Request::prompt("trace") })).unwrap();
    assert_eq!(Answer::fold(streams.remove(0)).unwrap().text, parent);
    let pid = server.pid().unwrap();
    drop(server);
    assert!(!lives(pid));
    let socket = said.split(' ').find(|word| word.ends_with("l.sock")).unwrap();
    assert!(!Path::new(socket).parent().unwrap().exists());
}

#[test]
fn a_load_that_gets_on_is_waited_for_and_one_that_stalls_is_not() {
    let (server, _folder) = start("slow");
    assert_eq!(ask(&server.unwrap(), "hi").unwrap().text, "hi");
    let (server, _folder) = start("stalls");
    let failure = server.unwrap_err();
    assert!(failure.message.contains("does not get on with loading"), "{failure}");
}

#[test]
fn one_that_cannot_load_says_why_at_once() {
    let begun = Instant::now();
    let (server, _folder) = start("dies");
    let failure = server.unwrap_err();
    assert!(failure.message.contains("failed to allocate 9 GiB"), "{failure}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn after_a_crash_it_serves_again_and_open_answers_end_with_an_error() {
    let (server, _folder) = start("well");
    let server = server.unwrap();
    for n in 1..=2 {
        let before = server.pid();
        let failure = ask(&server, "die").unwrap_err();
        assert!(failure.message.contains("broke off"), "{failure}");
        until("no other process", || server.pid().is_some() && server.pid() != before);
        assert_eq!(ask(&server, "hi").unwrap().text, "hi");
        assert_eq!((server.restarts(), server.health()), (n, Health::Ready));
    }
}

#[test]
fn one_that_crashes_again_and_again_is_given_up() {
    let (server, _folder) = start("well");
    let server = server.unwrap();
    until("it is not given up", || {
        let _ = ask(&server, "die");
        matches!(server.health(), Health::Failed(_))
    });
    let failure = ask(&server, "hi").unwrap_err();
    assert!(failure.message.contains("again and again"), "{failure}");
}

#[test]
fn one_that_hangs_is_killed_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut launch = launch(program(folder.path(), "well"), "/no/model.gguf".into());
    launch.patience.ill = Duration::from_secs(1);
    let server = LlamaServer::start(&launch).unwrap();
    let before = server.pid();
    assert_eq!(ask(&server, "hang").unwrap().text, "hang");
    until("it is not replaced", || server.pid().is_some() && server.pid() != before);
    assert_eq!(ask(&server, "hi").unwrap().text, "hi");
    assert!(!lives(before.unwrap()));
}

#[test]
fn stopping_ends_answers_then_the_process() {
    let (server, _folder) = start("well");
    let server = server.unwrap();
    let pid = server.pid().unwrap();
    let mut events = wait(server.generate(Request::prompt("endless"))).unwrap().remove(0);
    assert!(events.next().is_some());
    server.stop();
    assert!(Answer::fold(events).is_err());
    until("it still lives", || !lives(pid));
    assert_eq!(server.health(), Health::Stopped);
    assert!(wait(server.generate(Request::prompt("hi"))).is_err());
}

#[test]
fn the_real_one_answers_and_survives_a_kill() {
    let Some(program) = oprel_remote::find() else {
        eprintln!("skipped: there is no llama-server on PATH nor in OPREL_LLAMA_SERVER");
        return;
    };
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/oprel-demo-q8_0.gguf");
    let mut launch = launch(program, model.into());
    launch.patience.stall = Duration::from_secs(60);
    let server = LlamaServer::start(&launch).unwrap();
    assert_eq!(server.describe().context, 512);
    let request = |n| {
        let mut request = Request::raw("Once upon a time");
        request.limits.max_tokens = Some(n);
        request.sampling.temperature = 0.0;
        request
    };
    let answer = |request| Answer::fold(wait(server.generate(request)).unwrap().remove(0));
    let first = answer(request(8)).unwrap();
    assert_eq!((first.usage.generated_tokens, first.end), (8, Some(EndReason::MaxTokens)));
    let choice = Constraint::Choice(vec!["left".into(), "right".into()]);
    let chosen = answer(Request { constraint: Some(choice), ..Request::raw("Go ") }).unwrap();
    assert!(["left", "right"].contains(&chosen.text.as_str()), "{}", chosen.text);
    let tokens = wait(server.tokenize("Hello".into(), Default::default(), None)).unwrap();
    assert_eq!(wait(server.detokenize(tokens, None)).unwrap().trim(), "Hello");
    let pid = server.pid().unwrap();
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    until("no other process", || server.pid().is_some_and(|other| other != pid));
    assert_eq!(answer(request(8)).unwrap().text, first.text);
    let pid = server.pid().unwrap();
    drop(server);
    assert!(!lives(pid));
}

/// The fake: not a test, but what [`program`] runs.
#[test]
#[ignore = "is run by the other tests"]
fn fake() {
    let Ok(behaviour) = std::env::var(FAKE) else { return };
    let arguments = std::env::var("ARGUMENTS").unwrap();
    let after = |name: &str| {
        let mut words = arguments.split(' ').skip_while(|word| *word != name);
        words.nth(1).unwrap().to_string()
    };
    let key = std::fs::read_to_string(after("--api-key-file")).unwrap();
    let key = format!("Bearer {}", key.trim());
    let begun = Instant::now();
    if behaviour == "dies" {
        eprintln!("load: failed to allocate 9 GiB");
        std::process::exit(1);
    }
    let listener = UnixListener::bind(after("--host")).unwrap();
    if behaviour == "slow" {
        std::thread::spawn(|| {
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(100));
                eprint!(".");
            }
        });
    }
    for stream in listener.incoming() {
        let loaded = match behaviour.as_str() {
            "stalls" => false,
            "slow" => begun.elapsed() > Duration::from_secs(2),
            _ => true,
        };
        let (key, arguments) = (key.clone(), arguments.clone());
        std::thread::spawn(move || serve(stream.unwrap(), loaded, &key, &arguments));
    }
}

/// It says no more that it is well.
static HANGS: AtomicBool = AtomicBool::new(false);

/// Answers one request.
fn serve(mut stream: UnixStream, loaded: bool, key: &str, arguments: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut n, mut given) = (String::new(), 0, String::new());
    let mut trace = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap_or_default().to_string();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => n = value.parse().unwrap(),
            "authorization" => given = value.to_string(),
            "traceparent" => trace = value.to_string(),
            _ => {}
        }
    }
    let mut body = vec![0; n];
    reader.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut respond = |status: u16, kind: &str, body: &str| {
        let n = body.len();
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {n}\r\n\r\n");
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
    };
    match path.as_str() {
        "/health" if HANGS.load(Ordering::Relaxed) => {
            std::thread::sleep(Duration::from_secs(60));
        }
        "/health" => respond(if loaded { 200 } else { 503 }, "application/json", "{}"),
        _ if given != key => respond(401, "application/json", "{\"error\":\"who are you?\"}"),
        "/v1/models" => {
            let models = json!({"data": [{"id": "m", "meta": {"n_ctx": 512}}]});
            respond(200, "application/json", &models.to_string());
        }
        "/v1/chat/completions" => {
            let asked = body["messages"][0]["content"].as_str().unwrap_or_default();
            let said = match asked {
                "arguments" => arguments,
                "trace" => &trace,
                _ => asked,
            };
            let text = json!({"choices": [{"delta": {"content": said}}]});
            let end = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
            match asked {
                "die" | "endless" => {
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
                    let _ = stream.write_all(format!("{head}data: {text}\n\n").as_bytes());
                    std::thread::sleep(Duration::from_millis(100));
                    if asked == "die" {
                        std::process::exit(9);
                    }
                    std::thread::sleep(Duration::from_secs(60));
                }
                _ => {
                    HANGS.fetch_or(asked == "hang", Ordering::Relaxed);
                    let events = format!("data: {text}\n\ndata: {end}\n\ndata: [DONE]\n\n");
                    respond(200, "text/event-stream", &events);
                }
            }
        }
        _ => respond(404, "application/json", "{}"),
    }
}
