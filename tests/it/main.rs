//! All integration tests, in one binary.

mod tidy;
mod zoo;
