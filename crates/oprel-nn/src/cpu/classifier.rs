//! The classifier of a reranker: a text's vector to its labels.

use oprel_cpu::activation::{Activation, activate};
use oprel_cpu::softmax::softmax;

use super::arena::Buf;
use super::compile::Compiler;
use super::linear::Linear;
use super::output::pool;
use super::run::Run;
use crate::batch::Pooling;
use crate::{Error, Result};

/// `out(tanh(dense(x)))` on the vector of a text.
#[derive(Debug)]
pub(super) struct Classifier {
    pooling: Pooling,
    dense: Option<Linear>,
    out: Option<Linear>,
    softmax: bool,
}

impl Classifier {
    /// That of the description, if it has one.
    pub(super) fn compile(c: &mut Compiler<'_>) -> Result<Option<Classifier>> {
        let Some(of) = c.decoder.classifier.clone() else { return Ok(None) };
        let width = c.width;
        let dense = of.dense.as_ref().map(|dense| c.linear(dense, width)).transpose()?;
        let out = of.out.as_ref().map(|out| c.linear(out, width)).transpose()?;
        let inner = dense.as_ref().filter(|_| out.is_some()).map_or(width, Linear::rows);
        if of.n_labels() == 0 || inner != width {
            let why = format!("a classifier of {} labels over {inner} of {width}", of.n_labels());
            return Err(Error::Description(why));
        }
        Ok(Some(Classifier { pooling: of.pooling, dense, out, softmax: of.softmax }))
    }

    /// Appends the labels of a text whose rows are the first of `x`, which is overwritten.
    pub(super) fn run(&self, run: &mut Run<'_>, rows: usize, x: Buf, labels: &mut Vec<f32>) {
        pool(run.mem.arena.row(rows, x), x.cols, self.pooling, labels);
        if let Some(dense) = &self.dense {
            self.project(run, dense, x, labels);
            activate(run.kernels.isa(), Activation::Tanh, labels);
        }
        if let Some(out) = &self.out {
            self.project(run, out, x, labels);
        }
        if self.softmax {
            softmax(run.kernels.isa(), labels);
        }
    }

    /// Replaces a vector by what a linear layer makes of it.
    fn project(&self, run: &mut Run<'_>, linear: &Linear, x: Buf, vector: &mut Vec<f32>) {
        let [row] = run.mem.arena.rows(1, [x]);
        row.copy_from_slice(vector);
        vector.resize(linear.rows(), 0.0);
        run.project_rows(linear, x, 0..1, vector);
    }
}
