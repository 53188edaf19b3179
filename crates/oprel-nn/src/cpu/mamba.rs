//! Mamba: a selective state space with a decay for each element.

use std::sync::Arc;

use oprel_cpu::activation::Activation;
use oprel_cpu::recurrent::{Columns, MambaInputs, MambaWeights, mamba_scan};

use super::arena::Buf;
use super::compile::{Compiler, Site};
use super::conv::{Conv, store_of};
use super::linear::Linear;
use super::norm::Norm;
use super::recurrent::Part;
use super::run::{Memories, Run};
use crate::describe;
use crate::{Error, Result};

/// Mamba with its buffers.
#[derive(Debug)]
pub(super) struct Mamba {
    input: Linear,
    conv: Conv,
    x_linear: Linear,
    dt_linear: Linear,
    norms: Option<[Norm; 3]>,
    a: Arc<[f32]>,
    d: Arc<[f32]>,
    out: Linear,
    slot: usize,
    /// x and z (n, 2 * inner).
    both: Buf,
    /// Convolved x (n, inner).
    x: Buf,
    /// Low-rank step size, B and C side by side, then each alone.
    low: Buf,
    parts: [Buf; 3],
    /// (n, inner) each.
    dt: Buf,
    y: Buf,
    z: Buf,
    site: Site,
}

impl Mamba {
    pub(super) fn compile(c: &mut Compiler<'_>, m: &describe::Mamba, site: Site) -> Result<Mamba> {
        let (inner, state, rank) = (m.inner as usize, m.state as usize, m.dt_rank as usize);
        if state == 0 || rank == 0 {
            return Err(Error::Description(format!("a state of {state}, steps of rank {rank}")));
        }
        let input = c.linear(&m.input, c.width)?;
        c.expect("Mamba's input projection", input.rows(), 2 * inner)?;
        let conv = Conv::compile(c, &m.conv, inner)?;
        let x_linear = c.linear(&m.x, inner)?;
        c.expect("Mamba's x projection", x_linear.rows(), rank + 2 * state)?;
        let dt_linear = c.linear(&m.dt, rank)?;
        c.expect("Mamba's step size", dt_linear.rows(), inner)?;
        let norms = match &m.dt_b_c_norm {
            None => None,
            Some([dt, b, c_]) => Some([c.norm(dt, rank)?, c.norm(b, state)?, c.norm(c_, state)?]),
        };
        let out = c.linear(&m.out, inner)?;
        c.expect("Mamba's output projection", out.rows(), c.width)?;
        Ok(Mamba {
            a: c.vector(m.a, inner * state)?,
            d: c.vector(m.d, inner)?,
            slot: c.recurrent_slot(m.slot, inner * state, conv.kept())?,
            both: c.layout.buf(2 * inner)?,
            x: c.layout.buf(inner)?,
            low: c.layout.buf(rank + 2 * state)?,
            parts: [c.layout.buf(rank)?, c.layout.buf(state)?, c.layout.buf(state)?],
            dt: c.layout.buf(inner)?,
            y: c.layout.buf(inner)?,
            z: c.layout.buf(inner)?,
            input,
            conv,
            x_linear,
            dt_linear,
            norms,
            out,
            site,
        })
    }

    pub(super) fn run(&self, run: &mut Run<'_>) -> Result<()> {
        run.project(self.site.input, &[(&self.input, self.both)]);
        self.conv.run(run, self.slot, (self.both, 0), self.x);
        run.activate(Activation::Silu, self.x);
        run.project(self.x, &[(&self.x_linear, self.low)]);
        let mut start = 0;
        for (i, part) in self.parts.into_iter().enumerate() {
            run.copy_columns((self.low, start), (part, 0), part.cols);
            start += part.cols;
            if let Some(norms) = &self.norms {
                norms[i].in_place(run, part);
            }
        }
        run.project(self.parts[0], &[(&self.dt_linear, self.dt)]);
        run.activate(Activation::Softplus, self.dt);
        self.scan(run);
        run.copy_columns((self.both, self.z.cols), (self.z, 0), self.z.cols);
        run.gate(Activation::Silu, self.z, self.y);
        run.project_out(self.z, &self.out, self.site.out);
        Ok(())
    }

    fn scan(&self, run: &mut Run<'_>) {
        let (isa, inner, state) = (run.kernels.isa(), self.x.cols, self.parts[1].cols);
        let weights = MambaWeights { a: &self.a, d: &self.d };
        let Memories { arena, recurrent, spans, .. } = &mut *run.mem;
        let [x, dt, b, c, y] =
            arena.rows(run.n, [self.x, self.dt, self.parts[1], self.parts[2], self.y]);
        let store = store_of(recurrent, self.slot);
        store.for_spans(Part::State, spans, run.state.recurrent, |h, tokens| {
            let rows = |width: usize| tokens.start * width..tokens.end * width;
            let inputs = MambaInputs {
                x: Columns::all(&x[rows(inner)], inner),
                dt: Columns::all(&dt[rows(inner)], inner),
                b: Columns::all(&b[rows(state)], state),
                c: Columns::all(&c[rows(state)], state),
            };
            let y = &mut y[rows(inner)];
            mamba_scan(run.pool, isa, &weights, h, tokens.len(), &inputs, y);
        });
    }
}
