//! Where all is told by files, or not at all.

use std::path::Path;

use crate::cpu::Cpu;
use crate::memory::Memory;
use crate::roots::Roots;

/// Processors are told by files.
pub(crate) fn cpu(_: &Roots, _: &str) -> Option<Cpu> {
    None
}

/// Memory is told by files.
pub(crate) fn memory(_: &Roots) -> Option<Memory> {
    None
}

/// The kernel's release is told by a file.
pub(crate) fn kernel(_: &Roots) -> Option<String> {
    None
}

/// What is free for this user, and all that there is, on the disk of a folder that exists.
#[cfg(unix)]
pub(crate) fn space(folder: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

/// What is free is not told.
#[cfg(not(unix))]
pub(crate) fn space(_: &Path) -> Option<(u64, u64)> {
    None
}
