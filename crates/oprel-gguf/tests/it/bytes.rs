//! Where tensor data lives: in the map, or in a copy when it cannot be read in place.

use std::thread;

use oprel_gguf::{Bytes, Gguf, QuantType, Writer};

fn model_on_disk(dir: &tempfile::TempDir, big_endian: bool, alignment: u32) -> Gguf {
    let mut writer = Writer::new();
    writer.big_endian(big_endian);
    writer.set("general.alignment", alignment).unwrap();
    writer.tensor("bytes", &[3], QuantType::I8, vec![1, 2, 3]).unwrap();
    let floats: Vec<u8> = (0..4).flat_map(|i| (i as f32).to_le_bytes()).collect();
    writer.tensor("floats", &[4], QuantType::F32, floats).unwrap();
    let path = dir.path().join("model.gguf");
    writer.write_file(&path).unwrap();
    Gguf::open(path).unwrap()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn nothing_is_copied_where_the_file_is_as_it_should_be() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_on_disk(&dir, false, 32);
    for tensor in model.tensors() {
        assert!(model.bytes(tensor).is_mapped());
        assert_eq!(model.bytes(tensor).as_ptr(), model.bytes_in_file(tensor).as_ptr());
    }
}

#[test]
fn data_of_a_big_endian_file_is_swapped_once() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_on_disk(&dir, true, 32);
    let tensor = model.tensor("floats").unwrap();
    assert_eq!(floats(&model.bytes(tensor)), [0.0, 1.0, 2.0, 3.0]);
    assert!(!model.bytes(tensor).is_mapped());
    assert_eq!(model.bytes(tensor).as_ptr(), model.clone().bytes(tensor).as_ptr());
    assert!(model.bytes(model.tensor("bytes").unwrap()).is_mapped(), "bytes have no order");
}

#[test]
fn data_at_an_odd_address_is_moved() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_on_disk(&dir, false, 1);
    let tensor = model.tensor("floats").unwrap();
    let bytes = model.bytes(tensor);
    assert!(bytes.as_ptr().addr().is_multiple_of(8));
    assert_eq!(floats(&bytes), [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn bytes_outlive_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_on_disk(&dir, false, 32);
    let bytes = model.bytes(model.tensor("floats").unwrap());
    let half: Bytes = bytes.slice(8..16);
    drop((model, bytes, dir));
    let read = thread::spawn(move || floats(&half)).join().unwrap();
    assert_eq!(read, [2.0, 3.0]);
}

#[test]
#[should_panic(expected = "a tensor of another model")]
fn a_tensor_of_another_model_has_no_bytes_here() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = model_on_disk(&dir, false, 32);
    let other = model_on_disk(&other, false, 64);
    let _ = model.bytes(&other.tensors()[1]);
}
