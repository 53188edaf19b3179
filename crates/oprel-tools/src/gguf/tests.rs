use std::fs;
use std::path::{Path, PathBuf};

use oprel_gguf::{Gguf, QuantType, Value, Writer};

use super::*;

const GO_ON: &GoesOn<'static> = &|| true;

/// A model of six tensors of 64 to 384 bytes.
fn write_model(path: &Path, alignment: Option<u32>) {
    let mut writer = Writer::new();
    writer.set("general.architecture", "llama").unwrap();
    if let Some(alignment) = alignment {
        writer.set("general.alignment", alignment).unwrap();
    }
    writer.set("general.name", "a name").unwrap();
    writer.set("llama.block_count", 2u32).unwrap();
    for i in 1..=6u8 {
        let bytes: Vec<u8> =
            (0..16 * i).flat_map(|j| f32::from(j % (i + 3)).to_le_bytes()).collect();
        writer.tensor(&format!("t{i}"), &[16, i.into()], QuantType::F32, bytes).unwrap();
    }
    writer.write_file(path).unwrap();
}

fn with_model(alignment: Option<u32>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_model(&path, alignment);
    (folder, path)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_split_is_merged_to_the_same_bytes() {
    for alignment in [None, Some(64)] {
        let (folder, path) = with_model(alignment);
        let limits =
            [(MaxPart::Tensors(1), 6), (MaxPart::Tensors(4), 2), (MaxPart::Tensors(99), 1)];
        let sizes =
            [(MaxPart::Bytes(1), 6), (MaxPart::Bytes(400), 4), (MaxPart::Bytes(1 << 20), 1)];
        for (max, n_parts) in limits.into_iter().chain(sizes) {
            let parts = split(&path, &folder.path().join("part"), max, GO_ON).unwrap();
            assert_eq!(parts.len(), n_parts, "{max:?}");
            assert!(parts[0].ends_with(format!("part-00001-of-{n_parts:05}.gguf")));
            let merged = folder.path().join("merged.gguf");
            merge(parts.last().unwrap(), &merged, GO_ON).unwrap();
            assert_eq!(fs::read(&merged).unwrap(), fs::read(&path).unwrap(), "{max:?}");
            for part in parts {
                fs::remove_file(part).unwrap();
            }
        }
    }
}

#[test]
fn a_split_that_cannot_be_leaves_nothing() {
    let (folder, path) = with_model(None);
    assert!(split(&path, &folder.path().join("no/such/part"), MaxPart::Tensors(2), GO_ON).is_err());
    assert!(split(&path, &folder.path().join("part"), MaxPart::Tensors(0), GO_ON).is_err());
    assert!(matches!(merge(&path, &folder.path().join("x"), GO_ON), Err(Error::Request(_))));
    assert!(matches!(merge(&path, &path, GO_ON), Err(Error::Request(_))));
    assert_eq!(names(folder.path()), ["model.gguf"]);
}

fn set(key: &str, value: impl Into<Value>) -> Change {
    Change::Set(key.into(), value.into())
}

#[test]
fn an_edit_that_fits_leaves_the_data_alone() {
    let (folder, path) = with_model(None);
    let before = fs::read(&path).unwrap();
    let edited = edit(&path, None, &[set("general.name", "e mane")], GO_ON).unwrap();
    assert_eq!(edited, Edited::InPlace);
    let after = fs::read(&path).unwrap();
    assert_eq!(before.len(), after.len());
    assert_eq!(before.iter().zip(&after).filter(|(a, b)| a != b).count(), 3);
    let model = Gguf::open(&path).unwrap();
    assert_eq!(model.metadata().str("general.name").unwrap(), Some("e mane"));
    assert_eq!(names(folder.path()), ["model.gguf"]);
}

#[test]
fn an_edit_that_does_not_fit_writes_the_file_anew() {
    let (folder, path) = with_model(Some(64));
    let original = folder.path().join("original.gguf");
    fs::copy(&path, &original).unwrap();
    let changes = [
        set("general.description", "x".repeat(500)),
        set("llama.block_count", 3u64),
        Change::Remove("general.name".into()),
        set("tokens", vec![1i32, 2, 3]),
    ];
    assert_eq!(edit(&path, None, &changes, GO_ON).unwrap(), Edited::Rewritten);
    let model = Gguf::open(&path).unwrap();
    let keys: Vec<_> = model.metadata().iter().map(|(key, _)| key.to_owned()).collect();
    let expected = [
        "general.architecture",
        "general.alignment",
        "llama.block_count",
        "general.description",
        "tokens",
    ];
    assert_eq!(keys, expected);
    assert_eq!(model.metadata().u64("llama.block_count").unwrap(), Some(3));
    assert_eq!(model.alignment(), 64);
    let differences = diff(&original, &path).unwrap();
    assert!(differences.iter().all(|d| matches!(d, Difference::Key { .. })), "{differences:?}");
    assert_eq!(differences.len(), 4);
    assert_eq!(names(folder.path()), ["model.gguf", "original.gguf"]);
}

#[test]
fn an_edit_into_another_file_leaves_the_first() {
    let (folder, path) = with_model(None);
    let before = fs::read(&path).unwrap();
    let other = folder.path().join("other.gguf");
    edit(&path, Some(&other), &[set("general.name", "e mane")], GO_ON).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(matches!(edit(&path, Some(&path), &[], GO_ON), Err(Error::Same { .. })));
}

#[cfg(unix)]
#[test]
fn an_edit_changes_nothing_under_a_further_name_nor_what_may_be_done_with_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = with_model(None);
    let before = fs::read(&path).unwrap();
    let (blob, link) = (folder.path().join("blob"), folder.path().join("link.gguf"));
    fs::hard_link(&path, &blob).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    // As many bytes as before: it would be written over.
    let edited = edit(&link, None, &[set("general.name", "e mane")], GO_ON).unwrap();
    assert_eq!(edited, Edited::Rewritten);
    assert_eq!(fs::read(&blob).unwrap(), before);
    assert_eq!(Gguf::open(&path).unwrap().metadata().str("general.name").unwrap(), Some("e mane"));
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn an_edit_that_was_cut_off_is_taken_back() {
    let (folder, path) = with_model(None);
    let before = fs::read(&path).unwrap();
    // What is there after a crash in the middle of writing over the head.
    fs::write(folder.path().join("model.gguf.head"), &before[..300]).unwrap();
    let mut broken = before.clone();
    broken[..150].fill(0xee);
    fs::write(&path, &broken).unwrap();
    assert_eq!(
        edit(&path, None, &[set("llama.block_count", 5u32)], GO_ON).unwrap(),
        Edited::InPlace
    );
    let model = Gguf::open(&path).unwrap();
    assert_eq!(model.metadata().str("general.name").unwrap(), Some("a name"));
    assert_eq!(model.metadata().u64("llama.block_count").unwrap(), Some(5));
    assert_eq!(names(folder.path()), ["model.gguf"]);
}

#[test]
fn what_may_not_be_edited_is_named() {
    let (_folder, path) = with_model(Some(64));
    let before = fs::read(&path).unwrap();
    for change in [
        Change::Remove("general.architecture".into()),
        Change::Remove("no.such.key".into()),
        set("general.alignment", 32u32),
        set("split.count", 2u16),
    ] {
        let error = edit(&path, None, std::slice::from_ref(&change), GO_ON).unwrap_err();
        assert!(matches!(error, Error::Key { .. }), "{change:?}: {error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn differences_are_found() {
    let (folder, path) = with_model(None);
    assert_eq!(diff(&path, &path).unwrap(), []);
    let other = folder.path().join("other.gguf");
    let mut writer = Writer::new();
    writer.set("general.architecture", "llama").unwrap();
    writer.set("general.name", "another name").unwrap();
    writer.set("more", 1u8).unwrap();
    let model = Gguf::open(&path).unwrap();
    let bytes = |name: &str| model.bytes(model.tensor(name).unwrap()).to_vec();
    let mut changed = bytes("t2");
    changed[3] ^= 64;
    let half: Vec<u8> = vec![0; 16 * 3 * 2];
    writer.tensor("t2", &[16, 2], QuantType::F32, changed).unwrap();
    writer.tensor("t1", &[16, 1], QuantType::F32, bytes("t1")).unwrap();
    writer.tensor("t3", &[16, 3], QuantType::F16, half).unwrap();
    writer.tensor("t4", &[64], QuantType::F32, bytes("t4")).unwrap();
    writer.tensor("new", &[1], QuantType::F32, vec![0; 4]).unwrap();
    writer.write_file(&other).unwrap();
    let found = diff(&path, &other).unwrap();
    let is_there =
        |test: &dyn Fn(&Difference) -> bool| assert!(found.iter().any(test), "{found:?}");
    is_there(
        &|d| matches!(d, Difference::Key { key, second: None, .. } if key == "llama.block_count"),
    );
    is_there(&|d| matches!(d, Difference::Key { key, first: None, .. } if key == "more"));
    is_there(
        &|d| matches!(d, Difference::Content { name, n_bytes: 1, error: Some(_) } if name == "t2"),
    );
    is_there(
        &|d| matches!(d, Difference::Type { name, error: Some(e), .. } if name == "t3" && *e == 1.0),
    );
    is_there(&|d| matches!(d, Difference::Shape { name, .. } if name == "t4"));
    is_there(&|d| matches!(d, Difference::Tensor { name, in_first: true } if name == "t5"));
    is_there(&|d| matches!(d, Difference::Tensor { name, in_first: false } if name == "new"));
    is_there(&|d| *d == Difference::Order);
    assert_eq!(found.len(), 10);
}

#[test]
fn what_is_stopped_leaves_nothing_and_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    write_model(&path, None);
    let whole = fs::read(&path).unwrap();
    let stop: &GoesOn<'_> = &|| false;
    let stopped = split(&path, &folder.path().join("part"), MaxPart::Tensors(2), stop);
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    let changes = [Change::Set("general.name".into(), "a name ".repeat(100).into())];
    let stopped = edit(&path, None, &changes, stop);
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
