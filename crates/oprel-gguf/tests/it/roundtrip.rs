//! What is written is read back: any metadata, any tensors, every version and byte order.

use oprel_gguf::{Array, Error, Gguf, QuantType, StrArray, Value, Writer};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fixpoint;

fn scalar() -> impl Strategy<Value = Value> {
    // No NaN: it is not equal to itself. The fixed point compares bytes and covers it.
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<f32>().prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        ".{0,12}".prop_map(Value::Str),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f64>().prop_map(Value::F64),
    ]
}

fn array() -> impl Strategy<Value = Array> {
    let flat = prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Array::U8),
        vec(any::<i8>(), 0..9).prop_map(Array::I8),
        vec(any::<u16>(), 0..9).prop_map(Array::U16),
        vec(any::<i16>(), 0..9).prop_map(Array::I16),
        vec(any::<u32>(), 0..9).prop_map(Array::U32),
        vec(any::<i32>(), 0..9).prop_map(Array::I32),
        vec(any::<f32>(), 0..9).prop_map(Array::F32),
        vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        vec(".{0,5}", 0..9).prop_map(|strings| Array::Str(strings.iter().collect())),
        vec(any::<u64>(), 0..9).prop_map(Array::U64),
        vec(any::<i64>(), 0..9).prop_map(Array::I64),
        vec(any::<f64>(), 0..9).prop_map(Array::F64),
    ];
    flat.prop_recursive(3, 24, 4, |inner| vec(inner, 0..4).prop_map(Array::Array))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![2 => scalar(), 1 => array().prop_map(Value::Array)]
}

/// Shape, type and data of a tensor.
fn tensor() -> impl Strategy<Value = (Vec<u64>, QuantType, Vec<u8>)> {
    let types: Vec<QuantType> = QuantType::all().collect();
    (proptest::sample::select(types), 0u64..3, vec(0u64..4, 0..4), any::<u8>()).prop_map(
        |(ty, blocks, rest, salt)| {
            let mut shape = vec![blocks * ty.block_len() as u64];
            shape.extend(rest);
            let n: u64 = blocks * shape[1..].iter().product::<u64>() * ty.block_bytes() as u64;
            (shape, ty, (0..n).map(|i| (i as u8).wrapping_mul(31).wrapping_add(salt)).collect())
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_written_is_read_back(
        version in 1u32..=3,
        big_endian in any::<bool>(),
        alignment in proptest::sample::select(vec![None, Some(1u32), Some(2), Some(4), Some(8), Some(24), Some(4096)]),
        values in vec(value(), 0..12),
        tensors in vec(tensor(), 0..6),
    ) {
        let mut writer = Writer::new();
        writer.version(version).unwrap();
        writer.big_endian(big_endian);
        for (i, value) in values.iter().enumerate() {
            writer.set(&format!("key.{i}"), value.clone()).unwrap();
        }
        if let Some(alignment) = alignment {
            writer.set("general.alignment", alignment).unwrap();
        }
        for (i, (shape, ty, bytes)) in tensors.iter().enumerate() {
            writer.tensor(&format!("tensor.{i}"), shape, *ty, bytes).unwrap();
        }
        let mut file = Vec::new();
        writer.write(&mut file).unwrap();

        fixpoint::holds(&file);
        let model = Gguf::from_bytes(file).unwrap();
        prop_assert_eq!(model.version(), version);
        prop_assert_eq!(model.big_endian(), big_endian);
        prop_assert_eq!(model.alignment(), u64::from(alignment.unwrap_or(32)));
        for (i, value) in values.iter().enumerate() {
            prop_assert_eq!(model.metadata().get(&format!("key.{i}")), Some(value));
        }
        prop_assert_eq!(model.metadata().len(), values.len() + usize::from(alignment.is_some()));
        prop_assert_eq!(model.tensors().len(), tensors.len());
        for (i, (shape, ty, bytes)) in tensors.iter().enumerate() {
            let read = model.tensor(&format!("tensor.{i}")).unwrap();
            prop_assert_eq!((&read.shape, read.ty), (shape, *ty));
            prop_assert!(read.file_offset().is_multiple_of(model.alignment()));
            prop_assert_eq!(&*model.bytes(read), bytes);
        }
    }

    #[test]
    fn strings_are_found_by_index(strings in vec(".{0,8}", 0..40)) {
        let array: StrArray = strings.iter().collect();
        prop_assert_eq!(array.len(), strings.len());
        prop_assert!(array.iter().eq(strings.iter().map(String::as_str)));
        for (i, s) in strings.iter().enumerate() {
            prop_assert_eq!(array.get(i), Some(s.as_str()));
        }
        prop_assert_eq!(array.get(strings.len()), None);
    }
}

#[test]
fn data_may_be_produced_when_its_turn_comes() {
    for big_endian in [false, true] {
        let mut writer = Writer::new();
        writer.big_endian(big_endian);
        writer
            .tensor_with("a", &[64], QuantType::Q8_0, |out| {
                // In pieces that are no blocks.
                (0..68u8).try_for_each(|byte| out.write_all(&[byte]))
            })
            .unwrap();
        writer.tensor_with("b", &[4], QuantType::F32, |out| out.write_all(&[7; 16])).unwrap();
        let mut file = Vec::new();
        writer.write(&mut file).unwrap();
        let model = Gguf::from_bytes(file).unwrap();
        assert!(model.bytes(&model.tensors()[0]).iter().copied().eq(0..68));
        assert_eq!(*model.bytes(&model.tensors()[1]), [7; 16]);
    }
}

#[test]
fn data_of_another_size_than_the_shape_is_not_written() {
    let mut writer = Writer::new();
    assert!(writer.tensor("a", &[4], QuantType::F32, vec![0; 15]).is_err());
    for n in [15, 17] {
        let mut writer = Writer::new();
        writer
            .tensor_with("a", &[4], QuantType::F32, move |out| out.write_all(&vec![0; n]))
            .unwrap();
        assert!(writer.write(Vec::new()).is_err());
    }
}

#[test]
fn what_the_reader_refuses_is_not_written() {
    let mut writer = Writer::new();
    assert!(writer.version(0).is_err() && writer.version(4).is_err());
    assert!(writer.set("", 1u32).is_err());
    assert!(writer.set(&"k".repeat(65_537), 1u32).is_err());
    assert!(writer.set("general.alignment", 0u32).is_err());
    assert!(writer.set("general.alignment", 32u64).is_err());
    assert!(writer.set("a", 1u32).is_ok() && writer.set("a", 2u32).is_err());
    let too_deep = (0..16).fold(Array::U8(vec![]), |inner, _| Array::Array(vec![inner]));
    assert!(writer.set("deep", too_deep).is_err());
    assert!(writer.tensor("", &[1], QuantType::F32, vec![0; 4]).is_err());
    assert!(writer.tensor(&"n".repeat(64), &[1], QuantType::F32, vec![0; 4]).is_err());
    assert!(writer.tensor("t", &[], QuantType::F32, vec![0; 4]).is_err());
    assert!(writer.tensor("t", &[1; 5], QuantType::F32, vec![0; 4]).is_err());
    assert!(writer.tensor("t", &[33], QuantType::Q8_0, vec![0; 34]).is_err());
    assert!(writer.tensor("t", &[1 << 32, 1 << 32], QuantType::F32, vec![]).is_err());
    assert!(writer.tensor("t", &[1], QuantType::F32, vec![0; 4]).is_ok());
    assert!(writer.tensor("t", &[1], QuantType::F32, vec![0; 4]).is_err());
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    assert_eq!(Gguf::from_bytes(file).unwrap().tensors().len(), 1);
}

#[test]
fn a_file_appears_under_its_name_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let mut writer = Writer::new();
    writer
        .tensor_with("a", &[4], QuantType::F32, |_| Err(std::io::Error::other("disk full")))
        .unwrap();
    let error = writer.write_file(&path).unwrap_err();
    assert!(error.to_string().contains("disk full"), "{error}");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "nothing is left of it");

    let mut writer = Writer::new();
    writer.tensor("a", &[4], QuantType::F32, vec![1; 16]).unwrap();
    writer.write_file(&path).unwrap();
    assert_eq!(Gguf::open(&path).unwrap().tensors().len(), 1);
    assert_eq!(dir.path().read_dir().unwrap().count(), 1, "nothing else is left");

    let mut writer = Writer::new();
    writer.tensor("b", &[4], QuantType::F32, vec![2; 16]).unwrap();
    let refused = writer.write_checked(&path, |file| {
        assert_eq!(Gguf::open(file)?.tensors()[0].name, "b");
        Err::<(), Error>(Error::Damaged { path: file.into() })
    });
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    assert_eq!(Gguf::open(&path).unwrap().tensors()[0].name, "a", "what was there stays");
    assert_eq!(dir.path().read_dir().unwrap().count(), 1);
}
