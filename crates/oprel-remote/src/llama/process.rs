//! The thread that owns a process of llama.cpp's server: it starts it, watches it load and serve, starts it
//! again after a crash, and kills it.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use oprel_api::Failure;

use super::platform::{self, Door, Kin};
use super::{KIND, Life, LlamaPatience, Shared, broken};

/// How often the process is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often it is asked whether it is well: while it loads, and while it serves.
const ASK_LOADING: Duration = Duration::from_millis(250);
const ASK_SERVING: Duration = Duration::from_secs(2);
/// How long it may take to say so.
const SAYS: Duration = Duration::from_secs(2);
/// A process that served for so long was of use.
const USEFUL: Duration = Duration::from_secs(30);
/// Processes in a row that were of no use.
const MOST_USELESS: u32 = 4;
/// First and longest pause before another process.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];
/// Lines of its log that are told when it fails.
const LAST_LINES: usize = 4;
/// Longest line of it that is kept.
const LONGEST_LINE: usize = 400;

/// How a process is made.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) program: PathBuf,
    pub(super) leash: Vec<OsString>,
    pub(super) arguments: Vec<OsString>,
    pub(super) door: Door,
    pub(super) patience: LlamaPatience,
}

/// Why a process is over.
enum Ended {
    Stopped,
    Died(String),
}

/// A process. Dropping it kills it and all that it started.
struct Process {
    child: Child,
    kin: Kin,
    log: Arc<Mutex<Log>>,
}

/// What it wrote last, and when.
struct Log {
    last: Instant,
    lines: Vec<String>,
    line: Vec<u8>,
}

/// Keeps a process running until nobody wants it, or there is no use.
pub(super) fn supervise(shared: &Shared, recipe: &Recipe) {
    let (mut useless, mut n) = (0, 0);
    loop {
        n += 1;
        let mut served = None;
        let ended = run(shared, recipe, n, &mut served);
        *shared.pid.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let why = match ended {
            Ended::Stopped => return,
            Ended::Died(why) => why,
        };
        useless = match served {
            Some(since) if Instant::elapsed(&since) >= USEFUL => 0,
            _ => useless + 1,
        };
        // What cannot be loaded once will not be the next time.
        let first = n == 1 && served.is_none();
        if first || useless >= MOST_USELESS {
            let message = if first { why } else { format!("it ends again and again: {why}") };
            let hint = "look at the log of the server; unload the model to try again";
            let failure = Failure { hint: Some(hint.into()), ..broken(&message) };
            tracing::warn!(error = %failure, "{KIND} is given up");
            change(shared, Life::Failed(failure));
            return;
        }
        tracing::warn!(why, "{KIND} ended and is started again");
        shared.restarts.fetch_add(1, Ordering::Relaxed);
        if !change(shared, Life::Starting) || !pause(shared, useless) {
            return;
        }
    }
}

/// Says what the process is doing; `false` if nobody wants it any more.
fn change(shared: &Shared, to: Life) -> bool {
    shared.life.send_if_modified(|life| {
        let goes_on = *life != Life::Stopped;
        if goes_on {
            *life = to;
        }
        goes_on
    })
}

fn is_stopped(shared: &Shared) -> bool {
    *shared.life.borrow() == Life::Stopped
}

fn pause(shared: &Shared, useless: u32) -> bool {
    let [first, longest] = PAUSES;
    let time = (first * 2_u32.saturating_pow(useless.saturating_sub(1))).min(longest);
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::thread::sleep(TICK);
        if is_stopped(shared) {
            return false;
        }
    }
    true
}

/// One process, from its start to its end.
fn run(shared: &Shared, recipe: &Recipe, n: u64, served: &mut Option<Instant>) -> Ended {
    let mut process = match Process::start(recipe) {
        Ok(process) => process,
        Err(error) => return Ended::Died(format!("it cannot be started: {error}")),
    };
    *shared.pid.lock().unwrap_or_else(PoisonError::into_inner) = Some(process.child.id());
    let (mut asked, mut well) = (Instant::now(), Instant::now());
    loop {
        if is_stopped(shared) {
            return Ended::Stopped;
        }
        if let Ok(Some(status)) = process.child.try_wait() {
            // Its last words may still be on their way.
            std::thread::sleep(TICK);
            return Ended::Died(process.last_words(&format!("it ended ({status})")));
        }
        let every = if served.is_some() { ASK_SERVING } else { ASK_LOADING };
        if asked.elapsed() >= every {
            if is_well(&recipe.door) {
                well = Instant::now();
                if served.is_none() {
                    *served = Some(well);
                    if !change(shared, Life::Ready(n)) {
                        return Ended::Stopped;
                    }
                }
            }
            asked = Instant::now();
        }
        let (silence, most) = match served {
            None => (process.silence(), recipe.patience.stall),
            Some(_) => (well.elapsed(), recipe.patience.ill),
        };
        if silence > most {
            let what =
                if served.is_some() { "it hangs" } else { "it does not get on with loading" };
            return Ended::Died(process.last_words(what));
        }
        std::thread::sleep(TICK);
    }
}

/// Whether it takes requests: while it loads, it says that it does not.
fn is_well(door: &Door) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = door.connect(SAYS)?;
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.starts_with(b"HTTP/1.") && head.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// Variables of the environment that would change what is asked for here, or are nobody else's business: sockets that
/// were handed to this process are among them, and who is to be told how it stands.
fn is_passed_on(name: &str) -> bool {
    !name.starts_with("LISTEN_")
        && name != "NOTIFY_SOCKET"
        && !name.starts_with("LLAMA_ARG_")
        && !name.starts_with("OPREL_REMOTE_KEY")
        && name != "LLAMA_API_KEY"
}

impl Process {
    fn start(recipe: &Recipe) -> std::io::Result<Process> {
        recipe.door.clear();
        let mut words = recipe.leash.iter().cloned().chain([recipe.program.clone().into()]);
        let first = words.next().unwrap_or_default();
        let passed = |name: &OsString| name.to_str().is_none_or(is_passed_on);
        let mut command = Command::new(first);
        command
            .args(words)
            .args(&recipe.arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| passed(name)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (mut child, kin) = platform::start(&mut command)?;
        let log =
            Arc::new(Mutex::new(Log { last: Instant::now(), lines: Vec::new(), line: Vec::new() }));
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let process = Process { child, kin, log };
        if let Some(out) = out {
            process.listen(out)?;
        }
        if let Some(err) = err {
            process.listen(err)?;
        }
        Ok(process)
    }

    /// Reads what it writes, on a thread that ends with it.
    fn listen(&self, mut from: impl Read + Send + 'static) -> std::io::Result<()> {
        let log = self.log.clone();
        let read = move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                log.lock().unwrap_or_else(PoisonError::into_inner).take(&bytes[..n]);
            }
        };
        std::thread::Builder::new().name("oprel-llama-log".into()).spawn(read).map(|_| ())
    }

    /// How long it has written nothing.
    fn silence(&self) -> Duration {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).last.elapsed()
    }

    fn last_words(&self, what: &str) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        match log.lines.is_empty() {
            true => what.to_string(),
            false => format!("{what}: {}", log.lines.join(" | ")),
        }
    }
}

impl Log {
    fn take(&mut self, bytes: &[u8]) {
        self.last = Instant::now();
        for &byte in bytes {
            match byte {
                b'\n' => {
                    let line = String::from_utf8_lossy(&self.line).trim().to_string();
                    self.line.clear();
                    if line.is_empty() {
                        continue;
                    }
                    tracing::debug!(target: "llama_server", "{line}");
                    self.lines.push(line);
                    if self.lines.len() > LAST_LINES {
                        self.lines.remove(0);
                    }
                }
                byte if self.line.len() < LONGEST_LINE => self.line.push(byte),
                _ => {}
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Asked to end, it would let its clients hang; all of ours are gone.
        self.kin.end();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_log_are_kept_and_long_ones_cut() {
        let mut log = Log { last: Instant::now(), lines: Vec::new(), line: Vec::new() };
        log.take(b"one\n\ntwo\nthr");
        log.take(b"ee\n....");
        log.take(&[b'x'; 5000]);
        assert_eq!(log.lines, ["one", "two", "three"]);
        log.take(b"\nlast\n");
        assert_eq!((log.lines.len(), log.lines[2].len()), (LAST_LINES, LONGEST_LINE));
        assert_eq!(log.lines[3], "last");
    }
}
