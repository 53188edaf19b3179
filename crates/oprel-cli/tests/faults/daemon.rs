//! A daemon of the program under test, and what can be seen of it from outside.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::Connection;

/// Lines of the log that are shown when a test fails.
const LOG_LINES: usize = 30;

/// Whether all numbers of the table are asked for, which takes minutes.
pub(crate) fn full() -> bool {
    std::env::var("OPREL_FAULTS").is_ok_and(|v| v == "full")
}

/// One number for `make faults`, one for `make test`.
pub(crate) fn count(full_count: usize, quick: usize) -> usize {
    if full() { full_count } else { quick }
}

/// Tests take turns: what they measure is theirs.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A daemon that is killed if a test fails.
pub(crate) struct Daemon {
    child: Child,
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

pub(crate) fn serve(args: &[&str]) -> Daemon {
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
    let log = Arc::new(Mutex::new(VecDeque::new()));
    let kept = log.clone();
    // Whoever writes a log wants a reader.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let mut kept = kept.lock().unwrap();
            if kept.len() == LOG_LINES {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    });
    Daemon { child, address, home, log }
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.address).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let (head, body) = self.connect().ask("GET", path, b"").unwrap();
        (head.status, String::from_utf8(body).unwrap())
    }

    /// How long `/health` takes on a connection of its own; it must be well.
    pub(crate) fn health(&self) -> Duration {
        let start = Instant::now();
        assert_eq!(self.get("/health").0, 200);
        start.elapsed()
    }

    /// Sends a signal to the daemon.
    pub(crate) fn signal(&self, signal: &str) {
        send(self.pid(), signal);
    }

    /// Waits for the end; the exit code.
    pub(crate) fn ended(&mut self, within: Duration) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < within, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Processes that it started and that were not waited for.
    pub(crate) fn children(&self) -> Vec<u32> {
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

    /// Open files and sockets of the daemon.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Bytes that it and its workers hold in memory.
    pub(crate) fn resident(&self) -> u64 {
        let all = self.children().into_iter().chain([self.pid()]);
        all.map(|pid| status_kb(pid, "VmRSS:") << 10).sum()
    }

    /// The sum of all series of a metric whose labels hold `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self.get("/metrics").1;
        let lines = text.lines().filter(|line| {
            let series = line.split(' ').next().unwrap_or_default();
            series.split('{').next() == Some(name) && series.contains(label)
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Sequences that wait or run.
    pub(crate) fn sequences(&self) -> f64 {
        let of = |name| self.metric(name, "model=");
        of("oprel_sequences_running") + of("oprel_sequences_waiting")
    }

    /// Waits until something is so.
    pub(crate) fn soon(
        &self,
        what: &str,
        within: Duration,
        so: impl Fn(&Daemon) -> bool,
    ) -> Duration {
        let start = Instant::now();
        while !so(self) {
            assert!(start.elapsed() < within, "{what}: not after {within:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        start.elapsed()
    }

    /// The last lines of its log.
    pub(crate) fn log(&self) -> String {
        Vec::from(self.log.lock().unwrap().clone()).join("\n")
    }
}

impl Drop for Daemon {
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

/// A number of `/proc/PID/status`, in kB.
fn status_kb(pid: u32, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// A copy of the demo model's file.
pub(crate) fn demo_file(folder: &std::path::Path) -> PathBuf {
    let there = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/oprel-demo-q8_0.gguf");
    let copy = folder.join("demo-copy.gguf");
    std::fs::copy(there, &copy).unwrap();
    copy
}
