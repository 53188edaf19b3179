//! What a tensor is to a model, by its name, and whether it is quantized at all.

use oprel_gguf::TensorInfo;

/// The place of a tensor, as far as mixes tell tensors apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Output,
    Embedding,
    Qkv,
    KvB,
    V,
    K,
    Q,
    AttnOutput,
    Up,
    Gate,
    Down,
    Other,
}

/// Names that contain the first are the second; the first that fits.
const PARTS: &[(&str, Part)] = &[
    ("attn_qkv.weight", Part::Qkv),
    ("attn_kv_b.weight", Part::KvB),
    ("attn_v.weight", Part::V),
    ("attn_k.weight", Part::K),
    ("attn_q.weight", Part::Q),
    ("attn_output.weight", Part::AttnOutput),
    ("ffn_up", Part::Up),
    ("ffn_gate", Part::Gate),
    ("ffn_down", Part::Down),
];

/// Matrices that stay as they are: small, or sensitive. Norms; routers; positions and token types; convolutions
/// of recurrent layers; the small matrices of RWKV, Gemma 3n, MiniMax and T5; pieces of other senses.
const KEPT: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
];

impl Part {
    /// The place of the tensor called `name`.
    pub(crate) fn of(name: &str) -> Part {
        match name {
            "output.weight" => Part::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Part::Embedding,
            _ => PARTS.iter().find(|(of, _)| name.contains(of)).map_or(Part::Other, |(_, p)| *p),
        }
    }

    /// Values of attention, or what they are made of.
    pub(crate) fn is_v_like(self) -> bool {
        matches!(self, Part::V | Part::Qkv | Part::KvB)
    }
}

/// Whether a mix says something of the tensor.
pub(crate) fn is_quantized(tensor: &TensorInfo) -> bool {
    let name = tensor.name.as_str();
    let is_matrix = tensor.shape.iter().skip(1).any(|dim| *dim > 1);
    is_matrix
        && name.ends_with("weight")
        && !matches!(name, "position_embd.weight" | "token_types.weight")
        && !KEPT.iter().any(|kept| name.contains(kept))
}

/// Layer of a tensor, from `blk.N.`.
pub(crate) fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// The order of tensors in a file that was quantized: those of no layer first, then by layer, each by name.
pub(crate) fn order(name: &str) -> (Option<usize>, &[u8]) {
    (layer(name), name.as_bytes())
}
