//! Engines of others as programs that were installed: fetched from a list of releases, checked, unpacked, removed.
//!
//! Each version has a folder of its own, `llama-server/b6123` in the folder of the setting `backends`, and is there
//! only once it was whole and ran. Nothing here starts a program: who installs says how one is asked what it is.

mod error;
mod folder;
mod install;
mod release;
mod unpack;

pub use error::{Error, Result};
pub use folder::{Folder, Installed, Record};
pub use install::{Check, Outcome, Tell, Wanted, install};
pub use release::{Asset, LLAMA_RELEASES, Platform, Release, Version};
