//! Multi-head latent attention in its absorbed form: queries are taken into the latent, attend to
//! latents, and what they find is taken out to value heads. The latent alone is cached.

use super::arena::Buf;
use super::attend::{Attend, Scores, Slot};
use super::compile::{Compiler, Site};
use super::gate::Gate;
use super::linear::Linear;
use super::norm::Norm;
use super::per_head::PerHead;
use super::run::Run;
use crate::describe::{self, MlaKv, MlaQuery, Temperature};
use crate::{Error, Result};

/// Latent attention with its buffers.
#[derive(Debug)]
pub(super) struct Mla {
    q: Query,
    /// Queries as projected (n, heads * (nope + rope)).
    q_out: Buf,
    /// Their parts (n, heads * nope), (n, heads * rope).
    nope: Buf,
    turned: Buf,
    into_latent: PerHead,
    kv_a: Linear,
    /// Latent and rope part as projected (n, rank + rope), and alone.
    kv: Buf,
    latent: Buf,
    shared_key: Buf,
    kv_norm: Norm,
    rope: Option<usize>,
    temperature: Option<Temperature>,
    attend: Attend,
    /// Queries in the latent (n, heads * (rank + rope)).
    queries: Buf,
    out_of_latent: PerHead,
    /// (n, heads * v_dim).
    values: Buf,
    gate: Option<Gate>,
    o: Linear,
    heads: usize,
    site: Site,
}

/// How queries are made of what the branch reads.
#[derive(Debug)]
struct Query {
    first: Linear,
    /// What comes after, in a low-rank query.
    up: Option<Up>,
}

/// The second half of a low-rank query.
#[derive(Debug)]
struct Up {
    low: Buf,
    norm: Norm,
    linear: Linear,
}

impl Mla {
    pub(super) fn compile(c: &mut Compiler<'_>, m: &describe::Mla, site: Site) -> Result<Mla> {
        if m.indexer.is_some() {
            return Err(super::compile::unsupported("sparse attention"));
        }
        let (heads, rank) = (m.n_heads as usize, m.kv_rank as usize);
        let (nope, rope, v_dim) = (m.nope_dim as usize, m.rope_dim as usize, m.v_dim as usize);
        if heads == 0 || rank == 0 || nope == 0 || rope == 0 || v_dim == 0 {
            return Err(Error::Description(format!("{heads} latent heads of {nope} and {rope}")));
        }
        let q = Query::compile(c, &m.q, heads * (nope + rope))?;
        let kv_a = c.linear(&m.kv_a, c.width)?;
        c.expect("the latent projection", kv_a.rows(), rank + rope)?;
        let (into_latent, out_of_latent) = match m.kv_b {
            MlaKv::Split { k, v } => (
                PerHead::split(c, k, (heads, rank, nope))?,
                PerHead::split(c, v, (heads, v_dim, rank))?,
            ),
            MlaKv::Joint(id) => (
                PerHead::transposed_head_of(c, id, v_dim, (heads, rank, nope))?,
                PerHead::tail_of(c, id, nope, (heads, v_dim, rank))?,
            ),
        };
        let scores = Scores {
            n_heads: heads,
            n_kv_heads: 1,
            k_dim: rank + rope,
            v_dim: rank,
            scale: m.scale,
            soft_cap: None,
            mask: m.mask,
        };
        let queries = c.layout.buf(heads * (rank + rope))?;
        let found = c.layout.buf(heads * rank)?;
        let slot = Slot::kept(c, m.slot, &scores)?;
        let gate = m.gate.as_ref().map(|g| Gate::compile(c, g, (heads, v_dim), 0)).transpose()?;
        let o = c.linear(&m.o, heads * v_dim)?;
        c.expect("the output projection", o.rows(), c.width)?;
        Ok(Mla {
            attend: Attend::compile(c, slot, scores, None, None, (queries, found))?,
            kv_norm: c.norm(&m.kv_norm, rank)?,
            rope: m.rope.map(|id| c.rope_within(id, rope)).transpose()?,
            q_out: c.layout.buf(heads * (nope + rope))?,
            nope: c.layout.buf(heads * nope)?,
            turned: c.layout.buf(heads * rope)?,
            kv: c.layout.buf(rank + rope)?,
            latent: c.layout.buf(rank)?,
            shared_key: c.layout.buf(rope)?,
            values: c.layout.buf(heads * v_dim)?,
            temperature: m.temperature,
            q,
            into_latent,
            kv_a,
            queries,
            out_of_latent,
            gate,
            o,
            heads,
            site,
        })
    }

    pub(super) fn run(&self, run: &mut Run<'_>) -> Result<()> {
        self.project(run);
        self.keys(run);
        self.queries(run)?;
        self.attend.append(run, self.kv, None);
        self.attend.run(run);
        let v_dim = self.values.cols / self.heads;
        self.out_of_latent.run(run, self.attend.out, self.values, v_dim)?;
        if let Some(gate) = &self.gate {
            gate.apply(run, self.values);
        }
        run.project_out(self.values, &self.o, self.site.out);
        Ok(())
    }

    /// What reads the branch's input, in one region; then a low-rank query's second half.
    fn project(&self, run: &mut Run<'_>) {
        let kv = (&self.kv_a, self.kv);
        let q = (&self.q.first, self.q.up.as_ref().map_or(self.q_out, |up| up.low));
        let gate = self.gate.as_ref().and_then(|g| g.linear.as_ref().map(|l| (l, g.out)));
        match gate {
            Some(gate) => run.project(self.site.input, &[kv, q, gate]),
            None => run.project(self.site.input, &[kv, q]),
        }
        if let Some(Up { low, norm, linear }) = &self.q.up {
            norm.in_place(run, *low);
            run.project(*low, &[(linear, self.q_out)]);
        }
    }

    /// The normed latent and the turned key, side by side.
    fn keys(&self, run: &mut Run<'_>) {
        let (rank, rope) = (self.latent.cols, self.shared_key.cols);
        run.copy_columns((self.kv, 0), (self.latent, 0), rank);
        self.kv_norm.in_place(run, self.latent);
        run.copy_columns((self.latent, 0), (self.kv, 0), rank);
        if let Some(angles) = self.rope {
            run.rotate(angles, self.kv, (rank + rope, rank));
        }
    }

    /// Queries in the latent: the part without rope through its head's matrix, the turned part as it
    /// is.
    fn queries(&self, run: &mut Run<'_>) -> Result<()> {
        let (rank, rope) = (self.latent.cols, self.shared_key.cols);
        if let Some(temperature) = &self.temperature {
            run.heat(temperature, self.q_out);
        }
        let nope = self.nope.cols / self.heads;
        run.split_heads((self.q_out, nope), [self.nope, self.turned], self.heads);
        if let Some(angles) = self.rope {
            run.rotate(angles, self.turned, (rope, 0));
        }
        self.into_latent.run(run, self.nope, self.queries, rank + rope)?;
        let [turned, queries] = run.mem.arena.rows(run.n, [self.turned, self.queries]);
        let heads = queries.chunks_exact_mut(rank + rope).zip(turned.chunks_exact(rope));
        heads.for_each(|(query, turned)| query[rank..].copy_from_slice(turned));
        Ok(())
    }
}

impl Query {
    fn compile(c: &mut Compiler<'_>, q: &MlaQuery, rows: usize) -> Result<Query> {
        let query = match q {
            MlaQuery::Direct(q) => Query { first: c.linear(q, c.width)?, up: None },
            MlaQuery::LowRank { a, norm, b } => {
                let first = c.linear(a, c.width)?;
                let low = c.layout.buf(first.rows())?;
                let norm = c.norm(norm, first.rows())?;
                let linear = c.linear(b, first.rows())?;
                Query { first, up: Some(Up { low, norm, linear }) }
            }
        };
        let last = query.up.as_ref().map_or(&query.first, |up| &up.linear);
        c.expect("the query projection", last.rows(), rows)?;
        Ok(query)
    }
}
