//! Selective state spaces: Mamba with a decay an element, Mamba-2 with a decay a head.

use candle_core::{D, Tensor};

use super::softplus;
use crate::Result;
use crate::candle::pass::Pass;
use crate::describe::{Mamba, Mamba2};

impl Pass<'_> {
    /// Mamba on (n, width).
    pub(in crate::candle) fn mamba(&mut self, m: &Mamba, x: &Tensor) -> Result<Tensor> {
        let dev = self.place.mixer;
        let (inner, n_state, rank) = (m.inner as usize, m.state as usize, m.dt_rank as usize);
        let both = self.linear(&m.input, x, dev)?;
        let z = both.narrow(1, inner, inner)?;
        let (carried, x) = self.convolve(m.slot, &m.conv, &both.narrow(1, 0, inner)?)?;
        let x = x.silu()?;
        let all = self.linear(&m.x, &x, dev)?;
        let mut parts = [(0, rank), (rank, n_state), (rank + n_state, n_state)]
            .into_iter()
            .map(|(at, len)| Ok(all.narrow(1, at, len)?.contiguous()?))
            .collect::<Result<Vec<_>>>()?;
        if let Some(norms) = &m.dt_b_c_norm {
            for (part, norm) in parts.iter_mut().zip(norms) {
                *part = self.norm(norm, part, dev)?;
            }
        }
        let dt = softplus(&self.linear(&m.dt, &parts[0], dev)?)?;
        let a = self.matrix(m.a, dev)?;
        let fed = (&x * &dt)?;
        let y = self.scan(m.slot, carried, |state, t| {
            let dt = dt.get(t)?.unsqueeze(1)?;
            let (b, c) = (parts[1].get(t)?.unsqueeze(0)?, parts[2].get(t)?.unsqueeze(1)?);
            let kept = state.reshape((inner, n_state))?.mul(&a.broadcast_mul(&dt)?.exp()?)?;
            let state = (kept + fed.get(t)?.unsqueeze(1)?.broadcast_mul(&b)?)?;
            let y = state.matmul(&c)?.squeeze(1)?;
            Ok((state, y))
        })?;
        let skipped = x.broadcast_mul(&self.vector(m.d, dev)?)?;
        let y = ((y + skipped)? * z.silu()?)?;
        self.linear(&m.out, &y, dev)
    }

    /// Mamba-2 on (n, width).
    pub(in crate::candle) fn mamba2(&mut self, m: &Mamba2, x: &Tensor) -> Result<Tensor> {
        let dev = self.place.mixer;
        let n = x.dim(0)?;
        let (inner, n_state) = (m.inner as usize, m.state as usize);
        let (heads, groups) = (m.n_heads as usize, m.n_groups as usize);
        let (dim, shared) = (inner / heads, groups * n_state);
        let all = self.linear(&m.input, x, dev)?;
        let z = all.narrow(1, 0, inner)?;
        let dt = all.narrow(1, 2 * inner + 2 * shared, heads)?;
        let dt = softplus(&dt.broadcast_add(&self.vector(m.dt_bias, dev)?)?)?;
        let convolved = all.narrow(1, inner, inner + 2 * shared)?;
        let (carried, x_b_c) = self.convolve(m.slot, &m.conv, &convolved)?;
        let x_b_c = x_b_c.silu()?;
        let x = x_b_c.narrow(1, 0, inner)?.reshape((n, heads, dim))?;
        // B and C of each head, out of its group.
        let of_head = |at| -> Result<Tensor> {
            let of_group = x_b_c.narrow(1, at, shared)?.reshape((n, groups, 1, n_state))?;
            let repeated = of_group.broadcast_as((n, groups, heads / groups, n_state))?;
            Ok(repeated.contiguous()?.reshape((n, heads, n_state))?)
        };
        let (b, c) = (of_head(inner)?, of_head(inner + shared)?);
        let decay = dt.broadcast_mul(&self.vector(m.a, dev)?)?.exp()?;
        let fed = x.broadcast_mul(&dt.unsqueeze(2)?)?;
        let y = self.scan(m.slot, carried, |state, t| {
            let decay = decay.get(t)?.reshape((heads, 1, 1))?;
            let kept = state.reshape((heads, dim, n_state))?.broadcast_mul(&decay)?;
            let added = fed.get(t)?.unsqueeze(2)?.broadcast_mul(&b.get(t)?.unsqueeze(1)?)?;
            let state = (kept + added)?;
            let y = state.matmul(&c.get(t)?.unsqueeze(2)?)?.squeeze(D::Minus1)?;
            Ok((state, y))
        })?;
        let d = self.vector(m.d, dev)?.reshape((1, heads, 1))?;
        let y = (y + x.broadcast_mul(&d)?)?.reshape((n, inner))?;
        let mut y = (y * z.silu()?)?;
        if let Some(norm) = &m.norm {
            y = self.norm(norm, &y, dev)?;
        }
        self.linear(&m.out, &y, dev)
    }
}
