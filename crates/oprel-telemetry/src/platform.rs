//! What a system tells by calls and not by files. Each file has the same functions.

#[cfg(not(windows))]
mod files;
#[cfg(windows)]
mod windows;

#[cfg(not(windows))]
use files as system;
pub(crate) use system::{cpu, kernel, memory, space};
#[cfg(windows)]
use windows as system;
