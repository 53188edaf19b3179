//! Files that shrink while they are mapped: the process survives, and is told.
#![cfg(unix)]

use std::fs::OpenOptions;
use std::path::Path;
use std::thread;

use oprel_gguf::{Error, Gguf, QuantType, Writer};

const N: usize = 1 << 20;

/// A model of one tensor of a MiB of ones.
fn model(path: &Path) -> Gguf {
    let mut writer = Writer::new();
    writer.tensor("ones", &[N as u64], QuantType::I8, vec![1; N]).unwrap();
    writer.write_file(path).unwrap();
    Gguf::open(path).unwrap()
}

fn shrink(path: &Path, n: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(n).unwrap();
}

fn sum(bytes: &[u8]) -> usize {
    bytes.iter().map(|b| usize::from(*b)).sum()
}

#[track_caller]
fn is_damaged(model: &Gguf) {
    let error = model.check().unwrap_err();
    assert!(matches!(&error, Error::Damaged { path } if path.ends_with("model.gguf")), "{error:?}");
    assert!(!error.hint().is_empty());
}

#[test]
fn reading_what_is_no_longer_there_gives_zeros_and_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let model = model(&path);
    let bytes = model.bytes(model.tensor("ones").unwrap());
    assert!(bytes.is_mapped());
    model.check().unwrap();
    shrink(&path, 0);
    assert_eq!(sum(&bytes), 0);
    is_damaged(&model);
}

#[test]
fn a_file_that_shrank_is_an_error_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let model = model(&path);
    shrink(&path, N as u64);
    is_damaged(&model);
}

#[test]
fn the_pages_that_are_left_keep_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let model = model(&path);
    let tensor = model.tensor("ones").unwrap();
    let bytes = model.bytes(tensor);
    let cut = N / 2 + 77; // within a page
    shrink(&path, cut as u64);
    let left = cut - tensor.file_offset() as usize;
    assert_eq!(bytes[N - 1], 0, "from the end");
    assert_eq!(sum(&bytes[..left]), left);
    assert_eq!(sum(&bytes), left);
    is_damaged(&model);
}

#[test]
fn a_file_that_grows_back_stays_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let model = model(&path);
    let n = path.metadata().unwrap().len();
    let bytes = model.bytes(model.tensor("ones").unwrap());
    shrink(&path, 0);
    assert_eq!(bytes[N / 2], 0);
    shrink(&path, n);
    is_damaged(&model);
}

#[test]
fn many_threads_survive_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let model = model(&path);
    let bytes = model.bytes(model.tensor("ones").unwrap());
    thread::scope(|scope| {
        let readers: Vec<_> = (0..8)
            .map(|i| {
                let bytes = bytes.clone();
                // Each its own stride, so that they fault at different pages.
                scope.spawn(move || {
                    (0..200).map(|round| sum(&bytes[(i * 4096 + round)..])).min().unwrap()
                })
            })
            .collect();
        shrink(&path, 0);
        for reader in readers {
            assert!(reader.join().unwrap() <= N);
        }
    });
    assert_eq!(sum(&bytes), 0);
    is_damaged(&model);
}

#[test]
fn other_models_are_not_damaged_by_it() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let paths = dirs.each_ref().map(|dir| dir.path().join("model.gguf"));
    let models = paths.each_ref().map(|path| model(path));
    shrink(&paths[0], 0);
    let [gone, whole] = models.each_ref().map(|model| sum(&model.bytes(&model.tensors()[0])));
    assert_eq!((gone, whole), (0, N));
    is_damaged(&models[0]);
    models[1].check().unwrap();
}

#[test]
fn opening_and_closing_forgets_what_was_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    for _ in 0..50 {
        let damaged = model(&path);
        shrink(&path, 0);
        assert_eq!(sum(&damaged.bytes(&damaged.tensors()[0])), 0);
        is_damaged(&damaged);
        drop(damaged);
        model(&path).check().unwrap();
    }
}

#[test]
fn a_file_that_is_deleted_or_replaced_is_not_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let before = model(&path);
    let after = model(&path); // the writer renames over it
    std::fs::remove_file(&path).unwrap();
    for model in [before, after] {
        assert_eq!(sum(&model.bytes(&model.tensors()[0])), N);
        model.check().unwrap();
    }
}
