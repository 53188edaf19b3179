//! What reaching and starting a daemon is on this system. Each file has the same functions.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

pub(crate) use system::{detach, may_run, pipe, private, socket};
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;
