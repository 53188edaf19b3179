//! What starting, reaching and ending the process is on this system. Each file has the same functions and types.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use unix::{Door, Kin, hide, make_folder, places, private, start};
#[cfg(windows)]
pub(super) use windows::{Door, Kin, hide, make_folder, places, private, start};
