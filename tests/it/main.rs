//! All integration tests, in one binary.

mod batch;
mod fixtures;
mod placement;
mod recurrent;
mod tidy;
mod zoo;
