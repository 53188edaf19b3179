//! The GGUF container: reader, writer, memory map, split files.
