//! Names of tensors: what model folders call them, and what GGUF files do.

/// A stored name taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored<'a> {
    pub(super) layer: Option<u32>,
    /// Routed expert, where each has a tensor of its own.
    pub(super) expert: Option<u32>,
    /// The rest with `*` for the expert: `mlp.experts.*.up_proj`.
    pub(super) path: String,
    /// `.weight`, `.bias`, or empty.
    pub(super) suffix: &'a str,
}

/// What may stand before the names of a text model.
const PREFIXES: &[&str] = &[
    "model.language_model.model.",
    "language_model.model.",
    "model.language_model.",
    "language_model.",
    "model.text_model.",
    "model.backbone.",
    "model.",
    "backbone.",
    "bert.",
    "roberta.",
    "transformer.",
];

/// Beginnings and parts of names that are no part of a text model: towers for other senses, layers that only
/// draft, buffers, heads of training.
const OTHERS: &[&str] = &[
    "vision_tower",
    "vision_model",
    "visual.",
    "multi_modal_projector",
    "audio_tower",
    "mtp.",
    "rotary_emb.inv_freq",
    "position_ids",
    "cls.predictions",
    "cls.seq_relationship",
    "pooler.dense",
    "lm_head.bias",
    "attn.masked_bias",
    "_scale_inv",
    "activation_scale",
    "input_scale",
    "rotary_pos_emb",
];

/// A tensor that a text model does not need.
pub(super) fn is_other(name: &str) -> bool {
    OTHERS.iter().any(|part| name.contains(part))
}

/// Takes a name apart.
pub(super) fn parse(name: &str) -> Stored<'_> {
    let bare = PREFIXES.iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
    let (layer, rest) =
        numbered(bare, &["layers.", "encoder.layer.", "h."]).unwrap_or((None, bare));
    let (rest, suffix) = match rest {
        r if r.ends_with(".gamma") => (&r[..r.len() - 6], ".weight"),
        r if r.ends_with(".beta") => (&r[..r.len() - 5], ".bias"),
        r if r.ends_with(".weight") => (&r[..r.len() - 7], ".weight"),
        r if r.ends_with(".bias") => (&r[..r.len() - 5], ".bias"),
        r => (r, ""),
    };
    let mut expert = None;
    let mut path = rest.to_owned();
    if let Some((before, after)) = rest.split_once("experts.")
        && let Some((number, last)) = after.split_once('.')
        && let Ok(n) = number.parse()
    {
        expert = Some(n);
        path = format!("{before}experts.*.{last}");
    }
    Stored { layer, expert, path, suffix }
}

fn numbered<'a>(name: &'a str, before: &[&str]) -> Option<(Option<u32>, &'a str)> {
    let after = before.iter().find_map(|b| name.strip_prefix(b))?;
    let (number, rest) = after.split_once('.')?;
    Some((Some(number.parse().ok()?), rest))
}

/// Names outside of layers.
const OUTER: &[(&str, &str)] = &[
    ("embed_tokens", "token_embd"),
    ("embeddings", "token_embd"),
    ("embedding", "token_embd"),
    ("lm_head", "output"),
    ("norm", "output_norm"),
    ("norm_f", "output_norm"),
    ("final_layernorm", "output_norm"),
    ("embedding_norm", "token_embd_norm"),
    ("embeddings.word_embeddings", "token_embd"),
    ("embeddings.position_embeddings", "position_embd"),
    ("embeddings.token_type_embeddings", "token_types"),
    ("embeddings.LayerNorm", "token_embd_norm"),
    ("classifier.dense", "cls"),
    ("classifier.out_proj", "cls.output"),
    ("classifier", "cls.output"),
    ("score", "cls.output"),
];

/// Names in layers that mean the same in all families that have them; a family's own come first.
#[rustfmt::skip]
const INNER: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate_up_proj", "ffn_up"),
    // Experts.
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
    ("mlp.experts.*.gate_proj", "ffn_gate_exps"),
    ("mlp.experts.*.up_proj", "ffn_up_exps"),
    ("mlp.experts.*.down_proj", "ffn_down_exps"),
    ("mlp.experts.gate_up_proj", "ffn_gate_up_exps.weight"),
    ("mlp.experts.down_proj", "ffn_down_exps.weight"),
    ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
    ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
    ("mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_experts.up_proj", "ffn_up_shexp"),
    ("mlp.shared_experts.down_proj", "ffn_down_shexp"),
    ("block_sparse_moe.gate", "ffn_gate_inp"),
    ("block_sparse_moe.experts.*.w1", "ffn_gate_exps"),
    ("block_sparse_moe.experts.*.w2", "ffn_down_exps"),
    ("block_sparse_moe.experts.*.w3", "ffn_up_exps"),
    ("block_sparse_moe.router.layer", "ffn_gate_inp"),
    ("block_sparse_moe.input_linear", "ffn_gate_up_exps"),
    ("block_sparse_moe.output_linear", "ffn_down_exps"),
    ("shared_mlp.input_linear", "ffn_gate_up_shexp"),
    ("shared_mlp.output_linear", "ffn_down_shexp"),
    // Latent attention.
    ("self_attn.q_a_proj", "attn_q_a"),
    ("self_attn.q_a_layernorm", "attn_q_a_norm"),
    ("self_attn.q_b_proj", "attn_q_b"),
    ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
    ("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
    ("self_attn.kv_b_proj", "attn_kv_b"),
    // BERT.
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
    // State spaces.
    ("norm", "attn_norm"),
    ("mixer.in_proj", "ssm_in"),
    ("mixer.conv1d", "ssm_conv1d"),
    ("mixer.x_proj", "ssm_x"),
    ("mixer.dt_proj", "ssm_dt"),
    ("mixer.dt_bias", "ssm_dt.bias"),
    ("mixer.A_log", "ssm_a"),
    ("mixer.D", "ssm_d"),
    ("mixer.norm", "ssm_norm"),
    ("mixer.out_proj", "ssm_out"),
];

/// The GGUF name; `None` if there is none.
pub(super) fn gguf(stored: &Stored<'_>, own: &[(&str, &str)]) -> Option<String> {
    let table = if stored.layer.is_some() { INNER } else { OUTER };
    let find = |t: &[(&str, &'static str)]| {
        t.iter().find(|(p, _)| *p == stored.path).map(|(_, n)| (*n).to_owned())
    };
    let own = own.iter().find(|(p, _)| *p == stored.path).map(|(_, n)| (*n).to_owned());
    let name = own.or_else(|| find(table))?;
    Some(match stored.layer {
        Some(i) => format!("blk.{i}.{name}{}", stored.suffix),
        None => format!("{name}{}", stored.suffix),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let found = parse("model.language_model.layers.12.mlp.experts.3.up_proj.weight");
        assert_eq!((found.layer, found.expert), (Some(12), Some(3)));
        assert_eq!((found.path.as_str(), found.suffix), ("mlp.experts.*.up_proj", ".weight"));
        assert_eq!(gguf(&found, &[]).as_deref(), Some("blk.12.ffn_up_exps.weight"));
        let bias = parse("bert.encoder.layer.0.output.LayerNorm.beta");
        assert_eq!(gguf(&bias, &[]).as_deref(), Some("blk.0.layer_output_norm.bias"));
        assert_eq!(gguf(&parse("model.layers.x.norm.weight"), &[]), None);
        assert_eq!(gguf(&parse("lm_head.weight"), &[]).as_deref(), Some("output.weight"));
    }
}
