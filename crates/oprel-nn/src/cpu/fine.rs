//! Activations in two terms of eight bits, for encoders: a vector that stands for a whole text shows
//! the rounding of every layer, and a short text has few tokens to average it over.

use oprel_cpu::act::{ActFormat, Q8Acts, SCALED, Share, quantize_acts};
use oprel_cpu::{Acts, F32Acts, MatMul, Product, matmul_all};

use super::arena::{Buf, zeroed};
use super::compile::Compiler;
use super::linear::Linear;
use super::run::{Memories, Run};
use crate::Result;

/// Memory for the second term.
#[derive(Debug)]
pub(super) struct Fine {
    /// What the first term leaves of the activations.
    rest: Box<[f32]>,
    /// The same, quantized.
    acts: Box<[f32]>,
}

impl Fine {
    /// f32 words for encoders: what is left, and the same quantized. `None` for other models.
    pub(super) fn words(c: &Compiler<'_>) -> Option<[usize; 2]> {
        let words = |a_token: usize| c.layout.rows().saturating_mul(a_token);
        (!c.uncached.is_empty()).then(|| [words(c.widest), words(c.act_words())])
    }

    /// Memory of so many words.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if it cannot be had.
    pub(super) fn new([rest, acts]: [usize; 2]) -> Result<Fine> {
        Ok(Fine { rest: zeroed(rest, "activations")?, acts: zeroed(acts, "activations")? })
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.rest.len() + self.acts.len()) as u64 * 4
    }
}

impl Run<'_> {
    /// As [`Run::project`] of an encoder: activations that are quantized have two terms.
    pub(super) fn project_finely(&mut self, x: Buf, jobs: &[(&Linear, Buf)]) {
        let Memories { arena, acts, fine: Some(fine), .. } = &mut *self.mem else { return };
        let (isa, n) = (self.kernels.isa(), self.n);
        for share in Share::ALL {
            let mut jobs = jobs.iter().filter(|job| job.0.act_format() == ActFormat::Q8(share));
            let Some(one) = jobs.next() else { continue };
            let x_rows = arena.row(n, x);
            let first = quantize_acts(self.pool, isa, share, x_rows, x.cols, &mut acts.inner);
            let rest = &mut fine.rest[..x_rows.len()];
            subtract(x_rows, x.cols, first, rest);
            let second = quantize_acts(self.pool, isa, share, rest, x.cols, &mut fine.acts);
            for (linear, out) in [one].into_iter().chain(jobs) {
                let out = arena.row(n, *out);
                let plain = |acts| Product::new(linear.mat(0), Acts::Q8(acts), None);
                matmul_all(self.pool, self.kernels, &mut [MatMul::store(plain(first), out)]);
                matmul_all(self.pool, self.kernels, &mut [MatMul::add(plain(second), out, 1.0)]);
                linear.finish(out);
            }
        }
        for (linear, out) in jobs.iter().filter(|job| job.0.act_format() == ActFormat::F32) {
            let [x_rows, out] = arena.rows(n, [x, *out]);
            let (types, wide) = ([linear.ty()].into_iter(), F32Acts::new(x_rows, x.cols));
            let acts = wide.turned(self.pool, self.kernels, types, &mut acts.turned);
            let product = Product::new(linear.mat(0), Acts::F32(acts), None);
            matmul_all(self.pool, self.kernels, &mut [MatMul::store(product, out)]);
            linear.finish(out);
        }
    }
}

/// What quantized activations leave of `x` (n, cols).
fn subtract(x: &[f32], cols: usize, quantized: Q8Acts<'_>, rest: &mut [f32]) {
    let rows = x.chunks_exact(cols).zip(rest.chunks_exact_mut(cols));
    for (i, (x, rest)) in rows.enumerate() {
        for (b, (x, rest)) in x.chunks(SCALED).zip(rest.chunks_mut(SCALED)).enumerate() {
            let (scale, codes) = quantized.block(i, b);
            for ((x, rest), code) in x.iter().zip(rest).zip(codes) {
                *rest = x - scale * f32::from(*code);
            }
        }
    }
}
