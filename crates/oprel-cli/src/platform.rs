//! What differs between systems for a command line: ends that are asked for, limits, places, the terminal. Each
//! file has the same functions and types.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

pub(crate) use system::{
    Ends, install, leash, local_place, open_files, own_program, prepare_terminal, private, width,
};
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;
