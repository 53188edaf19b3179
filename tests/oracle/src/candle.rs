//! candle's own GGUF reader.
//!
//! Known: little-endian only; only the 13 quant types of [`KNOWN`], and one tensor of another fails the whole
//! file (one of Q8_1 or Q8_K only when its data is asked for); zeros at the end of strings are dropped.

use std::fs::File;
use std::io::BufReader;

use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value as Theirs};
use oprel_gguf::{Array, Gguf, QuantType, Value};

/// Types that candle reads.
pub const KNOWN: [QuantType; 13] = {
    use QuantType::*;
    [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K]
};

/// What differs between candle's reading of `path` and ours.
///
/// # Errors
///
/// Why candle cannot read it.
pub fn differences(path: &str, ours: &Gguf) -> Result<Vec<String>, String> {
    let mut file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    let theirs = Content::read(&mut file).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    if theirs.metadata.len() != ours.metadata().len() {
        found.push(format!("{} entries, ours {}", theirs.metadata.len(), ours.metadata().len()));
    }
    for (key, value) in ours.metadata().iter() {
        if !theirs.metadata.get(key).is_some_and(|theirs| same(value, theirs)) {
            found.push(format!("metadata {key}"));
        }
    }
    if theirs.tensor_infos.len() != ours.tensors().len() {
        found.push(format!("{} tensors, ours {}", theirs.tensor_infos.len(), ours.tensors().len()));
    }
    for tensor in ours.tensors() {
        let Some(info) = theirs.tensor_infos.get(&tensor.name) else {
            found.push(format!("tensor {} is missing", tensor.name));
            continue;
        };
        let slowest_first: Vec<u64> = info.shape.dims().iter().map(|d| *d as u64).collect();
        if !slowest_first.iter().rev().eq(&tensor.shape) {
            found.push(format!("shape of {}: {slowest_first:?}", tensor.name));
        }
        if theirs.tensor_data_offset + info.offset != tensor.file_offset() {
            found.push(format!("place of {}", tensor.name));
        }
        let data =
            theirs.tensor(&mut file, &tensor.name, &Device::Cpu).map_err(|e| e.to_string())?;
        if *data.data().map_err(|e| e.to_string())? != *ours.bytes(tensor) {
            found.push(format!("data of {}", tensor.name));
        }
    }
    Ok(found)
}

fn same(ours: &Value, theirs: &Theirs) -> bool {
    match (ours, theirs) {
        (Value::U8(a), Theirs::U8(b)) => a == b,
        (Value::I8(a), Theirs::I8(b)) => a == b,
        (Value::U16(a), Theirs::U16(b)) => a == b,
        (Value::I16(a), Theirs::I16(b)) => a == b,
        (Value::U32(a), Theirs::U32(b)) => a == b,
        (Value::I32(a), Theirs::I32(b)) => a == b,
        (Value::U64(a), Theirs::U64(b)) => a == b,
        (Value::I64(a), Theirs::I64(b)) => a == b,
        (Value::F32(a), Theirs::F32(b)) => a.to_bits() == b.to_bits(),
        (Value::F64(a), Theirs::F64(b)) => a.to_bits() == b.to_bits(),
        (Value::Bool(a), Theirs::Bool(b)) => a == b,
        (Value::Str(a), Theirs::String(b)) => a.trim_end_matches('\0') == b,
        (Value::Array(a), Theirs::Array(b)) => same_arrays(a, b),
        _ => false,
    }
}

fn same_arrays(ours: &Array, theirs: &[Theirs]) -> bool {
    ours.len() == theirs.len() && elements(ours).zip(theirs).all(|(a, b)| same(&a, b))
}

/// The elements of an array as values of their own.
pub(crate) fn elements(array: &Array) -> Box<dyn Iterator<Item = Value> + '_> {
    match array {
        Array::U8(a) => Box::new(a.iter().map(|v| Value::U8(*v))),
        Array::I8(a) => Box::new(a.iter().map(|v| Value::I8(*v))),
        Array::U16(a) => Box::new(a.iter().map(|v| Value::U16(*v))),
        Array::I16(a) => Box::new(a.iter().map(|v| Value::I16(*v))),
        Array::U32(a) => Box::new(a.iter().map(|v| Value::U32(*v))),
        Array::I32(a) => Box::new(a.iter().map(|v| Value::I32(*v))),
        Array::U64(a) => Box::new(a.iter().map(|v| Value::U64(*v))),
        Array::I64(a) => Box::new(a.iter().map(|v| Value::I64(*v))),
        Array::F32(a) => Box::new(a.iter().map(|v| Value::F32(*v))),
        Array::F64(a) => Box::new(a.iter().map(|v| Value::F64(*v))),
        Array::Bool(a) => Box::new(a.iter().map(|v| Value::Bool(*v))),
        Array::Str(a) => Box::new(a.iter().map(Value::from)),
        Array::Array(a) => Box::new(a.iter().map(|v| Value::Array(v.clone()))),
    }
}
