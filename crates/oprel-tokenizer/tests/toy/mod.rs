//! The toy vocabularies in `golden/`, as they are or with changed metadata.

// Each test program uses its part of this.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use oprel_gguf::{Gguf, Value, Writer};
use oprel_tokenizer::{Result, Tokenizer};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The vocabulary in `file`, with `changes` to its metadata: `None` takes a key out.
pub(crate) fn load(file: &str, changes: &[(&str, Option<Value>)]) -> Result<Tokenizer> {
    let gguf = Gguf::open(folder().join(file)).expect("a readable file");
    let mut writer = Writer::new();
    for (key, value) in gguf.metadata().iter() {
        if changes.iter().all(|(changed, _)| *changed != key) {
            writer.set(key, value.clone()).expect("it was in a file");
        }
    }
    for (key, value) in changes {
        if let Some(value) = value {
            writer.set(key, value.clone()).expect("a value that may be written");
        }
    }
    let mut bytes = Vec::new();
    writer.write(&mut bytes).expect("memory takes all");
    Tokenizer::from_metadata(Gguf::from_bytes(bytes).expect("as written").metadata())
}

pub(crate) fn named(file: &str) -> Tokenizer {
    load(file, &[]).expect("a vocabulary")
}

/// Every vocabulary file of the folder.
pub(crate) fn files() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("the folder");
    let names = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut files: Vec<String> = names.filter(|name| name.ends_with(".gguf")).collect();
    files.sort();
    files
}

pub(crate) fn text(value: &str) -> Option<Value> {
    Some(Value::Str(value.to_owned()))
}
