//! Workers that are killed under load.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::{Daemon, count, send, serve, turn};

/// Clients at a time.
const CLIENTS: usize = 16;
/// Lines that all clients together hear between two kills.
const LINES_BETWEEN: usize = 150;

fn story(seed: usize) -> Value {
    json!({"model": "demo", "prompt": "Once upon a time", "raw": true,
        "options": {"num_predict": 80, "temperature": 0.9, "seed": seed}})
}

/// How an answer ended.
#[derive(Debug, PartialEq)]
enum Told {
    Whole(String),
    Error(String),
}

/// Reads a stream to its end: it has exactly one.
fn read(daemon: &Daemon, seed: usize, heard: &AtomicUsize) -> Told {
    let mut connection = daemon.connect();
    connection.send("POST", "/api/generate", story(seed).to_string().as_bytes()).unwrap();
    let head = connection.head().unwrap();
    if head.status != 200 {
        let body: Value = serde_json::from_slice(&connection.rest().unwrap()).unwrap();
        assert!(head.status >= 500, "{head:?} {body}");
        return Told::Error(body["error"].as_str().unwrap().to_string());
    }
    let (mut text, mut end) = (String::new(), None);
    while let Some(line) = connection.line().unwrap() {
        heard.fetch_add(1, Ordering::Relaxed);
        assert_eq!(end, None, "something came after the end: {line}");
        let line: Value = serde_json::from_str(&line).unwrap();
        if let Some(error) = line["error"].as_str() {
            end = Some(Told::Error(error.to_string()));
            continue;
        }
        text.push_str(line["response"].as_str().unwrap());
        if line["done"] == true {
            end = Some(Told::Whole(std::mem::take(&mut text)));
        }
    }
    end.expect("a stream without an end")
}

/// Kills the worker again and again, while somebody listens; how often.
fn kill_under(daemon: &Daemon, kills: usize, heard: &AtomicUsize) -> usize {
    let mut done = 0;
    while done < kills {
        let at = heard.load(Ordering::Relaxed);
        let start = Instant::now();
        while heard.load(Ordering::Relaxed) < at + LINES_BETWEEN {
            assert!(start.elapsed() < Duration::from_secs(60), "nobody hears anything");
            std::thread::sleep(Duration::from_micros(200));
        }
        for pid in daemon.workers() {
            send(pid, "-9");
            done += 1;
        }
    }
    done
}

#[test]
fn killed_workers_cost_nobody_more_than_one_error() {
    let _turn = turn();
    let daemon = serve(&[]);
    let nobody = AtomicUsize::new(0);
    let seeds = 2 * CLIENTS;
    let undisturbed: Vec<Told> = (0..seeds).map(|seed| read(&daemon, seed, &nobody)).collect();
    assert!(undisturbed.iter().all(|told| matches!(told, Told::Whole(text) if text.len() > 40)));
    let before = daemon.descriptors();
    let (heard, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (whole, errors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let start = Instant::now();
    let kills = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (daemon, undisturbed, heard) = (&daemon, &undisturbed, &heard);
            let (whole, errors, over) = (&whole, &errors, &over);
            scope.spawn(move || {
                let mut seed = client;
                while !over.load(Ordering::Relaxed) {
                    match read(daemon, seed, heard) {
                        Told::Error(error) => errors.lock().unwrap().push(error),
                        told => {
                            assert_eq!(told, undisturbed[seed], "seed {seed}");
                            whole.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    seed = (seed + CLIENTS) % undisturbed.len();
                }
            });
        }
        let kills = kill_under(&daemon, count(100, 6), &heard);
        over.store(true, Ordering::Relaxed);
        kills
    });
    let (whole, errors) = (whole.into_inner(), errors.into_inner().unwrap());
    let kinds: HashSet<_> = errors.iter().collect();
    println!(
        "{kills} kills in {:?}: {whole} answers as undisturbed, {} errors {kinds:?}",
        start.elapsed(),
        errors.len()
    );
    assert_eq!(read(&daemon, 0, &nobody), undisturbed[0], "the next request");
    assert_eq!(daemon.workers().len(), 1, "one worker, and nothing that was not waited for");
    let after = daemon.descriptors();
    daemon
        .soon("its descriptors are closed", Duration::from_secs(2), |d| d.descriptors() <= before);
    println!("{before} descriptors before, {after} after");
    let asked = (undisturbed.len() + whole + errors.len() + 1) as f64;
    assert_eq!(daemon.metric("oprel_requests_total", ""), asked, "outcomes sum to requests");
}
