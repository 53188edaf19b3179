//! Softmax attention: projections, norms, rope and append; attention over pages; gate and output.

use super::arena::Buf;
use super::attend::{Attend, Scores, Slot};
use super::compile::{Compiler, Site};
use super::gate::Gate;
use super::linear::Linear;
use super::norm::Norm;
use super::run::Run;
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
        run.project(self.attend.out, &[(&self.o, self.site.out)]);
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
        if let (Some(gate), true) = (&self.gate, self.q.projected != self.q.out) {
            let heads = self.q.out.cols / self.q.dim;
            run.split_heads((self.q.projected, self.q.dim), [self.q.out, gate.out], heads);
        }
        if let (Some(Value::Key), Some(k)) = (&self.v, &self.k) {
            run.copy(k.out, self.v_out);
        }
    }

    /// Clamps, norms, ropes and the temperature, token by token.
    fn finish_heads(&self, run: &mut Run<'_>) {
        if let Some(clamp) = self.clamp {
            let k = self.k.as_ref().map(|k| k.out);
            for buf in [Some(self.q.out), k, Some(self.v_out)].into_iter().flatten() {
                let rows = run.mem.arena.row(run.n, buf);
                rows.iter_mut().for_each(|x| *x = x.clamp(-clamp, clamp));
            }
        }
        self.q.finish(run);
        if let Some(k) = &self.k {
            k.finish(run);
        }
        if let Some(norm) = &self.v_norm {
            norm.in_place(run, self.v_out);
        }
        if let Some(temperature) = &self.temperature {
            run.heat(temperature, self.q.out);
        }
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

    fn finish(&self, run: &mut Run<'_>) {
        if let (Some(norm), false) = (&self.norm, self.norm_last) {
            norm.in_place(run, self.out);
        }
        if let Some(rope) = self.rope {
            run.rotate(rope, self.out, (self.dim, 0));
        }
        if let (Some(norm), true) = (&self.norm, self.norm_last) {
            norm.in_place(run, self.out);
        }
    }
}
