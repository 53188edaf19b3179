//! Where models come from and where they are kept: names, the store, hubs and registries.
//!
//! With `oprel-remote` this is the only code that opens a connection outwards. What a server sends is
//! believed once its SHA-256 is the one that was asked for.

mod digest;
pub mod fetch;
mod http;

pub use digest::{Digest, NoDigest};
