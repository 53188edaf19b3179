//! Softmax attention, span by span, over pages.

use candle_core::{D, Device, Tensor};

use super::ops::bounded;
use super::pass::{Pass, Rows};
use super::visible::Sight;
use crate::describe::{Attn, AttnGate, GateSource, Linear, Mask, Norm, Temperature};
use crate::exec::Dev;
use crate::{Error, Result};

/// Queries, keys and values of a batch, (n, heads * dim) each, and the gate.
struct Projected {
    q: Tensor,
    k: Option<Tensor>,
    v: Option<Tensor>,
    gate: Option<Tensor>,
}

impl Pass<'_> {
    /// Attention on `x` (n, width): projections run on the layer's mixer device, scores where its keys are.
    pub(super) fn attention(&mut self, a: &Attn, x: &Tensor) -> Result<Tensor> {
        let (mixer, keys) = (self.place.mixer, self.place.state);
        let p = self.projections(a, x, mixer)?;
        let q = self.to(&p.q, mixer, keys)?;
        let k = p.k.map(|k| self.to(&k, mixer, keys)).transpose()?;
        let v = p.v.map(|v| self.to(&v, mixer, keys)).transpose()?;
        let scoring = Scoring {
            n_heads: a.n_heads as usize,
            n_kv_heads: a.n_kv_heads as usize,
            scale: a.scale,
            soft_cap: a.soft_cap,
            alibi: a.alibi,
            mask: a.mask,
            sinks: a.sinks.map(|s| self.vector(s, keys)).transpose()?,
        };
        let mut outs = Vec::with_capacity(self.batch.spans.len());
        for rows in self.spans() {
            let (k, v) = self.remember(a, &rows, k.as_ref(), v.as_ref())?;
            let q = q.narrow(0, rows.start, rows.n)?;
            outs.push(attend(&scoring, &Sight::new(&rows.span), &q, &k, &v)?);
        }
        let mut y = self.to(&Tensor::cat(&outs, 0)?, keys, mixer)?;
        if let (Some(gate), Some(g)) = (&p.gate, &a.gate) {
            y = apply_gate(g, gate, &y, a.n_heads as usize)?;
        }
        if let Some(norm) = &a.o_norm {
            y = self.norm(norm, &y, mixer)?;
        }
        self.linear(&a.o, &y, mixer)
    }

    fn projections(&mut self, a: &Attn, x: &Tensor, dev: Dev) -> Result<Projected> {
        let n = x.dim(0)?;
        let (heads, dim) = (a.n_heads as usize, a.k_dim as usize);
        let mut q = self.linear(&a.q, x, dev)?;
        let mut gate = None;
        match a.gate.as_ref().map(|g| &g.source) {
            Some(GateSource::InQuery) => {
                let both = q.reshape((n, heads, 2 * dim))?;
                let part = |at| both.narrow(2, at, dim)?.contiguous()?.reshape((n, heads * dim));
                gate = Some(part(dim)?);
                q = part(0)?;
            }
            Some(GateSource::Own(l)) => gate = Some(self.linear(l, x, dev)?),
            None => {}
        }
        let q = clamped(a, q)?;
        let k = self.clamped_linear(a, a.k.as_ref(), x, dev)?;
        // Without a projection of its own, the value is the raw key.
        let v = match &a.v {
            Some(v) => self.clamped_linear(a, Some(v), x, dev)?,
            None => k.clone(),
        };
        let mut q = self.norm_and_rotate(a, q, a.q_norm.as_ref(), a.n_heads, dev)?;
        if let Some(t) = a.temperature {
            q = self.warmed(t, &q, dev)?;
        }
        let k = k
            .map(|k| self.norm_and_rotate(a, k, a.k_norm.as_ref(), a.n_kv_heads, dev))
            .transpose()?;
        let v = match (v, &a.v_norm) {
            (Some(v), Some(norm)) => Some(self.norm(norm, &v, dev)?),
            (v, _) => v,
        };
        Ok(Projected { q, k, v, gate })
    }

    fn clamped_linear(
        &mut self,
        a: &Attn,
        l: Option<&Linear>,
        x: &Tensor,
        dev: Dev,
    ) -> Result<Option<Tensor>> {
        let Some(l) = l else { return Ok(None) };
        let y = self.linear(l, x, dev)?;
        clamped(a, y).map(Some)
    }

    /// Norm and rope of queries or keys (n, heads * k_dim), in the layer's order.
    fn norm_and_rotate(
        &mut self,
        a: &Attn,
        mut x: Tensor,
        norm: Option<&Norm>,
        heads: u32,
        dev: Dev,
    ) -> Result<Tensor> {
        let n = x.dim(0)?;
        let (heads, dim) = (heads as usize, a.k_dim as usize);
        if let (Some(norm), false) = (norm, a.norm_after_rope) {
            x = self.norm(norm, &x, dev)?;
        }
        if let Some(rope) = a.rope {
            let by_head = x.reshape((n, heads, dim))?;
            x = self.rotate(rope, &by_head, dev)?.reshape((n, heads * dim))?;
        }
        if let (Some(norm), true) = (norm, a.norm_after_rope) {
            x = self.norm(norm, &x, dev)?;
        }
        Ok(x)
    }

    /// Queries (n, any) times the factor of their positions.
    pub(super) fn warmed(&self, t: Temperature, q: &Tensor, dev: Dev) -> Result<Tensor> {
        let factor = |pos: i32| {
            let step = ((pos as f32 + t.offset) / t.floor).floor();
            1.0 + t.scale * (step + 1.0).ln()
        };
        let factors: Vec<f32> = self.positions().into_iter().map(factor).collect();
        let n = factors.len();
        Ok(q.broadcast_mul(&Tensor::from_vec(factors, (n, 1), self.device(dev))?)?)
    }

    /// Appends the span's keys and values to the cache; gives all that it may look at, from the first
    /// visible position on.
    fn remember(
        &self,
        a: &Attn,
        rows: &Rows<'_>,
        k: Option<&Tensor>,
        v: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let own = |x: Option<&Tensor>| x.map(|x| x.narrow(0, rows.start, rows.n)).transpose();
        let (k, v) = (own(k)?, own(v)?);
        let Some(slot) = a.slot else {
            return match (k, v) {
                (Some(k), Some(v)) if rows.span.cache_start == 0 => Ok((k, v)),
                (Some(_), Some(_)) => Err(Error::Batch("this model keeps no cache".into())),
                _ => Err(Error::Description("attention without keys or a slot".into())),
            };
        };
        let state = &self.model.state;
        let pages = self.pages(rows.index, state.group(slot));
        let sight = Sight::new(&rows.span);
        if let Some(k) = &k {
            state.append(slot, pages, rows.span.cache_start as usize, k, v.as_ref())?;
        }
        let (from, to) = (sight.first(a.mask), sight.end());
        Ok((state.keys(slot, pages, from, to)?, state.values(slot, pages, from, to)?))
    }
}

fn clamped(a: &Attn, x: Tensor) -> Result<Tensor> {
    match a.clamp {
        Some(c) => Ok(x.clamp(-f64::from(c), f64::from(c))?),
        None => Ok(x),
    }
}

/// `y * sigmoid(gate)`, by element or by head; y is (n, heads * v_dim).
pub(super) fn apply_gate(g: &AttnGate, gate: &Tensor, y: &Tensor, heads: usize) -> Result<Tensor> {
    let gate = candle_nn::ops::sigmoid(gate)?;
    if !g.per_head {
        return Ok((y * gate)?);
    }
    let (n, len) = y.dims2()?;
    let y = y.reshape((n, heads, len / heads))?;
    Ok(y.broadcast_mul(&gate.reshape((n, heads, 1))?)?.reshape((n, len))?)
}

/// How scores become weights; the same for every span.
pub(super) struct Scoring {
    /// Query heads.
    pub(super) n_heads: usize,
    /// Key and value heads.
    pub(super) n_kv_heads: usize,
    /// Factor on scores.
    pub(super) scale: f32,
    /// `cap * tanh(score / cap)`.
    pub(super) soft_cap: Option<f32>,
    /// Largest exponent of ALiBi.
    pub(super) alibi: Option<f32>,
    /// Which positions a token sees.
    pub(super) mask: Mask,
    /// (n_heads).
    pub(super) sinks: Option<Tensor>,
}

/// Attention of one span: q (n, heads * k_dim) over the last positions of its sequence, k (m, kv_heads *
/// k_dim) and v (m, kv_heads * v_dim); gives (n, heads * v_dim).
pub(super) fn attend(
    s: &Scoring,
    sight: &Sight<'_>,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
) -> Result<Tensor> {
    let (n, m) = (q.dim(0)?, k.dim(0)?);
    let (heads, kv) = (s.n_heads, s.n_kv_heads);
    let (k_dim, v_dim) = (k.dim(1)? / kv, v.dim(1)? / kv);
    let per = heads / kv;
    // Query heads of a key head, and their tokens, become the rows of one product.
    let q = q.reshape((n, kv, per, k_dim))?.permute((1, 2, 0, 3))?.contiguous()?;
    let q = q.reshape((kv, per * n, k_dim))?;
    let k = k.reshape((m, kv, k_dim))?.permute((1, 2, 0))?.contiguous()?;
    let v = v.reshape((m, kv, v_dim))?.permute((1, 0, 2))?.contiguous()?;
    let scores = (q.matmul(&k)? * f64::from(s.scale))?.reshape((heads, n, m))?;
    let scores = masked(s, sight, scores)?;
    let weights = softmax(&scores, s.sinks.as_ref())?.contiguous()?.reshape((kv, per * n, m))?;
    let y = weights.matmul(&v)?.reshape((kv, per, n, v_dim))?;
    Ok(y.permute((2, 0, 1, 3))?.contiguous()?.reshape((n, heads * v_dim))?)
}

/// Scores (heads, n, m) under soft cap, position bias and mask.
fn masked(s: &Scoring, sight: &Sight<'_>, mut scores: Tensor) -> Result<Tensor> {
    if let Some(cap) = s.soft_cap {
        scores = bounded(&scores, cap)?;
    }
    let (heads, _, m) = scores.dims3()?;
    if let Some(max_bias) = s.alibi {
        let bias = alibi(sight, m, heads as u32, max_bias, scores.device())?;
        scores = (scores + bias)?;
    }
    Ok(scores.broadcast_add(&mask(sight, m, s.mask, scores.device())?)?)
}

/// (n, m): 0 where a token sees one of the last `m` positions, minus infinity where it does not.
fn mask(sight: &Sight<'_>, m: usize, mask: Mask, device: &Device) -> Result<Tensor> {
    let from = sight.end() - m;
    let mut values = Vec::with_capacity(sight.n() * m);
    for t in 0..sight.n() {
        let value = |key| if sight.sees(t, key, mask) { 0.0 } else { f32::NEG_INFINITY };
        values.extend((from..sight.end()).map(value));
    }
    Ok(Tensor::from_vec(values, (sight.n(), m), device)?)
}

/// Linear position bias (heads, n, m) with ggml's slopes.
fn alibi(
    sight: &Sight<'_>,
    m: usize,
    heads: u32,
    max_bias: f32,
    device: &Device,
) -> Result<Tensor> {
    let from = sight.end() - m;
    let power = 1 << heads.max(1).ilog2();
    let slope = |head: u32| match head < power {
        true => (-max_bias / power as f32).exp2().powi(head as i32 + 1),
        false => (-max_bias / 2.0 / power as f32).exp2().powi(2 * (head - power) as i32 + 1),
    };
    let mut values = Vec::with_capacity(heads as usize * sight.n() * m);
    for head in 0..heads {
        let slope = slope(head);
        for t in 0..sight.n() {
            let bias = |key| -slope * sight.distance(t, key).abs() as f32;
            values.extend((from..sight.end()).map(bias));
        }
    }
    Ok(Tensor::from_vec(values, (heads as usize, sight.n(), m), device)?)
}

/// Softmax over the last dimension of (heads, n, m); a sink of each head takes part and drops out.
fn softmax(scores: &Tensor, sinks: Option<&Tensor>) -> Result<Tensor> {
    let (heads, n, m) = scores.dims3()?;
    let Some(sinks) = sinks else {
        return Ok(candle_nn::ops::softmax(scores, D::Minus1)?);
    };
    let sinks = sinks.reshape((heads, 1, 1))?.broadcast_as((heads, n, 1))?;
    let all = Tensor::cat(&[scores, &sinks.contiguous()?], 2)?;
    Ok(candle_nn::ops::softmax(&all, D::Minus1)?.narrow(2, 0, m)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;
    use crate::batch::SeqId;

    /// The slopes that ggml gives `heads` heads: bias of a token over its predecessor, negated.
    fn slopes(heads: u32, max_bias: f32) -> Vec<f32> {
        let sight = Sight::new(&Span::causal(SeqId(0), 1, 1));
        let bias = alibi(&sight, 2, heads, max_bias, &Device::Cpu).expect("a bias");
        let bias = bias.to_vec3::<f32>().expect("three dimensions");
        assert!(bias.iter().all(|head| head[0][1] == 0.0), "a token is at no distance of itself");
        bias.iter().map(|head| -head[0][0]).collect()
    }

    #[test]
    fn alibi_slopes_halve_from_head_to_head() {
        assert_eq!(
            slopes(8, 8.0),
            [0.5, 0.25, 0.125, 0.0625, 0.03125, 1.0 / 64.0, 1.0 / 128.0, 1.0 / 256.0]
        );
    }

    #[test]
    fn alibi_fills_up_heads_beyond_a_power_of_two_with_slopes_between() {
        let got = slopes(6, 8.0);
        let want = [-2.0, -4.0, -6.0, -8.0, -1.0, -3.0].map(f32::exp2);
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
    }

    #[test]
    fn a_sink_takes_weight_and_gives_nothing() {
        let scores = Tensor::new(&[[[0.0_f32, 0.0]]], &Device::Cpu).expect("scores");
        let sinks = Tensor::new(&[2.0_f32.ln()], &Device::Cpu).expect("a sink");
        let weights = softmax(&scores, Some(&sinks)).and_then(|w| Ok(w.to_vec3::<f32>()?));
        let weights = weights.expect("weights");
        assert!(weights[0][0].iter().all(|w| (w - 0.25).abs() < 1e-6), "{weights:?}");
    }
}
