//! Models split over several files.

use std::path::{Path, PathBuf};

use oprel_gguf::{Error, Gguf, QuantType, SplitProblem, Writer};

fn part<'a>(no: u16, count: u16, total: i32, tensors: &[&str]) -> Writer<'a> {
    let mut writer = Writer::new();
    if no == 0 {
        writer.set("general.architecture", "llama").unwrap();
    }
    writer.set("split.no", no).unwrap();
    writer.set("split.count", count).unwrap();
    writer.set("split.tensors.count", total).unwrap();
    for name in tensors {
        writer.tensor(name, &[2], QuantType::I8, vec![name.as_bytes()[0], no as u8]).unwrap();
    }
    writer
}

fn name(dir: &Path, no: u16, count: u16) -> PathBuf {
    dir.join(format!("m-{:05}-of-{count:05}.gguf", no + 1))
}

/// A model of three parts, the first without tensors.
fn three(dir: &Path) {
    part(0, 3, 3, &[]).write_file(name(dir, 0, 3)).unwrap();
    part(1, 3, 3, &["a", "b"]).write_file(name(dir, 1, 3)).unwrap();
    part(2, 3, 3, &["c"]).write_file(name(dir, 2, 3)).unwrap();
}

#[track_caller]
fn problem(path: PathBuf) -> (String, SplitProblem) {
    let error = Gguf::open(path).unwrap_err();
    let text = error.to_string();
    match error {
        Error::Split { problem, .. } => (text, problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn any_part_opens_all() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    for no in 0..3 {
        let model = Gguf::open(name(dir.path(), no, 3)).unwrap();
        assert_eq!(model.metadata().str("general.architecture").unwrap(), Some("llama"));
        assert!(model.tensors().iter().map(|t| t.name.as_str()).eq(["a", "b", "c"]));
        assert_eq!(*model.bytes(model.tensor("b").unwrap()), [b'b', 1]);
        assert_eq!(*model.bytes(model.tensor("c").unwrap()), [b'c', 2]);
        assert_eq!(model.tensor("c").unwrap().part(), 2);
        assert_eq!(model.paths().count(), 3);
        let bytes: u64 = model.paths().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(model.total_bytes(), bytes);
        model.check().unwrap();
    }
}

#[test]
fn parts_may_differ_in_byte_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = part(0, 2, 2, &["a"]);
    first.tensor("x", &[1], QuantType::F32, 1f32.to_le_bytes().to_vec()).unwrap();
    first.write_file(name(dir.path(), 0, 2)).unwrap();
    let mut second = part(1, 2, 3, &[]);
    second.big_endian(true);
    second.tensor("y", &[1], QuantType::F32, 1f32.to_le_bytes().to_vec()).unwrap();
    second.write_file(name(dir.path(), 1, 2)).unwrap();
    // Three tensors in all; the first part says two.
    let (text, _) = problem(name(dir.path(), 0, 2));
    assert!(text.contains("split.tensors.count"), "{text}");
    let mut first = part(0, 2, 3, &["a"]);
    first.tensor("x", &[1], QuantType::F32, 1f32.to_le_bytes().to_vec()).unwrap();
    first.write_file(name(dir.path(), 0, 2)).unwrap();
    let model = Gguf::open(name(dir.path(), 0, 2)).unwrap();
    let [x, y] = ["x", "y"].map(|name| model.bytes(model.tensor(name).unwrap()));
    assert_eq!(*x, *y);
}

#[test]
fn a_missing_part_is_named() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    std::fs::remove_file(name(dir.path(), 1, 3)).unwrap();
    let (text, problem) = problem(name(dir.path(), 2, 3));
    assert!(matches!(problem, SplitProblem::Missing { no: 2, count: 3, .. }));
    assert!(text.contains("m-00002-of-00003.gguf"), "{text}");
}

#[test]
fn a_part_under_another_name_says_how_it_must_end() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    let renamed = dir.path().join("model.gguf");
    std::fs::rename(name(dir.path(), 0, 3), &renamed).unwrap();
    let (text, _) = problem(renamed);
    assert!(text.contains("-00001-of-00003.gguf"), "{text}");
}

#[test]
fn a_part_of_another_split_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    part(1, 2, 3, &["a", "b"]).write_file(name(dir.path(), 1, 3)).unwrap();
    assert!(matches!(
        problem(name(dir.path(), 0, 3)).1,
        SplitProblem::Mismatch { key: "split.count", .. }
    ));
    part(2, 3, 3, &["a", "b"]).write_file(name(dir.path(), 1, 3)).unwrap();
    assert!(matches!(
        problem(name(dir.path(), 0, 3)).1,
        SplitProblem::Mismatch { key: "split.no", .. }
    ));
    Writer::new().write_file(name(dir.path(), 1, 3)).unwrap();
    let (text, _) = problem(name(dir.path(), 0, 3));
    assert!(text.contains("absent"), "{text}");
}

#[test]
fn a_tensor_in_two_parts_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    part(2, 3, 3, &["a"]).write_file(name(dir.path(), 2, 3)).unwrap();
    let (text, _) = problem(name(dir.path(), 0, 3));
    assert!(text.contains("\"a\"") && text.contains("m-00003-of-00003.gguf"), "{text}");
}

#[test]
fn another_number_of_tensors_than_announced_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    part(2, 3, 3, &["c", "d"]).write_file(name(dir.path(), 2, 3)).unwrap();
    let problem = problem(name(dir.path(), 0, 3)).1;
    assert!(matches!(problem, SplitProblem::Mismatch { key: "split.tensors.count", .. }));
}

#[test]
fn a_malformed_part_is_named_with_its_offset() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    let path = name(dir.path(), 1, 3);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..40]).unwrap();
    let error = Gguf::open(name(dir.path(), 0, 3)).unwrap_err();
    assert!(matches!(error.root(), Error::Truncated { .. }), "{error:?}");
    assert!(error.to_string().contains("m-00002-of-00003.gguf"), "{error}");
}

#[test]
fn a_part_number_beyond_the_count_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = name(dir.path(), 6, 3);
    part(6, 3, 0, &[]).write_file(&path).unwrap();
    let error = Gguf::open(&path).unwrap_err();
    assert!(error.to_string().contains("split.no"), "{error}");
}

#[test]
fn a_split_of_one_is_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("any-name.gguf");
    part(0, 1, 1, &["a"]).write_file(&path).unwrap();
    assert_eq!(Gguf::open(&path).unwrap().tensors().len(), 1);
}

#[test]
fn a_part_in_memory_lacks_the_others() {
    let mut file = Vec::new();
    part(1, 3, 3, &["a"]).write(&mut file).unwrap();
    let error = Gguf::from_bytes(file).unwrap_err();
    assert!(matches!(error, Error::Split { problem: SplitProblem::Alone { no: 2, count: 3 }, .. }));
}
