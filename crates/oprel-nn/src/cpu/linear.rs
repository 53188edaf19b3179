//! Linear layers: a matrix where the file has it, its bias and factor decoded.

use std::ops::Range;
use std::sync::Arc;

use oprel_cpu::act::{ActFormat, q8_words, quantize_acts};
use oprel_cpu::{Acts, F32Acts, MatMul, MatRef, matmul, matmul_all};

use super::arena::Buf;
use super::compile::Compiler;
use super::run::Run;
use crate::describe::{self, SiteId};
use crate::weights::QMatrix;
use crate::{Error, Result};

/// Most linear layers that read the same rows in one region.
pub(super) const JOBS: usize = 6;

/// A linear layer, or one for each expert.
#[derive(Debug)]
pub(super) struct Linear {
    matrix: QMatrix,
    range: Range<usize>,
    /// Elements of a row that goes in.
    pub(super) cols: usize,
    /// (experts, rows): only the rows of the range.
    bias: Option<Arc<[f32]>>,
    /// One factor, or one an expert.
    scale: Option<Arc<[f32]>>,
    pub(super) site: SiteId,
}

impl Linear {
    pub(super) fn compile(
        c: &mut Compiler<'_>,
        linear: &describe::Linear,
        cols: usize,
    ) -> Result<Linear> {
        let matrix = c.weights.matrix(linear.w).clone();
        let range = linear.rows.start as usize..linear.rows.end as usize;
        if matrix.cols as usize != cols || range.is_empty() || linear.rows.end > matrix.rows {
            return Err(Error::Description(format!(
                "rows {range:?} of {cols} are wanted of '{}', which has {} of {}",
                matrix.name, matrix.rows, matrix.cols
            )));
        }
        let (experts, rows) = (matrix.experts as usize, matrix.rows as usize);
        let bias = linear.bias.map(|id| c.vector(id, experts * rows)).transpose()?;
        let bias = bias.map(|bias| match range.len() == rows {
            true => bias,
            false => bias.chunks_exact(rows).flat_map(|b| &b[range.clone()]).copied().collect(),
        });
        let scale = linear.scale.map(|id| c.any_vector(id)).transpose()?;
        if let Some(n) = scale.as_ref().map(|s| s.len()).filter(|&n| n != 1 && n != experts) {
            return Err(Error::Description(format!("'{}' has {n} factors", matrix.name)));
        }
        c.reads(linear.w);
        let compiled = Linear { matrix, range, cols, bias, scale, site: linear.site };
        compiled.checked(c)
    }

    fn checked(self, c: &mut Compiler<'_>) -> Result<Linear> {
        let all = MatRef::new(
            self.matrix.ty,
            self.matrix.rows as usize * self.matrix.experts as usize,
            self.cols,
            self.matrix.bytes(),
        )?;
        if all.act_format() == ActFormat::Q8 {
            c.act_words = c.act_words.max(q8_words(1, self.cols));
            c.widest = (c.widest.0.max(self.cols), c.widest.1.max(self.rows()));
        }
        Ok(self)
    }

    /// Elements of a row that comes out.
    pub(super) fn rows(&self) -> usize {
        self.range.len()
    }

    /// How many matrices there are.
    pub(super) fn experts(&self) -> usize {
        self.matrix.experts as usize
    }

    /// What its activations must be.
    pub(super) fn act_format(&self) -> ActFormat {
        ActFormat::of(self.matrix.ty)
    }

    /// The rows of one expert.
    pub(super) fn mat(&self, expert: usize) -> MatRef<'_> {
        let row = self.matrix.row_bytes();
        let bytes = &self.matrix.expert_bytes(expert as u32)[self.range.start * row..];
        match MatRef::new(self.matrix.ty, self.rows(), self.cols, &bytes[..self.rows() * row]) {
            Ok(mat) => mat,
            Err(e) => panic!("checked when it was compiled: {e}"),
        }
    }

    /// The bias of one expert, where the kernel can add it: without a factor.
    pub(super) fn kernel_bias(&self, expert: usize) -> Option<&[f32]> {
        self.scale.is_none().then(|| self.bias(expert)).flatten()
    }

    fn bias(&self, expert: usize) -> Option<&[f32]> {
        self.bias.as_ref().map(|b| &b[expert * self.rows()..][..self.rows()])
    }

    /// What the kernel leaves to do: the factor, and the bias after it.
    pub(super) fn finish(&self, expert: usize, out: &mut [f32]) {
        let Some(scale) = &self.scale else { return };
        let scale = scale.get(expert).or(scale.first()).copied().unwrap_or(1.0);
        out.iter_mut().for_each(|y| *y *= scale);
        if let Some(bias) = self.bias(expert) {
            for row in out.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
        }
    }
}

/// Some rows of activations, in this order.
pub(super) fn select<'a>(acts: Acts<'a>, rows: &'a [u32]) -> Acts<'a> {
    match acts {
        Acts::F32(acts) => Acts::F32(acts.select(rows)),
        Acts::Q8(acts) => Acts::Q8(acts.select(rows)),
    }
}

impl Run<'_> {
    /// Multiplies the rows of `x` by up to [`JOBS`] linear layers, in one region.
    pub(super) fn project(&mut self, x: Buf, jobs: &[(&Linear, Buf)]) {
        let n = self.n;
        for (linear, _) in jobs {
            self.observe(linear, x);
        }
        let mut ranges = [const { 0..0 }; JOBS + 1];
        ranges[0] = x.range(n);
        for ((_, out), range) in jobs.iter().zip(&mut ranges[1..]) {
            *range = out.range(n);
        }
        let [x_rows, outs @ ..] = self.mem.arena.ranges(ranges);
        let f32_acts = F32Acts::new(x_rows, x.cols);
        let quantized = jobs.iter().any(|(l, _)| l.act_format() == ActFormat::Q8);
        let q8_acts = quantized.then(|| {
            quantize_acts(self.pool, self.kernels.isa(), x_rows, x.cols, &mut self.mem.acts)
        });
        let mut outs = outs.into_iter();
        let mut muls: [MatMul<'_>; JOBS] = std::array::from_fn(|i| {
            // Places beyond the jobs hold jobs of no rows.
            let (linear, _) = jobs.get(i).unwrap_or(&jobs[0]);
            let acts = match (linear.act_format(), q8_acts) {
                (ActFormat::Q8, Some(acts)) => Acts::Q8(acts),
                _ => Acts::F32(f32_acts),
            };
            let (acts, bias) = if i < jobs.len() {
                (acts, linear.kernel_bias(0))
            } else {
                (select(acts, &[]), None)
            };
            MatMul::new(linear.mat(0), acts, bias, outs.next().unwrap_or_default())
        });
        matmul_all(self.pool, self.kernels, &mut muls[..jobs.len()]);
        drop(outs);
        self.project_rest(x, jobs);
        for (linear, out) in jobs {
            linear.finish(0, self.mem.arena.row(n, *out));
        }
    }

    /// Multiplies some rows of `x` by a linear layer, into memory that is not the arena's.
    pub(super) fn project_rows(
        &mut self,
        linear: &Linear,
        x: Buf,
        rows: Range<usize>,
        out: &mut [f32],
    ) {
        let all = self.mem.arena.row(rows.end, x);
        let x_rows = &all[rows.start * x.cols..];
        if let Some(watch) = &mut self.watch {
            watch.input(linear.site, x_rows, x.cols, &[]);
        }
        let acts = match linear.act_format() {
            ActFormat::F32 => Acts::F32(F32Acts::new(x_rows, x.cols)),
            ActFormat::Q8 => {
                let memory = &mut self.mem.acts;
                Acts::Q8(quantize_acts(self.pool, self.kernels.isa(), x_rows, x.cols, memory))
            }
        };
        matmul(self.pool, self.kernels, linear.mat(0), acts, linear.kernel_bias(0), out);
        linear.finish(0, out);
    }

    /// Tells whoever watches what a linear layer reads.
    fn observe(&mut self, linear: &Linear, x: Buf) {
        if let Some(watch) = &mut self.watch {
            watch.input(linear.site, self.mem.arena.row(self.n, x), x.cols, &[]);
        }
    }
}
