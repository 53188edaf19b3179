//! On Unix: sockets, modes of files, and groups of processes.

use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::connect::Io;

/// Connects to a Unix socket.
pub(crate) async fn socket(path: &Path) -> io::Result<Box<dyn Io>> {
    Ok(Box::new(UnixStream::connect(path).await?))
}

/// There are no named pipes of this kind here.
pub(crate) async fn pipe(_: &Path, _: Duration) -> io::Result<Box<dyn Io>> {
    let why = "named pipes are of Windows; here it is unix:/path/of/a.sock";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

/// Lets only its owner read a file that is made.
pub(crate) fn private(options: &mut OpenOptions) {
    options.mode(0o600);
}

/// Whether a file may be run.
pub(crate) fn may_run(file: &Metadata) -> bool {
    file.permissions().mode() & 0o111 != 0
}

/// Starts a program that stays when this one is interrupted.
pub(crate) fn detach(command: &mut Command) {
    command.process_group(0);
}
