//! Real files: vocabularies, quant types, small models.

use std::path::PathBuf;
use std::time::Instant;

use oprel_gguf::{Gguf, QuantType};

/// `../shared/<path>`, or `None` after saying that it is absent. In CI it must be there.
fn shared(path: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("OPREL_SHARED") {
        Some(root) => PathBuf::from(root),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")),
    };
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    assert!(std::env::var_os("CI").is_none(), "needs ../shared/{path}");
    println!("skipped: needs ../shared/{path}");
    None
}

#[test]
fn every_vocabulary_opens() {
    let Some(dir) = shared("fixtures/vocabs") else { return };
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "gguf") {
            continue;
        }
        Gguf::open(&path).unwrap(); // warm
        let start = Instant::now();
        let model = Gguf::open(&path).unwrap();
        let took = start.elapsed();
        let tokens = model.metadata().strs("tokenizer.ggml.tokens").unwrap().unwrap();
        println!("{} tokens of {} in {took:?}", tokens.len(), path.display());
        assert_eq!(tokens.iter().count(), tokens.len());
        assert_eq!(tokens.iter().last(), tokens.get(tokens.len() - 1));
        assert_eq!(model.total_bytes(), path.metadata().unwrap().len());
        model.check().unwrap();
        seen += 1;
    }
    assert_eq!(seen, 7);
}

#[test]
fn the_quant_types_have_their_sizes() {
    let Some(path) = shared("fixtures/quant-types.gguf") else { return };
    let model = Gguf::open(path).unwrap();
    let mut raw = 0;
    for tensor in model.tensors() {
        let bytes = model.bytes(tensor);
        assert!(bytes.is_mapped(), "{}", tensor.name);
        assert_eq!(bytes.len() as u64, tensor.n_bytes());
        if let Some(name) = tensor.name.strip_suffix(".raw") {
            assert_eq!(Some(tensor.ty), QuantType::from_name(name));
            let row = tensor.ty.row_bytes(tensor.cols() as usize).unwrap() as u64;
            assert_eq!(tensor.n_bytes(), row * tensor.rows());
            raw += 1;
        }
    }
    assert_eq!(raw, 26);
}
