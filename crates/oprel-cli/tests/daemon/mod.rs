//! A real server for tests: the built program, in a home of its own.
#![allow(dead_code)] // no test file uses all of it

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A server that is killed if a test fails.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: String,
    pub(crate) home: tempfile::TempDir,
}

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
    pub(crate) fn post(&self, path: &str, body: &str) -> String {
        self.post_or_get("POST", path, body)
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

    pub(crate) fn signal(&self, signal: &str) {
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
    }

    /// Waits for the end; the exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
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
    pub(crate) fn workers(&self) -> Vec<u32> {
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

pub(crate) fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}
