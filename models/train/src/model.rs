//! The network: a llama of six layers, its weights as candle variables. Shapes only, no file.

use crate::ops::{Attention, HEAD, KV_HEADS, Q_HEADS, RmsNorm, Rope, SwiGlu};
use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Width of a row between layers.
pub const WIDTH: usize = 256;
/// Width inside the feed-forward.
pub const FFN: usize = 768;
pub const N_LAYERS: usize = 6;
/// Most tokens a sequence may hold.
pub const CONTEXT: usize = 1024;
pub const ROPE_BASE: f32 = 10_000.;
pub const EPS: f32 = 1e-5;
/// Rows of the fused projection: queries, keys, values.
pub const QKV: usize = (Q_HEADS + 2 * KV_HEADS) * HEAD;

struct Layer {
    attn_norm: Var,
    /// (QKV, WIDTH)
    attn_qkv: Var,
    /// (WIDTH, heads)
    attn_output: Var,
    ffn_norm: Var,
    /// (2 FFN, WIDTH): gate, then up
    ffn_gate_up: Var,
    /// (WIDTH, FFN)
    ffn_down: Var,
}

/// The weights, by name and as the layers use them. The embedding is the head too.
pub struct Model {
    pub vars: BTreeMap<String, Var>,
    embed: Var,
    layers: Vec<Layer>,
    output_norm: Var,
    rope: Arc<Rope>,
}

/// Documents packed one behind another: no padding, no sight across.
pub struct Packed {
    pub tokens: Vec<u32>,
    pub lengths: Arc<Vec<usize>>,
}

/// Gaussian numbers from a seed, so that a run can be repeated (candle's CPU generator cannot be
/// seeded).
pub struct Gauss(pub crate::random::Random);

impl Gauss {
    fn matrix(&mut self, rows: usize, cols: usize, std: f64) -> Result<Var> {
        let data: Vec<f32> = (0..rows * cols)
            .map(|_| {
                let (u, v) = (1. - self.0.unit(), self.0.unit());
                (std * (-2. * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
            })
            .collect();
        Ok(Var::from_tensor(&Tensor::from_vec(data, (rows, cols), &Device::Cpu)?)?)
    }
}

impl Model {
    /// A fresh model for a vocabulary.
    pub fn new(vocab: usize, seed: u64) -> Result<Self> {
        let mut gauss = Gauss(crate::random::Random::new(seed));
        let mut vars = BTreeMap::new();
        let ones = || Var::ones(WIDTH, DType::F32, &Device::Cpu);
        let inner = 1. / (WIDTH as f64).sqrt();
        let last = 0.5 / (2. * N_LAYERS as f64).sqrt();
        vars.insert("token_embd".into(), gauss.matrix(vocab, WIDTH, 0.03)?);
        vars.insert("output_norm".into(), ones()?);
        for i in 0..N_LAYERS {
            let mut add = |name: &str, v: Var| vars.insert(format!("blk.{i}.{name}"), v);
            add("attn_norm", ones()?);
            add("attn_qkv", gauss.matrix(QKV, WIDTH, 0.7 * inner)?);
            add("attn_output", gauss.matrix(WIDTH, Q_HEADS * HEAD, last * inner)?);
            add("ffn_norm", ones()?);
            add("ffn_gate_up", gauss.matrix(2 * FFN, WIDTH, 0.7 * inner)?);
            add("ffn_down", gauss.matrix(WIDTH, FFN, last / (FFN as f64).sqrt())?);
        }
        Ok(Self::of(vars))
    }

    fn of(vars: BTreeMap<String, Var>) -> Self {
        let layer = |i: usize| {
            let var = |name: &str| vars[&format!("blk.{i}.{name}")].clone();
            Layer {
                attn_norm: var("attn_norm"),
                attn_qkv: var("attn_qkv"),
                attn_output: var("attn_output"),
                ffn_norm: var("ffn_norm"),
                ffn_gate_up: var("ffn_gate_up"),
                ffn_down: var("ffn_down"),
            }
        };
        Self {
            embed: vars["token_embd"].clone(),
            layers: (0..N_LAYERS).map(layer).collect(),
            output_norm: vars["output_norm"].clone(),
            rope: Arc::new(Rope::new(CONTEXT, ROPE_BASE)),
            vars,
        }
    }

    /// Logits (n, vocabulary) of packed documents.
    pub fn logits(&self, batch: &Packed) -> Result<Tensor> {
        let ids = Tensor::from_slice(&batch.tokens, batch.tokens.len(), &Device::Cpu)?;
        let mut x = self.embed.index_select(&ids, 0)?;
        for l in &self.layers {
            let attention = Attention { rope: self.rope.clone(), lengths: batch.lengths.clone() };
            let h = norm(&x, &l.attn_norm)?.matmul(&l.attn_qkv.t()?)?;
            x = (x + h.apply_op1(attention)?.matmul(&l.attn_output.t()?)?)?;
            let h = norm(&x, &l.ffn_norm)?.matmul(&l.ffn_gate_up.t()?)?;
            x = (x + h.apply_op1(SwiGlu)?.matmul(&l.ffn_down.t()?)?)?;
        }
        Ok(norm(&x, &self.output_norm)?.matmul(&self.embed.t()?)?)
    }
}

fn norm(x: &Tensor, w: &Var) -> Result<Tensor> {
    Ok(x.apply_op2(w.as_tensor(), RmsNorm { eps: EPS })?)
}
