//! How fast the kernels of a quant type are, measured with the kernels themselves: a type whose weights
//! take long to unpack is not read as fast as memory allows.

use std::time::Instant;

use oprel_cpu::act::{ActFormat, F32Acts, Share, q8_words, quantize_acts};
use oprel_cpu::pool::Pool;
use oprel_cpu::{Acts, Isa, Kernels, MatRef, matmul};
use oprel_quant::QuantType;
use serde::{Deserialize, Serialize};

/// Elements of a row.
const COLS: usize = 2048;
/// Bytes that one token reads: several times what caches hold.
const LARGE: usize = 96 << 20;
/// Rows that many tokens meet.
const ROWS: usize = 1024;
/// Tokens of a prompt that are read at once.
const TOKENS: usize = 512;
/// How often; the best counts.
const ROUNDS: usize = 4;

/// How fast weights of a type are read and multiplied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelRate {
    /// The type.
    pub ty: String,
    /// Bytes of weights that one token at a time goes through in a second.
    pub one: f64,
    /// Weights that tokens of a prompt are multiplied with in a second, times tokens.
    pub many: f64,
}

impl KernelRate {
    /// Measures a type with some threads: a quarter of a second or so. `None` for types without kernels, or
    /// where the system refuses threads or memory.
    pub fn measure(ty: QuantType, threads: usize, isa: Isa) -> Option<KernelRate> {
        let mut pool = Pool::new(threads.max(1)).ok()?;
        let row_bytes = ty.row_bytes(COLS)?;
        let rows = (LARGE / row_bytes) / 16 * 16;
        let bytes = weights(ty, rows * row_bytes)?;
        let one = time(&mut pool, isa, (ty, rows), &bytes, 1)?;
        let few = &bytes[..ROWS * row_bytes];
        let many = time(&mut pool, isa, (ty, ROWS), few, TOKENS)?;
        Some(KernelRate {
            ty: ty.to_string(),
            one: bytes.len() as f64 / one,
            many: (ROWS * COLS * TOKENS) as f64 / many,
        })
    }
}

/// Bytes that make small, finite weights in every type: no exponent of a scale is large.
fn weights(ty: QuantType, n_bytes: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(n_bytes).ok()?;
    let mut state = 0x2545_f491_4f6c_dd1du64;
    while bytes.len() < n_bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let n = (n_bytes - bytes.len()).min(8);
        bytes.extend_from_slice(&(state & 0x3f3f_3f3f_3f3f_3f3f).to_le_bytes()[..n]);
    }
    if ty == QuantType::MXFP4 {
        // Its scale is a bare exponent.
        bytes.chunks_exact_mut(ty.block_bytes()).for_each(|block| block[0] = 120);
    }
    Some(bytes)
}

/// The best seconds of a product with so many tokens.
fn time(
    pool: &mut Pool,
    isa: Isa,
    (ty, rows): (QuantType, usize),
    bytes: &[u8],
    n: usize,
) -> Option<f64> {
    let kernels = Kernels::new(isa);
    let w = MatRef::new(ty, rows, COLS, bytes).ok()?;
    let x: Vec<f32> = (0..n * COLS).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
    let words = n * kernels.turned_words(ty, COLS);
    let mut memory = vec![0.0; q8_words(Share::of(ty), n, COLS).max(words)];
    let mut out = vec![0.0; n * rows];
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let acts = match w.act_format() {
            ActFormat::F32 => {
                let acts = F32Acts::new(&x, COLS);
                Acts::F32(acts.turned(pool, kernels, [ty].into_iter(), &mut memory))
            }
            ActFormat::Q8(share) => {
                Acts::Q8(quantize_acts(pool, isa, share, &x, COLS, &mut memory))
            }
        };
        matmul(pool, kernels, w, acts, None, &mut out);
        best = best.min(start.elapsed().as_secs_f64());
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_files_use_have_a_rate_and_others_none() {
        let rate = KernelRate::measure(QuantType::Q4_K, 2, Isa::detect()).unwrap();
        assert!(rate.one > 0.0 && rate.many > 0.0 && rate.ty == "Q4_K");
        assert_eq!(KernelRate::measure(QuantType::I32, 1, Isa::detect()), None);
    }
}
