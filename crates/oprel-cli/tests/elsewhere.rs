//! The daemon in front of engines of others: a second daemon, and llama.cpp's server where it is found.
#![cfg(unix)]

mod daemon;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use daemon::Server;
use oprel_client::{AsyncClient, Client, Endpoint};
use serde_json::{Value, json};

/// A server, and a client of it.
struct Daemon {
    server: Server,
    client: Client,
}

fn daemon(args: &[&str], variables: &[(&str, &str)]) -> Daemon {
    let args = [&["--no-socket", "--ctx-size", "512"], args].concat();
    let server = daemon::start(&args, variables).unwrap_or_else(|said| panic!("{said:?}"));
    let client = Client::new(AsyncClient::new(Endpoint::parse(&server.address).unwrap())).unwrap();
    Daemon { server, client }
}

fn chat(model: &str) -> Value {
    json!({"model": model, "stream": false, "messages": [{"role": "user", "content": "Tell me a story."}],
        "options": {"num_predict": 6, "temperature": 0}})
}

#[test]
fn a_model_elsewhere_is_known_by_its_name_and_answers_as_there() {
    let far = daemon(&[], &[]);
    let place = format!("far=generic:http://{}/v1#demo:latest", far.server.address);
    let gone = "gone=vllm:http://127.0.0.1:1";
    let near = daemon(&["--remote", &place, "--remote", gone], &[]);
    let there = far.client.post("/api/chat", &chat("demo")).unwrap();
    let here = near.client.post("/api/chat", &chat("far")).unwrap();
    assert_eq!(here["message"], there["message"]);
    assert_eq!((&here["model"], &here["eval_count"]), (&json!("far:latest"), &json!(6)));
    assert_eq!(here["prompt_eval_count"], there["prompt_eval_count"]);
    let names = |list: &Value, key: &str| -> Vec<String> {
        list.as_array().unwrap().iter().map(|m| m[key].as_str().unwrap().to_string()).collect()
    };
    let tags = near.client.get("/api/tags").unwrap();
    assert!(names(&tags["models"], "name").ends_with(&["far:latest".into(), "gone:latest".into()]));
    let listed = near.client.get("/v1/models").unwrap();
    assert_eq!(names(&listed["data"], "id"), ["demo:latest", "far:latest", "gone:latest"]);
    let running = near.client.running().unwrap();
    assert_eq!((running.len(), &running[0]["backend"]), (1, &json!("remote-generic")));
    let models = near.client.get("/models").unwrap();
    assert_eq!(models["models"][0]["servers"][0]["up"], true);
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}},
        "required": ["a"], "additionalProperties": false});
    let mut body = chat("far");
    body["format"] = schema;
    body["options"]["num_predict"] = json!(400);
    let made = near.client.post("/api/chat", &body).unwrap();
    let made: Value = serde_json::from_str(made["message"]["content"].as_str().unwrap()).unwrap();
    assert!(made["a"].is_i64());
    let says = |model: &str| near.client.post("/api/chat", &chat(model)).unwrap_err().to_string();
    assert!(says("gone").contains("http://127.0.0.1:1"));
    assert_eq!(says("nope"), "model 'nope' not found");
    drop(far);
    assert!(says("far").contains("127.0.0.1"));
}

/// A path, and the trace that came with it.
type Asked = (String, Option<String>);

/// A server with vLLM's routes for tokens, and what it was asked.
fn tokens_elsewhere() -> (String, Arc<Mutex<Vec<Asked>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Arc::<Mutex<Vec<_>>>::default();
    let told = heard.clone();
    let answer = move |stream: TcpStream| {
        let mut reader = BufReader::new(&stream);
        let (mut path, mut n, mut trace) = (String::new(), 0, None);
        for line in reader.by_ref().lines().map_while(Result::ok).take_while(|l| !l.is_empty()) {
            match line.split_once(": ") {
                None => path = line.split(' ').nth(1).unwrap_or_default().to_string(),
                Some((name, value)) => match name.to_ascii_lowercase().as_str() {
                    "content-length" => n = value.parse().unwrap_or(0),
                    "traceparent" => trace = Some(value.to_string()),
                    _ => {}
                },
            }
        }
        let _ = reader.read_exact(&mut vec![0; n]);
        let body = match path.as_str() {
            "/v1/models" => json!({"data": [{"id": "m", "max_model_len": 512}]}),
            "/tokenize" => json!({"tokens": [1, 2], "count": 2}),
            "/detokenize" => json!({"prompt": "ab"}),
            _ => json!({}),
        };
        told.lock().unwrap().push((path, trace));
        let (mut stream, body) = (&stream, body.to_string());
        let n = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {n}\r\n\r\n{body}"
        );
    };
    let answer: Arc<dyn Fn(TcpStream) + Send + Sync> = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || answer(stream));
        }
    });
    (address, heard)
}

#[test]
fn who_is_asked_for_tokens_is_told_whose_step_that_is() {
    let (address, heard) = tokens_elsewhere();
    let near = daemon(&["--remote", &format!("far=vllm:http://{address}")], &[]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let text = json!({"text": "ab", "add_special": true, "parse_special": false});
    let table = [
        ("/tokenize", json!({"model": "far", "text": "ab"}), "/tokenize"),
        ("/oprel/tokenize", json!({"model": "far", "request": text}), "/tokenize"),
        ("/detokenize", json!({"model": "far", "tokens": [1, 2]}), "/detokenize"),
        ("/oprel/detokenize", json!({"model": "far", "request": {"tokens": [1]}}), "/detokenize"),
    ];
    for (path, body, asked) in table {
        heard.lock().unwrap().clear();
        let mut stream = TcpStream::connect(&near.server.address).unwrap();
        let (host, body) = (&near.server.address, body.to_string());
        let n = body.len();
        write!(stream, "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\ntraceparent: {trace}\r\nContent-Length: {n}\r\n\r\n{body}").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.contains("200 OK"), "{path}: {said}");
        let heard = heard.lock().unwrap().clone();
        assert!(heard.contains(&(asked.into(), Some(trace.into()))), "{path}: {heard:?}");
    }
}

#[test]
fn a_place_that_makes_no_sense_is_refused_at_the_start() {
    let says = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_oprel")).arg("serve").args(args).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(says(&["--remote", "x=ollama:http://a"]).contains("a profile is one of vllm"));
    assert!(says(&["--remote", "x=vllm:ftp://a"]).contains("must begin with http://"));
    let twice = ["--remote", "x=vllm:http://a", "--remote", "X:latest=vllm:http://b"];
    assert!(says(&twice).contains("twice"));
}

#[test]
fn a_program_on_a_leash_dies_with_who_started_it() {
    let own = env!("CARGO_BIN_EXE_oprel");
    let mut shell = Command::new("sh")
        .args(["-c", &format!("{own} leash $$ sleep 1000 & echo $!; wait")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let process = format!("/proc/{}", line.trim());
    let is_sleeping =
        || std::fs::read(format!("{process}/cmdline")).is_ok_and(|c| c.starts_with(b"sleep\0"));
    until("it does not run", is_sleeping);
    shell.kill().unwrap();
    shell.wait().unwrap();
    until("it lives on", || !is_sleeping());
    let orphan = Command::new(own).args(["leash", "1", "true"]).output().unwrap();
    assert!(!orphan.status.success());
}

#[test]
fn the_real_llama_server_runs_a_file_and_leaves_no_process_behind() {
    let Some(program) = oprel_remote::find() else {
        eprintln!("skipped: there is no llama-server on PATH nor in OPREL_LLAMA_SERVER");
        return;
    };
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/oprel-demo-q8_0.gguf");
    let program = program.display().to_string();
    let variables = [("OPREL_LLAMA_SERVER", program.as_str())];
    let mut daemon = daemon(&["--backend", "llama-server"], &variables);
    let answer = daemon.client.post("/api/chat", &chat(model)).unwrap();
    assert_eq!(answer["eval_count"], 6);
    assert_eq!(daemon.client.running().unwrap()[0]["backend"], "llama-server");
    // Our engine still runs what is built in.
    daemon.client.post("/api/chat", &chat("demo")).unwrap();
    let child = child_with(daemon.server.pid(), "l.sock").expect("a process");
    daemon.server.child.kill().unwrap();
    daemon.server.child.wait().unwrap();
    until("it lives on", || !Path::new(&format!("/proc/{child}")).exists());
}

/// The child of a process that has this in its command line.
fn child_with(parent: u32, text: &str) -> Option<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let (stat, line) = (read("stat"), read("cmdline"));
        let stat = String::from_utf8_lossy(&stat).into_owned();
        let of = stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2)?.parse().ok());
        of == Some(parent) && String::from_utf8_lossy(&line).contains(text)
    })
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
