//! Linear layers: a matrix where the file has it, its bias and factor decoded.

use std::ops::Range;
use std::sync::Arc;

use oprel_cpu::act::{ActFormat, Q8Mut, Share, quantize_acts, quantized};
use oprel_cpu::activation::Activation;
use oprel_cpu::{Acts, F32Acts, MatMul, MatRef, Product, matmul_all};
use oprel_quant::QuantType;

use super::acts::Source;
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
        c.turns(1, self.matrix.ty, self.cols);
        if let ActFormat::Q8(share) = all.act_format() {
            c.quantizes(share, 1, self.cols);
            c.widest = c.widest.max(self.cols);
            c.n_quantized[share as usize] += 1;
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

    /// How its weights are stored.
    pub(super) fn ty(&self) -> QuantType {
        self.matrix.ty
    }

    /// What its activations must be.
    pub(super) fn act_format(&self) -> ActFormat {
        ActFormat::of(self.matrix.ty)
    }

    /// How many of its activations share a scale, if they are quantized.
    pub(super) fn share(&self) -> Share {
        Share::of(self.matrix.ty)
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

    fn bias(&self, expert: usize) -> Option<&[f32]> {
        self.bias.as_ref().map(|b| &b[expert * self.rows()..][..self.rows()])
    }

    fn scale(&self, expert: usize) -> Option<f32> {
        self.scale.as_ref().and_then(|scale| scale.get(expert).or(scale.first()).copied())
    }

    /// The whole layer of one expert, on what it reads.
    pub(super) fn product<'a>(&'a self, expert: usize, acts: Acts<'a>) -> Product<'a> {
        let product = Product::new(self.mat(expert), acts, self.bias(expert));
        match self.scale(expert) {
            Some(scale) => product.scaled(scale),
            None => product,
        }
    }

    /// What a plain product leaves to do: the factor, and the bias after it.
    pub(super) fn finish(&self, out: &mut [f32]) {
        if let Some(scale) = self.scale(0) {
            out.iter_mut().for_each(|y| *y *= scale);
        }
        if let Some(bias) = self.bias(0) {
            for row in out.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
        }
    }
}

/// Where a linear layer's result goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Out {
    /// Memory for it (n, rows).
    pub(super) buf: Buf,
    /// What it is added to instead, times a factor.
    pub(super) into: Option<(Buf, f32)>,
}

/// Linear layers whose result is activated: `act(up)`, or `act(gate) * up`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Middle<'a> {
    pub(super) up: &'a Linear,
    pub(super) gate: Option<&'a Linear>,
    pub(super) act: Activation,
    /// Memory for what `up` gives, where there is a gate (n, rows).
    pub(super) up_out: Buf,
    /// The result, or memory for it meanwhile (n, rows); `up_out` without a gate.
    pub(super) out: Buf,
}

impl<'a> Middle<'a> {
    /// What reads the input.
    pub(super) fn layers(&self) -> impl Iterator<Item = &'a Linear> + Clone + use<'a> {
        self.gate.into_iter().chain([self.up])
    }

    /// The multiplication whose result is quantized; `wide` is memory for it meanwhile.
    pub(super) fn job<'s>(
        &self,
        source: &Source<'s>,
        wide: &'s mut [f32],
        acts: &'s mut Q8Mut<'_>,
    ) -> MatMul<'s>
    where
        'a: 's,
    {
        let product = |linear: &'a Linear| linear.product(0, source.acts(linear));
        MatMul::quantized(product(self.up), self.act, self.gate.map(product), wide, acts)
    }
}

impl Run<'_> {
    /// Multiplies the rows of `x` by up to [`JOBS`] linear layers, in one region.
    pub(super) fn project(&mut self, x: Buf, jobs: &[(&Linear, Buf)]) {
        self.observe(x, jobs.iter().map(|(linear, _)| *linear));
        if self.mem.fine.is_some() {
            return self.project_finely(x, jobs);
        }
        let n = self.n;
        let mut ranges = [const { 0..0 }; JOBS + 1];
        ranges[0] = x.range(n);
        for ((_, out), range) in jobs.iter().zip(&mut ranges[1..]) {
            *range = out.range(n);
        }
        let [x_rows, outs @ ..] = self.mem.arena.ranges(ranges);
        let (kernels, readers) = (self.kernels, jobs.iter().map(|(linear, _)| *linear));
        let source = self.mem.acts.source(self.pool, kernels, (x, x.cols, x_rows), readers);
        let mut outs = outs.into_iter();
        let mut muls: [MatMul<'_>; JOBS] = std::array::from_fn(|i| {
            // Places beyond the jobs hold jobs of no tokens.
            let (linear, _) = jobs.get(i).unwrap_or(&jobs[0]);
            let source = if i < jobs.len() { source } else { source.select(&[]) };
            let product = linear.product(0, source.acts(linear));
            MatMul::store(product, outs.next().unwrap_or_default())
        });
        matmul_all(self.pool, self.kernels, &mut muls[..jobs.len()]);
    }

    /// Multiplies the rows of `x` by the last linear layer of an operation.
    pub(super) fn project_out(&mut self, x: Buf, linear: &Linear, out: Out) {
        let fused = out.into.filter(|_| self.mem.fine.is_none());
        let Some((to, factor)) = fused else {
            self.project(x, &[(linear, out.buf)]);
            return self.write_out(out);
        };
        self.observe(x, [linear].into_iter());
        let [x_rows, to] = self.mem.arena.rows(self.n, [x, to]);
        let (kernels, readers) = (self.kernels, [linear].into_iter());
        let source = self.mem.acts.source(self.pool, kernels, (x, x.cols, x_rows), readers);
        let product = linear.product(0, source.acts(linear));
        matmul_all(self.pool, self.kernels, &mut [MatMul::add(product, to, factor)]);
    }

    /// Brings a result from its memory to where it goes.
    pub(super) fn write_out(&mut self, out: Out) {
        if let Some((to, factor)) = out.into {
            self.add(to, out.buf, factor);
        }
    }

    /// Multiplies the rows of `x` and activates the result, in one region.
    pub(super) fn project_middle(&mut self, x: Buf, middle: Middle<'_>) {
        let Middle { up, gate, act, up_out, out } = middle;
        if self.mem.fine.is_some() {
            match gate {
                Some(gate) => {
                    self.project(x, &[(gate, out), (up, up_out)]);
                    self.gate(act, out, up_out);
                }
                None => {
                    self.project(x, &[(up, out)]);
                    self.activate(act, out);
                }
            }
            return;
        }
        self.observe(x, middle.layers());
        let [x_rows, out] = self.mem.arena.rows(self.n, [x, out]);
        let (kernels, readers) = (self.kernels, middle.layers());
        let source = self.mem.acts.source(self.pool, kernels, (x, x.cols, x_rows), readers);
        let gate = gate.map(|gate| gate.product(0, source.acts(gate)));
        let job = MatMul::store(up.product(0, source.acts(up)), out).activated(act, gate);
        matmul_all(self.pool, self.kernels, &mut [job]);
    }

    /// Whether what reads `linear`'s input may find it quantized alone: nobody else looks at it.
    pub(super) fn may_quantize_for(&self, linear: &Linear) -> bool {
        let alone = self.watch.is_none() && self.mem.fine.is_none();
        alone && linear.act_format() != ActFormat::F32
    }

    /// The same as [`Run::project_middle`], and the result quantized: it is left for
    /// [`Run::project_quantized`] alone.
    pub(super) fn quantize_middle(&mut self, x: Buf, middle: Middle<'_>, share: Share) {
        let [x_rows, wide] = self.mem.arena.rows(self.n, [x, middle.out]);
        let (kernels, readers) = (self.kernels, middle.layers());
        let (source, inner) =
            self.mem.acts.source_apart(self.pool, kernels, (x, x.cols, x_rows), readers);
        let mut acts = Q8Mut::new(share, inner, self.n, middle.up.rows());
        let job = middle.job(&source, wide, &mut acts);
        matmul_all(self.pool, self.kernels, &mut [job]);
    }

    /// Multiplies what [`Run::quantize_middle`] left.
    pub(super) fn project_quantized(&mut self, linear: &Linear, out: Out) {
        let acts = Acts::Q8(quantized(linear.share(), &self.mem.acts.inner, self.n, linear.cols));
        let product = linear.product(0, acts);
        let job = match out.into {
            Some((to, factor)) => MatMul::add(product, self.mem.arena.row(self.n, to), factor),
            None => MatMul::store(product, self.mem.arena.row(self.n, out.buf)),
        };
        matmul_all(self.pool, self.kernels, &mut [job]);
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
            ActFormat::F32 => {
                let (types, memory) = ([linear.ty()].into_iter(), &mut self.mem.acts.turned);
                let acts = F32Acts::new(x_rows, x.cols);
                Acts::F32(acts.turned(self.pool, self.kernels, types, memory))
            }
            ActFormat::Q8(share) => {
                let (isa, memory) = (self.kernels.isa(), &mut self.mem.acts.inner);
                Acts::Q8(quantize_acts(self.pool, isa, share, x_rows, x.cols, memory))
            }
        };
        let job = MatMul::store(linear.product(0, acts), out);
        matmul_all(self.pool, self.kernels, &mut [job]);
    }

    /// Tells whoever watches what linear layers read.
    fn observe<'l>(&mut self, x: Buf, readers: impl Iterator<Item = &'l Linear>) {
        let Some(watch) = &mut self.watch else { return };
        for linear in readers {
            watch.input(linear.site, self.mem.arena.row(self.n, x), x.cols, &[]);
        }
    }
}
