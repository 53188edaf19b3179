//! On Windows: a named pipe that only its user can open. Files in a user's own folder are for that user already.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use tokio::net::windows::named_pipe::NamedPipeServer;

/// Nobody hands over a pipe that listens already.
pub type GivenLocal = Infallible;

/// A named pipe that is listened on.
pub(crate) struct Local {
    path: OsString,
    /// The place that the next client takes. There is always one, so that no client finds the pipe gone.
    next: NamedPipeServer,
}

impl Local {
    /// Makes a pipe that only this user can open, with a name that nobody has.
    pub(crate) fn bind(path: &Path) -> io::Result<Local> {
        let path = path.as_os_str().to_os_string();
        let next = oprel_windows::listen(&path, true).map_err(|error| match error.kind() {
            // What the system says of a name that somebody has.
            io::ErrorKind::PermissionDenied => io::Error::new(io::ErrorKind::AddrInUse, error),
            _ => error,
        })?;
        Ok(Local { path, next })
    }

    /// One that listens already: there is none.
    pub(crate) fn of(given: GivenLocal) -> io::Result<Local> {
        match given {}
    }

    /// The next connection. Given up while it waits, nothing is lost.
    pub(crate) async fn accept(&mut self) -> io::Result<NamedPipeServer> {
        self.next.connect().await?;
        // Where this fails, the client keeps its place and is taken the next time.
        let next = oprel_windows::listen(&self.path, false)?;
        Ok(std::mem::replace(&mut self.next, next))
    }
}

/// Lets only its owner read a file that is made.
pub(crate) fn private(_: &mut OpenOptions) {}

/// Lets only its owner read a file that is there.
pub(crate) fn keep_private(_: &Path) -> io::Result<()> {
    Ok(())
}
