//! On Windows: a port of this machine alone, and a job that ends with this process.
//!
//! A port can be had by anybody while the process does not hold it. Whoever would take it then sees requests; without
//! the key, which is in a folder of its user, nobody can ask the process anything.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::windows::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use oprel_windows::Job;

/// A process of a console gets no window of its own, nor this one's console with its Ctrl-C.
const CREATE_NO_WINDOW: u32 = 0x0800_0000;

/// Where the process listens: a port.
#[derive(Clone, Debug)]
pub(in crate::llama) struct Door(SocketAddr);

impl Door {
    /// A port that nobody has now.
    pub(in crate::llama) fn below(_: &Path) -> io::Result<Door> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr().map(Door)
    }

    /// Options that let the program listen there.
    pub(in crate::llama) fn arguments(&self) -> Vec<OsString> {
        let (host, port) = (self.0.ip().to_string(), self.0.port().to_string());
        vec!["--host".into(), host.into(), "--port".into(), port.into()]
    }

    /// The address that it has then.
    pub(in crate::llama) fn address(&self) -> String {
        format!("http://{}", self.0)
    }

    pub(in crate::llama) fn connect(&self, patience: Duration) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.0, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(stream)
    }

    /// A port is free when its process is gone.
    pub(in crate::llama) fn clear(&self) {}
}

/// Where a folder of this user may be.
pub(in crate::llama) fn places() -> Vec<PathBuf> {
    vec![std::env::temp_dir()]
}

/// Makes a folder. It is below one that is for this user alone.
pub(in crate::llama) fn make_folder(path: &Path) -> io::Result<()> {
    std::fs::create_dir(path)
}

/// Lets only its owner read a file that is made, as all in its folder is.
pub(in crate::llama) fn private(_: &mut OpenOptions) {}

/// Starts without a window.
pub(in crate::llama) fn hide(command: &mut Command) {
    command.creation_flags(CREATE_NO_WINDOW);
}

/// A process and all that it started.
#[derive(Debug)]
pub(in crate::llama) struct Kin(Option<Job>);

/// Starts a process that Ctrl-C in a console does not reach, and that ends with this one.
pub(in crate::llama) fn start(command: &mut Command) -> io::Result<(Child, Kin)> {
    let job = Job::new()?;
    hide(command);
    let mut child = command.spawn()?;
    match job.take(&child) {
        Ok(()) => Ok((child, Kin(Some(job)))),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

impl Kin {
    /// Ends them.
    pub(in crate::llama) fn end(&mut self) {
        self.0 = None;
    }
}
