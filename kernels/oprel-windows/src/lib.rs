//! What Windows offers through raw calls only, each behind a safe function: jobs, memory, free space, processors,
//! what a file is, the console, pipes for one user. Empty on other systems.
//!
//! Nothing here knows what oprel is. Buffers are owned by the function that fills them, and what was told is
//! copied out of them; handles and blocks of the system are values that give themselves back.

#[cfg(windows)]
mod console;
#[cfg(windows)]
mod file;
#[cfg(windows)]
mod job;
#[cfg(windows)]
mod memory;
#[cfg(all(windows, feature = "pipes"))]
mod pipe;
#[cfg(windows)]
mod processors;

#[cfg(windows)]
pub use console::{console_width, fail_quietly, speak_ansi};
#[cfg(windows)]
pub use file::{FileId, Space, allocated_bytes, file_id, space};
#[cfg(windows)]
pub use job::Job;
#[cfg(windows)]
pub use memory::{Memory, memory};
#[cfg(all(windows, feature = "pipes"))]
pub use pipe::{is_ours, listen};
#[cfg(windows)]
pub use processors::{Cache, CacheKind, Core, Processors, processors};

/// What the system said, as a result.
#[cfg(windows)]
fn done(answer: windows_sys::core::BOOL) -> std::io::Result<()> {
    match answer {
        0 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Bytes of a value, as the system counts them.
#[cfg(windows)]
const fn size<T>() -> u32 {
    size_of::<T>() as u32
}
