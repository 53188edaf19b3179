//! On Windows: two pipes, the child's standard input and output, and a job that ends it with its parent.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::windows::io::AsHandle;
use std::os::windows::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use oprel_windows::Job;

use super::Started;

pub(in crate::process) type ToChild = ChildStdin;
pub(in crate::process) type FromParent = File;
pub(in crate::process) type ToParent = File;
/// Dropped, or closed by the end of this process, it ends the child.
pub(in crate::process) type Bond = Job;

/// A process of a console gets no window of its own, nor this one's console with its Ctrl-C.
const CREATE_NO_WINDOW: u32 = 0x0800_0000;
/// Bytes that are read at once, and how many times that may wait to be taken.
const PIECE: usize = 1 << 16;
const MOST_PIECES: usize = 16;
/// Variables without which programs do not run here, whatever letters they are written in.
const NEEDED: &[&str] = &[
    "APPDATA",
    "COMSPEC",
    "HOMEDRIVE",
    "HOMEPATH",
    "LLVM_PROFILE_FILE",
    "LOCALAPPDATA",
    "NUMBER_OF_PROCESSORS",
    "PATH",
    "PATHEXT",
    "PROCESSOR_ARCHITECTURE",
    "PROGRAMDATA",
    "RUST_BACKTRACE",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "TZ",
    "USERNAME",
    "USERPROFILE",
    "WINDIR",
];

/// Starts a worker; a read of what it says waits for at most `tick`.
pub(in crate::process) fn start(command: &mut Command, tick: Duration) -> io::Result<Started> {
    let bond = Job::new()?;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .creation_flags(CREATE_NO_WINDOW)
        .spawn()?;
    let bound = bond.take(&child);
    let (Some(to), Some(out), Ok(())) = (child.stdin.take(), child.stdout.take(), &bound) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(bound.err().unwrap_or_else(|| ErrorKind::BrokenPipe.into()));
    };
    Ok(Started { child, from: FromChild::new(out, tick)?, to, bond })
}

/// What a child says. A thread of its own reads it, because a read of a pipe cannot be given a time.
pub(in crate::process) struct FromChild {
    pieces: Receiver<io::Result<Vec<u8>>>,
    /// The piece that is being taken, and how much of it was.
    piece: Vec<u8>,
    taken: usize,
    tick: Duration,
}

impl FromChild {
    fn new(out: ChildStdout, tick: Duration) -> io::Result<FromChild> {
        let (said, pieces) = sync_channel(MOST_PIECES);
        std::thread::Builder::new()
            .name("oprel-worker-out".into())
            .spawn(move || pass_on(out, &said))?;
        Ok(FromChild { pieces, piece: Vec::new(), taken: 0, tick })
    }
}

/// Reads until nothing more comes, or nobody takes it.
fn pass_on(mut out: ChildStdout, said: &SyncSender<io::Result<Vec<u8>>>) {
    let mut bytes = vec![0; PIECE];
    loop {
        let piece = match out.read(&mut bytes) {
            Ok(0) => return,
            Ok(n) => Ok(bytes[..n].to_vec()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_last = piece.is_err();
        if said.send(piece).is_err() || is_last {
            return;
        }
    }
}

impl Read for FromChild {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() {
            match self.pieces.recv_timeout(self.tick) {
                Ok(piece) => (self.piece, self.taken) = (piece?, 0),
                Err(RecvTimeoutError::Timeout) => return Err(ErrorKind::WouldBlock.into()),
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
        let n = (&self.piece[self.taken..]).read(into)?;
        self.taken += n;
        Ok(n)
    }
}

/// The ends that this process was started with.
pub(in crate::process) fn own_ends() -> io::Result<(FromParent, ToParent)> {
    let from = io::stdin().as_handle().try_clone_to_owned()?;
    let to = io::stdout().as_handle().try_clone_to_owned()?;
    Ok((from.into(), to.into()))
}

/// Variables that a worker inherits, beside ours.
pub(in crate::process) fn is_passed_on(name: &str) -> bool {
    NEEDED.iter().any(|needed| needed.eq_ignore_ascii_case(name))
}

/// A crash opens no window. All else that a worker gives up elsewhere is its parent's to take: see [`Bond`].
pub(in crate::process) fn begin() {
    oprel_windows::fail_quietly();
}

/// No thread is told to wait for all others here: the system gives those a turn that have waited.
pub(in crate::process) fn step_back() {}

/// Nothing here narrows which files a process of this user may open.
pub(in crate::process) fn confine(_files: &[PathBuf], _folders: &[PathBuf]) {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that says `hi`, and then waits for what is never said to it.
    fn slow() -> Command {
        let mut command = Command::new("cmd");
        command.args(["/C", "echo hi& set /p line="]);
        command
    }

    #[test]
    fn a_read_ends_with_what_there_is_or_after_a_while() {
        let mut started = start(&mut slow(), Duration::from_millis(500)).unwrap();
        let mut said = [0; 16];
        let n = loop {
            match started.from.read(&mut said) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => break other.unwrap(),
            }
        };
        assert!(said[..n].starts_with(b"hi"));
        loop {
            match started.from.read(&mut said) {
                Ok(n) => assert_ne!(n, 0),
                Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        drop(started.bond);
        started.child.wait().unwrap();
        drop(started.to);
    }

    #[test]
    fn variables_are_known_in_any_letters() {
        assert!(is_passed_on("SystemRoot") && is_passed_on("Path"));
        assert!(!is_passed_on("AWS_SECRET_ACCESS_KEY"));
    }
}
