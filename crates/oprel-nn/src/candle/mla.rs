//! Multi-head latent attention in its absorbed form: queries are taken into the latent, attend to
//! latents, and what they find is taken out to value heads. The latent alone is cached.

use candle_core::Tensor;

use super::attention::{Scoring, apply_gate, attend};
use super::pass::{Pass, Rows};
use super::visible::Sight;
use crate::describe::{GateSource, Mla, MlaKv, MlaQuery};
use crate::exec::Dev;
use crate::{Error, Result};

impl Pass<'_> {
    /// Latent attention on `x` (n, width): projections run on the layer's mixer device, scores where
    /// its keys are.
    pub(super) fn mla(&mut self, m: &Mla, x: &Tensor) -> Result<Tensor> {
        let (mixer, keys) = (self.place.mixer, self.place.state);
        let q = self.latent_queries(m, x, mixer)?;
        let k = self.latent_keys(m, x, mixer)?;
        let (q, k) = (self.to(&q, mixer, keys)?, self.to(&k, mixer, keys)?);
        let scoring = Scoring {
            n_heads: m.n_heads as usize,
            n_kv_heads: 1,
            scale: m.scale,
            soft_cap: None,
            alibi: None,
            mask: m.mask,
            sinks: None,
        };
        let mut outs = Vec::with_capacity(self.batch.spans.len());
        for rows in self.spans() {
            let k = self.remember_latent(m, &rows, &k)?;
            let v = k.narrow(1, 0, m.kv_rank as usize)?;
            let q = q.narrow(0, rows.start, rows.n)?;
            outs.push(attend(&scoring, &Sight::new(&rows.span), &q, &k, &v)?);
        }
        let found = self.to(&Tensor::cat(&outs, 0)?, keys, mixer)?;
        let mut y = self.value_heads(m, &found, mixer)?;
        if let Some(g) = &m.gate {
            let GateSource::Own(l) = &g.source else {
                return Err(Error::Description("a latent query that holds its gate".into()));
            };
            let gate = self.linear(l, x, mixer)?;
            y = apply_gate(g, &gate, &y, m.n_heads as usize)?;
        }
        self.linear(&m.o, &y, mixer)
    }

    /// Queries in the space of cached keys, (n, heads * (kv_rank + rope_dim)).
    fn latent_queries(&mut self, m: &Mla, x: &Tensor, dev: Dev) -> Result<Tensor> {
        let (nope, rope) = (m.nope_dim as usize, m.rope_dim as usize);
        let q = match &m.q {
            MlaQuery::Direct(q) => self.linear(q, x, dev)?,
            MlaQuery::LowRank { a, norm, b } => {
                let low = self.linear(a, x, dev)?;
                let low = self.norm(norm, &low, dev)?;
                self.linear(b, &low, dev)?
            }
        };
        let q = match m.temperature {
            Some(t) => self.warmed(t, &q, dev)?,
            None => q,
        };
        let (n, heads) = (x.dim(0)?, m.n_heads as usize);
        let q = q.reshape((n, heads, nope + rope))?;
        let turned = self.turned(m, &q.narrow(2, nope, rope)?, dev)?;
        let plain = q.narrow(2, 0, nope)?.transpose(0, 1)?.contiguous()?;
        let absorbed = plain.matmul(&self.absorbing(m, dev)?)?.transpose(0, 1)?;
        let q = Tensor::cat(&[absorbed.contiguous()?, turned.contiguous()?], 2)?;
        Ok(q.reshape((n, heads * (m.kv_rank as usize + rope)))?)
    }

    /// Normed latent and rotated key of each token, (n, kv_rank + rope_dim): what is cached.
    fn latent_keys(&mut self, m: &Mla, x: &Tensor, dev: Dev) -> Result<Tensor> {
        let (rank, rope) = (m.kv_rank as usize, m.rope_dim as usize);
        let both = self.linear(&m.kv_a, x, dev)?;
        let latent = self.norm(&m.kv_norm, &both.narrow(1, 0, rank)?, dev)?;
        let key = both.narrow(1, rank, rope)?.unsqueeze(1)?;
        let key = self.turned(m, &key, dev)?.squeeze(1)?;
        Ok(Tensor::cat(&[latent, key], 1)?)
    }

    /// `x` (n, heads, rope_dim) under the layer's rope, if it has one.
    fn turned(&mut self, m: &Mla, x: &Tensor, dev: Dev) -> Result<Tensor> {
        match m.rope {
            Some(rope) => self.rotate(rope, x, dev),
            None => Ok(x.clone()),
        }
    }

    /// What takes a query head into the latent, (heads, nope_dim, kv_rank).
    fn absorbing(&self, m: &Mla, dev: Dev) -> Result<Tensor> {
        let (heads, nope, rank) = (m.n_heads as usize, m.nope_dim as usize, m.kv_rank as usize);
        match m.kv_b {
            MlaKv::Split { k, .. } => {
                let k = self.matrix(k, dev)?.reshape((heads, rank, nope))?;
                Ok(k.transpose(1, 2)?.contiguous()?)
            }
            MlaKv::Joint(w) => {
                let both = self.matrix(w, dev)?.reshape((heads, nope + m.v_dim as usize, rank))?;
                Ok(both.narrow(1, 0, nope)?.contiguous()?)
            }
        }
    }

    /// Attended latents (n, heads * kv_rank) to value heads (n, heads * v_dim).
    fn value_heads(&self, m: &Mla, found: &Tensor, dev: Dev) -> Result<Tensor> {
        let (n, heads) = (found.dim(0)?, m.n_heads as usize);
        let (rank, v_dim) = (m.kv_rank as usize, m.v_dim as usize);
        let v = match m.kv_b {
            MlaKv::Split { v, .. } => self.matrix(v, dev)?.reshape((heads, v_dim, rank))?,
            MlaKv::Joint(w) => {
                let nope = m.nope_dim as usize;
                let both = self.matrix(w, dev)?.reshape((heads, nope + v_dim, rank))?;
                both.narrow(1, nope, v_dim)?
            }
        };
        let found = found.reshape((n, heads, rank))?.transpose(0, 1)?.contiguous()?;
        let y = found.matmul(&v.transpose(1, 2)?.contiguous()?)?;
        Ok(y.transpose(0, 1)?.contiguous()?.reshape((n, heads * v_dim))?)
    }

    /// Appends the span's keys; gives all that it may look at, from the first visible position on.
    fn remember_latent(&self, m: &Mla, rows: &Rows<'_>, k: &Tensor) -> Result<Tensor> {
        let state = &self.model.state;
        let pages = self.pages(rows.index, state.group(m.slot));
        let own = k.narrow(0, rows.start, rows.n)?;
        state.append(m.slot, pages, rows.span.cache_start as usize, &own, None)?;
        let sight = Sight::new(&rows.span);
        state.keys(m.slot, pages, sight.first(m.mask), sight.end())
    }
}
