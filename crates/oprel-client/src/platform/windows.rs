//! On Windows: named pipes, and processes without a window.

use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::windows::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::net::windows::named_pipe::ClientOptions;

use crate::connect::Io;

/// What the system says while all places of a pipe are taken.
const PIPE_BUSY: i32 = 231;
/// How soon another place is asked for.
const SOON: Duration = Duration::from_millis(10);
/// A process of a console gets no window of its own, nor this one's console with its Ctrl-C.
const CREATE_NO_WINDOW: u32 = 0x0800_0000;
const CREATE_NEW_PROCESS_GROUP: u32 = 0x0000_0200;

/// The standard library has no Unix sockets here.
pub(crate) async fn socket(_: &Path) -> io::Result<Box<dyn Io>> {
    let why = r"Unix sockets are not spoken on Windows; here it is pipe:oprel";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

/// Connects to a named pipe, and waits for a place of it for at most so long. A pipe of another user, who may have
/// taken the name first, is not spoken to.
pub(crate) async fn pipe(path: &Path, patience: Duration) -> io::Result<Box<dyn Io>> {
    let until = Instant::now() + patience;
    loop {
        match ClientOptions::new().open(path) {
            Ok(pipe) if oprel_windows::is_ours(&pipe)? => return Ok(Box::new(pipe)),
            Ok(_) => {
                let why = "the pipe is another user's";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
            Err(error) if error.raw_os_error() == Some(PIPE_BUSY) && Instant::now() < until => {
                tokio::time::sleep(SOON).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A file in a user's own folder is for that user already.
pub(crate) fn private(_: &mut OpenOptions) {}

/// Whether a file may be run is in its name.
pub(crate) fn may_run(_: &Metadata) -> bool {
    true
}

/// Starts a program that stays when this one is interrupted, and shows no window.
pub(crate) fn detach(command: &mut Command) {
    command.creation_flags(CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP);
}
