//! What starting, reaching and ending the process is on this system. Each file has the same functions and types.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

pub(super) use system::{Door, Kin, hide, make_folder, places, private, start};
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;
