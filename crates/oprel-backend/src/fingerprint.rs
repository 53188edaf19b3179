//! What tells a model's numbers apart from another's.

use oprel_gguf::Gguf;
use oprel_nn::state::KvTypes;
use sha2::{Digest, Sha256};

use crate::{Executor, Machine};

/// Raised when kernels give other bits of the same weights and tokens.
const NUMERICS: u32 = 2;
/// Bytes of each tensor, at its beginning, middle and end, that tell it from another.
const SAMPLE: usize = 256;

/// A hash of all that the state after some tokens depends on: the model's description and shapes, a
/// sample of each tensor's bytes, how keys and values are stored, the context length (which chooses
/// rope factors), the arithmetic, and how an
/// executor lays things out.
pub(crate) fn of(
    file: &Gguf,
    kv: KvTypes,
    context: u32,
    machine: Machine,
    executor: Executor,
) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(NUMERICS.to_le_bytes());
    hash.update(format!("{kv:?} {context} {executor:?}"));
    // The only tier in which a type gives other bits than in the others.
    hash.update([u8::from(machine.isa.name() == "avx512bf16")]);
    for (key, value) in file.metadata().iter() {
        // The model sees no texts of tokens, and no names and licences.
        let unseen = key.starts_with("tokenizer.") || key.starts_with("general.");
        if !unseen || key == "general.architecture" {
            hash.update(key);
            hash.update(format!("{value:?}"));
        }
    }
    for tensor in file.tensors() {
        hash.update(format!("{} {:?} {:?}", tensor.name, tensor.ty, tensor.shape));
        let bytes = file.bytes_in_file(tensor);
        let bytes: &[u8] = &bytes;
        let last = bytes.len().saturating_sub(SAMPLE);
        for at in [0, last / 2, last] {
            hash.update(&bytes[at..bytes.len().min(at + SAMPLE)]);
        }
    }
    hash.finalize().to_vec()
}
