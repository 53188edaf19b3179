//! Typed access to metadata.

use oprel_gguf::{Array, Error, Gguf, StrArray, Value, Writer};

fn with(key: &str, value: impl Into<Value>) -> Gguf {
    let mut writer = Writer::new();
    writer.set(key, value).unwrap();
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    Gguf::from_bytes(file).unwrap()
}

#[test]
fn an_absent_key_is_none_of_every_type() {
    let model = with("a", 1u32);
    let m = model.metadata();
    assert!(m.u32("b").unwrap().is_none() && m.str("b").unwrap().is_none());
    assert!(m.strs("b").unwrap().is_none() && m.f32s("b").unwrap().is_none());
    assert!(m.bool("b").unwrap().is_none() && m.i32s("b").unwrap().is_none());
    assert!(m.get("b").is_none() && !m.contains("b"));
}

#[test]
fn integers_of_any_width_convert_when_they_fit() {
    for value in
        [Value::U8(7), Value::I8(7), Value::U16(7), Value::I32(7), Value::U64(7), Value::I64(7)]
    {
        let model = with("n", value);
        let m = model.metadata();
        assert_eq!(m.u32("n").unwrap(), Some(7));
        assert_eq!(m.i32("n").unwrap(), Some(7));
        assert_eq!(m.u64("n").unwrap(), Some(7));
        assert_eq!(m.u8("n").unwrap(), Some(7));
    }
    let model = with("n", vec![-1i8, 2]);
    assert_eq!(*model.metadata().i32s("n").unwrap().unwrap(), [-1, 2]);
    assert!(matches!(model.metadata().u32s("n"), Err(Error::OutOfRange { .. })));
}

#[test]
fn an_integer_that_does_not_fit_says_so() {
    let model = with("n", -1i32);
    let error = model.metadata().u32("n").unwrap_err();
    assert_eq!(error.to_string(), "metadata `n` is -1, which does not fit u32");
    let model = with("n", u64::MAX);
    assert!(matches!(model.metadata().i64("n"), Err(Error::OutOfRange { .. })));
}

#[test]
fn a_value_of_another_kind_says_what_it_is() {
    let model = with("n", vec![1i32, 2, 3]);
    let error = model.metadata().u32("n").unwrap_err();
    assert_eq!(error.to_string(), "metadata `n` is an array of 3 i32, expected an integer (u32)");
    let error = model.metadata().strs("n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "metadata `n` is an array of 3 i32, expected an array of strings"
    );
    assert!(matches!(model.metadata().f32s("n"), Err(Error::WrongType { .. })));
    let model = with("n", "text");
    assert!(matches!(model.metadata().u32("n"), Err(Error::WrongType { .. })));
    assert!(matches!(model.metadata().u32s("n"), Err(Error::WrongType { .. })));
    let model = with("n", true);
    assert!(
        matches!(model.metadata().u32("n"), Err(Error::WrongType { .. })),
        "a boolean is no integer"
    );
    let model = with("n", 1u32);
    assert!(
        matches!(model.metadata().f32("n"), Err(Error::WrongType { .. })),
        "an integer is no float"
    );
}

#[test]
fn floats_convert_among_themselves() {
    let model = with("x", 0.5f64);
    assert_eq!(model.metadata().f32("x").unwrap(), Some(0.5));
    let model = with("x", 0.5f32);
    assert_eq!(model.metadata().f64("x").unwrap(), Some(0.5));
    let model = with("x", vec![0.5f64]);
    assert_eq!(*model.metadata().f32s("x").unwrap().unwrap(), [0.5]);
}

#[test]
fn entries_keep_the_order_of_the_file() {
    let mut writer = Writer::new();
    for key in ["z", "a", "m"] {
        writer.set(key, 1u8).unwrap();
    }
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    let model = Gguf::from_bytes(file).unwrap();
    assert!(model.metadata().iter().map(|(key, _)| key).eq(["z", "a", "m"]));
    assert_eq!(model.metadata().iter().len(), 3);
}

#[test]
fn arrays_of_their_own_type_are_borrowed() {
    let model = with("a", vec![1u32, 2]);
    assert!(matches!(model.metadata().u32s("a"), Ok(Some(std::borrow::Cow::Borrowed([1, 2])))));
    let model = with("a", vec![true, false]);
    assert_eq!(model.metadata().bools("a").unwrap(), Some(&[true, false][..]));
    let model = with("a", Array::Str(["x", "y"].into_iter().collect::<StrArray>()));
    assert_eq!(model.metadata().strs("a").unwrap().unwrap().get(1), Some("y"));
}
