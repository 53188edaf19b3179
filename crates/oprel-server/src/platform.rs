//! What listening to this machine's own user is on this system, and keeping files to that user. Each file has the
//! same functions and types.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

pub use system::GivenLocal;
pub(crate) use system::{Local, keep_private, private};
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;
