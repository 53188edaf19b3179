//! On Windows: events of the console, a named pipe, files that are their user's where they lie.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use oprel::OprelError;
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close,
    ctrl_logoff, ctrl_shutdown,
};

use crate::args::Serve;

/// Events of the console that ask this process to end: by the keyboard, or because its window, the session or the
/// system ends, which wait for it for some seconds.
pub(crate) struct Ends {
    typed: CtrlC,
    broken: CtrlBreak,
    closed: CtrlClose,
    logged_off: CtrlLogoff,
    shut_down: CtrlShutdown,
}

impl Ends {
    /// Takes them instead of ending.
    pub(crate) fn watch() -> io::Result<Ends> {
        Ok(Ends {
            typed: ctrl_c()?,
            broken: ctrl_break()?,
            closed: ctrl_close()?,
            logged_off: ctrl_logoff()?,
            shut_down: ctrl_shutdown()?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.typed.recv() => {}
            _ = self.broken.recv() => {}
            _ = self.closed.recv() => {}
            _ = self.logged_off.recv() => {}
            _ = self.shut_down.recv() => {}
        }
    }
}

/// Nothing limits how many files and connections a process has open.
pub(crate) fn open_files(_: u64) -> Option<u64> {
    None
}

/// This program: the file of one that runs is not replaced.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Where a server listens for its own user alone, if nobody says otherwise.
pub(crate) fn local_place() -> Option<PathBuf> {
    Some(r"\\.\pipe\oprel".into())
}

/// Nothing is needed: whoever starts the program puts it in a job that ends with this process.
pub(crate) fn leash(_: &Path) -> Vec<OsString> {
    Vec::new()
}

/// There is no systemd, and what starts programs at a login is told by its own tools.
pub(crate) fn install(_: &Serve) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    Err(OprelError::Validation {
        message: "--install writes a unit of systemd, which this system does not have".into(),
        hint: Some(format!(
            r#"`schtasks /Create /TN oprel /SC ONLOGON /TR "'{}' serve"` starts it at every login"#,
            program.display()
        )),
        source: None,
    }
    .into())
}

/// A file in a user's own folder is for that user already.
pub(crate) fn private(_: &mut OpenOptions) {}

/// Columns of the console at standard output.
pub(crate) fn width() -> Option<usize> {
    oprel_windows::console_width()
}

/// Lets the console read ANSI's sequences.
pub(crate) fn prepare_terminal() {
    oprel_windows::speak_ansi();
}
