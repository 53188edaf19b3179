//! The reader of `gguf-rs` 0.1.8.
//!
//! Known: no nested arrays; dimensions of version 1 are read as 64 bits, so that only files without tensors are
//! read right; big endian is looked for under the magic `FUGG`, so the byte order is passed here; byte sizes of
//! the types in [`WRONG_SIZES`] are wrong; NVFP4 and Q1_0 are unknown; of alignments only multiples of 8 count.

use std::fs::File;
use std::io::Read;

use gguf_rs::{ByteOrder, GGUFContainer};
use oprel_gguf::{Gguf, QuantType, Value};
use serde_json::Value as Json;

use crate::candle::elements;

/// Types whose byte sizes `gguf-rs` gets wrong.
pub const WRONG_SIZES: [QuantType; 9] = {
    use QuantType::*;
    [Q8_1, BF16, I8, I16, I32, I64, F64, IQ4_NL, MXFP4]
};

/// Types that `gguf-rs` does not know; one of them fails the whole file.
pub const UNKNOWN: [QuantType; 2] = [QuantType::NVFP4, QuantType::Q1_0];

/// What differs between the reading of `path` by `gguf-rs` and ours.
///
/// # Errors
///
/// Why `gguf-rs` cannot read it.
pub fn differences(path: &str, ours: &Gguf) -> Result<Vec<String>, String> {
    let mut file = File::open(path).map_err(|e| e.to_string())?;
    file.read_exact(&mut [0; 4]).map_err(|e| e.to_string())?;
    let order = if ours.big_endian() { ByteOrder::BE } else { ByteOrder::LE };
    let theirs = GGUFContainer::new(order, Box::new(std::io::BufReader::new(file)), u64::MAX)
        .decode()
        .map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    if theirs.get_version() != format!("v{}", ours.version()) {
        found.push(format!("version {}", theirs.get_version()));
    }
    if theirs.metadata().len() != ours.metadata().len() {
        found.push(format!("{} entries, ours {}", theirs.metadata().len(), ours.metadata().len()));
    }
    for (key, value) in ours.metadata().iter() {
        if !theirs.metadata().get(key).is_some_and(|theirs| same(value, theirs)) {
            found.push(format!("metadata {key}"));
        }
    }
    if theirs.tensors().len() != ours.tensors().len() {
        found.push(format!("{} tensors, ours {}", theirs.tensors().len(), ours.tensors().len()));
    }
    for (theirs_is, ours_is) in theirs.tensors().iter().zip(ours.tensors()) {
        let name = &ours_is.name;
        if theirs_is.name != *name {
            found.push(format!("name of {name}: {}", theirs_is.name));
        }
        if theirs_is.shape != ours_is.shape || theirs_is.kind != ours_is.ty.gguf_number() {
            found.push(format!("shape or type of {name}"));
        }
        if theirs.data_offset() + theirs_is.offset != ours_is.file_offset() {
            found.push(format!("place of {name}"));
        }
        let right = theirs_is.size == ours_is.n_bytes();
        if right == WRONG_SIZES.contains(&ours_is.ty) {
            found.push(format!("size of {name} ({}): {}", ours_is.ty, theirs_is.size));
        }
    }
    Ok(found)
}

/// Numbers are compared as `gguf-rs` prints them: by their shortest digits.
fn same(ours: &Value, theirs: &Json) -> bool {
    match (ours, theirs) {
        (Value::Array(a), Json::Array(b)) => {
            a.len() == b.len() && elements(a).zip(b).all(|(a, b)| same(&a, b))
        }
        (Value::Str(a), Json::String(b)) => a == b,
        (Value::Bool(a), Json::Bool(b)) => a == b,
        (Value::F32(a), Json::Number(b)) => b.to_string().parse() == Ok(*a),
        (Value::F64(a), Json::Number(b)) => b.to_string().parse() == Ok(*a),
        // What JSON has no number for.
        (Value::F32(a), Json::Null) => !a.is_finite(),
        (Value::F64(a), Json::Null) => !a.is_finite(),
        (integer, Json::Number(b)) => integer_text(integer).is_some_and(|a| a == b.to_string()),
        _ => false,
    }
}

fn integer_text(value: &Value) -> Option<String> {
    Some(match value {
        Value::U8(v) => v.to_string(),
        Value::I8(v) => v.to_string(),
        Value::U16(v) => v.to_string(),
        Value::I16(v) => v.to_string(),
        Value::U32(v) => v.to_string(),
        Value::I32(v) => v.to_string(),
        Value::U64(v) => v.to_string(),
        Value::I64(v) => v.to_string(),
        _ => return None,
    })
}
