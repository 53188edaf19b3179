//! On Unix: a socket that only its owner can open, and modes of files.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
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
    /// Makes a socket that only its owner can open; one that a dead server left is replaced, anything else is
    /// left alone, as are the rights of a folder that is there.
    pub(crate) fn bind(path: &Path) -> io::Result<Local> {
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        match path.symlink_metadata() {
            Ok(there) if there.file_type().is_socket() => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Err(io::ErrorKind::AddrInUse.into());
                }
                std::fs::remove_file(path)?;
            }
            Ok(_) => {
                return Err(io::Error::other("what is there is no socket; choose another place"));
            }
            Err(_) => {}
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

/// Makes a folder that only its owner can enter, where there is none.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(outer) = folder.parent() {
        std::fs::create_dir_all(outer)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn only_a_dead_socket_is_replaced_and_no_folder_of_others_is_closed() {
        let place = tempfile::tempdir().unwrap();
        std::fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        let path = place.path().join("s.sock");
        let local = Local::bind(&path).unwrap();
        assert_eq!((mode(&path), mode(place.path())), (0o600, 0o755));
        assert_eq!(Local::bind(&path).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(local);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        drop(Local::bind(&path).unwrap());
        let inner = place.path().join("new/run/s.sock");
        let _local = Local::bind(&inner).unwrap();
        assert_eq!(mode(inner.parent().unwrap()), 0o700);
        std::fs::write(&path, "notes").unwrap();
        let refused = Local::bind(&path).err().unwrap();
        assert!(refused.to_string().contains("no socket"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
        std::os::unix::fs::symlink("nowhere", place.path().join("l")).unwrap();
        assert!(Local::bind(&place.path().join("l")).is_err());
    }
}
