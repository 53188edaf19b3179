//! One test per way in which a file may lie, from the checks of llama.cpp, Ollama and candle together.

use oprel_gguf::{Error, Gguf, ShapeProblem};

use crate::raw::{ARRAY, BOOL, F32, I32, Q8_0, Raw, STR, TYPE_I8, U8, U32, U64};

/// One F32 tensor `t` of this shape at data offset 0, with `n` bytes of data.
fn one_tensor(shape: &[u64], ty: u32, n: usize) -> Raw {
    Raw::new(1, 0).tensor("t", shape, ty, 0).pad(32).data(n)
}

macro_rules! assert_refused {
    ($raw:expr, $pattern:pat $(if $guard:expr)?) => {
        let error = $raw.refused();
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
    };
}

// Header.

#[test]
fn another_magic_is_refused() {
    let raw = Raw::of(b"FUGG").u32(3).u64(0).u64(0);
    assert_refused!(raw, Error::NotGguf { found } if found == b"FUGG");
}

#[test]
fn a_web_page_is_refused_as_no_gguf() {
    let page = Raw::of(b"<!DOCTYPE html>");
    assert_refused!(page, Error::NotGguf { .. });
}

#[test]
fn a_byte_swapped_magic_is_refused() {
    // The magic is four bytes, not a number: big-endian files begin with the same ones.
    let raw = Raw::of(b"FUGG").put(&[0, 0, 0, 3]).data(16);
    assert_refused!(raw, Error::NotGguf { .. });
}

#[test]
fn an_empty_file_is_cut_short() {
    let raw = Raw::of(&[]);
    assert_refused!(raw, Error::Truncated { offset: 0, .. });
}

#[test]
fn version_0_is_refused() {
    let raw = Raw::versioned(0, false, 0, 0);
    assert_refused!(raw, Error::Version { version: 0 });
}

#[test]
fn a_version_of_the_future_is_refused() {
    assert_refused!(Raw::versioned(4, false, 0, 0), Error::Version { version: 4 });
    assert_refused!(Raw::versioned(4, true, 0, 0), Error::Version { version: 4 });
    assert_refused!(Raw::versioned(u32::MAX, false, 0, 0), Error::Version { version: u32::MAX });
}

#[test]
fn a_tensor_count_beyond_the_limit_is_refused() {
    for n in [u64::MAX, i64::MAX as u64, 1 << 32, (1 << 20) + 1] {
        assert_refused!(Raw::new(n, 0), Error::Limit { offset: 8, found, .. } if *found == n);
    }
}

#[test]
fn a_metadata_count_beyond_the_limit_is_refused() {
    for n in [u64::MAX, i64::MAX as u64, 1 << 32, 65_537] {
        assert_refused!(Raw::new(0, n), Error::Limit { offset: 16, found, .. } if *found == n);
    }
}

#[test]
fn a_tensor_count_that_the_file_has_no_room_for_is_refused() {
    assert_refused!(Raw::new(1_000_000, 0).data(100), Error::Truncated { offset: 24, .. });
}

#[test]
fn a_metadata_count_that_the_file_has_no_room_for_is_refused() {
    assert_refused!(Raw::new(0, 60_000).data(100), Error::Truncated { offset: 24, .. });
}

// Keys and values.

#[test]
fn a_key_longer_than_the_file_is_refused() {
    let raw = Raw::new(0, 1).u64(1000).put(b"short.key").data(20);
    assert_refused!(raw, Error::Truncated { needed: 1000, .. });
}

#[test]
fn a_key_length_of_minus_one_is_refused() {
    let raw = Raw::new(0, 1).u64(u64::MAX).data(100);
    assert_refused!(raw, Error::Limit { found: u64::MAX, .. });
}

#[test]
fn a_key_beyond_64_kib_is_refused() {
    let raw = Raw::new(0, 1).key(&"k".repeat(65_537), U8).u8(1);
    assert_refused!(raw, Error::Limit { found: 65_537, .. });
    Raw::new(0, 1).key(&"k".repeat(65_536), U8).u8(1).accepted();
}

#[test]
fn an_empty_key_is_refused() {
    assert_refused!(Raw::new(0, 1).key("", U32).u32(1), Error::Empty { offset: 24, .. });
}

#[test]
fn a_key_that_is_not_utf8_is_refused() {
    let raw = Raw::new(0, 1).str(b"ab\xffcd").u32(U8).u8(1);
    assert_refused!(raw, Error::NotUtf8 { offset: 34, .. });
}

#[test]
fn a_key_that_is_there_twice_is_refused() {
    let raw = Raw::new(0, 2).key("a", U8).u8(1).key("a", U8).u8(1);
    assert_refused!(raw, Error::Duplicate { offset: 38, name, .. } if name == "a");
}

#[test]
fn an_unknown_value_type_is_refused() {
    for number in [13, 255, u32::MAX] {
        let raw = Raw::new(0, 1).key("a", number).u64(0);
        assert_refused!(raw, Error::UnknownValueType { offset: 33, number: n, .. } if *n == number);
    }
}

#[test]
fn an_unknown_element_type_is_refused() {
    let raw = Raw::new(0, 1).array("a", 13, 1).u64(0);
    assert_refused!(raw, Error::UnknownValueType { offset: 37, number: 13, .. });
}

#[test]
fn a_string_longer_than_the_file_is_refused() {
    let raw = Raw::new(0, 1).key("a", STR).u64(1 << 20).put(b"short");
    assert_refused!(raw, Error::Truncated { needed: 0x10_0000, left: 5, .. });
}

#[test]
fn a_string_beyond_16_mib_is_refused() {
    let n = (16 << 20) + 1;
    let raw = Raw::new(0, 1).key("a", STR).u64(n).put(&vec![b'x'; n as usize]);
    assert_refused!(raw, Error::Limit { limit: 0x100_0000, .. });
}

#[test]
fn a_string_that_is_not_utf8_is_refused() {
    let raw = Raw::new(0, 1).key("a", STR).str(b"ok\xc3");
    assert_refused!(raw, Error::NotUtf8 { .. });
}

#[test]
fn a_boolean_that_is_neither_0_nor_1_is_refused() {
    assert_refused!(
        Raw::new(0, 1).key("a", BOOL).u8(2),
        Error::NotBool { offset: 37, found: 2, .. }
    );
    let raw = Raw::new(0, 1).array("a", BOOL, 3).put(&[0, 1, 255]);
    assert_refused!(raw, Error::NotBool { offset: 51, found: 255, .. });
}

// Arrays.

#[test]
fn an_array_length_of_minus_one_is_refused() {
    for kind in 0..=12 {
        let raw = Raw::new(0, 1).array("a", kind, u64::MAX).data(64);
        assert_refused!(raw, Error::Limit { found: u64::MAX, .. });
    }
}

#[test]
fn an_array_whose_bytes_would_wrap_is_refused() {
    // 2^61 elements of 8 bytes are 0 bytes modulo 2^64.
    let raw = Raw::new(0, 1).array("a", U64, 1 << 61).data(64);
    assert_refused!(raw, Error::Limit { .. });
}

#[test]
fn an_array_that_the_file_has_no_room_for_is_refused() {
    for kind in 0..=12 {
        let raw = Raw::new(0, 1).array("a", kind, 1_000_000).data(64);
        assert_refused!(raw, Error::Truncated { .. });
    }
}

#[test]
fn an_array_of_strings_with_one_too_long_is_refused() {
    let raw = Raw::new(0, 1).array("a", STR, 3).str("one").u64(u64::MAX).str("three");
    assert_refused!(raw, Error::Limit { offset: 60, found: u64::MAX, .. });
    let raw = Raw::new(0, 1).array("a", STR, 3).str("one").u64(1000).str("three");
    assert_refused!(raw, Error::Truncated { needed: 1000, .. });
}

#[test]
fn an_array_of_strings_with_one_that_is_not_utf8_is_refused() {
    let raw = Raw::new(0, 1).array("a", STR, 2).str("one").str(b"\xf0\x9f\x98");
    assert_refused!(raw, Error::NotUtf8 { offset: 68, .. });
}

#[test]
fn a_character_that_spans_two_strings_of_an_array_is_refused() {
    // Joined they would be valid.
    let raw = Raw::new(0, 1).array("a", STR, 2).str(b"\xc3").str(b"\xa4");
    assert_refused!(raw, Error::NotUtf8 { .. });
}

#[test]
fn arrays_nested_without_end_are_refused() {
    let mut raw = Raw::new(0, 1).key("a", ARRAY);
    for _ in 0..100_000 {
        raw = raw.u32(ARRAY).u64(1);
    }
    assert_refused!(raw.u32(U8).u64(0), Error::Limit { found: 17, limit: 16, .. });
}

#[test]
fn nested_arrays_that_announce_more_than_they_have_are_refused() {
    let mut raw = Raw::new(0, 1).key("a", ARRAY);
    for _ in 0..10 {
        raw = raw.u32(ARRAY).u64(50_000_000);
    }
    assert_refused!(raw.data(1000), Error::Truncated { .. });
}

// Alignment.

#[test]
fn an_alignment_of_zero_is_refused() {
    let raw = Raw::new(0, 1).key("general.alignment", U32).u32(0);
    assert_refused!(raw, Error::Alignment { offset: 53, .. });
}

#[test]
fn an_alignment_that_is_neither_a_power_of_two_nor_a_multiple_of_8_is_refused() {
    for alignment in [3, 12, 13, 33, u32::MAX] {
        let raw = Raw::new(0, 1).key("general.alignment", U32).u32(alignment);
        assert_refused!(raw, Error::Alignment { .. });
    }
}

#[test]
fn an_alignment_that_is_no_u32_is_refused() {
    assert_refused!(Raw::new(0, 1).key("general.alignment", I32).u32(32), Error::Alignment { .. });
    assert_refused!(Raw::new(0, 1).key("general.alignment", U64).u64(32), Error::Alignment { .. });
    assert_refused!(
        Raw::new(0, 1).key("general.alignment", STR).str("32"),
        Error::Alignment { .. }
    );
}

#[test]
fn data_placed_for_another_alignment_is_refused() {
    let raw = Raw::new(2, 1).key("general.alignment", U32).u32(64);
    let raw = raw.tensor("a", &[8], F32, 0).tensor("b", &[8], F32, 32).pad(64).data(128);
    assert_refused!(raw, Error::Misaligned { found: 32, alignment: 64, .. });
}

// Tensors.

#[test]
fn a_tensor_name_of_64_bytes_is_refused() {
    let raw = Raw::new(1, 0).tensor(&"n".repeat(64), &[1], F32, 0).pad(32).data(4);
    assert_refused!(raw, Error::Limit { offset: 24, found: 64, limit: 63, .. });
    let raw = Raw::new(1, 0).tensor(&"n".repeat(63), &[1], F32, 0).pad(32).data(4);
    assert_eq!(raw.accepted().tensors().len(), 1);
}

#[test]
fn an_empty_tensor_name_is_refused() {
    let raw = Raw::new(1, 0).tensor("", &[1], F32, 0).pad(32).data(4);
    assert_refused!(raw, Error::Empty { offset: 24, .. });
}

#[test]
fn a_tensor_name_that_is_not_utf8_is_refused() {
    let raw = Raw::new(1, 0).str(b"\xff").u32(1).u64(1).u32(F32).u64(0).pad(32).data(4);
    assert_refused!(raw, Error::NotUtf8 { offset: 32, .. });
}

#[test]
fn a_tensor_name_that_is_there_twice_is_refused() {
    let raw = Raw::new(2, 0).tensor("t", &[8], F32, 0).tensor("t", &[8], F32, 32).pad(32).data(64);
    assert_refused!(raw, Error::Duplicate { name, .. } if name == "t");
}

#[test]
fn a_tensor_without_or_with_five_dimensions_is_refused() {
    for n in [0, 5] {
        let shape = vec![1; n];
        let raw = one_tensor(&shape, F32, 4);
        assert_refused!(raw, Error::Shape { offset: 33, problem: ShapeProblem::Dimensions(_), .. });
    }
    let raw = Raw::new(1, 0).str("t").u32(u32::MAX).data(100);
    assert_refused!(raw, Error::Shape { problem: ShapeProblem::Dimensions(u32::MAX), .. });
}

#[test]
fn a_dimension_of_minus_one_is_refused() {
    let raw = one_tensor(&[u64::MAX], F32, 100);
    assert_refused!(raw, Error::Shape { problem: ShapeProblem::TooLarge(_), .. });
    let raw = one_tensor(&[u64::MAX, u64::MAX], F32, 100);
    assert_refused!(raw, Error::Shape { problem: ShapeProblem::TooLarge(_), .. });
}

#[test]
fn a_shape_whose_product_wraps_is_refused() {
    for shape in [
        &[1 << 32, 1 << 32][..],            // elements: 2^64, which is 0
        &[(1 << 62) + 4],                   // bytes: 2^64 + 16, which is 16
        &[1 << 31, 1 << 31, 4],             // elements: 2^64
        &[4, (1 << 30) - 1, (1 << 30) + 1], // bytes: 2^64 - 16, which padding would wrap
        &[1 << 16, 1 << 16, 1 << 16, 1 << 16],
    ] {
        let raw = one_tensor(shape, F32, 100);
        assert_refused!(raw, Error::Shape { problem: ShapeProblem::TooLarge(_), .. });
    }
    let raw = one_tensor(&[32, 1 << 63], Q8_0, 100);
    assert_refused!(raw, Error::Shape { problem: ShapeProblem::TooLarge(_), .. });
}

#[test]
fn a_shape_whose_product_wraps_beside_an_empty_dimension_is_refused() {
    let raw = one_tensor(&[1 << 32, 1 << 32, 0], F32, 0);
    assert_refused!(raw, Error::Shape { problem: ShapeProblem::TooLarge(_), .. });
}

#[test]
fn tensors_that_are_together_larger_than_any_file_are_refused() {
    let half = 0x7fff_ffff_ffff_ffc0;
    let raw = Raw::new(2, 0).tensor("a", &[half], TYPE_I8, 0).tensor("b", &[half], TYPE_I8, half);
    assert_refused!(raw.pad(32).data(32), Error::Outside { .. });
}

#[test]
fn an_unknown_quant_type_is_refused() {
    for number in [4, 5, 31, 36, 4711, u32::MAX] {
        let raw = one_tensor(&[32], number, 4096);
        assert_refused!(raw, Error::UnknownQuantType { number: n, .. } if *n == number);
    }
}

#[test]
fn a_row_that_is_no_whole_number_of_blocks_is_refused() {
    let raw = one_tensor(&[33, 32], Q8_0, 4096);
    assert_refused!(
        raw,
        Error::Shape { problem: ShapeProblem::Blocks { cols: 33, block: 32, .. }, .. }
    );
}

#[test]
fn a_data_offset_that_is_not_aligned_is_refused() {
    let raw = Raw::new(1, 0).tensor("t", &[8], F32, 3).pad(32).data(64);
    assert_refused!(raw, Error::Misaligned { offset: 49, found: 3, alignment: 32, .. });
}

#[test]
fn a_data_offset_outside_the_file_is_refused() {
    for offset in [64, 1 << 40, i64::MAX as u64 - 31, u64::MAX - 31] {
        let raw = Raw::new(1, 0).tensor("t", &[8], F32, offset).pad(32).data(64);
        assert_refused!(raw, Error::Outside { offset: 49, .. });
    }
}

#[test]
fn data_that_the_file_has_not_all_of_is_refused() {
    assert_refused!(one_tensor(&[8], F32, 31), Error::Outside { needed: 32, .. });
    one_tensor(&[8], F32, 32).accepted();
}

#[test]
fn data_that_overlaps_is_refused() {
    let raw = Raw::new(2, 0).tensor("a", &[16], F32, 32).tensor("b", &[16], F32, 0);
    assert_refused!(raw.pad(32).data(96), Error::Overlap { tensor, other, .. } if tensor == "a" && other == "b");
}

#[test]
fn the_same_data_for_two_tensors_is_refused() {
    let raw = Raw::new(2, 0).tensor("a", &[16], F32, 0).tensor("b", &[16], F32, 0);
    assert_refused!(raw.pad(32).data(64), Error::Overlap { .. });
}

#[test]
fn tensor_data_cannot_lie_in_the_header() {
    // Offsets count from the end of the header, so there is no number that points before it.
    let raw = Raw::new(1, 0).tensor("t", &[8], F32, u64::MAX - 63).pad(32).data(64);
    assert_refused!(raw, Error::Outside { .. });
}

#[test]
fn a_name_cannot_write_to_the_terminal() {
    let raw = Raw::new(1, 0).tensor("\x1b[2J", &[33], Q8_0, 0).pad(32).data(64);
    let text = raw.refused().to_string();
    assert!(text.contains(r"\u{1b}[2J") && !text.contains('\x1b'), "{text:?}");
    let raw = Raw::new(0, 1).key("\x1b[2J", BOOL).u8(7);
    let text = raw.refused().to_string();
    assert!(text.contains(r"\u{1b}[2J") && !text.contains('\x1b'), "{text:?}");
}

#[test]
fn a_long_key_makes_no_long_message() {
    let raw = Raw::new(0, 1).key(&"ä".repeat(30_000), BOOL).u8(7);
    assert!(raw.refused().to_string().len() < 300);
}

// Through a file.

#[test]
fn the_error_of_a_file_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken.gguf");
    std::fs::write(&path, Raw::new(0, 1).key("a", 99).u8(0).bytes).unwrap();
    let error = Gguf::open(&path).unwrap_err();
    assert!(error.to_string().contains("broken.gguf"), "{error}");
    assert!(error.to_string().contains("byte 33"), "{error}");
    assert_eq!(error.offset(), Some(33));
    assert!(matches!(error.root(), Error::UnknownValueType { number: 99, .. }));
}

#[test]
fn what_is_no_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Gguf::open(dir.path()), Err(Error::Io { .. })));
    let absent = dir.path().join("absent.gguf");
    let error = Gguf::open(absent).unwrap_err();
    assert!(error.to_string().contains("absent.gguf"), "{error}");
}

#[test]
fn an_empty_file_on_disk_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Gguf::open(file.path()).unwrap_err();
    assert!(matches!(error.root(), Error::Truncated { offset: 0, .. }), "{error}");
}
