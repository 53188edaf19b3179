//! Activations in two terms of eight bits, for encoders: a vector that stands for a whole text shows
//! the rounding of every layer, and a short text has few tokens to average it over.

use oprel_cpu::act::{ActFormat, GROUP, Q8Acts, SCALED, quantize_acts};
use oprel_cpu::activation::add;
use oprel_cpu::{Acts, matmul};

use super::arena::{Buf, zeroed};
use super::compile::Compiler;
use super::linear::Linear;
use super::run::Run;
use crate::Result;

/// Memory for the second term.
#[derive(Debug)]
pub(super) struct Fine {
    /// What the first term leaves of the activations.
    rest: Box<[f32]>,
    /// The same, quantized.
    acts: Box<[f32]>,
    /// What it adds to a result.
    out: Box<[f32]>,
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
        let (cols, rows) = c.widest;
        let (rest, acts, out) = (memory(cols)?, memory(c.act_words)?, memory(rows)?);
        Ok(Some(Fine { rest, acts, out }))
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.rest.len() + self.acts.len() + self.out.len()) as u64 * 4
    }
}

impl Run<'_> {
    /// Adds to results what the second term of the activations gives, where activations are
    /// quantized and the model is an encoder.
    pub(super) fn project_rest(&mut self, x: Buf, jobs: &[(&Linear, Buf)]) {
        let Some(fine) = &mut self.mem.fine else { return };
        let (isa, n) = (self.kernels.isa(), self.n);
        let x_rows = self.mem.arena.row(n, x);
        let rest = &mut fine.rest[..x_rows.len()];
        let first = quantize_acts(self.pool, isa, x_rows, x.cols, &mut self.mem.acts);
        subtract(x_rows, x.cols, first, rest);
        let second = quantize_acts(self.pool, isa, rest, x.cols, &mut fine.acts);
        for (linear, out) in jobs.iter().filter(|(l, _)| l.act_format() == ActFormat::Q8) {
            let more = &mut fine.out[..n * linear.rows()];
            matmul(self.pool, self.kernels, linear.mat(0), Acts::Q8(second), None, more);
            add(isa, self.mem.arena.row(n, *out), more);
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
