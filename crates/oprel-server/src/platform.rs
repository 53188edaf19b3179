//! What listening to this machine's own user is on this system, and keeping files to that user. Each file has the
//! same functions and types.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::GivenLocal;
#[cfg(unix)]
pub(crate) use unix::{Local, keep_private, private};
#[cfg(windows)]
pub use windows::GivenLocal;
#[cfg(windows)]
pub(crate) use windows::{Local, keep_private, private};
