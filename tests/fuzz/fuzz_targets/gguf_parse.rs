//! Any bytes are a GGUF file or an error; `fixpoint.rs` says what must hold.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../crates/oprel-gguf/tests/it/fixpoint.rs"]
mod fixpoint;

fuzz_target!(|bytes: &[u8]| fixpoint::holds(bytes));
