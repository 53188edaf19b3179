//! Architectures: GGUF metadata and tensors to a model description; the demo model.
