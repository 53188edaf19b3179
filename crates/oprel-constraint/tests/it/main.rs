//! Constraints over real vocabularies.

mod play;
mod schemas;
mod scratch;
mod texts;
mod validate;
