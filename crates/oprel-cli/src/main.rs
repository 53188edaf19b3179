//! The binary `oprel`: parses, calls the library, prints. The only code that prints.

fn main() {}
