//! Decoders of dense layers with attention in each; and Mixtral, which shares Llama's tensors.

use super::super::config::Config;
use super::super::keys::Keys;
use super::super::out::{Change, Out};
use super::shared::{experts_apart, llama3_factors, paired};
use super::{Family, PLAIN};
use crate::error::{Error, Result};

pub(super) const LLAMA: Family = Family {
    architecture: "llama",
    keys: llama_keys,
    shape: paired,
    extra: llama3_factors,
    ..PLAIN
};

pub(super) const MISTRAL3: Family =
    Family { architecture: "mistral3", keys: mistral3_keys, shape: paired, ..PLAIN };

pub(super) const QWEN2: Family = Family { architecture: "qwen2", ..PLAIN };

pub(super) const QWEN3: Family = Family { architecture: "qwen3", ..PLAIN };

pub(super) const GEMMA: Family =
    Family { architecture: "gemma", keys: gemma_keys, shape: gemma_shape, ..PLAIN };

pub(super) const GEMMA2: Family = Family {
    architecture: "gemma2",
    names: NORMS_AROUND,
    keys: gemma2_keys,
    shape: gemma_shape,
    ..PLAIN
};

pub(super) const GEMMA3: Family = Family {
    architecture: "gemma3",
    names: NORMS_AROUND,
    keys: gemma3_keys,
    shape: gemma_shape,
    ..PLAIN
};

pub(super) const PHI3: Family =
    Family { architecture: "phi3", keys: phi3_keys, extra: phi3_factors, ..PLAIN };

pub(super) const OLMO2: Family =
    Family { architecture: "olmo2", names: NORMS_AROUND, keys: olmo2_keys, ..PLAIN };

pub(super) const GLM4: Family = Family {
    architecture: "glm4",
    names: &[
        ("post_self_attn_layernorm", "post_attention_norm"),
        ("post_mlp_layernorm", "post_ffw_norm"),
    ],
    keys: glm4_keys,
    ..PLAIN
};

pub(super) const GRANITE: Family =
    Family { architecture: "granite", keys: granite_keys, shape: granite_shape, ..PLAIN };

/// Families with norms after blocks call the one after attention as others call that before the feed-forward.
const NORMS_AROUND: &[(&str, &str)] = &[("post_attention_layernorm", "post_attention_norm")];

fn llama_keys(k: &mut Keys<'_>) -> Result<()> {
    k.transformer()?;
    let dim = k.config.head_dim()?;
    k.set("rope.dimension_count", dim);
    Ok(())
}

fn mistral3_keys(k: &mut Keys<'_>) -> Result<()> {
    llama_keys(k)?;
    let rope = k.config.rope();
    if let Some(x) = rope.maybe_f64(&["mscale_all_dim"])? {
        k.set("rope.scaling.yarn_log_multiplier", x as f32);
    }
    if let Some(x) = rope.maybe_f64(&["llama_4_scaling_beta"])? {
        k.set("attention.temperature_scale", x as f32);
    }
    Ok(())
}

fn gemma_keys(k: &mut Keys<'_>) -> Result<()> {
    k.sizes()?;
    k.heads()
}

fn gemma2_keys(k: &mut Keys<'_>) -> Result<()> {
    gemma_keys(k)?;
    k.number("attn_logit_softcapping", &["attn_logit_softcapping"])?;
    k.number("final_logit_softcapping", &["final_logit_softcapping"])?;
    k.count("attention.sliding_window", &["sliding_window"])
}

/// Gemma 3's configurations leave out what is usual.
fn gemma3_keys(k: &mut Keys<'_>) -> Result<()> {
    k.sizes()?;
    k.rope()?;
    let c = k.config;
    let or = |keys: &[&str], usual: u32| -> Result<u32> { Ok(c.maybe_u32(keys)?.unwrap_or(usual)) };
    k.set("context_length", or(&["max_position_embeddings"], 131_072)?);
    k.set("attention.head_count", or(&["num_attention_heads"], 8)?);
    k.set("attention.head_count_kv", or(&["num_key_value_heads"], 4)?);
    k.set("attention.key_length", or(&["head_dim"], 256)?);
    k.set("attention.value_length", or(&["head_dim"], 256)?);
    let eps = c.maybe_f64(&["rms_norm_eps"])?.unwrap_or(1e-6) as f32;
    k.set("attention.layer_norm_rms_epsilon", eps);
    let theta = c.rope().maybe_f64(&["rope_theta"])?.or(c.maybe_f64(&["rope_theta"])?);
    k.set("rope.freq_base", theta.unwrap_or(1_000_000.0) as f32);
    k.maybe_number("final_logit_softcapping", &["final_logit_softcapping"])?;
    if c.maybe_u32(&["sliding_window_pattern"])? != Some(1) {
        k.count("attention.sliding_window", &["sliding_window"])?;
    }
    Ok(())
}

/// Gemma's norms multiply by one more than their weight; logits come from the token table.
fn gemma_shape(_: &Config, out: Out) -> Result<Vec<Out>> {
    Ok(match out.part() {
        "output.weight" => Vec::new(),
        part if part.ends_with("norm.weight") => vec![out.with(Change::Plus(1.0))],
        _ => vec![out],
    })
}

fn phi3_rotated(c: &Config) -> Result<u32> {
    let share = match c.rope().maybe_f64(&["partial_rotary_factor"])? {
        Some(share) => share,
        None => c.maybe_f64(&["partial_rotary_factor"])?.unwrap_or(1.0),
    };
    Ok((share * f64::from(c.width()?)) as u32 / c.n_heads()?)
}

fn phi3_keys(k: &mut Keys<'_>) -> Result<()> {
    k.sizes()?;
    k.heads()?;
    k.rope()?;
    let dims = phi3_rotated(k.config)?;
    k.set("rope.dimension_count", dims);
    let original = original_context(k.config)?;
    k.set("rope.scaling.original_context_length", original);
    // 0 tells Phi-4 from models that have a window.
    let window = k.config.maybe_u32(&["sliding_window"])?.unwrap_or(0);
    k.set("attention.sliding_window", window);
    let rope = k.config.rope();
    if rope.get("long_factor").is_none() {
        return Ok(());
    }
    let stretch =
        f64::from(k.config.u32(&["max_position_embeddings"])?) / f64::from(original.max(1));
    let magnitude = match rope.str("rope_type").or_else(|| rope.str("type")) {
        _ if stretch <= 1.0 => 1.0,
        Some("yarn") => 0.1 * stretch.ln() + 1.0,
        _ => (1.0 + stretch.ln() / f64::from(original).ln()).sqrt(),
    };
    k.set("rope.scaling.attn_factor", magnitude as f32);
    Ok(())
}

fn original_context(c: &Config) -> Result<u32> {
    match c.rope().maybe_u32(&["original_max_position_embeddings"])? {
        Some(n) => Ok(n),
        None => c.u32(&["original_max_position_embeddings", "max_position_embeddings"]),
    }
}

fn phi3_factors(c: &Config) -> Result<Vec<Out>> {
    let rope = c.rope();
    if rope.get("long_factor").is_none() {
        return Ok(Vec::new());
    }
    let n = phi3_rotated(c)? as usize / 2;
    let mut made = Vec::new();
    for (key, name) in
        [("long_factor", "rope_factors_long.weight"), ("short_factor", "rope_factors_short.weight")]
    {
        let factors = rope.numbers(key, n)?;
        if factors.len() != n {
            return Err(Error::config(key, format!("holds {} numbers, not {n}", factors.len())));
        }
        made.push(Out::values(name, factors));
    }
    Ok(made)
}

fn olmo2_keys(k: &mut Keys<'_>) -> Result<()> {
    k.transformer()?;
    k.windows(Some(4))
}

fn glm4_keys(k: &mut Keys<'_>) -> Result<()> {
    k.transformer()?;
    let share = match k.config.rope().maybe_f64(&["partial_rotary_factor"])? {
        Some(share) => share,
        None => k.config.maybe_f64(&["partial_rotary_factor"])?.unwrap_or(0.5),
    };
    let dims = (f64::from(k.config.head_dim()?) * share) as u32;
    k.set("rope.dimension_count", dims);
    Ok(())
}

/// Granite has factors in four places; `head_dim` is not looked at.
pub(super) fn granite_keys(k: &mut Keys<'_>) -> Result<()> {
    k.sizes()?;
    k.rope()?;
    k.experts()?;
    let (heads, kv_heads) = (k.config.n_heads()?, k.config.n_kv_heads()?);
    k.set("attention.head_count", heads);
    k.set("attention.head_count_kv", kv_heads);
    k.set("rope.dimension_count", k.config.width()? / heads);
    k.maybe_number("attention.scale", &["attention_multiplier"])?;
    k.maybe_number("embedding_scale", &["embedding_multiplier"])?;
    k.maybe_number("residual_scale", &["residual_multiplier"])?;
    k.maybe_number("logit_scale", &["logits_scaling"])?;
    if let Some(shared) = k.config.maybe_u32(&["shared_intermediate_size"])? {
        match k.config.maybe_u32(&["num_experts_per_tok"])?.filter(|n| *n > 0) {
            Some(_) => k.set("expert_shared_feed_forward_length", shared),
            None => k.set("feed_forward_length", shared),
        }
    }
    if let Some(positions) = k.config.str("position_embedding_type") {
        k.set("rope.scaling.finetuned", positions == "rope");
    }
    Ok(())
}

/// The one feed-forward of a dense Granite 4 is stored as a shared expert.
fn granite_shape(c: &Config, out: Out) -> Result<Vec<Out>> {
    let mut made = Vec::new();
    for out in experts_apart(out)? {
        let out = match out.part().strip_suffix("_shexp.weight").map(str::to_owned) {
            Some(part) => out.named(&format!("{part}.weight")),
            None => out,
        };
        made.extend(paired(c, out)?);
    }
    Ok(made)
}
