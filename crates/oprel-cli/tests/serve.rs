//! `oprel serve` as a program: it listens, its models are processes, and it ends when it is asked to.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A server that is killed if a test fails.
struct Server {
    child: Child,
    address: String,
    home: tempfile::TempDir,
}

fn oprel(home: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oprel"));
    for (name, _) in std::env::vars() {
        if name.starts_with("OPREL_") || name.starts_with("OLLAMA_") {
            command.env_remove(name);
        }
    }
    command.env("OPREL_HOME", home);
    command
}

fn serve(args: &[&str]) -> Server {
    let home = tempfile::tempdir().unwrap();
    let mut child = oprel(home.path())
        .args(["serve", "--port", "0", "--threads", "1"])
        .args(args)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = lines.next().expect("it listens").unwrap();
        if let Some(address) = line.strip_prefix("oprel listens on http://") {
            break address.to_string();
        }
    };
    // Whoever writes a log wants a reader.
    std::thread::spawn(move || lines.for_each(drop));
    Server { child, address, home }
}

impl Server {
    fn post(&self, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (address, n) = (&self.address, body.len());
        write!(stream, "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {n}\r\n\r\n{body}").unwrap();
        let mut all = String::new();
        let _ = stream.read_to_string(&mut all);
        all
    }

    fn run(&self, args: &[&str]) -> Output {
        oprel(self.home.path()).env("OPREL_HOST", &self.address).args(args).output().unwrap()
    }

    fn signal(&self, signal: &str) {
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
    }

    /// Waits for the end; the exit code.
    fn ended(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Processes that this server started.
    fn workers(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
            if parent == Some(&self.child.id().to_string())
                && let Ok(pid) = entry.file_name().to_string_lossy().parse()
            {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

const HELLO: &str = r#"{"model":"demo","stream":false,"options":{"num_predict":4},"messages":[{"role":"user","content":"What is oprel?"}]}"#;

#[test]
fn a_model_is_a_process_that_can_be_listed_and_stopped() {
    let server = serve(&[]);
    let empty = server.run(&["ps"]);
    assert_eq!(text(&empty.stdout).lines().count(), 1, "{empty:?}");
    assert!(server.post("/api/chat", HELLO).contains("200 OK"));
    assert_eq!(server.workers().len(), 1);
    let listed = text(&server.run(&["ps"]).stdout);
    assert!(listed.contains("demo:latest") && listed.contains(" minutes from now"), "{listed}");
    let json = text(&server.run(&["ps", "--json"]).stdout);
    assert!(json.contains("\"context_length\""), "{json}");
    let absent = server.run(&["stop", "nope"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(text(&absent.stderr).contains("couldn't find model \"nope\" to stop"));
    assert!(server.run(&["stop", "demo"]).status.success());
    assert_eq!(text(&server.run(&["ps"]).stdout).lines().count(), 1);
    assert!(server.run(&["stop", "demo"]).status.success(), "an idle model is no error");
    assert!(server.workers().is_empty());
}

#[test]
fn run_lets_a_server_answer_where_one_is() {
    let server = serve(&[]);
    let ask = ["run", "demo", "What is oprel?", "--temperature", "0", "-n", "12"];
    let there = server.run(&ask);
    assert_eq!(server.workers().len(), 1, "{there:?}");
    let here = server.run(&[&ask[..], &["--local"]].concat());
    assert_eq!((text(&there.stdout), there.status.code()), (text(&here.stdout), Some(0)));
    let forbidden = server.run(&[&ask[..], &["--logit-bias", "5-inf"]].concat());
    assert!(forbidden.status.success(), "{forbidden:?}");
    let missing = server.run(&["run", "/no/such.gguf", "x"]);
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
    let wrong = server.run(&["run", "demo", "x", "--top-p", "7"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn it_ends_when_it_is_asked_to_and_leaves_nothing() {
    let mut server = serve(&[]);
    server.post("/api/chat", HELLO);
    let workers = server.workers();
    assert!(server.home.path().join("run/oprel.sock").exists());
    server.signal("-TERM");
    assert_eq!(server.ended(), Some(0));
    assert!(!server.home.path().join("run/oprel.sock").exists());
    for pid in workers {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is left");
    }
}

#[test]
fn workers_die_with_a_server_that_is_killed() {
    let mut server = serve(&[]);
    server.post("/api/chat", HELLO);
    let workers = server.workers();
    assert_eq!(workers.len(), 1);
    server.signal("-KILL");
    server.ended();
    let start = Instant::now();
    while std::path::Path::new(&format!("/proc/{}", workers[0])).exists() {
        assert!(start.elapsed() < Duration::from_secs(5), "the worker is left");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_answer_goes_on_when_its_process_is_killed() {
    let server = serve(&[]);
    let body = r#"{"model":"demo","stream":false,"options":{"num_predict":120,"temperature":0,"seed":1},"messages":[{"role":"user","content":"Tell me a long story."}]}"#;
    let message = |reply: &str| {
        let from = reply.find("\"message\":").unwrap_or_else(|| panic!("{reply}"));
        reply[from..].split("\"done\"").next().unwrap().to_string()
    };
    let whole = message(&server.post("/api/chat", body));
    let again = std::thread::scope(|scope| {
        let answer = scope.spawn(|| server.post("/api/chat", body));
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(15));
            for pid in server.workers() {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
            }
        }
        answer.join().unwrap()
    });
    assert_eq!(message(&again), whole);
}

#[test]
fn what_cannot_be_served_is_said() {
    let server = serve(&[]);
    let taken = oprel(server.home.path())
        .args(["serve", "--no-socket", "--host", &server.address])
        .output()
        .unwrap();
    assert_eq!(taken.status.code(), Some(2));
    assert!(text(&taken.stderr).contains("another oprel is there"), "{}", text(&taken.stderr));
    let open = oprel(server.home.path()).args(["serve", "--host", "0.0.0.0"]).output().unwrap();
    assert_eq!(open.status.code(), Some(2));
    assert!(text(&open.stderr).contains("oprel key create"), "{}", text(&open.stderr));
    let nobody =
        oprel(server.home.path()).env("OPREL_HOST", "127.0.0.1:1").arg("ps").output().unwrap();
    assert_eq!(nobody.status.code(), Some(5));
    assert!(text(&nobody.stderr).contains("oprel serve"), "{}", text(&nobody.stderr));
}

#[test]
fn keys_are_made_listed_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| oprel(home.path()).args(args).output().unwrap();
    let made = run(&["key", "create", "--name", "laptop", "--scope", "chat,metrics"]);
    assert!(text(&made.stdout).starts_with("opk_"), "{made:?}");
    let listed = text(&run(&["key", "list"]).stdout);
    assert!(listed.contains("laptop") && listed.contains("chat,metrics"), "{listed}");
    assert!(!listed.contains(text(&made.stdout).trim()), "a secret is shown once");
    assert_eq!(run(&["key", "create", "--name", "x", "--scope", "all"]).status.code(), Some(2));
    assert!(run(&["key", "remove", "laptop"]).status.success());
    assert_eq!(run(&["key", "remove", "laptop"]).status.code(), Some(2));
}
