//! Signals that ask the daemon to end while it answers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::{Daemon, count, serve, turn};
use crate::http::{Connection, ask};

fn streams(daemon: &Daemon, n: usize, tokens: usize) -> Vec<Connection> {
    let begun = (0..n).map(|seed| {
        let body = json!({"model": "demo", "prompt": "Once upon a time", "raw": true,
            "options": {"num_predict": tokens, "temperature": 2, "seed": seed}});
        let mut connection = daemon.connect();
        connection.send("POST", "/api/generate", body.to_string().as_bytes()).unwrap();
        assert_eq!(connection.head().unwrap().status, 200);
        connection.line().unwrap();
        connection
    });
    begun.collect()
}

/// What the last line of a stream says; `None` if it breaks off without one.
fn last(connection: &mut Connection) -> Option<Value> {
    let mut last = None;
    while let Ok(Some(line)) = connection.line() {
        last = Some(serde_json::from_str::<Value>(&line).unwrap());
    }
    last.filter(|line| line["done"] == true || line["error"].is_string())
}

fn gone(pids: &[u32]) -> bool {
    pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
}

#[test]
fn answers_under_way_finish_before_it_ends() {
    let _turn = turn();
    let mut daemon = serve(&[]);
    ask(&daemon.address, "/load", &json!({"model": "demo"}));
    let workers = daemon.workers();
    let mut open = streams(&daemon, count(64, 16), 60);
    let start = Instant::now();
    daemon.signal("-TERM");
    for connection in &mut open {
        let last = last(connection).expect("it is told how it ended");
        assert_eq!(last["done"], true, "{last}");
    }
    assert_eq!(daemon.ended_within(Duration::from_secs(30)), Some(0));
    println!("{} answers finished, all over after {:?}", open.len(), start.elapsed());
    assert!(gone(&workers), "no worker is left");
    assert!(!daemon.home.path().join("run/oprel.sock").exists());
}

#[test]
fn what_does_not_finish_in_time_is_told() {
    let _turn = turn();
    let mut daemon = serve(&["--grace", "1"]);
    let mut open = streams(&daemon, 16, 100_000);
    let workers = daemon.workers();
    let start = Instant::now();
    daemon.signal("-TERM");
    let ends: Vec<Value> = open.iter_mut().filter_map(last).collect();
    assert_eq!(daemon.ended_within(Duration::from_secs(10)), Some(0));
    let told = ends.iter().filter(|end| end["error"].is_string()).count();
    println!(
        "{told} of {} were told, the others had ended; over after {:?}",
        open.len(),
        start.elapsed()
    );
    assert_eq!(ends.len(), open.len(), "each stream has an end");
    assert!(told > 0);
    assert!(start.elapsed() >= Duration::from_secs(1), "it waited");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(gone(&workers));
}

#[test]
fn a_second_signal_waits_for_nothing() {
    let _turn = turn();
    let mut daemon = serve(&[]);
    let mut open = streams(&daemon, 16, 100_000);
    let workers = daemon.workers();
    daemon.signal("-TERM");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!gone(&workers), "the first waits");
    let start = Instant::now();
    daemon.signal("-INT");
    assert_eq!(daemon.ended_within(Duration::from_secs(10)), Some(0));
    println!("over {:?} after the second", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(gone(&workers));
    open.iter_mut().for_each(|connection| drop(last(connection)));
}
