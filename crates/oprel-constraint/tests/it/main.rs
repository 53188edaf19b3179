//! Constraints over real vocabularies.

mod hostile;
mod play;
mod schemas;
mod texts;
mod validate;
