//! What several families do to their tensors.

use super::super::config::Config;
use super::super::out::Out;
use crate::error::{Error, Result};

/// Queries and keys for rope on adjacent pairs; everything else as it is.
pub(super) fn paired(config: &Config, out: Out) -> Result<Vec<Out>> {
    Ok(vec![match out.part() {
        "attn_q.weight" | "attn_q.bias" => out.with_pairs(config.n_heads()?)?,
        "attn_k.weight" | "attn_k.bias" => out.with_pairs(config.n_kv_heads()?)?,
        _ => out,
    }])
}

/// Gate and up of all experts apart, where a tensor holds both.
pub(super) fn experts_apart(out: Out) -> Result<Vec<Out>> {
    Ok(match out.part() {
        "ffn_gate_up_exps.weight" => vec![
            out.clone().half("ffn_gate_exps.weight", false)?,
            out.half("ffn_up_exps.weight", true)?,
        ],
        "ffn_gate_up_shexp.weight" => vec![
            out.clone().half("ffn_gate_shexp.weight", false)?,
            out.half("ffn_up_shexp.weight", true)?,
        ],
        _ => vec![out],
    })
}

/// The factors on frequencies of Llama 3's rope, where the model has it: long waves are stretched, short ones
/// left, those between in proportion.
pub(super) fn llama3_factors(config: &Config) -> Result<Vec<Out>> {
    let rope = config.rope();
    if rope.str("rope_type").or_else(|| rope.str("type")) != Some("llama3") {
        return Ok(Vec::new());
    }
    let or =
        |key: &str, usual: f64| -> Result<f64> { Ok(rope.maybe_f64(&[key])?.unwrap_or(usual)) };
    let base = match rope.maybe_f64(&["rope_theta"])? {
        Some(base) => base,
        None => config.maybe_f64(&["rope_theta"])?.unwrap_or(10000.0),
    };
    let (factor, low, high) =
        (or("factor", 8.0)?, or("low_freq_factor", 1.0)?, or("high_freq_factor", 4.0)?);
    let original = or("original_max_position_embeddings", 8192.0)?;
    let dim = config.head_dim()?;
    if dim > 1 << 16 || high <= low || factor <= 0.0 {
        return Err(Error::config("rope_scaling", "makes no rope"));
    }
    let factor_of = |i: u32| {
        let wave = std::f64::consts::TAU * base.powf(f64::from(2 * i) / f64::from(dim));
        if wave < original / high {
            1.0
        } else if wave > original / low {
            factor
        } else {
            let smooth = (original / wave - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    let factors = (0..dim / 2).map(|i| factor_of(i) as f32).collect();
    Ok(vec![Out::values("rope_freqs.weight", factors)])
}
