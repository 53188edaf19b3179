//! Memory of the machine.

#![expect(unsafe_code, reason = "memory is told by a raw call only")]

use std::io;

use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};

use crate::{done, size};

/// Memory of the machine. What is promised to a process counts when it is promised, not when it is used: that it
/// is within memory and page files together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the machine has.
    pub total_bytes: u64,
    /// What can be had without paging.
    pub available_bytes: u64,
    /// Most that may be promised: memory and page files.
    pub commit_total_bytes: u64,
    /// What of it may still be promised to this process.
    pub commit_available_bytes: u64,
}

/// What the system tells now.
///
/// # Errors
/// What the system says.
pub fn memory() -> io::Result<Memory> {
    let mut status =
        MEMORYSTATUSEX { dwLength: size::<MEMORYSTATUSEX>(), ..MEMORYSTATUSEX::default() };
    // SAFETY: the structure is ours, and says how long it is.
    done(unsafe { GlobalMemoryStatusEx(&raw mut status) })?;
    Ok(Memory {
        total_bytes: status.ullTotalPhys,
        available_bytes: status.ullAvailPhys,
        commit_total_bytes: status.ullTotalPageFile,
        commit_available_bytes: status.ullAvailPageFile,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_memory() {
        let memory = memory().unwrap();
        assert!(memory.available_bytes > 0 && memory.total_bytes >= memory.available_bytes);
        assert!(memory.commit_total_bytes >= memory.commit_available_bytes);
    }
}
