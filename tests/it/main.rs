//! All integration tests, in one binary.

mod recurrent;
mod tidy;
mod zoo;
