//! A real server for tests: the built program, in a home of its own.
#![allow(dead_code)] // no test file uses all of it

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Lines of the log that are shown when a test fails.
const LOG_LINES: usize = 30;

/// A server that is killed if a test fails.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// Host and port.
    pub(crate) address: String,
    pub(crate) home: tempfile::TempDir,
    log: Arc<Mutex<VecDeque<String>>>,
}

/// The program, without this user's settings.
pub(crate) fn oprel(home: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oprel"));
    for (name, _) in std::env::vars() {
        if name.starts_with("OPREL_") || name.starts_with("OLLAMA_") {
            command.env_remove(name);
        }
    }
    command.env("OPREL_HOME", home);
    command
}

pub(crate) fn serve(args: &[&str]) -> Server {
    start(args, &[]).unwrap_or_else(|said| panic!("{said:?}"))
}

/// A server with these options and variables of the environment once it listens; else what it said.
pub(crate) fn start(args: &[&str], variables: &[(&str, &str)]) -> Result<Server, Output> {
    let home = tempfile::tempdir().unwrap();
    let mut child = oprel(home.path())
        .args(["serve", "--port", "0", "--threads", "1"])
        .args(args)
        .envs(variables.iter().copied())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut said = String::new();
    for line in lines.by_ref() {
        let place = line.strip_prefix("oprel listens on http");
        if let Some((_, address)) = place.and_then(|place| place.split_once("://")) {
            let (address, log) = (address.to_string(), Arc::new(Mutex::new(VecDeque::new())));
            keep(lines, log.clone());
            return Ok(Server { child, address, home, log });
        }
        said.push_str(&line);
    }
    let status = child.wait().unwrap();
    Err(Output { status, stdout: Vec::new(), stderr: said.into_bytes() })
}

/// Reads a log to its end, since whoever writes one wants a reader, and keeps its last lines.
fn keep(lines: impl Iterator<Item = String> + Send + 'static, log: Arc<Mutex<VecDeque<String>>>) {
    std::thread::spawn(move || {
        for line in lines {
            let mut kept = log.lock().unwrap();
            if kept.len() == LOG_LINES {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    });
}

impl Server {
    pub(crate) fn post(&self, path: &str, body: &str) -> String {
        self.post_or_get("POST", path, body)
    }

    pub(crate) fn fetch(&self, path: &str) -> String {
        self.post_or_get("GET", path, "")
    }

    pub(crate) fn post_or_get(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (address, n) = (&self.address, body.len());
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {n}\r\n\r\n{body}").unwrap();
        let mut all = String::new();
        let _ = stream.read_to_string(&mut all);
        all
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        oprel(self.home.path()).env("OPREL_HOST", &self.address).args(args).output().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        send(self.pid(), signal);
    }

    /// Waits for the end; the exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.ended_within(Duration::from_secs(20))
    }

    /// Waits for the end, but no longer than this.
    pub(crate) fn ended_within(&mut self, within: Duration) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < within, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The last lines of its log.
    pub(crate) fn log(&self) -> String {
        Vec::from(self.log.lock().unwrap().clone()).join("\n")
    }

    /// Processes that this server started and that were not waited for.
    pub(crate) fn workers(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
            if parent == Some(&self.pid().to_string())
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
        if std::thread::panicking() {
            eprintln!("the log ends so:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub(crate) fn send(pid: u32, signal: &str) {
    let _ = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

pub(crate) fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}
