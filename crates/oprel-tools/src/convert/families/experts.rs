//! Decoders with routed experts in their layers.

use super::super::config::Config;
use super::super::keys::Keys;
use super::super::out::{Out, Source};
use super::super::tensors::Stored;
use super::dense::granite_keys;
use super::shared::{experts_apart, paired};
use super::{Family, PLAIN};
use crate::error::Result;

pub(super) const QWEN2_MOE: Family = Family {
    architecture: "qwen2moe",
    keys: qwen_keys,
    shape: |_, out| experts_apart(out),
    ..PLAIN
};

pub(super) const QWEN3_MOE: Family = Family { architecture: "qwen3moe", ..QWEN2_MOE };

pub(super) const GRANITE_MOE: Family = Family {
    architecture: "granitemoe",
    keys: granite_keys,
    shape: |c, out| {
        let mut made = Vec::new();
        for out in experts_apart(out)? {
            made.extend(paired(c, out)?);
        }
        Ok(made)
    },
    ..PLAIN
};

pub(super) const DEEPSEEK2: Family =
    Family { architecture: "deepseek2", keys: deepseek2_keys, shape: deepseek2_shape, ..PLAIN };

pub(super) const GPT_OSS: Family = Family {
    architecture: "gpt-oss",
    names: &[
        ("post_attention_layernorm", "post_attention_norm"),
        ("self_attn.sinks", "attn_sinks.weight"),
        ("mlp.router", "ffn_gate_inp"),
        ("mlp.experts.gate_up_proj_bias", "ffn_gate_up_exps.bias"),
        ("mlp.experts.down_proj_bias", "ffn_down_exps.bias"),
        ("mlp.experts.gate_up_proj_blocks", "ffn_gate_up_exps.weight"),
        ("mlp.experts.down_proj_blocks", "ffn_down_exps.weight"),
    ],
    keys: gpt_oss_keys,
    shape: gpt_oss_shape,
    ..PLAIN
};

pub(super) fn qwen_keys(k: &mut Keys<'_>) -> Result<()> {
    k.transformer()?;
    k.maybe_count("expert_feed_forward_length", &["moe_intermediate_size"])?;
    let shared = ["shared_expert_intermediate_size"];
    k.maybe_count("expert_shared_feed_forward_length", &shared)
}

/// Latent attention is described as attention of one wide key and value head.
fn deepseek2_keys(k: &mut Keys<'_>) -> Result<()> {
    k.transformer()?;
    let c = k.config;
    let experts = c.maybe_u32(&["n_routed_experts"])?;
    k.set("attention.head_count_kv", 1u32);
    let eps = c.maybe_f64(&["rms_norm_eps"])?.unwrap_or(1e-6) as f32;
    k.set("attention.layer_norm_rms_epsilon", eps);
    let dense = match c.maybe_u32(&["first_k_dense_replace"])? {
        Some(n) => n,
        None if experts.is_none() => c.n_layers()?,
        None => 0,
    };
    k.set("leading_dense_block_count", dense);
    k.maybe_count("attention.q_lora_rank", &["q_lora_rank"])?;
    let (rank, v) = (c.u32(&["kv_lora_rank"])?, c.u32(&["v_head_dim"])?);
    let (nope, rope) = (c.u32(&["qk_nope_head_dim"])?, c.u32(&["qk_rope_head_dim"])?);
    k.set("attention.kv_lora_rank", rank);
    k.set("attention.key_length", rank.saturating_add(rope));
    k.set("attention.value_length", rank);
    k.set("attention.key_length_mla", nope.saturating_add(rope));
    k.set("attention.value_length_mla", v);
    k.set("rope.dimension_count", rope);
    k.count("expert_feed_forward_length", &["moe_intermediate_size", "intermediate_size"])?;
    k.maybe_count("expert_count", &["n_routed_experts"])?;
    let shared = c.maybe_u32(&["n_shared_experts"])?.unwrap_or(0);
    k.set("expert_shared_count", shared);
    k.maybe_number("expert_weights_scale", &["routed_scaling_factor"])?;
    if let Some(normalized @ true) = c.bool("norm_topk_prob") {
        k.set("expert_weights_norm", normalized);
    }
    // Files hold a tenth of it, for want of a fix in time.
    if let Some(x) = c.rope().maybe_f64(&["mscale_all_dim"])? {
        k.set("rope.scaling.yarn_log_multiplier", (0.1 * x) as f32);
    }
    Ok(())
}

/// What takes the latent to keys is split from what takes it to values, and transposed.
fn deepseek2_shape(c: &Config, out: Out) -> Result<Vec<Out>> {
    if out.part() != "attn_kv_b.weight" {
        return experts_apart(out);
    }
    let (nope, v) = (u64::from(c.u32(&["qk_nope_head_dim"])?), u64::from(c.u32(&["v_head_dim"])?));
    let heads = u64::from(c.n_heads()?);
    let both = nope + v;
    if out.shape.len() != 2 || out.n_rows() != heads * both || nope == 0 || v == 0 {
        return Err(out.wrong("does not have the rows that config.json says"));
    }
    let keys = out.clone().named("attn_k_b.weight");
    let keys = keys.taken(&[heads, nope], |row| row / nope * both + row % nope)?.transposed();
    let values = out.named("attn_v_b.weight");
    let values = values.taken(&[heads, v], |row| row / v * both + nope + row % v)?;
    Ok(vec![keys, values])
}

fn gpt_oss_keys(k: &mut Keys<'_>) -> Result<()> {
    k.transformer()?;
    k.count("attention.sliding_window", &["sliding_window"])?;
    k.count("expert_feed_forward_length", &["intermediate_size"])
}

/// Gate and up alternate, row by row. FP4 blocks stay what they are; matrices in other types are stored with
/// inputs as rows.
fn gpt_oss_shape(_: &Config, mut out: Out) -> Result<Vec<Out>> {
    let is_gate_up = out.part().starts_with("ffn_gate_up_exps.");
    match out.part() {
        "ffn_gate_up_exps.weight" | "ffn_down_exps.weight" => {}
        "ffn_gate_up_exps.bias" => {
            let n = out.shape.last().copied().unwrap_or(0).min(1 << 24) as u32;
            let columns = |from: u32| (from..n).step_by(2).collect::<Vec<u32>>();
            return Ok(vec![
                out.clone().named("ffn_gate_exps.bias").columns_taken(columns(0))?,
                out.named("ffn_up_exps.bias").columns_taken(columns(1))?,
            ]);
        }
        _ => return Ok(vec![out]),
    }
    let is_fp4 = matches!(out.source, Source::Rows { stored: Stored::U8, .. });
    if is_fp4 {
        out = out.of_fp4_rows()?;
    }
    match (is_gate_up, is_fp4) {
        (false, true) => Ok(vec![out]),
        (false, false) => Ok(vec![out.transposed()]),
        (true, true) => Ok(vec![
            out.clone().every_second("ffn_gate_exps.weight", 0)?,
            out.every_second("ffn_up_exps.weight", 1)?,
        ]),
        (true, false) => {
            let n = out.shape.last().copied().unwrap_or(0).min(1 << 24) as u32;
            let columns = |from: u32| (from..n).step_by(2).collect::<Vec<u32>>();
            let (gate, up) =
                (out.clone().named("ffn_gate_exps.weight"), out.named("ffn_up_exps.weight"));
            Ok(vec![
                gate.columns_taken(columns(0))?.transposed(),
                up.columns_taken(columns(1))?.transposed(),
            ])
        }
    }
}
