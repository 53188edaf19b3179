//! The exported file read back and run, one token after another, in plain loops over f32: enough
//! for an examination, and another reading of the same description as training's.

use crate::model::{CONTEXT, EPS, FFN, N_LAYERS, ROPE_BASE, WIDTH};
use crate::ops::{HEAD, KV_HEADS, Q_HEADS, Rope};
use anyhow::{Context, Result, anyhow};
use oprel_gguf::Gguf;
use std::collections::HashMap;
use std::path::Path;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

const GROUP: usize = Q_HEADS / KV_HEADS;
const KV: usize = KV_HEADS * HEAD;

pub struct Demo {
    weights: HashMap<String, Vec<f32>>,
    pub tokenizer: Tokenizer,
    end: u32,
    rope: Rope,
}

/// What the model has read: keys and values of each layer, position by position.
#[derive(Default)]
struct State {
    k: [Vec<f32>; N_LAYERS],
    v: [Vec<f32>; N_LAYERS],
    n: usize,
}

impl Demo {
    pub fn open(path: &Path) -> Result<Self> {
        let file = Gguf::open(path)?;
        let mut weights = HashMap::new();
        for info in file.tensors() {
            let mut values = vec![0f32; info.n_elements() as usize];
            oprel_quant::dequantize(info.ty, &file.bytes(info), &mut values)?;
            weights.insert(info.name.clone(), values);
        }
        let end = file.metadata().u32("tokenizer.ggml.eos_token_id")?;
        Ok(Self {
            weights,
            tokenizer: tokenizer(&file)?,
            end: end.context("the file names no end token")?,
            rope: Rope::new(CONTEXT, ROPE_BASE),
        })
    }

    /// The likeliest answer to a question, without a system prompt.
    pub fn answer(&self, question: &str, most: usize) -> Result<String> {
        self.continue_text(
            &format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"),
            most,
        )
    }

    /// The likeliest continuation of a text, up to the end token.
    fn continue_text(&self, prompt: &str, most: usize) -> Result<String> {
        let prompt = crate::tokens::ids(&self.tokenizer, prompt)?;
        let mut state = State::default();
        let mut logits = Vec::new();
        for id in &prompt {
            logits = self.step(*id, &mut state);
        }
        let mut out = Vec::new();
        while out.len() < most && state.n < CONTEXT {
            let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            let id = best.map_or(self.end, |b| b.0 as u32);
            if id == self.end {
                break;
            }
            out.push(id);
            logits = self.step(id, &mut state);
        }
        self.tokenizer.decode(&out, false).map_err(|e| anyhow!(e))
    }

    /// Reads one token; logits of the next.
    fn step(&self, id: u32, state: &mut State) -> Vec<f32> {
        let embed = &self.weights["token_embd.weight"];
        let mut x = embed[id as usize * WIDTH..][..WIDTH].to_vec();
        for layer in 0..N_LAYERS {
            let w = |name: &str| &self.weights[&format!("blk.{layer}.{name}.weight")];
            let h = norm(&x, w("attn_norm"));
            let mut q = matvec(w("attn_q"), &h);
            let mut k = matvec(w("attn_k"), &h);
            q.chunks_mut(HEAD).for_each(|head| self.rope.rotate(head, state.n, 1.));
            k.chunks_mut(HEAD).for_each(|head| self.rope.rotate(head, state.n, 1.));
            state.k[layer].extend(k);
            state.v[layer].extend(matvec(w("attn_v"), &h));
            let mixed = attend(&q, &state.k[layer], &state.v[layer]);
            add(&mut x, &matvec(w("attn_output"), &mixed));
            let h = norm(&x, w("ffn_norm"));
            let (gate, up) = (matvec(w("ffn_gate"), &h), matvec(w("ffn_up"), &h));
            let gated: Vec<f32> =
                gate.iter().zip(&up).map(|(g, u)| g / (1. + (-g).exp()) * u).collect();
            debug_assert_eq!(gated.len(), FFN);
            add(&mut x, &matvec(w("ffn_down"), &gated));
        }
        state.n += 1;
        matvec(embed, &norm(&x, &self.weights["output_norm.weight"]))
    }
}

fn tokenizer(file: &Gguf) -> Result<Tokenizer> {
    let strings = |key: &str| {
        let all = file.metadata().strs(key)?.with_context(|| format!("the file lacks {key}"))?;
        Ok::<_, anyhow::Error>(all.iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let tokens = strings("tokenizer.ggml.tokens")?;
    let merges = strings("tokenizer.ggml.merges")?
        .iter()
        .map(|m| m.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())))
        .collect::<Option<Vec<_>>>()
        .context("a merge has two sides")?;
    let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
    let bpe = BPE::builder().vocab_and_merges(vocab, merges);
    let mut tokenizer = Tokenizer::new(bpe.build().map_err(|e| anyhow!(e))?);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
    let types = file.metadata().i32s("tokenizer.ggml.token_type")?;
    let types = types.context("the file lacks token types")?;
    let special = tokens.iter().zip(types.iter()).filter(|(_, t)| **t != 1);
    let special: Vec<AddedToken> =
        special.map(|(token, _)| AddedToken::from(token.as_str(), true)).collect();
    tokenizer.add_special_tokens(special).map_err(|e| anyhow!(e))?;
    Ok(tokenizer)
}

fn norm(x: &[f32], w: &[f32]) -> Vec<f32> {
    let s = 1. / (x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32 + EPS).sqrt();
    x.iter().zip(w).map(|(x, w)| x * s * w).collect()
}

/// `w` (rows, x.len()) times x.
fn matvec(w: &[f32], x: &[f32]) -> Vec<f32> {
    w.chunks_exact(x.len()).map(|row| dot(row, x)).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum()
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn attend(q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let mut out = vec![0f32; q.len()];
    for (head, (q, out)) in q.chunks(HEAD).zip(out.chunks_mut(HEAD)).enumerate() {
        let at = head / GROUP * HEAD;
        let scale = 1. / (HEAD as f32).sqrt();
        let mut p: Vec<f32> = k.chunks(KV).map(|row| dot(q, &row[at..][..HEAD]) * scale).collect();
        let lse = crate::ops::log_sum_exp(&p);
        p.iter_mut().for_each(|p| *p = (*p - lse).exp());
        for (p, row) in p.iter().zip(v.chunks(KV)) {
            out.iter_mut().zip(&row[at..][..HEAD]).for_each(|(o, v)| *o += p * v);
        }
    }
    out
}
