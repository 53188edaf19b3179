//! Gates on the result of attention.

use oprel_cpu::activation::{Activation, activate, mul};
use oprel_cpu::{Parts, activation};

use super::arena::Buf;
use super::compile::{Compiler, unsupported};
use super::linear::Linear;
use super::run::Run;
use crate::Result;
use crate::describe::{AttnGate, GateSource};

/// A gate: the result is multiplied by its sigmoid.
#[derive(Debug)]
pub(super) struct Gate {
    /// `None` where the query projection gives it.
    pub(super) linear: Option<Linear>,
    /// (n, heads * dim) or (n, heads).
    pub(super) out: Buf,
    /// Elements of a head.
    dim: usize,
    per_head: bool,
}

impl Gate {
    /// A gate on a result of (heads, dim); `in_query` elements of the query projection are gates.
    pub(super) fn compile(
        c: &mut Compiler<'_>,
        gate: &AttnGate,
        (heads, dim): (usize, usize),
        in_query: usize,
    ) -> Result<Gate> {
        let rows = if gate.per_head { heads } else { heads * dim };
        let linear = match &gate.source {
            GateSource::InQuery if gate.per_head => {
                return Err(unsupported("one gate value a head in the query projection"));
            }
            GateSource::InQuery => {
                c.expect("the gated query", in_query, rows)?;
                None
            }
            GateSource::Own(linear) => {
                let linear = c.linear(linear, c.width)?;
                c.expect("the gate of attention", linear.rows(), rows)?;
                Some(linear)
            }
        };
        Ok(Gate { linear, out: c.layout.buf(rows)?, dim, per_head: gate.per_head })
    }

    /// Multiplies the result (n, heads * dim).
    pub(super) fn apply(&self, run: &mut Run<'_>, result: Buf) {
        let isa = run.kernels.isa();
        let [gate, result] = run.mem.arena.rows(run.n, [self.out, result]);
        activate(isa, Activation::Sigmoid, gate);
        if self.per_head {
            for (head, gate) in result.chunks_exact_mut(self.dim).zip(gate) {
                activation::scale(isa, head, *gate);
            }
            return;
        }
        let row = self.out.cols;
        run.pool.run_parts(Parts::new(result, row), |i, result, _| {
            mul(isa, result, &gate[i * row..][..row]);
        });
    }
}
