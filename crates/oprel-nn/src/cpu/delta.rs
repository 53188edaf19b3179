//! The gated delta rule, with a decay for each head or each channel of the key.

use std::sync::Arc;

use oprel_cpu::activation::{Activation, scale};
use oprel_cpu::norm::{Norm as KernelNorm, NormKind, normalize_in_place};
use oprel_cpu::recurrent::{Columns, DeltaInputs, DeltaRule, delta_scan};

use super::arena::Buf;
use super::compile::{Compiler, Site};
use super::conv::{Conv, store_of};
use super::linear::Linear;
use super::norm::Norm;
use super::recurrent::Part;
use super::run::{Memories, Run};
use crate::describe::{self, DecayForm, HeadMap};
use crate::{Error, Result};

/// A delta rule with its buffers.
#[derive(Debug)]
pub(super) struct Delta {
    rule: DeltaRule,
    qkv: [Linear; 3],
    conv: Conv,
    l2_eps: f32,
    f: Chain,
    decay_bias: Arc<[f32]>,
    /// From f and its bias to the logarithm of the decay: a factor of each element before the function
    /// or after it.
    decay_a: Arc<[f32]>,
    decay_form: DecayForm,
    beta: Linear,
    gate: Chain,
    gate_act: Activation,
    norm: Norm,
    out: Linear,
    slot: usize,
    /// Projections of q, k and v, then side by side, then convolved.
    parts: [Buf; 3],
    joined: Buf,
    convolved: Buf,
    /// (n, value heads).
    beta_out: Buf,
    /// (n, value heads * v_dim).
    y: Buf,
    site: Site,
}

/// One projection, or a low-rank one and another after it.
#[derive(Debug)]
struct Chain {
    first: Linear,
    first_out: Buf,
    up: Option<Linear>,
    /// What the last one gives; `first_out` if there is one alone.
    out: Buf,
}

impl Chain {
    fn compile(
        c: &mut Compiler<'_>,
        first: &describe::Linear,
        up: Option<&describe::Linear>,
        rows: usize,
    ) -> Result<Chain> {
        let first = c.linear(first, c.width)?;
        let up = up.map(|up| c.linear(up, first.rows())).transpose()?;
        c.expect("a projection of a delta rule", up.as_ref().unwrap_or(&first).rows(), rows)?;
        let first_out = c.layout.buf(first.rows())?;
        let out = if up.is_some() { c.layout.buf(rows)? } else { first_out };
        Ok(Chain { first, first_out, up, out })
    }

    /// The second projection, if there is one.
    fn finish(&self, run: &mut Run<'_>) {
        if let Some(up) = &self.up {
            run.project(self.first_out, &[(up, self.out)]);
        }
    }
}

impl Delta {
    pub(super) fn compile(c: &mut Compiler<'_>, d: &describe::Delta, site: Site) -> Result<Delta> {
        let (n_k_heads, n_v_heads) = (d.n_k_heads as usize, d.n_v_heads as usize);
        let (k_dim, v_dim) = (d.k_dim as usize, d.v_dim as usize);
        if n_k_heads == 0
            || n_v_heads == 0
            || !n_v_heads.is_multiple_of(n_k_heads)
            || k_dim == 0
            || v_dim == 0
        {
            return Err(Error::Description(format!("{n_v_heads} value heads on {n_k_heads} keys")));
        }
        let (keys, values) = (n_k_heads * k_dim, n_v_heads * v_dim);
        let [q, k, v] = &d.qkv;
        let qkv = [c.linear(q, c.width)?, c.linear(k, c.width)?, c.linear(v, c.width)?];
        for (linear, rows) in qkv.iter().zip([keys, keys, values]) {
            c.expect("a projection of a delta rule", linear.rows(), rows)?;
        }
        let conv = Conv::compile(c, &d.conv, 2 * keys + values)?;
        let f_rows = if d.decay.per_channel { n_v_heads * k_dim } else { n_v_heads };
        let beta = c.linear(&d.beta, c.width)?;
        c.expect("beta", beta.rows(), n_v_heads)?;
        let out = c.linear(&d.out, values)?;
        c.expect("the output of a delta rule", out.rows(), c.width)?;
        let a = c.vector(d.decay.a, n_v_heads)?;
        let per_head = f_rows / n_v_heads;
        Ok(Delta {
            rule: DeltaRule {
                n_k_heads,
                n_v_heads,
                tiled: d.head_map == HeadMap::Tiled,
                k_dim,
                v_dim,
                scale: 1.0 / (k_dim as f32).sqrt(),
            },
            slot: c.recurrent_slot(d.slot, n_v_heads * k_dim * v_dim, conv.kept())?,
            f: Chain::compile(c, &d.decay.f, d.decay.f_up.as_ref(), f_rows)?,
            decay_bias: c.vector(d.decay.bias, f_rows)?,
            decay_a: (0..f_rows).map(|i| a[i / per_head]).collect(),
            decay_form: d.decay.form,
            gate: Chain::compile(c, &d.gate, d.gate_up.as_ref(), values)?,
            gate_act: if d.gate_sigmoid { Activation::Sigmoid } else { Activation::Silu },
            norm: c.norm(&d.norm, values)?,
            parts: [c.layout.buf(keys)?, c.layout.buf(keys)?, c.layout.buf(values)?],
            joined: c.layout.buf(2 * keys + values)?,
            convolved: c.layout.buf(2 * keys + values)?,
            beta_out: c.layout.buf(n_v_heads)?,
            y: c.layout.buf(values)?,
            l2_eps: d.l2_eps,
            qkv,
            conv,
            beta,
            out,
            site,
        })
    }

    pub(super) fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let [q, k, v] = &self.qkv;
        let jobs = [
            (q, self.parts[0]),
            (k, self.parts[1]),
            (v, self.parts[2]),
            (&self.f.first, self.f.first_out),
            (&self.beta, self.beta_out),
            (&self.gate.first, self.gate.first_out),
        ];
        run.project(self.site.input, &jobs);
        let mut at = 0;
        for part in self.parts {
            run.copy_columns((part, 0), (self.joined, at), part.cols);
            at += part.cols;
        }
        self.conv.run(run, self.slot, (self.joined, 0), self.convolved);
        run.activate(Activation::Silu, self.convolved);
        self.unit_keys(run);
        run.activate(Activation::Sigmoid, self.beta_out);
        self.f.finish(run);
        run.add_row(self.f.out, &self.decay_bias);
        match self.decay_form {
            DecayForm::Softplus => {
                run.activate(Activation::Softplus, self.f.out);
                run.scale_by(self.f.out, &self.decay_a);
            }
            DecayForm::Sigmoid { lowest } => {
                run.scale_by(self.f.out, &self.decay_a);
                run.scale_by(self.f.out, &[-1.0]);
                run.activate(Activation::Sigmoid, self.f.out);
                run.scale_by(self.f.out, &[lowest]);
            }
        }
        self.scan(run);
        self.norm.in_place(run, self.y);
        self.gate.finish(run);
        run.gate(self.gate_act, self.gate.out, self.y);
        run.project_out(self.gate.out, &self.out, self.site.out);
        Ok(())
    }

    /// Divides queries and keys by their lengths, eps under the root: by the root of the mean square,
    /// then by the root of their number.
    fn unit_keys(&self, run: &mut Run<'_>) {
        let isa = run.kernels.isa();
        let keys = self.rule.n_k_heads * self.rule.k_dim;
        let k_dim = self.rule.k_dim as f32;
        let norm = KernelNorm {
            kind: NormKind::Rms,
            eps: self.l2_eps / k_dim,
            groups: 2 * self.rule.n_k_heads,
            weight: None,
            bias: None,
        };
        let rows = run.mem.arena.row(run.n, self.convolved);
        for row in rows.chunks_exact_mut(self.convolved.cols) {
            normalize_in_place(isa, &norm, &mut row[..2 * keys]);
            scale(isa, &mut row[..2 * keys], 1.0 / k_dim.sqrt());
        }
    }

    fn scan(&self, run: &mut Run<'_>) {
        let isa = run.kernels.isa();
        let keys = self.rule.n_k_heads * self.rule.k_dim;
        let (width, values) = (self.convolved.cols, self.y.cols);
        let (decays, heads) = (self.f.out.cols, self.beta_out.cols);
        let Memories { arena, recurrent, spans, .. } = &mut *run.mem;
        let bufs = [self.convolved, self.f.out, self.beta_out, self.y];
        let [qkv, decay, beta, y] = arena.rows(run.n, bufs);
        let store = store_of(recurrent, self.slot);
        store.for_spans(Part::State, spans, run.state.recurrent, |state, tokens| {
            let rows = |width: usize| tokens.start * width..tokens.end * width;
            let qkv = &qkv[rows(width)];
            let inputs = DeltaInputs {
                q: Columns::new(qkv, width, 0, keys),
                k: Columns::new(qkv, width, keys, keys),
                v: Columns::new(qkv, width, 2 * keys, values),
                log_decay: Columns::all(&decay[rows(decays)], decays),
                beta: Columns::all(&beta[rows(heads)], heads),
            };
            let y = &mut y[rows(values)];
            delta_scan(run.pool, isa, &self.rule, state, tokens.len(), &inputs, y);
        });
    }
}
