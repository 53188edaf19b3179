//! Norms of rows, tokens shared out among threads.

use std::sync::Arc;

use oprel_cpu::norm as kernel;
use oprel_cpu::{Isa, Parts};

use super::acts::Shares;
use super::arena::Buf;
use super::compile::Compiler;
use super::run::Run;
use crate::describe::{self, NormKind};
use crate::{Error, Result};

/// Tokens whose norms one thread computes at once.
const TOKENS: usize = 8;

/// A norm with its weight decoded.
#[derive(Debug)]
pub(super) struct Norm {
    kind: kernel::NormKind,
    eps: f32,
    groups: usize,
    weight: Option<Arc<[f32]>>,
    bias: Option<Arc<[f32]>>,
}

impl Norm {
    pub(super) fn compile(c: &mut Compiler<'_>, norm: &describe::Norm, len: usize) -> Result<Norm> {
        let groups = norm.groups as usize;
        if groups == 0 || !len.is_multiple_of(groups) {
            return Err(Error::Description(format!("a norm of {len} elements in {groups} groups")));
        }
        let mut decode = |id| {
            let values = c.any_vector(id)?;
            match values.len() {
                n if n == len || n == len / groups => Ok(values),
                n => Err(Error::Description(format!("{n} weights for a norm of {len} elements"))),
            }
        };
        let kind = match norm.kind {
            NormKind::Rms => kernel::NormKind::Rms,
            NormKind::Layer => kernel::NormKind::Layer,
            NormKind::L2 => kernel::NormKind::L2,
        };
        let weight = norm.weight.map(&mut decode).transpose()?;
        let bias = norm.bias.map(&mut decode).transpose()?;
        Ok(Norm { kind, eps: norm.eps, groups, weight, bias })
    }

    fn kernel(&self) -> kernel::Norm<'_> {
        kernel::Norm {
            kind: self.kind,
            eps: self.eps,
            groups: self.groups,
            weight: self.weight.as_deref(),
            bias: self.bias.as_deref(),
        }
    }

    /// Normalizes one row in place.
    pub(super) fn row(&self, isa: Isa, row: &mut [f32]) {
        kernel::normalize_in_place(isa, &self.kernel(), row);
    }

    /// Normalizes the rows of `from` into `to`.
    pub(super) fn apply(&self, run: &mut Run<'_>, from: Buf, to: Buf) {
        let (isa, norm, cols) = (run.kernels.isa(), self.kernel(), from.cols);
        let [from, to] = run.mem.arena.rows(run.n, [from, to]);
        run.pool.run_parts(Parts::new(to, TOKENS * cols), |i, to, _| {
            let from = &from[i * TOKENS * cols..];
            for (from, to) in from.chunks_exact(cols).zip(to.chunks_exact_mut(cols)) {
                kernel::normalize(isa, &norm, from, to);
            }
        });
    }

    /// The same, and quantizes them as the input of a block.
    pub(super) fn apply_quantized(&self, run: &mut Run<'_>, from: Buf, to: Buf, shares: Shares) {
        let (isa, norm, cols) = (run.kernels.isa(), self.kernel(), from.cols);
        run.mem.acts.of = Some((to, shares));
        let [from, to] = run.mem.arena.rows(run.n, [from, to]);
        let mut acts = shares.to_fill(&mut run.mem.acts.input, run.n, cols);
        let [block, group] =
            acts.each_mut().map(|acts| acts.as_mut().map(|acts| acts.parts(TOKENS)));
        let parts = (Parts::new(to, TOKENS * cols), block, group);
        run.pool.run_parts(parts, |i, (to, block, group), _| {
            let mut acts = [block, group];
            let from = &from[i * TOKENS * cols..];
            let rows = from.chunks_exact(cols).zip(to.chunks_exact_mut(cols));
            for (j, (from, to)) in rows.enumerate() {
                kernel::normalize(isa, &norm, from, to);
                for acts in acts.iter_mut().flatten() {
                    acts.quantize(isa, j, to);
                }
            }
        });
    }

    /// Normalizes the rows of a buffer.
    pub(super) fn in_place(&self, run: &mut Run<'_>, buf: Buf) {
        self.in_place_rows(run, buf, run.n);
    }

    /// Normalizes the first rows of a buffer.
    pub(super) fn in_place_rows(&self, run: &mut Run<'_>, buf: Buf, rows: usize) {
        let isa = run.kernels.isa();
        let all = run.mem.arena.row(rows, buf);
        run.pool.run_parts(Parts::new(all, TOKENS * buf.cols), |_, rows, _| {
            for row in rows.chunks_exact_mut(buf.cols) {
                self.row(isa, row);
            }
        });
    }
}
