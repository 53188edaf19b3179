//! Softmax attention: projections, norms, rope and append; attention over pages; gate and output.

use oprel_cpu::rope::{Pairing, Rotation, rotate};
use oprel_cpu::{Isa, Parts};

use super::arena::Buf;
use super::attend::{Attend, Scores, Slot};
use super::compile::{Compiler, Site};
use super::gate::Gate;
use super::linear::Linear;
use super::norm::Norm;
use super::run::{Run, temperature_at};
use crate::describe::{self, GateSource, Temperature};
use crate::{Error, Result};

/// Grouped-query attention with its buffers.
#[derive(Debug)]
pub(super) struct Attn {
    q: Heads,
    k: Option<Heads>,
    v: Option<Value>,
    /// Where values stand before they are stored; empty where the slot is filled already.
    v_out: Buf,
    v_norm: Option<Norm>,
    clamp: Option<f32>,
    temperature: Option<Temperature>,
    attend: Attend,
    gate: Option<Gate>,
    o_norm: Option<Norm>,
    o: Linear,
    site: Site,
}

/// Heads of queries or keys.
#[derive(Debug)]
struct Heads {
    linear: Linear,
    /// What the projection gives: with a gate in the query, twice as wide as `out`.
    projected: Buf,
    out: Buf,
    norm: Option<Norm>,
    /// Norm after rope instead of before it.
    norm_last: bool,
    rope: Option<usize>,
    dim: usize,
}

/// Where values come from.
#[derive(Debug)]
enum Value {
    Projected(Linear),
    /// The raw key projection.
    Key,
}

impl Attn {
    pub(super) fn compile(c: &mut Compiler<'_>, a: &describe::Attn, site: Site) -> Result<Attn> {
        let (heads, kv_heads) = (a.n_heads as usize, a.n_kv_heads as usize);
        let (k_dim, v_dim) = (a.k_dim as usize, a.v_dim as usize);
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) || k_dim == 0 || v_dim == 0 {
            let what = format!("{heads} heads over {kv_heads}, of {k_dim} and {v_dim}");
            return Err(Error::Description(what));
        }
        let q = Heads::compile(c, (&a.q, &a.q_norm, heads, k_dim), a)?;
        let k = match &a.k {
            Some(k) => Some(Heads::compile(c, (k, &a.k_norm, kv_heads, k_dim), a)?),
            None => None,
        };
        let v = value(c, a, kv_heads * v_dim)?;
        let v_out = c.layout.buf(if v.is_some() { kv_heads * v_dim } else { 0 })?;
        let v_norm = a.v_norm.as_ref().filter(|_| v.is_some());
        let v_norm = v_norm.map(|n| c.norm(n, kv_heads * v_dim)).transpose()?;
        let in_query = q.projected.cols - q.out.cols;
        let gate = a.gate.as_ref().map(|g| Gate::compile(c, g, (heads, v_dim), in_query));
        let gate = gate.transpose()?;
        let result = c.layout.buf(heads * v_dim)?;
        let scores = Scores {
            n_heads: heads,
            n_kv_heads: kv_heads,
            k_dim,
            v_dim,
            scale: a.scale,
            soft_cap: a.soft_cap,
            mask: a.mask,
        };
        let slot = match a.slot {
            Some(id) => Slot::kept(c, id, &scores)?,
            None if k.is_none() => {
                return Err(Error::Description("attention without keys and without a slot".into()));
            }
            None => Slot::uncached(c, &scores),
        };
        let attend = Attend::compile(c, slot, scores, a.sinks, a.alibi, (q.out, result))?;
        let o = c.linear(&a.o, heads * v_dim)?;
        c.expect("the output projection", o.rows(), c.width)?;
        let o_norm = a.o_norm.as_ref().map(|n| c.norm(n, heads * v_dim)).transpose()?;
        let (clamp, temperature) = (a.clamp, a.temperature);
        Ok(Attn { q, k, v, v_out, v_norm, clamp, temperature, attend, gate, o_norm, o, site })
    }

    pub(super) fn run(&self, run: &mut Run<'_>) -> Result<()> {
        self.project(run);
        self.finish_heads(run);
        if let Some(k) = &self.k {
            self.attend.append(run, k.out, Some(self.v_out));
        }
        self.attend.run(run);
        if let Some(gate) = &self.gate {
            gate.apply(run, self.attend.out);
        }
        if let Some(norm) = &self.o_norm {
            norm.in_place(run, self.attend.out);
        }
        run.project_out(self.attend.out, &self.o, self.site.out);
        Ok(())
    }

    /// Queries, keys, values and the gate in one region.
    fn project(&self, run: &mut Run<'_>) {
        let q = (&self.q.linear, self.q.projected);
        let mut jobs = [q; 4];
        let mut n = 1;
        let k = self.k.as_ref().map(|k| (&k.linear, k.projected));
        let v = match &self.v {
            Some(Value::Projected(v)) => Some((v, self.v_out)),
            _ => None,
        };
        let gate = self.gate.as_ref().and_then(|g| g.linear.as_ref().map(|l| (l, g.out)));
        for job in [k, v, gate].into_iter().flatten() {
            jobs[n] = job;
            n += 1;
        }
        run.project(self.site.input, &jobs[..n]);
    }

    /// What happens to queries, keys and values before they meet, tokens shared out among threads.
    fn finish_heads(&self, run: &mut Run<'_>) {
        let (n, isa) = (run.n, run.kernels.isa());
        let range = |buf: Option<Buf>| buf.map_or(0..0, |buf| buf.range(n));
        let in_query = self.gate.as_ref().filter(|_| self.q.projected != self.q.out);
        let k = self.k.as_ref();
        let rope = self.q.rope.or(k.and_then(|k| k.rope)).map(|id| &run.ropes[id]);
        let [q, k_rows, v, gate, projected, cos, sin] = run.mem.arena.ranges([
            self.q.out.range(n),
            range(k.map(|k| k.out)),
            range(Some(self.v_out).filter(|v| v.cols > 0)),
            range(in_query.map(|gate| gate.out)),
            range(in_query.map(|_| self.q.projected)),
            range(rope.map(|rope| rope.cos)),
            range(rope.map(|rope| rope.sin)),
        ]);
        let parts = |rows, buf: Option<Buf>| {
            buf.filter(|buf| buf.cols > 0).map(|buf| Parts::new(rows, buf.cols))
        };
        let parts = (
            Parts::new(q, self.q.out.cols),
            parts(k_rows, k.map(|k| k.out)),
            parts(v, Some(self.v_out)),
            parts(gate, in_query.map(|gate| gate.out)),
        );
        let pos = run.batch.pos;
        run.pool.run_parts(parts, |t, (q, k_row, v, gate), _| {
            if let Some(gate) = gate {
                let projected = &projected[t * self.q.projected.cols..][..self.q.projected.cols];
                split_heads(projected, self.q.dim, q, gate);
            }
            let turn = rope.map(|rope| {
                let at = t * rope.cos.cols..(t + 1) * rope.cos.cols;
                (rope.pairing(), &cos[at.clone()], &sin[at])
            });
            let (mut k_row, mut v) = (k_row, v);
            if let (Some(Value::Key), Some(k), Some(v)) = (&self.v, &k_row, &mut v) {
                v.copy_from_slice(k);
            }
            if let Some(clamp) = self.clamp {
                let rows = [Some(&mut *q), k_row.as_deref_mut(), v.as_deref_mut()];
                let rows = rows.into_iter().flatten().flatten();
                rows.for_each(|x| *x = x.clamp(-clamp, clamp));
            }
            self.q.finish(isa, q, turn);
            if let (Some(k), Some(row)) = (k, k_row) {
                k.finish(isa, row, turn);
            }
            if let (Some(norm), Some(v)) = (&self.v_norm, v) {
                norm.row(isa, v);
            }
            if let Some(temperature) = &self.temperature {
                let factor = temperature_at(temperature, pos.components(t)[0]);
                q.iter_mut().for_each(|x| *x *= factor);
            }
        });
    }
}

fn value(c: &mut Compiler<'_>, a: &describe::Attn, rows: usize) -> Result<Option<Value>> {
    Ok(match (&a.k, &a.v) {
        (_, Some(v)) => {
            let v = c.linear(v, c.width)?;
            c.expect("the value projection", v.rows(), rows)?;
            Some(Value::Projected(v))
        }
        (Some(_), None) => {
            c.expect(
                "the key, which is also the value,",
                a.n_kv_heads as usize * a.k_dim as usize,
                rows,
            )?;
            Some(Value::Key)
        }
        (None, None) => None,
    })
}

impl Heads {
    fn compile(
        c: &mut Compiler<'_>,
        (linear, norm, heads, dim): (&describe::Linear, &Option<describe::Norm>, usize, usize),
        a: &describe::Attn,
    ) -> Result<Heads> {
        let linear = c.linear(linear, c.width)?;
        let gated = a.gate.as_ref().is_some_and(|g| g.source == GateSource::InQuery)
            && heads == a.n_heads as usize
            && linear.rows() == 2 * heads * dim;
        let out = c.layout.buf(heads * dim)?;
        let projected = if gated { c.layout.buf(2 * heads * dim)? } else { out };
        c.expect("a projection of heads", linear.rows(), projected.cols)?;
        let norm = norm.as_ref().map(|n| c.norm(n, heads * dim)).transpose()?;
        let rope = a.rope.map(|id| c.rope_within(id, dim)).transpose()?;
        Ok(Heads { linear, projected, out, norm, norm_last: a.norm_after_rope, rope, dim })
    }

    /// Norms and turns the heads of one token; `turn` is how pairs are turned, by which cosines and
    /// sines.
    fn finish(&self, isa: Isa, row: &mut [f32], turn: Option<(Pairing, &[f32], &[f32])>) {
        if let (Some(norm), false) = (&self.norm, self.norm_last) {
            norm.row(isa, row);
        }
        if let (Some(_), Some((pairing, cos, sin))) = (self.rope, turn) {
            let rotation = Rotation { head_dim: self.dim, offset: 0, pairing };
            rotate(isa, rotation, row, cos, sin);
        }
        if let (Some(norm), true) = (&self.norm, self.norm_last) {
            norm.row(isa, row);
        }
    }
}

/// Takes the heads of one token apart: the first elements of each are the query, the rest its gate.
fn split_heads(projected: &[f32], dim: usize, q: &mut [f32], gate: &mut [f32]) {
    let heads = q.len() / dim;
    let gate_dim = gate.len() / heads;
    let parts = q.chunks_exact_mut(dim).zip(gate.chunks_exact_mut(gate_dim));
    for (from, (q, gate)) in projected.chunks_exact(dim + gate_dim).zip(parts) {
        q.copy_from_slice(&from[..dim]);
        gate.copy_from_slice(&from[dim..]);
    }
}
