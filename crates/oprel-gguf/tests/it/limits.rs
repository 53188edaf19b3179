//! Memory and time stay in proportion to the file.

use std::time::Instant;

use oprel_gguf::Gguf;

use crate::fixpoint::{allocated, budget};
use crate::raw::{ARRAY, F32, Raw, STR, U8};

#[track_caller]
fn parses_within_budget(raw: Raw) {
    let bytes: &'static [u8] = raw.bytes.leak();
    let start = Instant::now();
    let (peak, result) = allocated(|| Gguf::from_static(bytes));
    let took = start.elapsed();
    println!("{:.1} times the file", peak as f64 / bytes.len() as f64);
    assert!(result.is_ok(), "{result:?}");
    assert!(peak <= budget(bytes.len()), "{peak} bytes for a file of {}", bytes.len());
    assert!(took.as_secs() < 10, "{took:?}");
}

#[test]
fn as_many_entries_as_there_may_be() {
    let raw = (0..65_536).fold(Raw::new(0, 65_536), |raw, i| raw.key(&format!("{i:x}"), U8).u8(0));
    parses_within_budget(raw);
}

#[test]
fn many_tensors_without_data() {
    let n = 100_000;
    let raw = (0..n).fold(Raw::new(n, 0), |raw, i| raw.tensor(&format!("{i:x}"), &[0], F32, 0));
    parses_within_budget(raw.pad(32));
}

#[test]
fn many_empty_arrays_in_an_array() {
    let n = 300_000;
    let raw = Raw::new(0, 1).array("a", ARRAY, n);
    parses_within_budget((0..n).fold(raw, |raw, _| raw.u32(U8).u64(0)));
}

#[test]
fn many_empty_strings_in_an_array() {
    let n = 300_000;
    let raw = Raw::new(0, 1).array("a", STR, n);
    parses_within_budget((0..n).fold(raw, |raw, _| raw.u64(0)));
}

#[test]
fn a_tree_of_arrays() {
    let mut raw = Raw::new(0, 1).key("a", ARRAY);
    for _ in 0..14 {
        raw = raw.u32(ARRAY).u64(2).u32(ARRAY).u64(0);
    }
    parses_within_budget(raw.u32(U8).u64(3).data(3));
}
