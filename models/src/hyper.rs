//! The hyper-parameters that transformer families share, checked once.

use oprel_nn::rope::{FreqFactors, Pairing, Rope, Yarn};

use crate::Result;
use crate::source::Source;

/// Sizes of a transformer, as its metadata gives them.
#[derive(Clone, Debug)]
pub struct Hyper {
    /// Layers, without those that only draft further tokens (`nextn_predict_layers`).
    pub n_layers: u32,
    /// Elements of the residual stream.
    pub width: u32,
    /// Tokens of the vocabulary.
    pub n_vocab: u32,
    /// Context length of training.
    pub context_length: u32,
    /// Query heads of each layer.
    pub n_heads: Vec<u32>,
    /// Key and value heads of each layer.
    pub n_kv_heads: Vec<u32>,
    /// Elements of a query or key head.
    pub k_dim: u32,
    /// Elements of a value head.
    pub v_dim: u32,
    /// Rotated elements of a head.
    pub rope_dims: u32,
    /// Width of the feed-forward of each layer.
    pub ff: Vec<u32>,
    /// eps of RMS norms, else of layer norms.
    pub eps: f32,
    /// Routed experts; 0 for none.
    pub n_experts: u32,
    /// Experts of each token.
    pub n_experts_used: u32,
}

impl Hyper {
    /// Reads and checks them.
    pub(crate) fn read(s: &Source<'_>) -> Result<Hyper> {
        let n_layers = s.n_layers()?;
        let n_draft = s.u32_or_zero("nextn_predict_layers")?;
        if n_draft >= n_layers {
            return Err(s.wrong("nextn_predict_layers", n_draft, "must be less than block_count"));
        }
        let n_layers = n_layers - n_draft;
        let width = positive(s, "embedding_length", 1 << 20)?;
        let per_layer = |key: &str| s.per_layer_u32(key, n_layers);
        let n_heads =
            per_layer("attention.head_count")?.unwrap_or_else(|| vec![0; n_layers as usize]);
        let n_kv_heads = per_layer("attention.head_count_kv")?.unwrap_or_else(|| n_heads.clone());
        check_heads(s, &n_heads, &n_kv_heads)?;
        let most_heads = n_heads.iter().copied().max().unwrap_or(0);
        let head_dim = width.checked_div(n_heads.first().copied().unwrap_or(0)).unwrap_or(0);
        let dim = |key: &str| -> Result<u32> {
            let d = s.maybe_u32(key)?.unwrap_or(head_dim);
            if most_heads > 0 && (d == 0 || d > 1 << 16) {
                return Err(s.wrong(key, d, "must be from 1 to 65536"));
            }
            Ok(d)
        };
        let (k_dim, v_dim) = (dim("attention.key_length")?, dim("attention.value_length")?);
        let rope_dims = s.maybe_u32("rope.dimension_count")?.unwrap_or(k_dim);
        if rope_dims % 2 != 0 || rope_dims > 1 << 16 {
            return Err(s.wrong(
                "rope.dimension_count",
                rope_dims,
                "must be even and at most 65536",
            ));
        }
        let n_experts = s.u32_or_zero("expert_count")?;
        let n_experts_used = expert_use(s, n_layers)?;
        if n_experts > 4096 || n_experts_used > n_experts || (n_experts > 0 && n_experts_used == 0)
        {
            return Err(s.wrong("expert_used_count", n_experts_used, "must fit expert_count"));
        }
        let ff = per_layer("feed_forward_length")?.unwrap_or_else(|| vec![0; n_layers as usize]);
        if let Some(&most) = ff.iter().max().filter(|&&most| most > 1 << 24) {
            return Err(s.wrong("feed_forward_length", most, "must be of a sane size"));
        }
        Ok(Hyper {
            n_layers,
            width,
            n_vocab: vocabulary(s)?,
            context_length: positive(s, "context_length", 1 << 24)?,
            n_heads,
            n_kv_heads,
            k_dim,
            v_dim,
            rope_dims,
            ff,
            eps: eps(s)?,
            n_experts,
            n_experts_used,
        })
    }

    /// Factor on attention scores: the file's, or 1 / sqrt(k_dim).
    pub(crate) fn attention_scale(&self, s: &Source<'_>) -> Result<f32> {
        let usual = 1.0 / (self.k_dim as f32).sqrt();
        Ok(s.nonzero_f32("attention.scale")?.unwrap_or(usual))
    }

    /// The rope that `rope.*` metadata and factor tensors describe.
    pub(crate) fn rope(&self, s: &mut Source<'_>, pairing: Pairing) -> Result<Rope> {
        let scaling = s.maybe_str("rope.scaling.type")?.unwrap_or("linear");
        let factor = match s.nonzero_f32("rope.scaling.factor")? {
            Some(f) => f,
            None => s.nonzero_f32("rope.scale_linear")?.unwrap_or(1.0),
        };
        if factor <= 0.0 {
            return Err(s.wrong("rope.scaling.factor", factor, "must be positive"));
        }
        let base = s.maybe_f32("rope.freq_base")?.unwrap_or(10000.0);
        if base <= 0.0 {
            return Err(s.wrong("rope.freq_base", base, "must be positive"));
        }
        let original = s.maybe_u32("rope.scaling.original_context_length")?.filter(|&n| n > 0);
        let original = original.unwrap_or(self.context_length);
        let freq_scale = if scaling == "none" { 1.0 } else { 1.0 / factor };
        let yarn = match scaling {
            "yarn" => Some(read_yarn(s, original)?),
            "none" | "linear" | "longrope" => None,
            other => return Err(s.wrong("rope.scaling.type", other, "is not known")),
        };
        Ok(Rope {
            dims: self.rope_dims,
            pairing,
            base,
            freq_scale,
            yarn,
            magnitude: magnitude(s, factor, yarn.is_some())?,
            factors: freq_factors(s, self.rope_dims / 2, original)?,
            sections: None,
        })
    }
}

fn read_yarn(s: &Source<'_>, original_context: u32) -> Result<Yarn> {
    let or = |key: &str, usual: f32| -> Result<f32> { Ok(s.maybe_f32(key)?.unwrap_or(usual)) };
    let extrapolation = or("rope.scaling.yarn_ext_factor", 1.0)?;
    Ok(Yarn {
        extrapolation: if extrapolation < 0.0 { 1.0 } else { extrapolation },
        beta_fast: or("rope.scaling.yarn_beta_fast", 32.0)?,
        beta_slow: or("rope.scaling.yarn_beta_slow", 1.0)?,
        original_context,
    })
}

/// Factor on cosine and sine before yarn's own `1 + 0.1 ln(factor)`, which [`Rope`] adds: files
/// with a log multiplier want another one, and the difference is put here.
fn magnitude(s: &Source<'_>, factor: f32, yarn: bool) -> Result<f32> {
    let attn_factor = s.nonzero_f32("rope.scaling.attn_factor")?.unwrap_or(1.0);
    if !yarn {
        return Ok(attn_factor);
    }
    let log_multiplier = s.nonzero_f32("rope.scaling.yarn_log_multiplier")?;
    let mscale = |m: f32| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
    let wanted = match log_multiplier {
        Some(all_dims) => mscale(1.0) / mscale(all_dims),
        None => mscale(1.0),
    };
    Ok(wanted / (1.0 + 0.1 * factor.ln()) * attn_factor)
}

fn freq_factors(s: &mut Source<'_>, pairs: u32, original: u32) -> Result<Option<FreqFactors>> {
    for prefix in ["", "blk.0."] {
        if let Some(w) = s.maybe_tensor(&format!("{prefix}rope_freqs.weight"), &[pairs])? {
            return Ok(Some(FreqFactors::Fixed(w)));
        }
        let long = s.maybe_tensor(&format!("{prefix}rope_factors_long.weight"), &[pairs])?;
        let short = s.maybe_tensor(&format!("{prefix}rope_factors_short.weight"), &[pairs])?;
        if let (Some(long), Some(short)) = (long, short) {
            return Ok(Some(FreqFactors::ByContext { short, long, original }));
        }
    }
    Ok(None)
}

fn positive(s: &Source<'_>, key: &str, most: u32) -> Result<u32> {
    let n = s.u32(key)?;
    if n == 0 || n > most {
        return Err(s.wrong(key, n, "must be positive and of a sane size"));
    }
    Ok(n)
}

fn check_heads(s: &Source<'_>, heads: &[u32], kv_heads: &[u32]) -> Result<()> {
    for (&h, &kv) in heads.iter().zip(kv_heads) {
        if h > 4096 || kv > h || (kv > 0 && h % kv != 0) {
            return Err(s.wrong("attention.head_count_kv", kv, "must divide attention.head_count"));
        }
    }
    Ok(())
}

fn expert_use(s: &Source<'_>, n_layers: u32) -> Result<u32> {
    let all = s.per_layer_u32("expert_used_count", n_layers)?.unwrap_or_default();
    Ok(all.into_iter().max().unwrap_or(0))
}

/// Rows of the token table; metadata may be absent or padded.
fn vocabulary(s: &Source<'_>) -> Result<u32> {
    if let Some(&[_, rows]) = s.shape("token_embd.weight") {
        return u32::try_from(rows).map_err(|_| s.wrong("vocab_size", rows, "is too large"));
    }
    s.u32("vocab_size")
}

fn eps(s: &Source<'_>) -> Result<f32> {
    let rms = s.nonzero_f32("attention.layer_norm_rms_epsilon")?;
    let eps = match rms {
        Some(eps) => eps,
        None => s.maybe_f32("attention.layer_norm_epsilon")?.unwrap_or(1e-5),
    };
    if !(0.0..1.0).contains(&eps) {
        return Err(s.wrong("attention.layer_norm_rms_epsilon", eps, "must be from 0 to 1"));
    }
    Ok(eps)
}
