//! A daemon of the program under test, and what can be seen of it from outside.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::Connection;
pub(crate) use crate::program::{Server as Daemon, send, serve};

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

impl Daemon {
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

    /// Open files and sockets of the daemon.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Bytes that it and its workers hold in memory.
    pub(crate) fn resident(&self) -> u64 {
        let all = self.workers().into_iter().chain([self.pid()]);
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
