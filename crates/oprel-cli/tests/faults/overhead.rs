//! What HTTP and a worker process cost a token, beside the engine alone in one process.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::{Daemon, count, serve, turn};
use crate::http::Connection;
use crate::program::oprel;

/// Tokens of an answer.
const TOKENS: usize = 128;

/// The time of a token in the engine alone.
fn alone(daemon: &Daemon, model: &str) -> Duration {
    let said = oprel(daemon.home.path())
        .args(["bench", model, "-p", "16", "-n", &TOKENS.to_string(), "-t", "1"])
        .args(["--repeat", "1", "--json"])
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let figures: Value = serde_json::from_slice(&said.stdout).unwrap();
    Duration::from_secs_f64(1.0 / figures["decode_tok_s"].as_f64().unwrap())
}

/// The time of a token as a reader sees it that does nothing else: between the first and the last event with text.
fn served(daemon: &Daemon, model: &str) -> io::Result<Duration> {
    let body = json!({"model": model, "sampling": {"temperature": 0}, "request": {
        "input": {"tokens": (10..26).collect::<Vec<_>>()}, "limits": {"max_tokens": TOKENS},
        "ignore_end": true, "speculate": false}});
    let mut connection = Connection::open(&daemon.address)?;
    connection.send("POST", "/oprel/generate", body.to_string().as_bytes())?;
    assert_eq!(connection.head()?.status, 200);
    let mut came = Vec::new();
    while let Some(line) = connection.line()? {
        came.push((Instant::now(), line));
    }
    let texts = came.iter().filter_map(|(at, line)| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["event"]["text"]["tokens"].as_array().map(|tokens| (*at, tokens.len()))
    });
    let texts: Vec<_> = texts.collect();
    assert_eq!(texts.iter().map(|(_, tokens)| tokens).sum::<usize>(), TOKENS);
    let (first, last) = (texts[0], texts[texts.len() - 1]);
    Ok((last.0 - first.0) / (TOKENS - first.1) as u32)
}

/// Both in turn, and the best of each: whatever else the machine does only makes them slower.
fn measured(model: &str, rounds: usize) -> (Duration, Duration) {
    let daemon = serve(&[]);
    served(&daemon, model).unwrap();
    let times = (0..rounds).map(|_| (alone(&daemon, model), served(&daemon, model).unwrap()));
    let (alone, served) = times.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1))).unwrap();
    println!("{model}: a token takes {alone:?} in the engine alone, {served:?} over HTTP");
    (alone, served)
}

#[test]
fn a_token_costs_little_more_over_http_and_a_worker() {
    let _turn = turn();
    let (alone, served) = measured("demo", count(30, 10));
    assert!(served < alone + Duration::from_micros(100), "{alone:?}, {served:?}");
}

/// Needs `OPREL_LARGE`, a model of the size that people use: the shape of Llama 3.2 1B.
#[test]
fn a_usual_model_answers_as_fast_over_http() {
    let Some(model) = std::env::var_os("OPREL_LARGE").map(PathBuf::from) else {
        println!("skipped: OPREL_LARGE names no model");
        return;
    };
    let _turn = turn();
    let model = model.canonicalize().unwrap();
    // A token's time varies by more than the cost itself, which the other test bounds.
    let (alone, served) = measured(model.to_str().unwrap(), 10);
    assert!(served.as_secs_f64() < alone.as_secs_f64() / 0.98, "{alone:?}, {served:?}");
}
