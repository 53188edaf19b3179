//! Quant types of GGUF: how many weights a block holds, how many bytes it takes, what they mean.
//!
//! Plain and slow on purpose: this crate is the definition that kernels are tested against.
//! No I/O, no unsafe.

mod types;

pub use types::QuantType;
