//! Reads GGUF files with `gguf-rs` and with candle, and says where they and `oprel-gguf` differ.
//!
//! Each comparison returns a list of differences, empty when there is none, or why that reader cannot read
//! the file at all.

pub mod candle;
pub mod gguf_rs_reader;
