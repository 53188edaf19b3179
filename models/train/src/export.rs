//! A checkpoint as a GGUF file: matrices in Q8_0, norms in F32, vocabulary and template inside.
//! Rope turns adjacent pairs in training as in llama.cpp's `llama`, so no rows are permuted.

use crate::model::{CONTEXT, EPS, FFN, N_LAYERS, QKV, ROPE_BASE, WIDTH};
use crate::ops::{HEAD, KV_HEADS, Q_HEADS};
use crate::tokens::{CONTROL, END_OF_MESSAGE, END_OF_TEXT, MARKS};
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use oprel_gguf::{QuantType, StrArray, Writer};
use std::collections::HashMap;
use std::path::Path;
use tokenizers::Tokenizer;

/// The chat template of the demo model.
pub const TEMPLATE: &str = include_str!("../../demo/template.jinja");
/// `general.file_type` of a file that is mostly Q8_0.
const MOSTLY_Q8_0: u32 = 7;
const CONTROL_TOKEN: i32 = 3;
const USER_DEFINED_TOKEN: i32 = 4;
const NORMAL_TOKEN: i32 = 1;

type Weights = HashMap<String, Tensor>;

/// Writes the model of a checkpoint.
pub fn export(checkpoint: &Path, tokenizer: &Tokenizer, to: &Path) -> Result<()> {
    let weights = candle_core::safetensors::load(checkpoint, &Device::Cpu)?;
    let mut writer = Writer::new();
    describe(&mut writer, tokenizer.get_vocab_size(true) as u32)?;
    vocabulary(&mut writer, tokenizer)?;
    tensors(&mut writer, &weights)?;
    writer.write_file(to)?;
    Ok(())
}

fn describe(w: &mut Writer<'_>, vocab: u32) -> Result<()> {
    w.set("general.architecture", "llama")?;
    w.set("general.type", "model")?;
    w.set("general.name", "oprel demo")?;
    w.set("general.basename", "oprel-demo")?;
    w.set("general.size_label", "5M")?;
    w.set("general.license", "MIT OR Apache-2.0")?;
    w.set(
        "general.description",
        "The demo model of oprel: five million parameters, trained from scratch on a corpus \
         written for it. It knows oprel and tells short stories, and it can be wrong.",
    )?;
    w.set("general.file_type", MOSTLY_Q8_0)?;
    w.set("general.quantization_version", 2u32)?;
    // It knows one right answer to most questions: little is left to chance unless asked for.
    w.set("general.sampling.temp", 0.2f32)?;
    w.set("llama.context_length", CONTEXT as u32)?;
    w.set("llama.embedding_length", WIDTH as u32)?;
    w.set("llama.block_count", N_LAYERS as u32)?;
    w.set("llama.feed_forward_length", FFN as u32)?;
    w.set("llama.attention.head_count", Q_HEADS as u32)?;
    w.set("llama.attention.head_count_kv", KV_HEADS as u32)?;
    w.set("llama.attention.layer_norm_rms_epsilon", EPS)?;
    w.set("llama.rope.freq_base", ROPE_BASE)?;
    w.set("llama.rope.dimension_count", HEAD as u32)?;
    w.set("llama.vocab_size", vocab)?;
    Ok(())
}

fn vocabulary(w: &mut Writer<'_>, tokenizer: &Tokenizer) -> Result<()> {
    let n = tokenizer.get_vocab_size(true) as u32;
    let tokens: Vec<String> = (0..n)
        .map(|id| tokenizer.id_to_token(id).with_context(|| format!("no token {id}")))
        .collect::<Result<_>>()?;
    let kind = |t: &String| match t.as_str() {
        t if CONTROL.contains(&t) => CONTROL_TOKEN,
        t if MARKS.contains(&t) => USER_DEFINED_TOKEN,
        _ => NORMAL_TOKEN,
    };
    let id = |text: &str| tokenizer.token_to_id(text).with_context(|| format!("no token {text}"));
    let strings = |all: &[String]| {
        StrArray::try_from_iter(all).context("the vocabulary is too large for a file")
    };
    w.set("tokenizer.ggml.model", "gpt2")?;
    w.set("tokenizer.ggml.pre", "gpt-2")?;
    w.set("tokenizer.ggml.token_type", tokens.iter().map(kind).collect::<Vec<i32>>())?;
    w.set("tokenizer.ggml.tokens", strings(&tokens)?)?;
    w.set("tokenizer.ggml.merges", strings(&merges(tokenizer)?)?)?;
    w.set("tokenizer.ggml.bos_token_id", id(END_OF_TEXT)?)?;
    w.set("tokenizer.ggml.eos_token_id", id(END_OF_MESSAGE)?)?;
    w.set("tokenizer.ggml.padding_token_id", id(END_OF_TEXT)?)?;
    w.set("tokenizer.ggml.add_bos_token", false)?;
    w.set("tokenizer.ggml.add_eos_token", false)?;
    w.set("tokenizer.chat_template", TEMPLATE.trim_end())?;
    Ok(())
}

/// The merges in order, as `left right`.
fn merges(tokenizer: &Tokenizer) -> Result<Vec<String>> {
    let json: serde_json::Value = serde_json::to_value(tokenizer.get_model())?;
    let all = json["merges"].as_array().context("the model has no merges")?;
    all.iter()
        .map(|m| match m {
            serde_json::Value::String(s) => Ok(s.clone()),
            pair => {
                let side = |i: usize| pair[i].as_str().context("a merge has two sides");
                Ok(format!("{} {}", side(0)?, side(1)?))
            }
        })
        .collect()
}

fn tensors(w: &mut Writer<'_>, weights: &Weights) -> Result<()> {
    let whole = |name: &str| {
        let t = weights.get(name).with_context(|| format!("the checkpoint lacks {name}"))?;
        Ok::<_, anyhow::Error>(t.clone())
    };
    matrix(w, "token_embd", &whole("token_embd")?)?;
    for i in 0..N_LAYERS {
        let of = |name: &str| format!("blk.{i}.{name}");
        norm(w, &of("attn_norm"), &whole(&of("attn_norm"))?)?;
        let qkv = whole(&of("attn_qkv"))?;
        let (q, kv) = (Q_HEADS * HEAD, KV_HEADS * HEAD);
        ensure!(qkv.dim(0)? == QKV, "the fused projection has {QKV} rows");
        matrix(w, &of("attn_q"), &qkv.narrow(0, 0, q)?)?;
        matrix(w, &of("attn_k"), &qkv.narrow(0, q, kv)?)?;
        matrix(w, &of("attn_v"), &qkv.narrow(0, q + kv, kv)?)?;
        matrix(w, &of("attn_output"), &whole(&of("attn_output"))?)?;
        norm(w, &of("ffn_norm"), &whole(&of("ffn_norm"))?)?;
        let gate_up = whole(&of("ffn_gate_up"))?;
        matrix(w, &of("ffn_gate"), &gate_up.narrow(0, 0, FFN)?)?;
        matrix(w, &of("ffn_up"), &gate_up.narrow(0, FFN, FFN)?)?;
        matrix(w, &of("ffn_down"), &whole(&of("ffn_down"))?)?;
    }
    norm(w, "output_norm", &whole("output_norm")?)
}

fn matrix(w: &mut Writer<'_>, name: &str, t: &Tensor) -> Result<()> {
    let (rows, cols) = t.dims2()?;
    let values = t.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
    let ty = QuantType::Q8_0;
    let mut bytes = vec![0; rows * ty.row_bytes(cols).context("rows of whole blocks")?];
    oprel_quant::quantize(ty, &values, &mut bytes)?;
    Ok(w.tensor(&format!("{name}.weight"), &[cols as u64, rows as u64], ty, bytes)?)
}

fn norm(w: &mut Writer<'_>, name: &str, t: &Tensor) -> Result<()> {
    let bytes: Vec<u8> = t.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect();
    let shape = [t.elem_count() as u64];
    Ok(w.tensor(&format!("{name}.weight"), &shape, QuantType::F32, bytes)?)
}
