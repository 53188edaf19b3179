//! All integration tests, in one binary.

mod batch;
mod company;
mod fixtures;
mod placement;
mod prepare;
mod recurrent;
mod tidy;
mod zoo;
