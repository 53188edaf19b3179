//! The gated delta rule, with a decay a head or a channel.

use candle_core::{D, Tensor};

use super::softplus;
use crate::Result;
use crate::candle::pass::Pass;
use crate::describe::{Decay, DecayForm, Delta, HeadMap};
use crate::exec::Dev;

impl Pass<'_> {
    /// The delta rule on (n, width).
    pub(in crate::candle) fn delta(&mut self, d: &Delta, x: &Tensor) -> Result<Tensor> {
        let dev = self.place.mixer;
        let n = x.dim(0)?;
        let (heads, k_dim, v_dim) = (d.n_v_heads as usize, d.k_dim as usize, d.v_dim as usize);
        let mut qkv = Vec::with_capacity(3);
        for l in &d.qkv {
            qkv.push(self.linear(l, x, dev)?);
        }
        let (carried, qkv) = self.convolve(d.slot, &d.conv, &Tensor::cat(&qkv, 1)?)?;
        let qkv = qkv.silu()?;
        let keys = d.n_k_heads as usize * k_dim;
        let q = (key_heads(d, &qkv.narrow(1, 0, keys)?)? / (k_dim as f64).sqrt())?;
        let k = key_heads(d, &qkv.narrow(1, keys, keys)?)?;
        let v = qkv.narrow(1, 2 * keys, heads * v_dim)?.reshape((n, heads, v_dim))?;
        let beta = candle_nn::ops::sigmoid(&self.linear(&d.beta, x, dev)?)?;
        let decay = self.decay(&d.decay, heads, x, dev)?;
        let y = self.scan(d.slot, carried, |state, t| {
            let (q, k) = (q.get(t)?.unsqueeze(2)?, k.get(t)?.unsqueeze(2)?);
            let state = state.reshape((heads, v_dim, k_dim))?.broadcast_mul(&decay.get(t)?)?;
            let told = state.matmul(&k)?.squeeze(D::Minus1)?;
            let news = (v.get(t)? - told)?.broadcast_mul(&beta.get(t)?.unsqueeze(1)?)?;
            let learned = news.unsqueeze(2)?.broadcast_mul(&k.transpose(1, 2)?)?;
            let state = (state + learned)?;
            let y = state.matmul(&q)?.reshape(heads * v_dim)?;
            Ok((state, y))
        })?;
        let y = self.norm(&d.norm, &y, dev)?;
        let mut gate = self.linear(&d.gate, x, dev)?;
        if let Some(up) = &d.gate_up {
            gate = self.linear(up, &gate, dev)?;
        }
        let gate = if d.gate_sigmoid { candle_nn::ops::sigmoid(&gate)? } else { gate.silu()? };
        self.linear(&d.out, &(y * gate)?, dev)
    }

    /// What each token leaves of the state, (n, heads, 1, 1) or, by channel of the key, (n, heads, 1,
    /// k_dim).
    fn decay(&mut self, decay: &Decay, heads: usize, x: &Tensor, dev: Dev) -> Result<Tensor> {
        let mut f = self.linear(&decay.f, x, dev)?;
        if let Some(up) = &decay.f_up {
            f = self.linear(up, &f, dev)?;
        }
        let f = f.broadcast_add(&self.vector(decay.bias, dev)?)?;
        let (n, len) = f.dims2()?;
        let f = f.reshape((n, heads, 1, len / heads))?;
        let a = self.vector(decay.a, dev)?.reshape((1, heads, 1, 1))?;
        Ok(match decay.form {
            DecayForm::Softplus => softplus(&f)?.broadcast_mul(&a)?.exp()?,
            DecayForm::Sigmoid { lowest } => {
                let slope = candle_nn::ops::sigmoid(&f.broadcast_mul(&a)?.neg()?)?;
                (slope * f64::from(lowest))?.exp()?
            }
        })
    }
}

/// Queries or keys (n, n_k_heads * k_dim) at unit length, one for each value head: (n, n_v_heads,
/// k_dim).
fn key_heads(d: &Delta, x: &Tensor) -> Result<Tensor> {
    let (n, kv, dim) = (x.dim(0)?, d.n_k_heads as usize, d.k_dim as usize);
    let per = d.n_v_heads as usize / kv;
    let x = x.reshape((n, kv, dim))?;
    let length = (x.sqr()?.sum_keepdim(D::Minus1)? + f64::from(d.l2_eps))?.sqrt()?;
    let x = x.broadcast_div(&length)?;
    let x = match d.head_map {
        HeadMap::Tiled => x.unsqueeze(1)?.broadcast_as((n, per, kv, dim))?,
        HeadMap::Grouped => x.unsqueeze(2)?.broadcast_as((n, kv, per, dim))?,
    };
    Ok(x.contiguous()?.reshape((n, kv * per, dim))?)
}
