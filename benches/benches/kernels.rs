//! The matrix product of every quant type: one token (bytes a second) and 64 (operations a second).

#![allow(missing_docs)] // criterion makes functions without them

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use oprel_cpu::act::{ActFormat, Acts, F32Acts, q8_words, quantize_acts};
use oprel_cpu::{Isa, Kernels, MatRef, Pool, matmul};
use oprel_quant::QuantType;

const ROWS: usize = 4096;
const COLS: usize = 2048;

/// Bytes that make small, finite weights in every type: no exponent of a scale is large.
fn weights(ty: QuantType) -> Vec<u8> {
    let n = ty.row_bytes(ROWS * COLS).expect("whole blocks");
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state & 0x3f) as u8
    };
    let mut bytes: Vec<u8> = (0..n).map(|_| next()).collect();
    if ty == QuantType::MXFP4 {
        // Its scale is a bare exponent.
        bytes.chunks_exact_mut(17).for_each(|block| block[0] = 120);
    }
    bytes
}

fn products(c: &mut Criterion) {
    let isa = Isa::detect();
    let kernels = Kernels::new(isa);
    let mut pool = Pool::new(1).expect("no threads to start");
    for ty in QuantType::all().filter(|&ty| kernels.of(ty).is_some()) {
        let bytes = weights(ty);
        let w = MatRef::new(ty, ROWS, COLS, &bytes).expect("its size");
        for n in [1, 64] {
            let mut group = c.benchmark_group(format!("matmul {isa} {n} tokens"));
            group.throughput(match n {
                1 => Throughput::Bytes(bytes.len() as u64),
                _ => Throughput::Elements((2 * ROWS * COLS * n) as u64),
            });
            let x: Vec<f32> =
                (0..n * COLS).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
            let mut memory = vec![0.0; q8_words(n, COLS)];
            let mut out = vec![0.0; n * ROWS];
            group.bench_function(BenchmarkId::from_parameter(ty), |b| {
                b.iter(|| {
                    let acts = match w.act_format() {
                        ActFormat::F32 => Acts::F32(F32Acts::new(&x, COLS)),
                        ActFormat::Q8 => {
                            Acts::Q8(quantize_acts(&mut pool, isa, &x, COLS, &mut memory))
                        }
                    };
                    matmul(&mut pool, kernels, w, acts, None, &mut out);
                });
            });
        }
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
