//! Generated and real files, read by us and by others; files written by others, read by us.

use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{self, Value as CandleValue};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use gguf_rs::writer::{GGUFWriter, MetadataValue, TensorInfo};
use oprel_gguf::{Array, Gguf, QuantType, StrArray, Value, Writer};
use oprel_oracle::{candle, gguf_rs_reader};

const NONE: [String; 0] = [];

fn write(dir: &Path, writer: Writer<'_>) -> (String, Gguf) {
    let path = dir.join("model.gguf");
    writer.write_file(&path).unwrap();
    let model = Gguf::open(&path).unwrap();
    (path.to_str().unwrap().to_owned(), model)
}

/// Metadata of every kind but nested arrays.
fn with_metadata<'a>() -> Writer<'a> {
    let mut writer = Writer::new();
    let scalars: [Value; 14] = [
        u8::MAX.into(),
        i8::MIN.into(),
        u16::MAX.into(),
        i16::MIN.into(),
        u32::MAX.into(),
        i32::MIN.into(),
        0.1f32.into(),
        f32::MIN_POSITIVE.into(),
        true.into(),
        "Größe\n".into(),
        u64::MAX.into(),
        i64::MIN.into(),
        1e-300f64.into(),
        "".into(),
    ];
    for (i, value) in scalars.into_iter().enumerate() {
        writer.set(&format!("scalar.{i}"), value).unwrap();
    }
    let arrays = [
        Array::U8(vec![0, 255]),
        Array::I8(vec![-128, 127]),
        Array::U16(vec![0, 65_535]),
        Array::I16(vec![-32_768, 32_767]),
        Array::U32(vec![0, u32::MAX]),
        Array::I32(vec![i32::MIN, i32::MAX]),
        Array::F32(vec![0.1, -1e30]),
        Array::Bool(vec![true, false]),
        Array::Str(["<s>", "", "ä", "日本"].into_iter().collect::<StrArray>()),
        Array::U64(vec![0, u64::MAX]),
        Array::I64(vec![i64::MIN, i64::MAX]),
        Array::F64(vec![0.1, -1e300]),
        Array::I32(vec![]),
    ];
    for (i, array) in arrays.into_iter().enumerate() {
        writer.set(&format!("array.{i}"), array).unwrap();
    }
    writer
}

/// Adds a tensor of each of `types`, whose blocks are all zeros but for their bytes' own index where any
/// pattern is a number.
fn add_tensors(writer: &mut Writer<'_>, types: impl IntoIterator<Item = QuantType>) {
    for (i, ty) in types.into_iter().enumerate() {
        let shape = [2 * ty.block_len() as u64, 3, 1 + i as u64 % 2];
        let n = 2 * ty.block_bytes() as u64 * 3 * (1 + i as u64 % 2);
        let data: Vec<u8> = (0..n).map(|i| (i % 61) as u8).collect();
        writer.tensor(&format!("tensor.{i}"), &shape, ty, data).unwrap();
    }
}

#[test]
fn gguf_rs_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for (version, big_endian, alignment) in [
        (2, false, 32u32),
        (3, false, 32),
        (3, false, 64),
        (3, false, 8),
        (3, true, 32),
        (3, true, 1024),
    ] {
        let mut writer = with_metadata();
        writer.version(version).unwrap();
        writer.big_endian(big_endian);
        writer.set("general.alignment", alignment).unwrap();
        add_tensors(
            &mut writer,
            QuantType::all().filter(|ty| !gguf_rs_reader::UNKNOWN.contains(ty)),
        );
        let (path, ours) = write(dir.path(), writer);
        assert_eq!(gguf_rs_reader::differences(&path, &ours).unwrap(), NONE);
    }
}

#[test]
fn gguf_rs_reads_metadata_of_version_1_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = with_metadata();
    writer.version(1).unwrap();
    let (path, ours) = write(dir.path(), writer);
    assert_eq!(gguf_rs_reader::differences(&path, &ours).unwrap(), NONE);
}

#[test]
fn candle_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for (version, alignment) in [(1, 32u32), (2, 32), (3, 32), (3, 1), (3, 64), (3, 4096)] {
        let mut writer = with_metadata();
        writer.version(version).unwrap();
        writer.set("general.alignment", alignment).unwrap();
        let deep = Array::Array(vec![Array::Array(vec![Array::U8(vec![1])]), Array::Bool(vec![])]);
        writer.set("nested", deep).unwrap();
        add_tensors(&mut writer, candle::KNOWN);
        let (path, ours) = write(dir.path(), writer);
        assert_eq!(candle::differences(&path, &ours).unwrap(), NONE);
    }
}

#[test]
fn what_the_others_cannot_read_is_as_known() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new();
    writer.set("nested", Array::Array(vec![Array::U8(vec![1])])).unwrap();
    let (path, ours) = write(dir.path(), writer);
    assert!(gguf_rs_reader::differences(&path, &ours).is_err(), "gguf-rs reads nested arrays now");

    let mut writer = Writer::new();
    writer.big_endian(true);
    let (path, ours) = write(dir.path(), writer);
    assert!(candle::differences(&path, &ours).is_err(), "candle reads big-endian files now");

    for ty in QuantType::all() {
        let mut writer = Writer::new();
        add_tensors(&mut writer, [ty]);
        let (path, ours) = write(dir.path(), writer);
        let read = candle::differences(&path, &ours);
        assert_eq!(read.is_ok(), candle::KNOWN.contains(&ty), "candle and {ty}: {read:?}");
    }
}

/// `../shared/fixtures`, or `None` after saying that it is absent. In CI it must be there.
fn fixtures() -> Option<PathBuf> {
    let root = match std::env::var_os("OPREL_SHARED") {
        Some(root) => PathBuf::from(root),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")),
    };
    let found = root.join("fixtures");
    if found.exists() {
        return Some(found);
    }
    assert!(std::env::var_os("CI").is_none(), "needs ../shared/fixtures");
    println!("skipped: needs ../shared/fixtures");
    None
}

fn gguf_files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "gguf"))
        .collect();
    found.sort();
    found
}

#[test]
fn real_files_are_read_the_same() {
    let Some(dir) = fixtures() else { return };
    let files: Vec<PathBuf> = [gguf_files(&dir), gguf_files(&dir.join("vocabs"))].concat();
    assert!(files.len() >= 10, "{files:?}");
    for path in files {
        let ours = Gguf::open(&path).unwrap();
        let path = path.to_str().unwrap();
        let types = || ours.tensors().iter().map(|tensor| tensor.ty);
        if !types().any(|ty| gguf_rs_reader::UNKNOWN.contains(&ty)) {
            assert_eq!(gguf_rs_reader::differences(path, &ours).unwrap(), NONE, "{path}");
        }
        if types().all(|ty| candle::KNOWN.contains(&ty)) {
            assert_eq!(candle::differences(path, &ours).unwrap(), NONE, "{path}");
        }
    }
}

#[test]
fn what_candle_writes_is_read() {
    let mut file = std::io::Cursor::new(Vec::new());
    let values: Vec<f32> = (0..512).map(|i| i as f32 / 100.0 - 2.0).collect();
    let tensor = Tensor::from_vec(values, (2, 256), &Device::Cpu).unwrap();
    let quantized = [GgmlDType::F32, GgmlDType::Q8_0, GgmlDType::Q4K]
        .map(|ty| QTensor::quantize(&tensor, ty).unwrap());
    let name = CandleValue::String("test".to_owned());
    let tokens =
        CandleValue::Array(vec![CandleValue::String("a".into()), CandleValue::String("b".into())]);
    let metadata = [("general.name", &name), ("tokens", &tokens)];
    let tensors = [("f32", &quantized[0]), ("q8_0", &quantized[1]), ("q4_k", &quantized[2])];
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();

    let model = Gguf::from_bytes(file.into_inner()).unwrap();
    assert_eq!(model.version(), 2);
    assert_eq!(model.metadata().str("general.name").unwrap(), Some("test"));
    assert!(model.metadata().strs("tokens").unwrap().unwrap().iter().eq(["a", "b"]));
    for ((name, theirs), ty) in
        tensors.iter().zip([QuantType::F32, QuantType::Q8_0, QuantType::Q4_K])
    {
        let ours = model.tensor(name).unwrap();
        assert_eq!((ours.shape.as_slice(), ours.ty), (&[256, 2][..], ty));
        assert_eq!(*model.bytes(ours), *theirs.data().unwrap());
    }
}

#[test]
fn what_gguf_rs_writes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    for alignment in [32, 64, 1000] {
        let mut writer = GGUFWriter::new(&path, 3).unwrap().with_alignment(alignment);
        writer.add_metadata("general.architecture", "llama");
        writer.add_metadata_f32("eps", 1e-5);
        writer
            .add_metadata_array("layers", vec![MetadataValue::Int32(1), MetadataValue::Int32(-2)]);
        writer.add_tensor(TensorInfo { name: "a".into(), shape: vec![3, 2], dtype: 0 });
        writer.add_tensor(TensorInfo { name: "b".into(), shape: vec![32], dtype: 8 });
        writer.write().unwrap();
        writer.write_tensor_data(0, &[7; 24]).unwrap();
        writer.write_tensor_data(1, &[9; 34]).unwrap();
        writer.finalize().unwrap();
        drop(writer);

        let model = Gguf::open(&path).unwrap();
        assert_eq!(model.alignment(), alignment);
        assert_eq!(model.metadata().f32("eps").unwrap(), Some(1e-5));
        assert_eq!(*model.metadata().i32s("layers").unwrap().unwrap(), [1, -2]);
        assert_eq!(*model.bytes(model.tensor("a").unwrap()), [7; 24]);
        assert_eq!(*model.bytes(model.tensor("b").unwrap()), [9; 34]);
    }
}
