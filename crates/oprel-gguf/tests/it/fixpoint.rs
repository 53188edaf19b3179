//! What must hold for any bytes at all; the fuzz target `gguf_parse` runs this same file.
//!
//! Never a panic; never more memory than [`budget`] allows; an error of a malformed file names a byte of it; a
//! file that is read, written, and read again is the same model, and writing that gives the same bytes.

use std::sync::Arc;

use oprel_gguf::{Error, Gguf, Writer};

/// Bytes that may be in use at once while a file of `n` bytes is parsed.
pub(crate) fn budget(n: usize) -> u64 {
    10 * n as u64 + 16_384
}

/// What `f` gives, and the most bytes that it had in use at once.
pub(crate) fn allocated<T>(f: impl FnOnce() -> T) -> (u64, T) {
    let mut result = None;
    let info = allocation_counter::measure(|| result = Some(f()));
    (info.bytes_max, result.unwrap())
}

/// Writes a model as it is.
pub(crate) fn rewrite(model: &Gguf) -> Vec<u8> {
    let data: Vec<_> = model.tensors().iter().map(|tensor| model.bytes(tensor)).collect();
    let mut writer = Writer::new();
    writer.version(model.version()).unwrap();
    writer.big_endian(model.big_endian());
    for (key, value) in model.metadata().iter() {
        writer.set(key, value.clone()).unwrap();
    }
    for (tensor, bytes) in model.tensors().iter().zip(&data) {
        writer.tensor(&tensor.name, &tensor.shape, tensor.ty, &**bytes).unwrap();
    }
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    file
}

/// Checks all of the above.
pub(crate) fn holds(bytes: &[u8]) {
    let n = bytes.len();
    let shared: Arc<[u8]> = bytes.into();
    let (peak, opened) = allocated(|| Gguf::from_bytes(shared));
    assert!(peak <= budget(n), "{peak} bytes of memory for a file of {n}");
    let model = match opened {
        Ok(model) => model,
        Err(error) => return is_a_good_error(&error, n),
    };
    let once = rewrite(&model);
    let again = Gguf::from_bytes(once.clone()).unwrap();
    for (before, after) in model.tensors().iter().zip(again.tensors()) {
        assert_eq!((&before.name, &before.shape, before.ty), (&after.name, &after.shape, after.ty));
        assert_eq!(&*model.bytes(before), &*again.bytes(after), "{}", before.name);
    }
    assert_eq!(model.tensors().len(), again.tensors().len());
    assert_eq!(rewrite(&again), once);
}

fn is_a_good_error(error: &Error, n: usize) {
    assert!(!error.to_string().is_empty() && !error.hint().is_empty());
    match error.offset() {
        Some(offset) => assert!(offset <= n as u64, "{error}"),
        // Well-formed, but only a part of a model, or what it says of the parts cannot be.
        None => assert!(
            matches!(
                error,
                Error::Split { .. } | Error::WrongType { .. } | Error::OutOfRange { .. }
            ),
            "{error:?}"
        ),
    }
}
