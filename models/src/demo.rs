//! The demo model, built into the program. `models/demo/README.md` says what it is.

use oprel_gguf::Gguf;

use crate::Result;

/// The file; aligned as a mapped one would be.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../demo/oprel-demo-q8_0.gguf"));

/// The demo model.
///
/// # Errors
/// None that a user can cause: the file is part of the program.
pub fn demo() -> Result<Gguf> {
    Ok(Gguf::from_static(demo_file())?)
}

/// The file of the demo model, byte for byte.
pub fn demo_file() -> &'static [u8] {
    &FILE.0
}
