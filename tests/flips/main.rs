//! Files with a byte that is not what it was: whatever a store or a folder holds, loading it and asking it something
//! ends with an answer or a clear error, in time and in bounded memory; never in a panic.
//!
//! Each case runs in child processes (`child`), which are this test binary again, so that an abort is seen; `parent`
//! counts what came of every flip. `OPREL_FLIPS=all` flips every bit of what is otherwise flipped three times a byte, and
//! takes ten times as many samples.
#![cfg(unix)]

mod child;
#[allow(dead_code)] // its own tests use more of it
#[path = "../../crates/oprel-tools/src/convert/tests/folders.rs"]
mod folders;
mod models;
mod parent;

use std::path::Path;

use oprel_gguf::Gguf;
use oprel_tests::root;
use oprel_tests::zoo::{Set, Skeleton, names};

use child::Asked;
use parent::{Flips, check, every, sampled};

/// What the children do; does nothing where nobody asks.
#[test]
fn child() {
    child::run();
}

/// Flips of a GGUF file: systematic up to `all` bytes, then samples of the rest of the header and of the data.
fn of_file(path: &Path, all: usize, samples: (usize, usize)) -> Flips {
    let head = models::head_bytes(path);
    let len = std::fs::metadata(path).expect("it is there").len() as usize;
    let mut flips = every(0..head.min(all));
    flips.extend(sampled(head.min(all)..head, samples.0));
    flips.extend(sampled(head..len, samples.1));
    flips
}

#[test]
fn every_byte_of_a_header_and_samples_of_the_data() {
    for family in models::VOCABULARIES {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.gguf");
        models::write(&path, family);
        check(
            family,
            &path,
            &of_file(&path, usize::MAX, (0, 200)),
            &Asked::File { path: path.clone() },
        );
    }
}

#[test]
fn the_demo_and_the_zoo() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = folder.path().join("demo.gguf");
    std::fs::copy(root().join("models/demo/oprel-demo-q8_0.gguf"), &demo).expect("it is committed");
    check("demo", &demo, &of_file(&demo, 0, (60, 20)), &Asked::File { path: demo.clone() });
    let of_zoo = |name: &str, skeleton: &Skeleton, samples| {
        let path = folder.path().join("zoo.gguf");
        std::fs::write(&path, skeleton.file(1, |_| {})).expect("written");
        let file = Gguf::open(&path).expect("zoo models are valid");
        if oprel_models::describe(&file).is_err() {
            // Of an architecture that is not there yet.
            return;
        }
        drop(file);
        check(name, &path, &of_file(&path, 0, samples), &Asked::File { path: path.clone() });
    };
    for (set, samples) in [(Set::Plain, (16, 4)), (Set::Hard, (6, 2))] {
        for name in names(set) {
            let skeleton = Skeleton::load(set, &name).expect("it is listed");
            of_zoo(&name, &skeleton, samples);
        }
    }
}

#[test]
fn parts_of_a_split_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let parts = models::write_split(folder.path());
    for part in &parts {
        let asked = Asked::File { path: parts[0].clone() };
        check("a part", part, &of_file(part, 600, (300, 30)), &asked);
    }
}

#[test]
fn all_that_a_store_holds_of_a_model() {
    let place = tempfile::tempdir().expect("a folder");
    for (what, path) in models::store(place.path()) {
        let len = std::fs::metadata(&path).expect("it is there").len() as usize;
        let flips = match what {
            "weights" => of_file(&path, 0, (60, 20)),
            _ => every(0..len),
        };
        let asked = Asked::Stored { root: place.path().join("models"), name: "m".into() };
        check(what, &path, &flips, &asked);
    }
}

#[test]
fn folders_that_are_converted() {
    let cases = root().join("crates/oprel-tools/tests/convert/cases.json");
    let cases = std::fs::read_to_string(cases).expect("committed");
    let cases: serde_json::Value = serde_json::from_str(&cases).expect("JSON");
    let case = |name: &str| {
        let all = cases.as_array().expect("a list").iter();
        all.clone().find(|case| case["name"] == name).expect("a case of this name").clone()
    };
    let folder = folders::Folder::of(&case("qwen2"), false);
    let asked = Asked::Convert { folder: folder.path().into() };
    for file in ["config.json", "tokenizer.json", "model.safetensors.index.json"] {
        let path = folder.path().join(file);
        let len = std::fs::metadata(&path).expect("it is there").len() as usize;
        check(file, &path, &every(0..len), &asked);
    }
    let path = folder.path().join("model-00001-of-00002.safetensors");
    let bytes = std::fs::read(&path).expect("it is there");
    let head = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let mut flips = every(0..head);
    flips.extend(sampled(head..bytes.len(), 50));
    check("safetensors", &path, &flips, &asked);
}
