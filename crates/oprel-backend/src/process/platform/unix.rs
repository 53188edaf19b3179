//! On Unix: a socket pair, one end of which is the child's standard input.

use std::ffi::{OsStr, OsString};
use std::io;
#[cfg(target_os = "linux")]
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Started;

pub(in crate::process) type FromChild = UnixStream;
pub(in crate::process) type ToChild = UnixStream;
pub(in crate::process) type FromParent = UnixStream;
pub(in crate::process) type ToParent = UnixStream;
/// A child asks the system to let it die with its parent; see [`begin`].
pub(in crate::process) type Bond = ();

/// Starts a worker; a read of what it says waits for at most `tick`.
pub(in crate::process) fn start(command: &mut Command, tick: Duration) -> io::Result<Started> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        // Ctrl-C in a terminal is the parent's business.
        .process_group(0)
        .spawn()?;
    ours.set_read_timeout(Some(tick))?;
    Ok(Started { child, to: ours.try_clone()?, from: ours, bond: () })
}

/// The ends that this process was started with.
pub(in crate::process) fn own_ends() -> io::Result<(FromParent, ToParent)> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    Ok((socket.try_clone()?, socket))
}

/// Variables that a worker inherits, beside ours.
pub(in crate::process) fn is_passed_on(name: &str) -> bool {
    let names =
        ["PATH", "HOME", "TZ", "LANG", "RUST_BACKTRACE", "LD_LIBRARY_PATH", "LLVM_PROFILE_FILE"];
    names.contains(&name) || name.starts_with("LC_")
}

/// Gives up what can be given up before it is known what to load. Failing is no reason not to run.
pub(in crate::process) fn begin() {
    #[cfg(target_os = "linux")]
    super::linux::begin();
}

/// Lets this thread, for as long as it lives, go on only where no other wants the processor.
pub(in crate::process) fn step_back() {
    #[cfg(target_os = "linux")]
    super::linux::step_back();
}

/// Narrows the file system to reading `files`, and to reading and writing below `folders`.
pub(in crate::process) fn confine(files: &[PathBuf], folders: &[PathBuf]) {
    #[cfg(target_os = "linux")]
    if let Err(error) = super::linux::confine(files, folders) {
        // That nobody can read it is no reason not to run, either.
        let _ = writeln!(io::stderr(), "worker: files are not confined: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (files, folders);
}

/// Becomes another program, which dies with the process `parent` that started this one, where the system
/// can promise that. Returns only if it cannot be run.
///
/// # Errors
/// If the program cannot be run, or the parent is gone already.
pub fn leash(parent: u32, program: &OsStr, args: &[OsString]) -> io::Error {
    begin();
    // It may have died before it was agreed to die with it.
    match parent_id() == parent {
        true => Command::new(program).args(args).exec(),
        false => io::Error::other("who started it is gone"),
    }
}
