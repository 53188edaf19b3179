//! On Unix: signals, limits of resources, modes of files, a socket in `OPREL_HOME`.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::Serve;

/// Signals that ask this process to end.
pub(crate) struct Ends {
    terminate: Signal,
    interrupt: Signal,
    /// The terminal was closed; `None` where that is to change nothing.
    hangup: Option<Signal>,
    /// Whether one came.
    asked: bool,
}

impl Ends {
    /// Takes them instead of ending.
    pub(crate) fn watch() -> io::Result<Ends> {
        Ok(Ends {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: (!ignores_hangups()).then(|| signal(SignalKind::hangup())).transpose()?,
            asked: false,
        })
    }

    /// Waits for the next one. Shell and system both tell of a terminal that is closed, so that this hurries nothing
    /// that ends already.
    pub(crate) async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) if !self.asked => hangup.recv().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hangup => {}
        }
        self.asked = true;
    }
}

/// Whether this process was started so that it outlives its terminal (`nohup`). Where the system does not tell, it was
/// if what it says goes elsewhere.
fn ignores_hangups() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return !io::stderr().is_terminal();
    };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The mask begins with signal 1, which is SIGHUP.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

/// Files and connections that this process may have open, raised towards `needed` as far as it may be; `None` where
/// nothing limits them.
pub(crate) fn open_files(needed: u64) -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|n| n < needed) {
        let most = limit.maximum.map_or(needed, |most| most.min(needed));
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit });
    }
    getrlimit(Resource::Nofile).current
}

/// This program, also if its file was replaced since it was started.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    match running.exists() {
        true => Ok(format!("/proc/{}/exe", std::process::id()).into()),
        false => std::env::current_exe(),
    }
}

/// Where a server listens for its own user alone, if nobody says otherwise.
pub(crate) fn local_place() -> Option<PathBuf> {
    Some(oprel_config::home()?.join("run/oprel.sock"))
}

/// What runs another program so that it dies with this one; `own` is this program.
pub(crate) fn leash(own: &Path) -> Vec<OsString> {
    let parent = std::process::id().to_string();
    vec![own.into(), "leash".into(), parent.into()]
}

/// Writes a unit of systemd.
pub(crate) fn install(args: &Serve) -> anyhow::Result<()> {
    crate::install::run(args)
}

/// Lets only its owner read a file that is made.
pub(crate) fn private(options: &mut OpenOptions) {
    options.mode(0o600);
}

/// Columns of the terminal at standard output.
pub(crate) fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(size.ws_col.into()).filter(|columns| *columns > 0)
}

/// Terminals read ANSI's sequences as they are.
pub(crate) fn prepare_terminal() {}
