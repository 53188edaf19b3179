//! On Unix: a socket that only its owner can open, and modes of files.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// A Unix socket that listens already.
pub type GivenLocal = std::os::unix::net::UnixListener;

/// A Unix socket that is listened on.
pub(crate) struct Local {
    listener: UnixListener,
    /// It is removed in the end, where it was made here.
    made: Option<PathBuf>,
}

impl Local {
    /// Makes a socket that only its owner can open; one that a dead server left is replaced.
    pub(crate) fn bind(path: &Path) -> io::Result<Local> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
            std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        }
        if path.exists() {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Local { listener, made: Some(path.into()) })
    }

    /// One that listens already.
    pub(crate) fn of(given: GivenLocal) -> io::Result<Local> {
        given.set_nonblocking(true)?;
        Ok(Local { listener: UnixListener::from_std(given)?, made: None })
    }

    /// The next connection. Given up while it waits, nothing is lost.
    pub(crate) async fn accept(&mut self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Lets only its owner read a file that is made.
pub(crate) fn private(options: &mut OpenOptions) {
    options.mode(0o600);
}

/// Lets only its owner read a file that is there.
pub(crate) fn keep_private(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}
