//! What starting a worker and speaking to it is on this system. Each file has the same functions and types.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

pub(super) use system::{
    Bond, FromChild, FromParent, ToChild, ToParent, begin, confine, is_passed_on, own_ends, start,
    step_back,
};
#[cfg(unix)]
use unix as system;
#[cfg(unix)]
pub use unix::leash;
#[cfg(windows)]
use windows as system;

/// A process, and both ways to speak with it.
pub(super) struct Started {
    pub(super) child: std::process::Child,
    /// What it says: a read ends after a while without anything, as one that would have to wait.
    pub(super) from: FromChild,
    pub(super) to: ToChild,
    /// What ends it together with this process, where that is something to be kept.
    pub(super) bond: Bond,
}
