//! A server that does what a script says.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// What is done with a request for an answer.
#[derive(Clone, Debug)]
pub(crate) enum Script {
    /// Events are sent, each after a pause, and the stream ends or is cut.
    Stream { events: Vec<String>, pause: Duration, cut: bool },
    /// A status with headers and a body.
    Status(u16, &'static str, String),
    /// The connection is closed without a word.
    Close,
    /// Nothing is ever said.
    Silence,
}

/// A server on a port of its own.
pub(crate) struct Standin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    scripts: Mutex<VecDeque<Script>>,
    asked: Mutex<Vec<Asked>>,
    /// Clients that went away while they were told something.
    left: AtomicUsize,
    gone: AtomicBool,
    /// It has no routes but those for answers.
    only_answers: AtomicBool,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) key: Option<String>,
    /// `traceparent` and `tracestate`.
    pub(crate) trace: [Option<String>; 2],
    pub(crate) body: Value,
}

pub(crate) fn delta(delta: Value) -> String {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}).to_string()
}

pub(crate) fn text(text: &str) -> String {
    delta(json!({"content": text}))
}

pub(crate) fn finish(reason: &str) -> String {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}).to_string()
}

pub(crate) fn usage() -> String {
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9});
    json!({"choices": [], "usage": usage}).to_string()
}

pub(crate) fn done() -> String {
    "[DONE]".into()
}

pub(crate) fn stream(events: Vec<String>) -> Script {
    Script::Stream { events, pause: Duration::ZERO, cut: false }
}

/// An answer as it should be.
pub(crate) fn whole(said: &str) -> Script {
    stream(vec![text(said), finish("stop"), usage(), done()])
}

impl Standin {
    /// Does these one after the other, and the last of them for ever.
    pub(crate) fn new(scripts: Vec<Script>) -> Standin {
        Standin::at("127.0.0.1:0".parse().unwrap(), scripts)
    }

    pub(crate) fn at(address: SocketAddr, scripts: Vec<Script>) -> Standin {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { scripts: Mutex::new(scripts.into()), ..Shared::default() });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.gone.load(Ordering::Relaxed) {
                    return;
                }
                let serving = serving.clone();
                std::thread::spawn(move || {
                    let _ = serving.serve(stream.unwrap());
                });
            }
        });
        Standin { address, shared }
    }

    /// From now on there are no vectors, rankings or tokens to be had.
    pub(crate) fn only_answers(&self) {
        self.shared.only_answers.store(true, Ordering::Relaxed);
    }

    /// What it was asked for answers.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let all = self.shared.asked.lock().unwrap();
        all.iter().filter(|asked| asked.path.contains("completions")).cloned().collect()
    }

    /// All that it was asked.
    pub(crate) fn all_asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub(crate) fn left(&self) -> usize {
        self.shared.left.load(Ordering::Relaxed)
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    /// Requests of one connection.
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let Some(asked) = read(&mut reader)? else { return Ok(()) };
            if self.gone.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.asked.lock().unwrap().push(asked.clone());
            let only_answers = self.only_answers.load(Ordering::Relaxed);
            let body = match asked.path.as_str() {
                "/tokenize" | "/detokenize" | "/v1/embeddings" | "/v1/rerank" if only_answers => {
                    respond(&mut stream, 404, "", &json!({"detail": "Not Found"}).to_string())?;
                    continue;
                }
                "/health" => json!({"status": "ok"}),
                "/v1/models" => json!({"data": [{"id": "far-model", "max_model_len": 512}]}),
                "/tokenize" => json!({"tokens": [1, 2, 3], "count": 3}),
                "/detokenize" => json!({"prompt": "abc"}),
                "/v1/embeddings" => json!({"data": [{"index": 0, "embedding": [3.0, 4.0]}]}),
                "/v1/rerank" => json!({"results": [{"index": 1, "relevance_score": 0.5},
                    {"index": 0, "relevance_score": 0.25}]}),
                _ => {
                    self.answer(&mut stream)?;
                    return Ok(());
                }
            };
            respond(&mut stream, 200, "Content-Type: application/json\r\n", &body.to_string())?;
        }
    }

    fn answer(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let script = {
            let mut scripts = self.scripts.lock().unwrap();
            let first = scripts.pop_front().expect("there is a script");
            if scripts.is_empty() {
                scripts.push_back(first.clone());
            }
            first
        };
        match script {
            Script::Close => Ok(()),
            Script::Silence => {
                // Until the client goes away.
                let _ = stream.read(&mut [0]);
                self.left.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Script::Status(status, headers, body) => respond(stream, status, headers, &body),
            Script::Stream { events, pause, cut } => {
                let told = tell(stream, &events, pause, cut);
                if told.is_err() {
                    self.left.fetch_add(1, Ordering::Relaxed);
                }
                told
            }
        }
    }
}

fn tell(
    stream: &mut TcpStream,
    events: &[String],
    pause: Duration,
    cut: bool,
) -> std::io::Result<()> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    for event in events {
        std::thread::sleep(pause);
        let data = format!("data: {event}\n\n");
        stream.write_all(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes())?;
    }
    if !cut {
        stream.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}

fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> std::io::Result<()> {
    let n = body.len();
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {n}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes())
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_string();
    let (mut n, mut key, mut trace) = (0, None, [None, None]);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => n = value.parse().unwrap(),
            "authorization" => key = Some(value.to_string()),
            "traceparent" => trace[0] = Some(value.to_string()),
            "tracestate" => trace[1] = Some(value.to_string()),
            _ => {}
        }
    }
    let mut body = vec![0; n];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Ok(Some(Asked { path, key, trace, body }))
}
