//! Linear layers, norms, activations and rotations on candle tensors.

use candle_core::{D, Tensor};

use super::pass::Pass;
use crate::batch::Pos;
use crate::describe::{Activation, Linear, Norm, NormKind, RopeId, SiteId};
use crate::exec::Dev;
use crate::rope::Pairing;
use crate::weights::WeightId;
use crate::{Error, Result};

impl Pass<'_> {
    /// `scale * (W x) + bias`: (n, cols) to (n, rows). `x` and the weights are on `dev`.
    pub(super) fn linear(&mut self, l: &Linear, x: &Tensor, dev: Dev) -> Result<Tensor> {
        self.observe(l.site, x, None)?;
        self.project(l, 0, x, dev)
    }

    /// The linear layer of one expert of a routed layer.
    pub(super) fn expert(
        &mut self,
        l: &Linear,
        expert: u32,
        x: &Tensor,
        dev: Dev,
    ) -> Result<Tensor> {
        self.observe(l.site, x, Some(expert))?;
        self.project(l, expert, x, dev)
    }

    fn project(&self, l: &Linear, expert: u32, x: &Tensor, dev: Dev) -> Result<Tensor> {
        let all = self.matrix(l.w, dev)?;
        let (at, n) = (l.rows.start as usize, l.rows.len());
        let rows_of_one = self.model.tables.rows(l.w);
        let w = all.narrow(0, expert as usize * rows_of_one + at, n)?;
        let mut y = x.matmul(&w.t()?)?;
        if let Some(scale) = l.scale {
            let scale = self.vector(scale, dev)?;
            let at = if scale.dim(0)? == 1 { 0 } else { expert as usize };
            y = y.broadcast_mul(&scale.narrow(0, at, 1)?)?;
        }
        if let Some(bias) = l.bias {
            let bias = self.vector(bias, dev)?;
            y = y.broadcast_add(&bias.narrow(0, expert as usize * rows_of_one + at, n)?)?;
        }
        Ok(y)
    }

    /// A matrix (experts * rows, cols) on a device.
    pub(super) fn matrix(&self, id: WeightId, dev: Dev) -> Result<Tensor> {
        self.model.tables.matrix(id, dev).cloned()
    }

    /// All elements of a matrix in a row.
    pub(super) fn vector(&self, id: WeightId, dev: Dev) -> Result<Tensor> {
        self.model.tables.vector(id, dev)
    }

    fn observe(&mut self, site: SiteId, x: &Tensor, expert: Option<u32>) -> Result<()> {
        let Some(watch) = self.watch.as_deref_mut() else { return Ok(()) };
        let (n, cols) = x.dims2()?;
        let rows: Vec<f32> = x.flatten_all()?.to_vec1()?;
        let experts: Vec<u32> = expert.map_or(Vec::new(), |e| vec![e; n]);
        watch.input(site, &rows, cols, &experts);
        Ok(())
    }

    /// A norm over the rows of `x` (n, length), in the norm's groups.
    pub(super) fn norm(&self, norm: &Norm, x: &Tensor, dev: Dev) -> Result<Tensor> {
        let (n, len) = x.dims2()?;
        let groups = norm.groups.max(1) as usize;
        if len % groups != 0 {
            return Err(Error::Description(format!("{len} elements in {groups} groups")));
        }
        let x = x.reshape((n, groups, len / groups))?;
        let eps = f64::from(norm.eps);
        let y = match norm.kind {
            NormKind::Rms => {
                let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
                x.broadcast_div(&(mean + eps)?.sqrt()?)?
            }
            NormKind::Layer => {
                let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
                let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
                x.broadcast_div(&(variance + eps)?.sqrt()?)?
            }
            NormKind::L2 => {
                let length = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
                x.broadcast_div(&length.maximum(eps)?)?
            }
        };
        let by_group = |w: Tensor| match w.elem_count() == len {
            true => w.reshape((groups, len / groups)),
            false => w.reshape((1, len / groups)),
        };
        let y = match norm.weight {
            Some(w) => y.broadcast_mul(&by_group(self.vector(w, dev)?)?)?,
            None => y,
        };
        let y = match norm.bias {
            Some(b) => y.broadcast_add(&by_group(self.vector(b, dev)?)?)?,
            None => y,
        };
        Ok(y.reshape((n, len))?)
    }

    /// Rotates the first elements of each head of `x` (n, heads, dim) by the batch's positions.
    pub(super) fn rotate(&mut self, rope: RopeId, x: &Tensor, dev: Dev) -> Result<Tensor> {
        let spec = &self.model.decoder.ropes[rope.0 as usize];
        let dims = spec.dims as usize;
        let (n, heads, dim) = x.dims3()?;
        if dims > dim {
            return Err(Error::Description(format!("a rope of {dims} in heads of {dim}")));
        }
        if dims == 0 {
            return Ok(x.clone());
        }
        let (cos, sin) = self.rotation(rope, dev)?;
        let turned = x.narrow(2, 0, dims)?;
        let (a, b) = match spec.pairing {
            Pairing::Halves => {
                (turned.narrow(2, 0, dims / 2)?, turned.narrow(2, dims / 2, dims / 2)?)
            }
            Pairing::Adjacent => {
                let pairs = turned.contiguous()?.reshape((n, heads, dims / 2, 2))?;
                (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?)
            }
        };
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?;
        let turned = match spec.pairing {
            Pairing::Halves => Tensor::cat(&[first, second], 2)?,
            Pairing::Adjacent => Tensor::stack(&[first, second], 3)?.reshape((n, heads, dims))?,
        };
        if dims == dim {
            return Ok(turned);
        }
        Ok(Tensor::cat(&[turned, x.narrow(2, dims, dim - dims)?], 2)?)
    }

    /// Cosine and sine (n, 1, pairs) at the batch's positions.
    fn rotation(&mut self, rope: RopeId, dev: Dev) -> Result<(Tensor, Tensor)> {
        if let Some(made) = self.rotations.get(&(rope, dev)) {
            return Ok(made.clone());
        }
        let pairs = self.model.decoder.ropes[rope.0 as usize].dims as usize / 2;
        let n = self.batch.tokens.len();
        let mut cos = vec![0.0_f32; n * pairs];
        let mut sin = vec![0.0_f32; n * pairs];
        let angles = &self.model.angles[rope.0 as usize];
        for (i, (cos, sin)) in cos.chunks_mut(pairs).zip(sin.chunks_mut(pairs)).enumerate() {
            angles.at(self.batch.pos.components(i), cos, sin);
        }
        let device = self.device(dev);
        let on = |values| Tensor::from_vec(values, (n, 1, pairs), device);
        let made = (on(cos)?, on(sin)?);
        self.rotations.insert((rope, dev), made.clone());
        Ok(made)
    }

    /// The text position of each token.
    pub(super) fn positions(&self) -> Vec<i32> {
        match self.batch.pos {
            Pos::Text(pos) => pos.to_vec(),
            Pos::MRope(pos) => pos.iter().map(|p| p[0]).collect(),
        }
    }
}

/// `act(gate) * up`, or `act(up)` without a gate.
pub(super) fn activate(act: Activation, gate: Option<&Tensor>, up: &Tensor) -> Result<Tensor> {
    let x = gate.unwrap_or(up);
    let clamped_up = |limit: f32| up.clamp(-f64::from(limit), f64::from(limit));
    Ok(match act {
        Activation::SwigluOai { alpha, limit } if gate.is_some() => {
            let g = x.minimum(f64::from(limit))?;
            let slope = candle_nn::ops::sigmoid(&(&g * f64::from(alpha))?)?;
            ((g * slope)? * (clamped_up(limit)? + 1.0)?)?
        }
        Activation::SiluClamped { limit, cap_before } if gate.is_some() => {
            let cap = f64::from(limit);
            let g = if cap_before { x.minimum(cap)?.silu()? } else { x.silu()?.minimum(cap)? };
            (g * clamped_up(limit)?)?
        }
        Activation::Situ { beta, linear_beta } if gate.is_some() => {
            let g = bounded(x, beta)?.mul(&candle_nn::ops::sigmoid(x)?)?;
            let up = if linear_beta > 0.0 { bounded(up, linear_beta)? } else { up.clone() };
            (g * up)?
        }
        _ => {
            let y = simple(act, x)?;
            if gate.is_some() { (y * up)? } else { y }
        }
    })
}

/// `bound * tanh(x / bound)`.
pub(super) fn bounded(x: &Tensor, bound: f32) -> Result<Tensor> {
    Ok(((x / f64::from(bound))?.tanh()? * f64::from(bound))?)
}

/// Activations of one argument.
fn simple(act: Activation, x: &Tensor) -> Result<Tensor> {
    Ok(match act {
        Activation::Silu => x.silu()?,
        Activation::GeluTanh => x.gelu()?,
        Activation::GeluErf => x.gelu_erf()?,
        Activation::GeluQuick => (candle_nn::ops::sigmoid(&(x * 1.702)?)? * x)?,
        Activation::Relu => x.relu()?,
        Activation::ReluSquared => x.relu()?.sqr()?,
        Activation::Xielu { alpha_p, alpha_n, beta, eps } => {
            xielu(x, alpha_p.into(), alpha_n.into(), beta.into(), eps.into())?
        }
        Activation::SwigluOai { .. } | Activation::SiluClamped { .. } | Activation::Situ { .. } => {
            return Err(Error::Description(format!("{act:?} without a gate")));
        }
    })
}

/// xIELU (Huang and Schlag, 2024), as `ggml_xielu`: quadratic above zero, exponential below.
fn xielu(x: &Tensor, alpha_p: f64, alpha_n: f64, beta: f64, eps: f64) -> Result<Tensor> {
    let linear = (x * beta)?;
    let above = ((x.sqr()? * alpha_p)? + &linear)?;
    let capped = x.minimum(eps)?;
    let below = ((((capped.exp()? - 1.0)? - x)? * alpha_n)? + linear)?;
    Ok(x.gt(0.0)?.where_cond(&above, &below)?)
}
