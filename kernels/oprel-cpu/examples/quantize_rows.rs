//! Quantizes a file of little-endian f32, for `benches/quantizers.py`:
//! `quantize_rows COLUMNS SOURCE IMPORTANCE|- OUT_PREFIX TYPE...` writes `OUT_PREFIX.TYPE` for each
//! type and prints its name and the seconds that it took on one thread.

use oprel_cpu::Isa;
use oprel_cpu::quantize::quantize_weighted;
use oprel_quant::QuantType;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [columns, source, importance, prefix, types @ ..] = args.as_slice() else {
        return Err("usage: quantize_rows COLUMNS SOURCE IMPORTANCE|- OUT_PREFIX TYPE...".into());
    };
    let columns: usize = columns.parse()?;
    let source = f32s(&std::fs::read(source)?);
    let importance = match importance.as_str() {
        "-" => None,
        path => Some(f32s(&std::fs::read(path)?)),
    };
    let isa = Isa::detect();
    for name in types {
        let ty = QuantType::from_name(name).ok_or("no such type")?;
        let mut out = vec![0; ty.row_bytes(source.len()).ok_or("no whole blocks")?];
        let mut quantize = |n: usize| {
            let bytes = &mut out[..ty.row_bytes(n).unwrap_or(0)];
            quantize_weighted(isa, ty, &source[..n], columns, importance.as_deref(), bytes)
        };
        quantize(columns)?; // makes the tables
        let start = Instant::now();
        quantize(source.len())?;
        println!("{name} {:.6}", start.elapsed().as_secs_f64());
        std::fs::write(format!("{prefix}.{name}"), out)?;
    }
    Ok(())
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
