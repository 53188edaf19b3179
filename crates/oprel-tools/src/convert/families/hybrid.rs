//! Models whose layers are, or have beside them, state spaces, delta rules or short convolutions.

use super::super::config::Config;
use super::super::keys::Keys;
use super::super::out::{Change, Out};
use super::experts::qwen_keys;
use super::shared::experts_apart;
use super::{Family, PLAIN};
use crate::error::{Error, Result};

pub(super) const MAMBA: Family =
    Family { architecture: "mamba", keys: mamba_keys, shape: mamba_shape, ..PLAIN };

pub(super) const MAMBA2: Family =
    Family { architecture: "mamba2", keys: mamba2_keys, shape: mamba2_shape, ..PLAIN };

pub(super) const FALCON_H1: Family = Family {
    architecture: "falcon-h1",
    names: &[
        ("mamba.in_proj", "ssm_in"),
        ("mamba.conv1d", "ssm_conv1d"),
        ("mamba.dt_bias", "ssm_dt.bias"),
        ("mamba.A_log", "ssm_a"),
        ("mamba.D", "ssm_d"),
        ("mamba.norm", "ssm_norm"),
        ("mamba.out_proj", "ssm_out"),
        ("feed_forward.gate_proj", "ffn_gate"),
        ("feed_forward.up_proj", "ffn_up"),
        ("feed_forward.down_proj", "ffn_down"),
        ("pre_ff_layernorm", "ffn_norm"),
    ],
    keys: falcon_h1_keys,
    shape: falcon_h1_shape,
    ..PLAIN
};

pub(super) const LFM2: Family =
    Family { architecture: "lfm2", names: LFM2_NAMES, keys: lfm2_keys, shape: lfm2_shape, ..PLAIN };

pub(super) const LFM2_MOE: Family = Family { architecture: "lfm2moe", keys: lfm2_moe_keys, ..LFM2 };

const LFM2_NAMES: &[(&str, &str)] = &[
    ("operator_norm", "attn_norm"),
    ("ffn_norm", "ffn_norm"),
    ("self_attn.out_proj", "attn_output"),
    ("self_attn.q_layernorm", "attn_q_norm"),
    ("self_attn.k_layernorm", "attn_k_norm"),
    ("conv.conv", "shortconv.conv"),
    ("conv.in_proj", "shortconv.in_proj"),
    ("conv.out_proj", "shortconv.out_proj"),
    ("feed_forward.w1", "ffn_gate"),
    ("feed_forward.w2", "ffn_down"),
    ("feed_forward.w3", "ffn_up"),
    ("feed_forward.gate", "ffn_gate_inp"),
    ("feed_forward.expert_bias", "exp_probs_b.bias"),
    ("feed_forward.experts.*.w1", "ffn_gate_exps"),
    ("feed_forward.experts.*.w2", "ffn_down_exps"),
    ("feed_forward.experts.*.w3", "ffn_up_exps"),
    ("feed_forward.experts.gate_up_proj", "ffn_gate_up_exps.weight"),
    ("feed_forward.experts.down_proj", "ffn_down_exps.weight"),
];

pub(super) const NEMOTRON_H: Family = Family {
    architecture: "nemotron_h",
    names: &[
        ("mixer.q_proj", "attn_q"),
        ("mixer.k_proj", "attn_k"),
        ("mixer.v_proj", "attn_v"),
        ("mixer.o_proj", "attn_output"),
        ("mixer.up_proj", "ffn_up"),
        ("mixer.down_proj", "ffn_down"),
        ("mixer.gate", "ffn_gate_inp"),
        ("mixer.gate.e_score_correction_bias", "exp_probs_b.bias"),
        ("mixer.experts.*.up_proj", "ffn_up_exps"),
        ("mixer.experts.*.down_proj", "ffn_down_exps"),
        ("mixer.shared_experts.up_proj", "ffn_up_shexp"),
        ("mixer.shared_experts.down_proj", "ffn_down_shexp"),
        ("mixer.fc1_latent_proj", "ffn_latent_down"),
        ("mixer.fc2_latent_proj", "ffn_latent_up"),
    ],
    keys: nemotron_h_keys,
    shape: mamba2_shape,
    ..PLAIN
};

pub(super) const NEMOTRON_H_MOE: Family = Family { architecture: "nemotron_h_moe", ..NEMOTRON_H };

pub(super) const QWEN35: Family = Family {
    architecture: "qwen35",
    names: &[
        ("post_attention_layernorm", "post_attention_norm"),
        ("linear_attn.in_proj_qkv", "attn_qkv"),
        ("linear_attn.in_proj_z", "attn_gate"),
        ("linear_attn.in_proj_a", "ssm_alpha"),
        ("linear_attn.in_proj_b", "ssm_beta"),
        ("linear_attn.conv1d", "ssm_conv1d"),
        ("linear_attn.dt_bias", "ssm_dt.bias"),
        ("linear_attn.A_log", "ssm_a"),
        ("linear_attn.norm", "ssm_norm"),
        ("linear_attn.out_proj", "ssm_out"),
    ],
    keys: qwen35_keys,
    shape: qwen35_shape,
    ..PLAIN
};

pub(super) const QWEN35_MOE: Family = Family { architecture: "qwen35moe", ..QWEN35 };

/// What models of state spaces alone have, and llama.cpp's loader wants.
fn state_space(k: &mut Keys<'_>) -> Result<()> {
    k.sizes()?;
    k.set("context_length", 1u32 << 20);
    k.set("feed_forward_length", 0u32);
    k.set("attention.head_count", 0u32);
    let eps = k.config.maybe_f64(&["layer_norm_epsilon", "rms_norm_eps"])?.unwrap_or(1e-5);
    k.set("attention.layer_norm_rms_epsilon", eps as f32);
    let taps = k.config.maybe_u32(&["conv_kernel", "d_conv", "mamba_d_conv"])?.unwrap_or(4);
    k.set("ssm.conv_kernel", taps);
    Ok(())
}

fn mamba_keys(k: &mut Keys<'_>) -> Result<()> {
    state_space(k)?;
    let (c, width) = (k.config, k.config.width()?);
    k.set(
        "ssm.inner_size",
        c.maybe_u32(&["intermediate_size", "d_inner"])?.unwrap_or(width.saturating_mul(2)),
    );
    k.set("ssm.state_size", c.maybe_u32(&["state_size", "d_state"])?.unwrap_or(16));
    // "auto" stands for a sixteenth.
    let rank = c.maybe_u32(&["time_step_rank", "dt_rank"]).ok().flatten();
    k.set("ssm.time_step_rank", rank.unwrap_or(width.div_ceil(16)));
    k.set("ssm.dt_b_c_rms", c.str("model_type") == Some("falcon_mamba"));
    Ok(())
}

fn mamba_shape(_: &Config, out: Out) -> Result<Vec<Out>> {
    Ok(vec![match out.part() {
        "ssm_a" => out.with(Change::NegExp),
        "ssm_conv1d.weight" => out.squeezed(),
        _ => out,
    }])
}

/// Elements of x, and heads, of Mamba-2.
fn mamba2_inner(c: &Config) -> Result<(u32, u32)> {
    if c.get("mamba_num_heads").is_some() {
        let (heads, dim) = (c.u32(&["mamba_num_heads"])?, c.u32(&["mamba_head_dim"])?);
        return Ok((heads.saturating_mul(dim), dim));
    }
    let usual = c.width()?.saturating_mul(c.maybe_u32(&["expand"])?.unwrap_or(2));
    let inner = c.maybe_u32(&["mamba_d_ssm", "d_inner"])?.unwrap_or(usual);
    Ok((inner, c.maybe_u32(&["mamba_d_head", "head_dim"])?.unwrap_or(64)))
}

fn mamba2_groups(c: &Config) -> Result<u32> {
    Ok(c.maybe_u32(&["n_groups", "mamba_n_groups"])?.unwrap_or(1).max(1))
}

fn mamba2_sizes(k: &mut Keys<'_>) -> Result<()> {
    let c = k.config;
    let (inner, dim) = mamba2_inner(c)?;
    let Some(heads) = inner.checked_div(dim) else {
        return Err(Error::config("head_dim", "must be positive"));
    };
    k.set("ssm.inner_size", inner);
    let state = c.maybe_u32(&["state_size", "d_state", "ssm_state_size", "mamba_d_state"])?;
    k.set("ssm.state_size", state.unwrap_or(128));
    k.set("ssm.time_step_rank", heads);
    k.set("ssm.group_count", mamba2_groups(c)?);
    Ok(())
}

fn mamba2_keys(k: &mut Keys<'_>) -> Result<()> {
    state_space(k)?;
    mamba2_sizes(k)
}

fn mamba2_shape(c: &Config, out: Out) -> Result<Vec<Out>> {
    let rows = out.n_rows();
    Ok(vec![match out.part() {
        "ssm_a" => out.with(Change::NegExp).squeezed().reshaped(vec![rows, 1])?,
        "ssm_d" => out.squeezed().reshaped(vec![rows, 1])?,
        "ssm_conv1d.weight" => out.squeezed(),
        "ssm_norm.weight" => {
            let groups = u64::from(mamba2_groups(c)?);
            let len = rows / groups;
            out.reshaped(vec![groups, len])?
        }
        _ => out,
    }])
}

fn falcon_h1_keys(k: &mut Keys<'_>) -> Result<()> {
    state_space(k)?;
    mamba2_sizes(k)?;
    k.heads()?;
    k.maybe_count("context_length", &["max_position_embeddings"])?;
    k.count("feed_forward_length", &["intermediate_size"])?;
    k.rope()
}

/// Falcon-H1's multipliers go into the weights.
fn falcon_h1_shape(c: &Config, out: Out) -> Result<Vec<Out>> {
    let factor = |key: &str| -> Result<f32> { Ok(c.maybe_f64(&[key])?.unwrap_or(1.0) as f32) };
    let of_mlp = |i: usize| -> Result<f32> {
        match c.get("mlp_multipliers") {
            Some(_) => Ok(c.numbers("mlp_multipliers", 2)?[i]),
            None => Ok(1.0),
        }
    };
    let times = match out.part() {
        "ffn_down.weight" => of_mlp(1)?,
        "ffn_gate.weight" => of_mlp(0)?,
        "attn_k.weight" => factor("key_multiplier")? * factor("attention_in_multiplier")?,
        "attn_q.weight" | "attn_v.weight" => factor("attention_in_multiplier")?,
        "attn_output.weight" => factor("attention_out_multiplier")?,
        "ssm_out.weight" => factor("ssm_out_multiplier")?,
        "ssm_in.weight" => {
            let factors = ssm_in_factors(c, factor("ssm_in_multiplier")?)?;
            return Ok(vec![out.with(Change::TimesByRow(factors))]);
        }
        // Files have this norm without the usual ending.
        "ffn_norm.weight" => return Ok(vec![out.named("ffn_norm")]),
        "output.weight" => factor("lm_head_multiplier")?,
        "token_embd.weight" => factor("embedding_multiplier")?,
        _ => return mamba2_shape(c, out),
    };
    Ok(vec![if times == 1.0 { out } else { out.with(Change::Times(times)) }])
}

/// Factors of the rows for z, x, B, C and dt.
fn ssm_in_factors(c: &Config, all: f32) -> Result<Vec<(u64, f32)>> {
    let parts = match c.get("ssm_multipliers") {
        Some(_) => c.numbers("ssm_multipliers", 5)?,
        None => vec![1.0; 5],
    };
    let inner = u64::from(mamba2_inner(c)?.0);
    let state = u64::from(c.maybe_u32(&["mamba_d_state", "state_size"])?.unwrap_or(128));
    let groups = u64::from(mamba2_groups(c)?) * state;
    let ends = [inner, 2 * inner, 2 * inner + groups, 2 * inner + 2 * groups, u64::MAX];
    Ok(ends.into_iter().zip(parts).map(|(end, x)| (end, x * all)).collect())
}

fn lfm2_keys(k: &mut Keys<'_>) -> Result<()> {
    k.transformer()?;
    let c = k.config;
    let kv_heads = c.n_kv_heads()?;
    let has_attention: Vec<bool> = match (c.layer_types("layer_types"), c.get("full_attn_idxs")) {
        (Some(types), _) => types.iter().map(|t| *t == "full_attention").collect(),
        (None, Some(_)) => {
            let listed = c.numbers("full_attn_idxs", 0)?;
            (0..c.n_layers()?).map(|i| listed.contains(&(i as f32))).collect()
        }
        (None, None) => return Err(Error::config("layer_types", "is missing")),
    };
    let by_layer = has_attention.iter().map(|has| if *has { kv_heads } else { 0 }).collect();
    k.by_layer("attention.head_count_kv", by_layer);
    k.count("shortconv.l_cache", &["conv_L_cache"])?;
    k.number("attention.layer_norm_rms_epsilon", &["norm_eps", "block_norm_eps", "rms_norm_eps"])?;
    let mut ff = c.u32(&["block_ff_dim", "intermediate_size"])?;
    if c.bool("block_auto_adjust_ff_dim") == Some(true) {
        let factor = c.maybe_f64(&["block_ffn_dim_multiplier"])?.unwrap_or(1.0);
        let multiple = c.maybe_u32(&["block_multiple_of"])?.unwrap_or(1).max(1);
        ff = (factor * f64::from((2 * u64::from(ff) / 3) as u32)) as u32;
        ff = ff.div_ceil(multiple).saturating_mul(multiple);
    }
    k.set("feed_forward_length", ff);
    Ok(())
}

fn lfm2_moe_keys(k: &mut Keys<'_>) -> Result<()> {
    lfm2_keys(k)?;
    k.count("feed_forward_length", &["intermediate_size"])?;
    k.count("expert_feed_forward_length", &["moe_intermediate_size"])?;
    k.count("leading_dense_block_count", &["num_dense_layers"])?;
    k.set("expert_gating_func", 2u32);
    Ok(())
}

fn lfm2_shape(_: &Config, out: Out) -> Result<Vec<Out>> {
    match out.part() {
        "shortconv.conv.weight" => Ok(vec![out.squeezed()]),
        _ => experts_apart(out),
    }
}

/// What each layer is: Mamba, attention, or a feed-forward.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mamba,
    Attention,
    FeedForward,
}

fn nemotron_layers(c: &Config) -> Result<Vec<Kind>> {
    let key = "hybrid_override_pattern";
    if let Some(pattern) = c.str(key) {
        let kind = |letter: char| match letter {
            'M' => Ok(Kind::Mamba),
            '*' => Ok(Kind::Attention),
            '-' | 'E' => Ok(Kind::FeedForward),
            other => Err(Error::config(key, format!("has an unknown layer '{other}'"))),
        };
        return pattern.chars().map(kind).collect();
    }
    let types = c.layer_types("layers_block_type");
    let types = types.ok_or_else(|| Error::config(key, "is missing"))?;
    let kind = |name: &&str| match *name {
        "mamba" | "linear_attention" => Ok(Kind::Mamba),
        "attention" | "full_attention" => Ok(Kind::Attention),
        "mlp" | "moe" => Ok(Kind::FeedForward),
        other => Err(Error::config(key, format!("has an unknown layer '{other}'"))),
    };
    types.iter().map(kind).collect()
}

fn nemotron_h_keys(k: &mut Keys<'_>) -> Result<()> {
    k.sizes()?;
    let (c, layers) = (k.config, nemotron_layers(k.config)?);
    if layers.is_empty() || layers.len() > 1024 {
        return Err(Error::config("hybrid_override_pattern", "must name 1 to 1024 layers"));
    }
    k.set("block_count", layers.len() as u32);
    let where_ =
        |kind: Kind, n: u32| layers.iter().map(|l| if *l == kind { n } else { 0 }).collect();
    k.set("attention.head_count", c.n_heads()?);
    k.by_layer("attention.head_count_kv", where_(Kind::Attention, c.n_kv_heads()?));
    let dim = c.u32(&["head_dim", "attention_head_dim"])?;
    k.set("attention.key_length", dim);
    k.set("attention.value_length", dim);
    let eps = c.maybe_f64(&["layer_norm_epsilon", "rms_norm_eps", "norm_eps"])?.unwrap_or(1e-5);
    k.set("attention.layer_norm_rms_epsilon", eps as f32);
    let taps = c.maybe_u32(&["conv_kernel", "mamba_d_conv"])?.unwrap_or(4);
    k.set("ssm.conv_kernel", taps);
    mamba2_sizes(k)?;
    if c.maybe_u32(&["num_experts_per_tok"])?.is_none_or(|n| n == 0) {
        k.by_layer(
            "feed_forward_length",
            where_(Kind::FeedForward, c.u32(&["intermediate_size"])?),
        );
        return Ok(());
    }
    let ff = c.u32(&["moe_intermediate_size"])?;
    k.by_layer("feed_forward_length", where_(Kind::FeedForward, ff));
    k.set("expert_feed_forward_length", ff);
    let shared = ["moe_shared_expert_intermediate_size"];
    k.count("expert_shared_feed_forward_length", &shared)?;
    k.count("expert_count", &["n_routed_experts"])?;
    k.count("expert_used_count", &["num_experts_per_tok"])?;
    k.count("expert_shared_count", &["n_shared_experts"])?;
    k.maybe_count("expert_group_count", &["n_group"])?;
    k.maybe_count("expert_group_used_count", &["topk_group"])?;
    k.maybe_number("expert_weights_scale", &["routed_scaling_factor"])?;
    k.set("expert_weights_norm", c.bool("norm_topk_prob").unwrap_or(false));
    k.maybe_count("moe_latent_size", &["moe_latent_size"])
}

/// Heads of the delta rule: key and value heads, and how long each is.
struct DeltaHeads {
    k_heads: u64,
    v_heads: u64,
    k_dim: u64,
    v_dim: u64,
}

impl DeltaHeads {
    fn read(c: &Config) -> Result<DeltaHeads> {
        let positive = |key: &str| match c.u32(&[key])? {
            0 => Err(Error::config(key, "must be positive")),
            n => Ok(u64::from(n)),
        };
        let heads = DeltaHeads {
            k_heads: positive("linear_num_key_heads")?,
            v_heads: positive("linear_num_value_heads")?,
            k_dim: positive("linear_key_head_dim")?,
            v_dim: positive("linear_value_head_dim")?,
        };
        if !heads.v_heads.is_multiple_of(heads.k_heads) {
            return Err(Error::config(
                "linear_num_value_heads",
                "must be a multiple of the key heads",
            ));
        }
        Ok(heads)
    }

    /// Where row `row` of tiled value heads of `dim` rows lies among those grouped by key head.
    fn grouped(&self, row: u64, dim: u64) -> u64 {
        let each = self.v_heads / self.k_heads;
        let (head, at) = (row / dim, row % dim);
        let (v, k) = (head / self.k_heads, head % self.k_heads);
        (k * each + v) * dim + at
    }
}

fn qwen35_keys(k: &mut Keys<'_>) -> Result<()> {
    qwen_keys(k)?;
    let c = k.config;
    let heads = DeltaHeads::read(c)?;
    k.count("ssm.conv_kernel", &["linear_conv_kernel_dim"])?;
    k.set("ssm.state_size", heads.k_dim as u32);
    k.set("ssm.group_count", heads.k_heads as u32);
    k.set("ssm.time_step_rank", heads.v_heads as u32);
    let inner = u32::try_from(heads.v_dim * heads.v_heads);
    k.set(
        "ssm.inner_size",
        inner.map_err(|_| Error::config("linear_value_head_dim", "is too large"))?,
    );
    k.set("full_attention_interval", c.maybe_u32(&["full_attention_interval"])?.unwrap_or(4));
    let share = match c.rope().maybe_f64(&["partial_rotary_factor"])? {
        Some(share) => share,
        None => c.maybe_f64(&["partial_rotary_factor"])?.unwrap_or(0.25),
    };
    k.set("rope.dimension_count", (f64::from(c.head_dim()?) * share) as u32);
    if c.rope().get("mrope_section").is_none() {
        k.by_layer("rope.dimension_sections", vec![11, 11, 10, 0]);
    }
    Ok(())
}

/// Value heads stand by key head; GGUF has them in rounds over the key heads. Norms multiply by one more than
/// their weight, but for the one in the delta rule.
fn qwen35_shape(c: &Config, out: Out) -> Result<Vec<Out>> {
    let heads = DeltaHeads::read(c)?;
    let (rows, keys) = (out.n_rows(), 2 * heads.k_heads * heads.k_dim);
    let holds_keys = matches!(out.part(), "attn_qkv.weight" | "ssm_conv1d.weight");
    // Layers with plain attention have their queries, keys and values apart.
    if holds_keys && rows != keys + heads.v_heads * heads.v_dim {
        return Err(out.wrong("does not have the rows that config.json says"));
    }
    let after_keys = |row: u64| match row.checked_sub(keys) {
        Some(row) => keys + heads.grouped(row, heads.v_dim),
        None => row,
    };
    Ok(vec![match out.part() {
        "attn_qkv.weight" => out.taken(&[rows], after_keys)?,
        "ssm_conv1d.weight" => {
            let out = out.squeezed();
            out.taken(&[rows], after_keys)?
        }
        "attn_gate.weight" => out.taken(&[rows], |row| heads.grouped(row, heads.v_dim))?,
        "ssm_alpha.weight" | "ssm_beta.weight" | "ssm_dt.bias" => {
            out.taken(&[rows], |row| heads.grouped(row, 1))?
        }
        "ssm_a" => out.with(Change::NegExp).taken(&[rows], |row| heads.grouped(row, 1))?,
        "ssm_out.weight" => {
            let n = out.shape.last().copied().unwrap_or(0).min(1 << 24);
            out.columns_taken((0..n).map(|i| heads.grouped(i, heads.v_dim) as u32).collect())?
        }
        "ssm_norm.weight" => out,
        part if part.ends_with("norm.weight") => out.with(Change::Plus(1.0)),
        _ => return experts_apart(out),
    }])
}
