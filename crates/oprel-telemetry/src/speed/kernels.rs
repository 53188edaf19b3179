//! How fast the kernels of a quant type are, measured with the kernels themselves: a type whose weights
//! take long to unpack is not read as fast as memory allows.

use std::time::Instant;

use oprel_cpu::act::{ActFormat, F32Acts, Share, q8_words, quantize_acts};
use oprel_cpu::pool::Pool;
use oprel_cpu::{Acts, Isa, Kernels, MatRef, matmul};
use oprel_quant::QuantType;
use serde::{Deserialize, Serialize};

use super::median_of;

/// Bytes that one token reads: several times what caches hold.
const LARGE: usize = 256 << 20;
/// Multiplications that tokens of a prompt make, about.
const MANY: usize = 1 << 30;

/// Matrices of a type, and how many tokens of a prompt meet one at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrices {
    /// The type.
    pub ty: QuantType,
    /// Rows of one.
    pub rows: usize,
    /// Weights of a row.
    pub cols: usize,
    /// Tokens that are multiplied with one while a prompt is read.
    pub tokens: usize,
}

/// How fast weights of a type are read and multiplied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelRate {
    /// The type.
    pub ty: String,
    /// Tokens of a prompt that meet a matrix at once.
    pub tokens: usize,
    /// Bytes of weights that one token at a time goes through in a second.
    pub one: f64,
    /// Weights that tokens of a prompt are multiplied with in a second, times tokens.
    pub many: f64,
}

impl KernelRate {
    /// Measures a type with some threads: a quarter of a second or so. `matrices` are bytes of such matrices, from
    /// the file where they lie: how its pages are mapped, and which codes its weights have, is part of the rate. Where
    /// there are none, some are made. `None` for types without kernels, or where the system refuses threads or memory.
    pub fn measure(
        of: Matrices,
        matrices: &[&[u8]],
        threads: usize,
        isa: Isa,
    ) -> Option<KernelRate> {
        let mut pool = Pool::new(threads.max(1)).ok()?;
        let row_bytes = of.ty.row_bytes(of.cols).filter(|bytes| *bytes > 0)?;
        // A matrix larger than the whole is measured in part.
        let rows = of.rows.min(LARGE / row_bytes / 2).max(1);
        let n_bytes = rows * row_bytes;
        let n = (LARGE / n_bytes).max(1);
        let made = match matrices.is_empty() {
            true => weights(of.ty, n * n_bytes)?,
            false => Vec::new(),
        };
        let own = matrices.iter().flat_map(|matrix| matrix.chunks_exact(n_bytes));
        let all: Option<Vec<_>> = own
            .chain(made.chunks_exact(n_bytes))
            .take(n)
            .map(|bytes| MatRef::new(of.ty, rows, of.cols, bytes).ok())
            .collect();
        let all = all.filter(|all| !all.is_empty())?;
        let one = Product::new(of, rows, 1, isa).time(&mut pool, &all);
        let tokens = of.tokens.max(1);
        let few = (MANY / (rows * of.cols * tokens)).clamp(1, all.len());
        let many = Product::new(of, rows, tokens, isa).time(&mut pool, &all[..few]);
        Some(KernelRate {
            ty: of.ty.to_string(),
            tokens,
            one: (all.len() * n_bytes) as f64 / one,
            many: (few * rows * of.cols * tokens) as f64 / many,
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

/// A product of some tokens, and the memory that it takes.
struct Product {
    ty: QuantType,
    cols: usize,
    isa: Isa,
    x: Vec<f32>,
    memory: Vec<f32>,
    out: Vec<f32>,
}

impl Product {
    fn new(of: Matrices, rows: usize, n: usize, isa: Isa) -> Product {
        let Matrices { ty, cols, .. } = of;
        let words = n * Kernels::new(isa).turned_words(ty, cols);
        Product {
            ty,
            cols,
            isa,
            x: (0..n * cols).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect(),
            memory: vec![0.0; q8_words(Share::of(ty), n, cols).max(words)],
            out: vec![0.0; n * rows],
        }
    }

    /// The usual seconds of a product with each of some matrices in turn, as a step makes them.
    fn time(&mut self, pool: &mut Pool, matrices: &[MatRef<'_>]) -> f64 {
        median_of(|| {
            let start = Instant::now();
            matrices.iter().for_each(|w| self.run(pool, *w));
            start.elapsed().as_secs_f64()
        })
    }

    fn run(&mut self, pool: &mut Pool, w: MatRef<'_>) {
        let (kernels, isa) = (Kernels::new(self.isa), self.isa);
        let acts = match w.act_format() {
            ActFormat::F32 => {
                let acts = F32Acts::new(&self.x, self.cols);
                Acts::F32(acts.turned(pool, kernels, [self.ty].into_iter(), &mut self.memory))
            }
            ActFormat::Q8(share) => {
                Acts::Q8(quantize_acts(pool, isa, share, &self.x, self.cols, &mut self.memory))
            }
        };
        matmul(pool, kernels, w, acts, None, &mut self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ty: QuantType) -> Matrices {
        Matrices { ty, rows: 256, cols: 256, tokens: 8 }
    }

    #[test]
    fn types_that_files_use_have_a_rate_and_others_none() {
        let rate = KernelRate::measure(of(QuantType::Q4_K), &[], 2, Isa::detect()).unwrap();
        assert!(rate.one > 0.0 && rate.many > 0.0 && rate.ty == "Q4_K");
        assert_eq!(KernelRate::measure(of(QuantType::I32), &[], 1, Isa::detect()), None);
        let odd = Matrices { cols: 100, ..of(QuantType::Q4_K) };
        assert_eq!(KernelRate::measure(odd, &[], 1, Isa::detect()), None);
    }

    #[test]
    fn matrices_of_a_file_are_measured_where_they_are() {
        let of = of(QuantType::Q8_0);
        let matrix = weights(of.ty, 2 * 256 * 272).unwrap();
        assert!(KernelRate::measure(of, &[&matrix], 1, Isa::detect()).is_some());
        assert_eq!(KernelRate::measure(of, &[&matrix[..100]], 1, Isa::detect()), None);
    }

    #[test]
    fn a_matrix_larger_than_what_is_measured_is_measured_in_part() {
        let large = Matrices { rows: 1 << 40, ..of(QuantType::Q8_0) };
        assert!(KernelRate::measure(large, &[], 1, Isa::detect()).is_some());
    }
}
