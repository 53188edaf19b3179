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

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use crate::{AsyncClient, Endpoint};

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"ready\":true}";

    #[tokio::test]
    async fn a_request_goes_over_a_pipe_of_this_user() {
        let name = format!("oprel-client-{}", std::process::id());
        let path = format!(r"\\.\pipe\{name}");
        let mut server = oprel_windows::listen(OsStr::new(&path), true).unwrap();
        let serving = tokio::spawn(async move {
            server.connect().await.unwrap();
            let mut head = [0; 1024];
            let n = server.read(&mut head).await.unwrap();
            server.write_all(ANSWER).await.unwrap();
            String::from_utf8_lossy(&head[..n]).into_owned()
        });
        let client = AsyncClient::new(Endpoint::parse(&format!("pipe:{name}")).unwrap());
        assert!(client.is_there().await);
        assert!(serving.await.unwrap().starts_with("GET /health HTTP/1.1"));
        let nobody = AsyncClient::new(Endpoint::parse("pipe:oprel-nobody").unwrap());
        assert!(!nobody.is_there().await);
    }
}
