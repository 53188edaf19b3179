//! Mamba-2: a selective state space with a decay for each head.

use std::sync::Arc;

use oprel_cpu::activation::Activation;
use oprel_cpu::recurrent::{Columns, MambaInputs, MambaWeights, mamba2_scan};

use super::arena::Buf;
use super::compile::{Compiler, Site};
use super::conv::{Conv, store_of};
use super::linear::Linear;
use super::norm::Norm;
use super::recurrent::Part;
use super::run::{Memories, Run};
use crate::describe;
use crate::{Error, Result};

/// Mamba-2 with its buffers.
#[derive(Debug)]
pub(super) struct Mamba2 {
    input: Linear,
    conv: Conv,
    dt_bias: Arc<[f32]>,
    a: Arc<[f32]>,
    d: Arc<[f32]>,
    n_groups: usize,
    n_state: usize,
    norm: Option<Norm>,
    out: Linear,
    slot: usize,
    /// z, then x, B and C, then step sizes.
    all: Buf,
    /// Convolved x, B and C.
    x_b_c: Buf,
    /// (n, heads).
    dt: Buf,
    /// (n, inner) each.
    y: Buf,
    z: Buf,
    site: Site,
}

impl Mamba2 {
    pub(super) fn compile(c: &mut Compiler<'_>, m: &describe::Mamba2, site: Site) -> Result<Self> {
        let (inner, state) = (m.inner as usize, m.state as usize);
        let (heads, groups) = (m.n_heads as usize, m.n_groups as usize);
        if state == 0
            || heads == 0
            || groups == 0
            || !inner.is_multiple_of(heads)
            || !heads.is_multiple_of(groups)
        {
            let what = format!("{inner} elements in {heads} heads in {groups} groups");
            return Err(Error::Description(what));
        }
        let channels = inner + 2 * groups * state;
        let input = c.linear(&m.input, c.width)?;
        c.expect("Mamba-2's input projection", input.rows(), inner + channels + heads)?;
        let conv = Conv::compile(c, &m.conv, channels)?;
        let out = c.linear(&m.out, inner)?;
        c.expect("Mamba-2's output projection", out.rows(), c.width)?;
        Ok(Mamba2 {
            dt_bias: c.vector(m.dt_bias, heads)?,
            a: c.vector(m.a, heads)?,
            d: c.vector(m.d, heads)?,
            n_groups: groups,
            n_state: state,
            norm: m.norm.as_ref().map(|n| c.norm(n, inner)).transpose()?,
            slot: c.recurrent_slot(m.slot, inner * state, conv.kept())?,
            all: c.layout.buf(inner + channels + heads)?,
            x_b_c: c.layout.buf(channels)?,
            dt: c.layout.buf(heads)?,
            y: c.layout.buf(inner)?,
            z: c.layout.buf(inner)?,
            input,
            conv,
            out,
            site,
        })
    }

    pub(super) fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let (inner, heads) = (self.y.cols, self.dt.cols);
        run.project(self.site.input, &[(&self.input, self.all)]);
        self.conv.run(run, self.slot, (self.all, inner), self.x_b_c);
        run.activate(Activation::Silu, self.x_b_c);
        run.copy_columns((self.all, self.all.cols - heads), (self.dt, 0), heads);
        run.add_row(self.dt, &self.dt_bias);
        run.activate(Activation::Softplus, self.dt);
        self.scan(run);
        run.copy_columns((self.all, 0), (self.z, 0), inner);
        run.gate(Activation::Silu, self.z, self.y);
        if let Some(norm) = &self.norm {
            norm.in_place(run, self.z);
        }
        run.project_out(self.z, &self.out, self.site.out);
        Ok(())
    }

    fn scan(&self, run: &mut Run<'_>) {
        let (isa, inner, heads) = (run.kernels.isa(), self.y.cols, self.dt.cols);
        let (width, shared) = (self.x_b_c.cols, self.n_groups * self.n_state);
        let weights = MambaWeights { a: &self.a, d: &self.d };
        let Memories { arena, recurrent, spans, .. } = &mut *run.mem;
        let [x_b_c, dt, y] = arena.rows(run.n, [self.x_b_c, self.dt, self.y]);
        let store = store_of(recurrent, self.slot);
        store.for_spans(Part::State, spans, run.state.recurrent, |h, tokens| {
            let n = tokens.len();
            let x_b_c = &x_b_c[tokens.start * width..tokens.end * width];
            let inputs = MambaInputs {
                x: Columns::new(x_b_c, width, 0, inner),
                dt: Columns::all(&dt[tokens.start * heads..tokens.end * heads], heads),
                b: Columns::new(x_b_c, width, inner, shared),
                c: Columns::new(x_b_c, width, inner + shared, shared),
            };
            let y = &mut y[tokens.start * inner..tokens.end * inner];
            mamba2_scan(run.pool, isa, &weights, self.n_groups, h, n, &inputs, y);
        });
    }
}
