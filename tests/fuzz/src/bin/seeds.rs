//! Writes the files that fuzzing starts from: `cargo run --manifest-path tests/fuzz/Cargo.toml --bin seeds`

use std::path::Path;

use oprel_gguf::{Array, QuantType, StrArray, Value, Writer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/gguf_parse");
    std::fs::create_dir_all(&dir)?;
    for version in 1..=3 {
        for big_endian in [false, true] {
            let order = if big_endian { "be" } else { "le" };
            seed(version, big_endian)?.write_file(dir.join(format!("v{version}-{order}.gguf")))?;
        }
    }
    Ok(())
}

/// A value of every kind, tensors of several types.
fn seed(version: u32, big_endian: bool) -> oprel_gguf::Result<Writer<'static>> {
    let mut writer = Writer::new();
    writer.version(version)?;
    writer.big_endian(big_endian);
    writer.set("general.alignment", 8u32)?;
    writer.set("split.count", 1u16)?;
    writer.set("s", "ä")?;
    let scalars: [Value; 8] = [
        1u8.into(),
        (-1i8).into(),
        1i16.into(),
        1i32.into(),
        0.5f32.into(),
        true.into(),
        (1i64 << 40).into(),
        0.5f64.into(),
    ];
    for (i, value) in scalars.into_iter().enumerate() {
        writer.set(&format!("k{i}"), value)?;
    }
    writer.set("u64s", vec![u64::MAX])?;
    writer.set("tokens", ["a", "", "ö"].into_iter().collect::<StrArray>())?;
    writer.set("nested", Array::Array(vec![Array::Bool(vec![true]), Array::U16(vec![7])]))?;
    writer.tensor("f", &[3, 1], QuantType::F32, vec![1; 12])?;
    writer.tensor("q", &[32], QuantType::Q8_0, vec![2; 34])?;
    writer.tensor("e", &[0, 2], QuantType::I8, vec![])?;
    Ok(writer)
}
