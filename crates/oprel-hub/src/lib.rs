//! Where models come from and where they are kept: names, the store, hubs and registries.
//!
//! With `oprel-remote` this is the only code that opens a connection outwards. What a server sends is
//! believed once its SHA-256 is the one that was asked for.

pub mod backends;
mod bring;
pub mod catalog;
mod digest;
mod error;
mod facts;
pub mod fetch;
mod http;
mod manifest;
pub mod modelfile;
mod platform;
mod quant;
mod reference;
mod store;

pub use bring::{Trouble, absent_base, pull, pull_base, push};
pub use digest::{Digest, NoDigest};
pub use error::{Error, Result};
pub use facts::{Facts, rounded};
pub use manifest::{Config, DraftConfig, Layer, LayerKind, Manifest};
pub use quant::quant_of;
pub use reference::{HubRef, Reference, Source};
pub use store::{
    Access, Blob, Broken, Collected, Damage, Entry, Freed, Grace, Kept, Listing, ModelUsage,
    Places, Store, StoredMessage, StoredModel, Usage, Wrong,
};
