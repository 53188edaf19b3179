//! What a system tells by calls and not by files. Each file has the same functions.

#[cfg(not(windows))]
mod files;
#[cfg(windows)]
mod windows;

#[cfg(not(windows))]
pub(crate) use files::{cpu, kernel, memory, space};
#[cfg(windows)]
pub(crate) use windows::{cpu, kernel, memory, space};
