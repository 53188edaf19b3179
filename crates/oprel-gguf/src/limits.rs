//! What the reader refuses before it allocates or reads. Each is far above any real model.
//!
//! Beside these, every count and length must fit into the bytes that the file still has, so a small file
//! can never ask for much memory: what is parsed takes at most ten times the bytes it was read from (entries
//! without a value to speak of; vocabularies and other plain arrays take less than in the file).

/// Metadata entries of one file.
pub const METADATA_ENTRIES: u64 = 65_536;
/// Tensors of one file, and of all parts of a split model together.
pub const TENSORS: u64 = 1 << 20;
/// Bytes of a metadata key.
pub const KEY_BYTES: u64 = 65_536;
/// Bytes of a metadata string, alone or in an array.
pub const STRING_BYTES: u64 = 16 << 20;
/// Elements of one metadata array.
pub const ARRAY_LEN: u64 = 64 << 20;
/// How deep arrays may be nested: 1 is an array of numbers.
pub const ARRAY_DEPTH: u32 = 16;
/// Bytes of everything before the tensor data of one file.
pub const HEADER_BYTES: u64 = 1 << 30;
/// Bytes of a tensor name; llama.cpp keeps names in 64 bytes with a closing zero.
pub const TENSOR_NAME_BYTES: u64 = 63;
/// Dimensions of a tensor; the least is 1.
pub const DIMENSIONS: u32 = 4;
/// Files of one split model.
pub const PARTS: u32 = 65_535;
