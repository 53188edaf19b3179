//! The optimizer: AdamW for the embedding and the norms, Muon (momentum whose matrix is made
//! orthogonal by Newton-Schulz steps) for the matrices between. Its state is saved, so that
//! training can go on later. Source of the constants: Keller Jordan's description of Muon.

use crate::model::{FFN, Model};
use crate::ops::{HEAD, KV_HEADS, Q_HEADS};
use anyhow::Result;
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};

const MOMENTUM: f64 = 0.95;
const NEWTON_STEPS: usize = 5;
const NEWTON: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.98;
const EPS: f32 = 1e-10;
/// Largest norm of all gradients together.
const CLIP: f64 = 1.0;

/// Learning rates of a step.
#[derive(Clone, Copy)]
pub struct Rates {
    pub muon: f64,
    pub adam: f64,
    pub decay: f64,
}

pub struct Optimizer {
    /// Moments by the name of the variable: `NAME` (first), `NAME.2` (second, AdamW only).
    pub state: BTreeMap<String, Tensor>,
    pub step: usize,
}

/// Rows of the matrices that a fused matrix consists of.
fn parts(name: &str) -> Option<Vec<usize>> {
    let kind = name.rsplit('.').next()?;
    match kind {
        "attn_qkv" => Some(vec![Q_HEADS * HEAD, KV_HEADS * HEAD, KV_HEADS * HEAD]),
        "ffn_gate_up" => Some(vec![FFN, FFN]),
        "attn_output" | "ffn_down" => Some(Vec::new()),
        _ => None,
    }
}

impl Optimizer {
    pub fn new(model: &Model) -> Result<Self> {
        let mut state = BTreeMap::new();
        for (name, var) in &model.vars {
            state.insert(name.clone(), var.zeros_like()?);
            if parts(name).is_none() {
                state.insert(format!("{name}.2"), var.zeros_like()?);
            }
        }
        Ok(Self { state, step: 0 })
    }

    /// Takes one step and returns the norm of the gradients before clipping.
    pub fn step(&mut self, model: &Model, grads: &GradStore, rates: Rates) -> Result<f64> {
        self.step += 1;
        let mut square = 0f64;
        for var in model.vars.values() {
            if let Some(g) = grads.get(var) {
                square += f64::from(g.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        let norm = square.sqrt();
        let scale = (CLIP / norm.max(1e-9)).min(1.);
        for (name, var) in &model.vars {
            let Some(g) = grads.get(var) else { continue };
            match parts(name) {
                Some(parts) => self.muon(name, var, &(g * scale)?, &parts, rates)?,
                None => self.adam(name, var, g, scale as f32, rates)?,
            }
        }
        Ok(norm)
    }

    fn muon(&mut self, name: &str, var: &Var, g: &Tensor, parts: &[usize], r: Rates) -> Result<()> {
        let m = ((&self.state[name] * MOMENTUM)? + g)?;
        let look = (g + (&m * MOMENTUM)?)?;
        self.state.insert(name.to_owned(), m);
        let update = if parts.is_empty() {
            orthogonal(&look)?
        } else {
            let mut at = 0;
            let mut done = Vec::new();
            for rows in parts {
                done.push(orthogonal(&look.narrow(0, at, *rows)?.contiguous()?)?);
                at += rows;
            }
            Tensor::cat(&done, 0)?
        };
        let kept = (var.as_tensor() * (1. - r.muon * r.decay))?;
        var.set(&(kept - (update * r.muon)?)?)?;
        Ok(())
    }

    fn adam(&mut self, name: &str, var: &Var, g: &Tensor, scale: f32, r: Rates) -> Result<()> {
        let second = format!("{name}.2");
        let read = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        let (mut m, mut v) = (read(&self.state[name])?, read(&self.state[&second])?);
        let (mut w, g) = (read(var.as_tensor())?, read(g)?);
        let t = self.step as i32;
        let (fix1, fix2) = (1. - BETA1.powi(t), 1. - BETA2.powi(t));
        let (rate, decay) = (r.adam as f32, (r.adam * r.decay) as f32);
        // Norm weights are vectors and do not decay.
        let kept = if var.rank() > 1 { 1. - decay } else { 1. };
        (&mut w, &mut m, &mut v, &g).into_par_iter().with_min_len(4096).for_each(|(w, m, v, g)| {
            let g = g * scale;
            *m = BETA1 * *m + (1. - BETA1) * g;
            *v = BETA2 * *v + (1. - BETA2) * g * g;
            *w = *w * kept - rate * (*m / fix1) / ((*v / fix2).sqrt() + EPS);
        });
        let back = |v: Vec<f32>| Tensor::from_vec(v, var.shape(), &Device::Cpu);
        self.state.insert(name.to_owned(), back(m)?);
        self.state.insert(second, back(v)?);
        var.set(&back(w)?)?;
        Ok(())
    }

    /// The state as named tensors, for a checkpoint.
    pub fn save(&self, into: &mut HashMap<String, Tensor>) {
        for (name, t) in &self.state {
            into.insert(format!("optimizer.{name}"), t.clone());
        }
    }

    pub fn restore(&mut self, from: &HashMap<String, Tensor>, step: usize) {
        for (name, t) in &mut self.state {
            if let Some(saved) = from.get(&format!("optimizer.{name}")) {
                *t = saved.clone();
            }
        }
        self.step = step;
    }
}

/// The nearest matrix with singular values of about 1, scaled so that rows change alike.
fn orthogonal(g: &Tensor) -> Result<Tensor> {
    let (rows, cols) = g.dims2()?;
    let tall = rows > cols;
    let mut x = if tall { g.t()?.contiguous()? } else { g.clone() };
    let norm = x.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
    x = (x / (f64::from(norm) + 1e-7))?;
    let (a, b, c) = NEWTON;
    for _ in 0..NEWTON_STEPS {
        let s = x.matmul(&x.t()?)?;
        let poly = ((&s * b)? + (s.matmul(&s)? * c)?)?;
        x = ((&x * a)? + poly.matmul(&x)?)?;
    }
    let x = if tall { x.t()?.contiguous()? } else { x };
    Ok((x * (rows as f64 / cols as f64).max(1.).sqrt())?)
}
