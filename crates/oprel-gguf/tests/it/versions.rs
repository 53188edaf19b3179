//! Files of every version and byte order, put together by hand.

use oprel_gguf::{Array, Gguf, QuantType, Value};

use crate::raw::{ARRAY, F32, Q8_0, Raw, STR, U8, U32, U64};

fn file(version: u32, big_endian: bool) -> Raw {
    let raw = Raw::versioned(version, big_endian, 2, 4)
        .key("number", U32)
        .u32(0x0102_0304)
        .key("large", U64)
        .u64(1 << 40)
        .array("strings", STR, 2)
        .str("one")
        .str("zwei")
        .array("nested", ARRAY, 2)
        .u32(2)
        .length(2)
        .u16(258)
        .u16(3)
        .u32(U8)
        .length(0)
        .tensor("f", &[2, 1], F32, 0)
        .tensor("q", &[32], Q8_0, 32)
        .pad(32);
    // The scale of a Q8_0 block is two bytes; its quants are bytes.
    raw.f32(1.5).f32(-2.0).pad(32).u16(0x3c00).data(32)
}

#[test]
fn all_versions_and_byte_orders_say_the_same() {
    for version in 1..=3 {
        for big_endian in [false, true] {
            let model = file(version, big_endian).accepted();
            assert_eq!(model.version(), version);
            assert_eq!(model.big_endian(), big_endian);
            let metadata = model.metadata();
            assert_eq!(metadata.u32("number").unwrap(), Some(0x0102_0304));
            assert_eq!(metadata.u64("large").unwrap(), Some(1 << 40));
            let strings: Vec<&str> = metadata.strs("strings").unwrap().unwrap().iter().collect();
            assert_eq!(strings, ["one", "zwei"]);
            let nested = Array::Array(vec![Array::U16(vec![258, 3]), Array::U8(vec![])]);
            assert_eq!(metadata.get("nested"), Some(&Value::Array(nested)));
            let f = model.tensor("f").unwrap();
            assert_eq!((f.cols(), f.rows(), f.ty), (2, 1, QuantType::F32));
            let floats: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(*model.bytes(f), floats);
            let q = model.bytes(model.tensor("q").unwrap());
            assert_eq!(q[..4], [0x00, 0x3c, 0, 1]);
        }
    }
}

#[test]
fn bytes_in_the_file_are_as_the_file_has_them() {
    let model = file(3, true).accepted();
    let raw = model.bytes_in_file(model.tensor("q").unwrap());
    assert_eq!(raw[..4], [0x3c, 0x00, 0, 1]);
}

#[test]
fn a_model_of_metadata_alone_needs_no_padding() {
    let model = Raw::new(0, 1).key("a", U8).u8(7).accepted();
    assert_eq!(model.metadata().u8("a").unwrap(), Some(7));
    assert!(model.tensors().is_empty());
    assert!(Raw::new(0, 0).accepted().metadata().is_empty());
}

#[test]
fn the_alignment_may_be_any_power_of_two_or_multiple_of_8() {
    for alignment in [1u32, 2, 4, 8, 24, 40, 64, 1000, 4096, 65_536, 1 << 20] {
        let raw = Raw::new(2, 1).key("general.alignment", U32).u32(alignment);
        let a = u64::from(alignment);
        let raw = raw.tensor("a", &[1], F32, 0).tensor("b", &[2], F32, 4u64.next_multiple_of(a));
        let raw = raw.pad(alignment as usize).u32(7).pad(alignment as usize).u32(8).u32(9);
        let model = raw.accepted();
        assert_eq!(model.alignment(), a);
        assert_eq!(*model.bytes(model.tensor("a").unwrap()), [7, 0, 0, 0], "{alignment}");
        assert_eq!(
            *model.bytes(model.tensor("b").unwrap()),
            [8, 0, 0, 0, 9, 0, 0, 0],
            "{alignment}"
        );
    }
}

#[test]
fn tensors_may_lie_in_any_order_and_with_gaps() {
    let raw = Raw::new(2, 0).tensor("a", &[8], F32, 96).tensor("b", &[8], F32, 0).pad(32).data(128);
    let model = raw.accepted();
    assert_eq!(model.tensors()[0].name, "a");
    assert_eq!(model.bytes(&model.tensors()[0])[0], 96);
    assert_eq!(model.bytes(&model.tensors()[1])[0], 0);
}

#[test]
fn an_empty_dimension_makes_an_empty_tensor() {
    let raw =
        Raw::new(2, 0).tensor("a", &[32, 0], Q8_0, 0).tensor("b", &[8], F32, 0).pad(32).data(32);
    let model = raw.accepted();
    let a = model.tensor("a").unwrap();
    assert_eq!((a.cols(), a.rows(), a.n_elements(), a.n_bytes()), (32, 0, 0, 0));
    assert!(model.bytes(a).is_empty());
}

#[test]
fn an_embedded_model_is_read_in_place() {
    let bytes: &'static [u8] = file(3, false).bytes.leak();
    let model = Gguf::from_static(bytes).unwrap();
    assert_eq!(model.total_bytes(), bytes.len() as u64);
    assert_eq!(model.paths().count(), 0);
    let q = model.bytes_in_file(model.tensor("q").unwrap());
    assert!(bytes.as_ptr_range().contains(&q.as_ptr()));
}
