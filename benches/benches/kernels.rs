//! The matrix product of every quant type in every tier that this CPU has: one token (bytes a second),
//! 4 and 512 tokens (operations a second).
//!
//! Ends with a table of all, each as a part of what the machine does at most: reading memory, products
//! of integers or of floats. Threads: `OPREL_BENCH_THREADS`, or as many as the system grants.

#![allow(missing_docs)] // criterion makes functions without them

use std::collections::BTreeMap;
use std::num::NonZero;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use oprel_cpu::act::{ActFormat, Acts, F32Acts, Share, q8_words, quantize_acts};
use oprel_cpu::probe::{bf16_peak, float_peak, integer_peak, read_bandwidth};
use oprel_cpu::{Isa, Kernels, MatRef, Pool, matmul};
use oprel_quant::QuantType;

const COLS: usize = 2048;
/// Bytes of the weights that one token and a few meet: several times any cache.
const LARGE: usize = 128 << 20;
/// Rows of the weights that many tokens meet.
const ROWS: usize = 2048;
/// Tokens.
const N: [usize; 3] = [1, 4, 512];

/// Best seconds by tier, type and tokens, with bytes and operations.
type Best = BTreeMap<(usize, usize, usize), (f64, Matrix)>;

/// What is measured with.
#[derive(Clone, Copy)]
struct Matrix {
    ty: QuantType,
    rows: usize,
}

impl Matrix {
    /// For `n` tokens. Portable code is given less: it is no faster on what the cache holds.
    fn of(ty: QuantType, n: usize, isa: Isa) -> Matrix {
        let row_bytes = ty.row_bytes(COLS).expect("whole blocks");
        let rows = if n > 16 { ROWS } else { LARGE / row_bytes };
        let rows = if isa == Isa::SCALAR { rows / 64 } else { rows };
        Matrix { ty, rows: rows / 16 * 16 }
    }

    fn bytes(self) -> usize {
        self.ty.row_bytes(self.rows * COLS).expect("whole blocks")
    }

    fn operations(self, n: usize) -> usize {
        2 * self.rows * COLS * n
    }
}

/// Bytes that make small, finite weights in every type: no exponent of a scale is large.
fn weights(ty: QuantType, n_bytes: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state & 0x3f) as u8
    };
    let mut some: Vec<u8> =
        (0..ty.row_bytes(64 * COLS).expect("whole blocks")).map(|_| next()).collect();
    if ty == QuantType::MXFP4 {
        // Its scale is a bare exponent.
        some.chunks_exact_mut(17).for_each(|block| block[0] = 120);
    }
    let mut bytes = some.repeat(n_bytes.div_ceil(some.len()));
    bytes.truncate(n_bytes);
    bytes
}

fn product(
    c: &mut Criterion,
    pool: &mut Pool,
    isa: Isa,
    matrix: Matrix,
    n: usize,
    bytes: &[u8],
) -> Option<f64> {
    let kernels = Kernels::new(isa);
    let w = MatRef::new(matrix.ty, matrix.rows, COLS, bytes).expect("its size");
    let x: Vec<f32> = (0..n * COLS).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
    let words = n * kernels.turned_words(matrix.ty, COLS);
    let mut memory = vec![0.0; q8_words(Share::of(matrix.ty), n, COLS).max(words)];
    let mut out = vec![0.0; n * matrix.rows];
    let mut best: Option<f64> = None;
    let mut group = c.benchmark_group(format!("matmul {isa} {n} tokens"));
    group.throughput(match n {
        1 => Throughput::Bytes(bytes.len() as u64),
        _ => Throughput::Elements(matrix.operations(n) as u64),
    });
    group.bench_function(BenchmarkId::from_parameter(matrix.ty), |b| {
        b.iter_custom(|times| {
            let start = Instant::now();
            for _ in 0..times {
                let acts = match w.act_format() {
                    ActFormat::F32 => {
                        let types = [matrix.ty].into_iter();
                        let acts = F32Acts::new(&x, COLS);
                        Acts::F32(acts.turned(pool, kernels, types, &mut memory))
                    }
                    ActFormat::Q8(share) => {
                        Acts::Q8(quantize_acts(pool, isa, share, &x, COLS, &mut memory))
                    }
                };
                matmul(pool, kernels, w, acts, None, &mut out);
            }
            let took = start.elapsed();
            let each = took.as_secs_f64() / times as f64;
            best = Some(best.map_or(each, |best| best.min(each)));
            took
        });
    });
    best
}

/// What the machine does at most in a second.
struct Peaks {
    read: f64,
    /// By tier: products of integers, of floats, of bf16 numbers.
    arithmetic: Vec<(Isa, [f64; 3])>,
}

impl Peaks {
    fn measure(pool: &mut Pool) -> Peaks {
        let arithmetic = Isa::supported()
            .map(|isa| {
                let floats = float_peak(pool, isa);
                let pairs = bf16_peak(pool, isa).unwrap_or(floats);
                (isa, [integer_peak(pool, isa), floats, pairs])
            })
            .collect();
        Peaks { read: read_bandwidth(pool, Isa::detect(), LARGE, 6), arithmetic }
    }

    /// The better of two measurements: others may have used the machine meanwhile.
    fn or(mut self, other: &Peaks) -> Peaks {
        self.read = self.read.max(other.read);
        for (mine, theirs) in self.arithmetic.iter_mut().zip(&other.arithmetic) {
            for (x, y) in mine.1.iter_mut().zip(theirs.1) {
                *x = x.max(y);
            }
        }
        self
    }

    fn print(&self, n_threads: usize) {
        println!("\n{n_threads} threads; raw read {:.1} GB/s", self.read / 1e9);
        for (isa, peaks) in &self.arithmetic {
            let [integers, floats, pairs] = peaks.map(|peak| peak / 1e9);
            println!(
                "{isa}: integer products {integers:.0} GOPS, f32 {floats:.0} GFLOPS, bf16 {pairs:.0}"
            );
        }
    }
}

/// The table of all that was measured.
fn print(best: &Best, peaks: &Peaks) {
    println!(
        "\n| tier | type | 1 token, GB/s | of raw read | 4 tokens, GOPS | 512 tokens, GOPS | of peak |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut rows: Vec<(usize, usize)> = best.keys().map(|(isa, ty, _)| (*isa, *ty)).collect();
    rows.dedup();
    for (i, ty) in rows {
        let (isa, [integers, floats, pairs]) = peaks.arithmetic[i];
        let of = |n: usize| best.get(&(i, ty, n));
        let gb = of(1).map(|(s, m)| m.bytes() as f64 / s);
        let gops = |n: usize| of(n).map(|(s, m)| m.operations(n) as f64 / s);
        let Some(name) = N.iter().find_map(|n| of(*n)).map(|(_, m)| m.ty) else { continue };
        let peak = match name {
            QuantType::BF16 => pairs,
            _ if name.is_quantized() => integers,
            _ => floats,
        };
        let cell = |x: Option<f64>| x.map_or("-".into(), |x| format!("{:.1}", x / 1e9));
        let part =
            |x: Option<f64>, of: f64| x.map_or("-".into(), |x| format!("{:.0} %", 100.0 * x / of));
        println!(
            "| {isa} | {name} | {} | {} | {} | {} | {} |",
            cell(gb),
            part(gb, peaks.read),
            cell(gops(4)),
            cell(gops(512)),
            part(gops(512), peak)
        );
    }
}

fn main() {
    let granted = std::thread::available_parallelism().map_or(1, NonZero::get);
    let asked = std::env::var("OPREL_BENCH_THREADS").ok().and_then(|n| n.parse().ok());
    let mut pool = Pool::new(asked.unwrap_or(granted)).expect("threads");
    let mut c = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(300))
        .without_plots()
        .configure_from_args();
    let before = Peaks::measure(&mut pool);
    let mut best = Best::new();
    for ty in QuantType::all().filter(|&ty| Kernels::new(Isa::SCALAR).of(ty).is_some()) {
        let bytes = weights(ty, LARGE);
        for (i, isa) in Isa::supported().enumerate() {
            for n in N {
                let matrix = Matrix::of(ty, n, isa);
                let bytes = &bytes[..matrix.bytes()];
                if let Some(seconds) = product(&mut c, &mut pool, isa, matrix, n, bytes) {
                    best.insert((i, ty as usize, n), (seconds, matrix));
                }
            }
        }
    }
    let peaks = Peaks::measure(&mut pool).or(&before);
    peaks.print(pool.n_threads());
    print(&best, &peaks);
    c.final_summary();
}
