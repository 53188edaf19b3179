//! Many clients at once, and clients that do not behave: they wait, do not read, send half a request, or leave.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::{Value, json};

use crate::daemon::{Daemon, count, serve, turn};
use crate::http::{Connection, ask};

/// What a crowd may cost over the loaded model.
const MOST_BYTES: u64 = 100 << 20;
/// How long `/health` may take meanwhile.
const HEALTH: Duration = Duration::from_millis(20);
/// How long the tests look for a moment in which the machine keeps nobody else waiting, and how long it may take until
/// anything gets on.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long after a step a sequence may be there that nobody wants.
const FREED: Duration = Duration::from_millis(100);

fn endless(seed: usize, n: usize) -> Value {
    json!({"model": "demo", "prompt": "Once upon a time", "raw": true,
        "options": {"num_predict": n, "temperature": 2, "seed": seed}})
}

/// A request whose answer is not read.
fn asked(daemon: &Daemon, body: &Value) -> Connection {
    let mut connection = daemon.connect();
    connection.send("POST", "/api/generate", body.to_string().as_bytes()).unwrap();
    connection
}

/// A server that does nothing but answer: what it takes is the machine's doing.
struct Idle(String);

impl Idle {
    fn new() -> Idle {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
        Idle(address)
    }

    fn took(&self) -> Duration {
        let start = Instant::now();
        let mut connection = Connection::open(&self.0).unwrap();
        assert_eq!(connection.ask("GET", "/", b"").unwrap().0.status, 200);
        start.elapsed()
    }
}

/// The worst that was seen of a daemon under load.
struct Worst {
    bytes: u64,
    health: Duration,
    idle: Idle,
}

impl Worst {
    fn new() -> Worst {
        Worst { bytes: 0, health: Duration::ZERO, idle: Idle::new() }
    }

    fn look(&mut self, daemon: &Daemon, before: u64) {
        self.bytes = self.bytes.max(daemon.resident().saturating_sub(before));
        let start = Instant::now();
        let health = loop {
            // The tests' own processor is busy too: of three, the best is the daemon's.
            let best = |took: &dyn Fn() -> Duration| (0..3).map(|_| took()).min();
            let health = best(&|| daemon.health()).unwrap_or_default();
            // A machine that is too busy for anybody says nothing of the daemon.
            if health < HEALTH || best(&|| self.idle.took()) < Some(HEALTH / 4) {
                break health;
            }
            assert!(start.elapsed() < PATIENCE, "this machine has no time for a measurement");
        };
        self.health = self.health.max(health);
    }

    /// Looks until nothing is left to do: that may take its time, as long as it gets on.
    fn look_to_the_end(&mut self, daemon: &Daemon, before: u64) {
        let (mut left, mut since) = (daemon.sequences(), Instant::now());
        while left > 0.0 {
            self.look(daemon, before);
            std::thread::sleep(Duration::from_millis(100));
            let now = daemon.sequences();
            if now < left {
                (left, since) = (now, Instant::now());
            }
            assert!(since.elapsed() < PATIENCE, "{left} sequences do not get on");
        }
    }

    fn check(&self) {
        println!("{} MB more at most, /health in {:?} at most", self.bytes >> 20, self.health);
        assert!(self.bytes < MOST_BYTES, "{} MB more", self.bytes >> 20);
        assert!(self.health < HEALTH, "/health took {:?}", self.health);
    }
}

/// A daemon whose model is loaded and has used all memory that it was given.
fn warm() -> (Daemon, u64) {
    let daemon = serve(&[]);
    let long: Vec<_> = (0..64).map(|seed| asked(&daemon, &endless(seed, 400))).collect();
    for mut connection in long {
        assert_eq!(connection.head().unwrap().status, 200);
        connection.rest().unwrap();
    }
    let before = daemon.resident();
    println!("{} MB with the loaded model", before >> 20);
    (daemon, before)
}

/// Sequences that wait for their turn.
fn queued(daemon: &Daemon) -> f64 {
    daemon.metric("oprel_sequences_waiting", "model=")
}

/// Requests that end with their client alone, as many as are answered at a time, and one more.
fn take_all_places(daemon: &Daemon) -> Vec<Connection> {
    let body =
        json!({"model": "demo", "prompt": "Once upon a time", "temperature": 2, "ignore_eos": true,
        "max_tokens": 1_000_000_000, "shift": true})
        .to_string();
    let mut taken = Vec::new();
    while queued(daemon) == 0.0 {
        let mut connection = daemon.connect();
        connection.send("POST", "/v1/completions", body.as_bytes()).unwrap();
        taken.push(connection);
        daemon.soon("it has come", PATIENCE, |d| d.sequences() == taken.len() as f64);
    }
    taken
}

#[test]
fn a_thousand_waiting_requests_cost_little() {
    let _turn = turn();
    let (daemon, before) = warm();
    let n = count(1000, 300);
    let busy = take_all_places(&daemon);
    let mut waiting: Vec<_> = (0..n).map(|seed| asked(&daemon, &endless(seed, 30))).collect();
    let all = (busy.len() + n) as f64;
    daemon.soon("all have come", PATIENCE, |d| d.sequences() == all);
    let (mut worst, start) = (Worst::new(), Instant::now());
    for _ in 0..count(50, 20) {
        worst.look(&daemon, before);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(queued(&daemon) >= n as f64, "all of them wait all the while");
    println!("{n} waited for {:?}", start.elapsed());
    drop(busy);
    worst.look_to_the_end(&daemon, before);
    for connection in &mut waiting {
        assert_eq!(connection.head().unwrap().status, 200);
        let last = String::from_utf8(connection.rest().unwrap()).unwrap();
        assert_eq!(last.matches("\"done\":true").count(), 1);
    }
    println!("{n} answers in {:?}", start.elapsed());
    worst.check();
}

#[test]
fn a_thousand_readers_that_stall_cost_little() {
    let _turn = turn();
    let (daemon, before) = warm();
    let n = count(1000, 200);
    let stalled: Vec<_> = (0..n)
        .map(|seed| {
            let connection = asked(&daemon, &endless(seed, 1500));
            let _ = set_socket_recv_buffer_size(connection.socket(), 2048);
            connection
        })
        .collect();
    let mut worst = Worst::new();
    let start = Instant::now();
    let time = Duration::from_secs(if crate::daemon::full() { 55 } else { 5 });
    while start.elapsed() < time && daemon.sequences() > 0.0 {
        worst.look(&daemon, before);
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut ours =
        asked(&daemon, &json!({"model": "demo", "prompt": "Hi", "options": {"num_predict": 4}}));
    assert_eq!(ours.head().unwrap().status, 200);
    drop(ours);
    println!("{} of {n} still at it", daemon.sequences());
    drop(stalled);
    daemon.soon("their sequences are freed", Duration::from_secs(5), |d| d.sequences() == 0.0);
    worst.check();
}

#[test]
fn a_sequence_ends_with_its_client() {
    let _turn = turn();
    let daemon = serve(&[]);
    ask(&daemon.address, "/load", &json!({"model": "demo"}));
    let mut worst = Duration::ZERO;
    for round in 0..count(100, 12) {
        let mut body = endless(round, 100_000);
        body["stream"] = json!(round % 3 != 0);
        let mut connection = asked(&daemon, &body);
        daemon.soon("it runs", Duration::from_secs(10), |d| d.sequences() > 0.0);
        if body["stream"] == true {
            connection.head().unwrap();
            connection.line().unwrap();
        }
        match round % 2 {
            0 => drop(connection),
            _ => connection.reset(),
        }
        let took = daemon.soon("it is freed", Duration::from_secs(5), |d| d.sequences() == 0.0);
        worst = worst.max(took);
    }
    println!("freed after {worst:?} at most");
    // A step of this model takes less than the tests' clock can tell.
    assert!(worst < FREED, "{worst:?}");
    assert_eq!(daemon.metric("oprel_requests_running", ""), 0.0);
}

#[test]
fn two_thousand_half_open_connections_hold_up_nobody() {
    let _turn = turn();
    raise_own_limit();
    let daemon = serve(&[]);
    ask(&daemon.address, "/load", &json!({"model": "demo"}));
    let before = daemon.resident();
    let n = count(2000, 500);
    let open: Vec<TcpStream> = (0..n)
        .map(|i| {
            let mut stream = TcpStream::connect(&daemon.address).unwrap();
            // Nothing, half a head, or half a body.
            let begun = [
                "",
                "POST /api/chat HTTP/1.1\r\nHost: x\r\nX-A: ",
                "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n{",
            ];
            stream.write_all(begun[i % begun.len()].as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut worst = Worst::new();
    for seed in 0..20 {
        worst.look(&daemon, before);
        let mut body = endless(seed, 8);
        body["stream"] = json!(false);
        let start = Instant::now();
        assert_eq!(ask(&daemon.address, "/api/generate", &body).0, 200);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
    let descriptors = daemon.descriptors();
    drop(open);
    daemon.soon("they are closed", Duration::from_secs(5), |d| d.descriptors() < 100);
    println!("{n} half-open connections, {descriptors} descriptors");
    worst.check();
}

/// The tests hold as many descriptors as the daemon.
fn raise_own_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

#[test]
fn too_few_open_files_are_told_and_few_are_lived_with() {
    let _turn = turn();
    let home = tempfile::tempdir().unwrap();
    let limited = |n: usize| {
        let mut command = std::process::Command::new("sh");
        let script = format!("ulimit -n {n}; exec \"$0\" serve --port 0 --threads 1");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_oprel")]);
        command.env("OPREL_HOME", home.path()).stderr(std::process::Stdio::piped());
        command
    };
    let refused = limited(100).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("only 100 files") && said.contains("ulimit -n"), "{said}");
    let mut child = limited(400).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let listens = |line: String| line.strip_prefix("oprel listens on http://").map(str::to_string);
    let address = lines.find_map(listens);
    let address = address.expect("it listens");
    std::thread::spawn(move || lines.for_each(drop));
    // More connections than there are files: those that fit are served, and the others again when these go.
    let open: Vec<_> = (0..600).filter_map(|_| TcpStream::connect(&address).ok()).collect();
    std::thread::sleep(Duration::from_millis(200));
    drop(open);
    std::thread::sleep(Duration::from_millis(200));
    let body =
        json!({"model": "demo", "prompt": "Hi", "stream": false, "options": {"num_predict": 2}});
    assert_eq!(ask(&address, "/api/generate", &body).0, 200);
    let _ = child.kill();
    let _ = child.wait();
}
