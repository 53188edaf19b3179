//! What the standard library does not do with files alike on all systems. Each file has the same functions.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

pub(crate) use system::{
    allocated, is_at, lead_to, on_disk, private, read_at, reserve, set_mode, symlink, sync_folder,
    write_all_at,
};
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;
