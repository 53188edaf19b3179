//! All integration tests, in one binary.

mod batch;
mod catalog;
mod company;
mod demo;
mod descriptions;
mod divergence;
mod drafts;
mod fixtures;
mod hostile;
mod kv;
mod placement;
mod prepare;
mod rank;
mod recurrent;
mod restart;
mod serving;
mod shrink;
mod swap;
mod tidy;
mod variants;
mod zoo;
