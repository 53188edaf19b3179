//! What reaching and starting a daemon is on this system. Each file has the same functions.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{detach, may_run, pipe, private, socket};
#[cfg(windows)]
pub(crate) use windows::{detach, may_run, pipe, private, socket};
