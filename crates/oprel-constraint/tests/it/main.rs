//! Constraints over real vocabularies.

mod play;
mod scratch;
