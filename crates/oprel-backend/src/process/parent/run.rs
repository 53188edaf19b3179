//! The thread that owns a worker process: it starts it, reads from it, and starts it again.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use oprel_api::{ErrorKind as Kind, Failure};

use super::state::{Inner, backend, gone};
use crate::Health;
use crate::process::platform::{self, Bond, FromChild, Started, ToChild};
use crate::process::wire::{self, Frames, FromWorker, Load, ToWorker};

/// How long a read waits: how often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often a process is asked whether it lives.
const PING: Duration = Duration::from_secs(1);
/// Processes in a row that die without having said anything.
const MOST_USELESS: u32 = 5;
/// First and longest pause before another process, after one that was of no use.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// How long a process may take to end.
const GRACE: Duration = Duration::from_secs(6);

/// A process and what it says.
struct Process {
    child: Child,
    frames: Frames<FromChild>,
    out: Sender<ToWorker>,
    /// Dropped, it ends what is left of it.
    _bond: Bond,
}

/// Why a process is over.
enum Ended {
    /// It was asked to.
    Stopped,
    /// It, or what it said, was not as it should be.
    Died(String),
    /// It could not load the model.
    Refused(Failure),
}

/// Keeps a process running until nobody wants it, or there is no use.
pub(super) fn supervise(inner: &Arc<Inner>) {
    let mut useless = 0;
    loop {
        let ended = match Process::start(inner) {
            Ok(mut process) => {
                let ended = process.load(inner).and_then(|()| process.listen(inner)).unwrap_err();
                process.end(matches!(ended, Ended::Stopped));
                ended
            }
            Err(error) => {
                Ended::Refused(backend(format!("cannot start a worker process: {error}")))
            }
        };
        let mut state = inner.lock();
        let useful = std::mem::take(&mut state.useful);
        state.end_process(useful, inner.launch.patience.resume);
        let (health, failure) = match ended {
            _ if state.stopping => (Health::Stopped, gone()),
            Ended::Stopped => (Health::Stopped, gone()),
            Ended::Refused(failure) => (Health::Failed(failure.clone()), failure),
            Ended::Died(why) => {
                useless = if useful { 0 } else { useless + 1 };
                if useless < MOST_USELESS {
                    state.health = Health::Starting;
                    state.restarts += 1;
                    drop(state);
                    pause(inner, useless);
                    continue;
                }
                let failure = Failure {
                    hint: Some(
                        "look at the log of the server; unload the model to try again".into(),
                    ),
                    ..backend(format!("the model's process ends again and again: {why}"))
                };
                (Health::Failed(failure.clone()), failure)
            }
        };
        state.fail_all(&failure);
        drop(state);
        inner.set_health(health);
        return;
    }
}

/// Waits before another process: not at all after one that was of use.
fn pause(inner: &Inner, useless: u32) {
    let [first, longest] = PAUSES;
    let time = match useless {
        0 => return,
        n => (first * 2_u32.saturating_pow(n - 1)).min(longest),
    };
    let until = Instant::now() + time;
    while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|r| !r.is_zero()) {
        inner.pause(rest.min(TICK));
        let mut state = inner.lock();
        state.expire();
        if state.stopping {
            return;
        }
    }
}

/// Variables that a process inherits.
fn is_passed_on(name: &str) -> bool {
    let ours = name.starts_with("OPREL_") && !name.starts_with("OPREL_REMOTE_KEY");
    ours || platform::is_passed_on(name)
}

impl Process {
    fn start(inner: &Inner) -> io::Result<Process> {
        let launch = &inner.launch;
        let environment =
            std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_passed_on));
        let mut command = Command::new(&launch.program);
        command.args(&launch.args).env_clear().envs(environment);
        let Started { child, from, to, bond } = platform::start(&mut command, TICK)?;
        inner.lock().pid = Some(child.id());
        let (out, to_write) = channel();
        std::thread::Builder::new()
            .name("oprel-worker-in".into())
            .spawn(move || write_all(&to_write, to))?;
        Ok(Process { child, frames: Frames::new(from), out, _bond: bond })
    }

    /// The next message, or `None` after a while.
    fn next(&mut self) -> Result<Option<FromWorker>, Ended> {
        self.frames.next().map_err(|error| {
            Ended::Died(match error.kind() {
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => self.how_it_died(),
                _ => error.to_string(),
            })
        })
    }

    fn how_it_died(&mut self) -> String {
        // Its end of the socket is closed a moment before it can be asked how it ended.
        for _ in 0..50 {
            match self.child.try_wait() {
                Ok(Some(status)) => return format!("it ended with {status}"),
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => return error.to_string(),
            }
        }
        "it closed its socket".into()
    }

    /// Greets it and waits until it has loaded the model.
    fn load(&mut self, inner: &Inner) -> Result<(), Ended> {
        let until = Instant::now() + inner.launch.patience.load;
        let load = Load::new(&inner.launch.source, &inner.launch.options);
        let _ = self.out.send(ToWorker::Load(Box::new(load)));
        loop {
            match self.next()? {
                Some(FromWorker::Hello { build }) if build != wire::build() => {
                    let hint = "it was replaced while this program ran: start this again";
                    let failure = backend(format!(
                        "{} is of another build ({build})",
                        inner.launch.program.display()
                    ));
                    return Err(Ended::Refused(Failure { hint: Some(hint.into()), ..failure }));
                }
                Some(FromWorker::Hello { .. }) => {}
                Some(FromWorker::Loaded(description)) => {
                    let mut state = inner.lock();
                    state.description = Arc::new(*description);
                    if state.stopping {
                        return Err(Ended::Stopped);
                    }
                    state.begin_again(self.out.clone());
                    drop(state);
                    inner.set_health(Health::Ready);
                    return Ok(());
                }
                Some(FromWorker::NotLoaded(failure)) => return Err(Ended::Refused(failure)),
                Some(_) => return Err(Ended::Died("it spoke before it had loaded".into())),
                None => {}
            }
            let mut state = inner.lock();
            state.expire();
            if state.stopping {
                return Err(Ended::Stopped);
            }
            if Instant::now() >= until {
                let failure = Failure::new(Kind::Backend, "the model took too long to load");
                return Err(Ended::Refused(failure));
            }
        }
    }

    /// Takes what it says until it ends. It never returns `Ok`.
    fn listen(&mut self, inner: &Inner) -> Result<(), Ended> {
        let patience = inner.launch.patience;
        let mut life = Life::new();
        loop {
            match self.next()? {
                Some(message) => {
                    life.heard = Instant::now();
                    if let Some(changed) = message.file_changed().cloned() {
                        // Nobody new is let in; it would hear the same.
                        inner.set_health(Health::Failed(changed.clone()));
                        hear(inner, message, &mut life)?;
                        return Err(Ended::Refused(changed));
                    }
                    hear(inner, message, &mut life)?;
                }
                None if inner.lock().stopping => return Err(Ended::Stopped),
                None => {}
            }
            let now = Instant::now();
            if now.duration_since(life.pinged) >= PING {
                life.pinged = now;
                inner.lock().expire();
                let _ = self.out.send(ToWorker::Ping);
            }
            if now.duration_since(life.heard) >= patience.silence {
                return Err(Ended::Died("it gave no sign of life".into()));
            }
            if now.duration_since(life.moved) >= patience.step {
                return Err(Ended::Died("its engine made no step".into()));
            }
        }
    }

    /// Lets it end, or ends it.
    fn end(mut self, gently: bool) {
        if gently {
            let _ = self.out.send(ToWorker::Stop);
            let until = Instant::now() + GRACE;
            while Instant::now() < until {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes what a process says.
fn hear(inner: &Inner, message: FromWorker, life: &mut Life) -> Result<(), Ended> {
    match message {
        FromWorker::Said { id, events } => inner.lock().said(id, events),
        FromWorker::Reply { id, reply } => inner.lock().reply(id, reply),
        FromWorker::Pong { turns, busy } => life.pong(turns, busy),
        other => return Err(Ended::Died(format!("it said {other:?}"))),
    }
    Ok(())
}

/// Signs of life.
struct Life {
    pinged: Instant,
    heard: Instant,
    /// When the engine last made a turn, or had nothing to do.
    moved: Instant,
    turns: u64,
}

impl Life {
    fn new() -> Life {
        let now = Instant::now();
        Life { pinged: now, heard: now, moved: now, turns: 0 }
    }

    fn pong(&mut self, turns: u64, busy: bool) {
        if turns != self.turns || !busy {
            self.turns = turns;
            self.moved = Instant::now();
        }
    }
}

/// Writes what is sent until nobody sends or nobody reads.
fn write_all(to_write: &Receiver<ToWorker>, out: ToChild) {
    let mut out = BufWriter::new(out);
    while let Ok(first) = to_write.recv() {
        let more = std::iter::once(first).chain(to_write.try_iter());
        for message in more {
            if wire::write(&mut out, &message).is_err() {
                return;
            }
        }
        if out.flush().is_err() {
            return;
        }
    }
}
