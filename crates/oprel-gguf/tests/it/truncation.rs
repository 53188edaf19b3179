//! A file that ends anywhere before its end is refused, and every cut says where.

use oprel_gguf::{Error, Gguf, QuantType, StrArray, Writer};

/// A file with a bit of everything, whose last byte is the last of a tensor.
fn small(version: u32, big_endian: bool) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.version(version).unwrap();
    writer.big_endian(big_endian);
    writer.set("general.architecture", "llama").unwrap();
    writer.set("flag", true).unwrap();
    writer.set("tokens", ["a", "", "ä"].into_iter().collect::<StrArray>()).unwrap();
    writer.set("scores", vec![1.0f32, -2.0]).unwrap();
    writer.set("flags", vec![true, false]).unwrap();
    writer.set("eps", 1e-5f64).unwrap();
    writer.tensor("a", &[3, 2], QuantType::F16, (0..12).collect::<Vec<u8>>()).unwrap();
    writer.tensor("b", &[32, 2], QuantType::Q8_0, (0..68).collect::<Vec<u8>>()).unwrap();
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    let last = Gguf::from_bytes(file.clone()).unwrap().tensors()[1].clone();
    file.truncate((last.file_offset() + last.n_bytes()) as usize);
    file
}

#[test]
fn every_truncation_of_a_small_file_is_refused() {
    for (version, big_endian) in [(1, false), (2, false), (3, false), (3, true)] {
        let file = small(version, big_endian);
        Gguf::from_bytes(file.clone()).unwrap();
        for n in 0..file.len() {
            let error = Gguf::from_bytes(&file[..n]).expect_err("must be refused");
            assert!(
                matches!(error, Error::Truncated { .. } | Error::Outside { .. }),
                "{n}: {error:?}"
            );
            assert!(error.offset().is_some_and(|offset| offset <= n as u64), "{n}: {error:?}");
        }
    }
}

#[test]
fn every_truncation_through_a_map_is_refused() {
    let file = small(3, false);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.gguf");
    for n in 0..file.len() {
        std::fs::write(&path, &file[..n]).unwrap();
        let error = Gguf::open(&path).expect_err("must be refused");
        assert!(
            matches!(error.root(), Error::Truncated { .. } | Error::Outside { .. }),
            "{n}: {error:?}"
        );
    }
}

#[test]
fn bytes_after_the_last_tensor_are_ignored() {
    let mut file = small(3, false);
    file.extend_from_slice(b"trailing");
    Gguf::from_bytes(file).unwrap();
}
