//! Vocabularies of GGUF files: text to token ids and back.
