//! Activations in two terms of eight bits, for encoders: a vector that stands for a whole text shows
//! the rounding of every layer, and a short text has few tokens to average it over.

use oprel_cpu::act::{ActFormat, GROUP, Q8Acts, SCALED, quantize_acts};
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
    /// Memory for encoders; `None` for other models.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if it cannot be had.
    pub(super) fn of(c: &Compiler<'_>) -> Result<Option<Fine>> {
        if c.uncached.is_empty() {
            return Ok(None);
        }
        let memory = |len: usize| zeroed(c.layout.rows().saturating_mul(len), "activations");
        let (rest, acts) = (memory(c.widest)?, memory(c.act_words)?);
        Ok(Some(Fine { rest, acts }))
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
        let quantizes = jobs.iter().any(|(linear, _)| linear.act_format() == ActFormat::Q8);
        let x_rows = arena.row(n, x);
        let terms = quantizes.then(|| {
            let first = quantize_acts(self.pool, isa, x_rows, x.cols, &mut acts.inner);
            let rest = &mut fine.rest[..x_rows.len()];
            subtract(x_rows, x.cols, first, rest);
            (first, quantize_acts(self.pool, isa, rest, x.cols, &mut fine.acts))
        });
        for (linear, out) in jobs {
            let [x_rows, out] = arena.rows(n, [x, *out]);
            let plain = |acts| Product::new(linear.mat(0), acts, None);
            let (pool, kernels) = (&mut *self.pool, self.kernels);
            match (linear.act_format(), terms) {
                (ActFormat::Q8, Some((first, second))) => {
                    let job = MatMul::store(plain(Acts::Q8(first)), out);
                    matmul_all(pool, kernels, &mut [job]);
                    let job = MatMul::add(plain(Acts::Q8(second)), out, 1.0);
                    matmul_all(pool, kernels, &mut [job]);
                }
                _ => {
                    let types = [linear.ty()].into_iter();
                    let wide = F32Acts::new(x_rows, x.cols);
                    let acts = Acts::F32(wide.turned(pool, kernels, types, &mut acts.turned));
                    matmul_all(pool, kernels, &mut [MatMul::store(plain(acts), out)]);
                }
            }
            linear.finish(out);
        }
    }
}

/// What quantized activations leave of `x` (n, cols).
fn subtract(x: &[f32], cols: usize, quantized: Q8Acts<'_>, rest: &mut [f32]) {
    let rows = x.chunks_exact(cols).zip(rest.chunks_exact_mut(cols));
    for (i, (x, rest)) in rows.enumerate() {
        let row = quantized.row(i);
        for (j, (x, rest)) in x.iter().zip(rest).enumerate() {
            let (group, j) = (&row[j / GROUP], j % GROUP);
            *rest = x - group.scales[j / SCALED] * f32::from(group.codes[j]);
        }
    }
}
