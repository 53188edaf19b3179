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
        Activation::Identity => x.clone(),
        Activation::Silu => x.silu()?,
        Activation::GeluTanh => x.gelu()?,
        Activation::GeluErf => x.gelu_erf()?,
        Activation::GeluQuick => (candle_nn::ops::sigmoid(&(x * 1.702)?)? * x)?,
        Activation::Relu => x.relu()?,
        Activation::ReluSquared => x.relu()?.sqr()?,
        Activation::Sigmoid => candle_nn::ops::sigmoid(x)?,
        Activation::Softplus => ((x.exp()? + 1.0)?).log()?,
        Activation::Tanh => x.tanh()?,
        Activation::Exp => x.exp()?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    const GATE: [f32; 7] = [-9.0, -2.5, -0.5, 0.0, 0.75, 3.0, 12.0];
    const UP: [f32; 7] = [1.5, -8.5, 2.0, 1.0, -0.5, 9.0, 0.25];

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// Checks an activation against its formula, element by element.
    fn assert_activation(act: Activation, gated: bool, want: impl Fn(f64, f64) -> f64) {
        let row = |x: &[f32]| Tensor::new(x, &Device::Cpu).expect("a row");
        let (gate, up) = (row(&GATE), row(&UP));
        let got = match gated {
            true => activate(act, Some(&gate), &up),
            false => activate(act, None, &gate),
        };
        let got: Vec<f32> = got.and_then(|y| Ok(y.to_vec1()?)).expect("it is computed");
        for (i, got) in got.into_iter().enumerate() {
            let want = want(f64::from(GATE[i]), f64::from(UP[i]));
            assert!((f64::from(got) - want).abs() < 1e-4, "{act:?} {i}: {got} instead of {want}");
        }
    }

    #[test]
    fn activations_of_one_argument_follow_their_formulas() {
        let tanh_gelu =
            |x: f64| 0.5 * x * (1.0 + (0.797_884_560_8 * x * (1.0 + 0.044_715 * x * x)).tanh());
        assert_activation(Activation::Silu, false, |x, _| x * sigmoid(x));
        assert_activation(Activation::GeluTanh, false, |x, _| tanh_gelu(x));
        // The two forms of GELU differ by less than 5e-4.
        assert_activation(Activation::GeluErf, false, |x, _| match x {
            -2.5 => -2.5 * 0.006_209_665,
            -0.5 => -0.5 * 0.308_537_539,
            0.75 => 0.75 * 0.773_372_648,
            3.0 => 3.0 * 0.998_650_102,
            x => x.max(0.0),
        });
        assert_activation(Activation::GeluQuick, false, |x, _| x * sigmoid(1.702 * x));
        assert_activation(Activation::Relu, false, |x, _| x.max(0.0));
        assert_activation(Activation::ReluSquared, false, |x, _| x.max(0.0).powi(2));
        let act = Activation::Xielu { alpha_p: 0.8, alpha_n: 0.9, beta: 0.5, eps: -1e-6 };
        assert_activation(act, false, |x, _| match x > 0.0 {
            true => 0.8 * x * x + 0.5 * x,
            false => 0.9 * (x.min(-1e-6).exp_m1() - x) + 0.5 * x,
        });
    }

    #[test]
    fn gated_activations_follow_their_formulas() {
        assert_activation(Activation::Silu, true, |g, u| g * sigmoid(g) * u);
        let oai = Activation::SwigluOai { alpha: 1.702, limit: 7.0 };
        assert_activation(oai, true, |g, u| {
            let g = g.min(7.0);
            g * sigmoid(1.702 * g) * (u.clamp(-7.0, 7.0) + 1.0)
        });
        let after = Activation::SiluClamped { limit: 2.0, cap_before: false };
        assert_activation(after, true, |g, u| (g * sigmoid(g)).min(2.0) * u.clamp(-2.0, 2.0));
        let before = Activation::SiluClamped { limit: 2.0, cap_before: true };
        assert_activation(before, true, |g, u| {
            g.min(2.0) * sigmoid(g.min(2.0)) * u.clamp(-2.0, 2.0)
        });
        let situ = Activation::Situ { beta: 4.0, linear_beta: 3.0 };
        assert_activation(situ, true, |g, u| {
            4.0 * (g / 4.0).tanh() * sigmoid(g) * 3.0 * (u / 3.0).tanh()
        });
        let unbounded = Activation::Situ { beta: 4.0, linear_beta: 0.0 };
        assert_activation(unbounded, true, |g, u| 4.0 * (g / 4.0).tanh() * sigmoid(g) * u);
    }
}
