//! Gemma 1 to 3: scaled token embeddings, GeGLU, heads wider than the residual; from 2 on norms after each
//! block and windows that alternate with full attention, in 2 soft caps, in 3 norms on query and key heads.

use oprel_nn::describe::{Activation, Attn, Block, Mask, Norm, NormKind, Op};
use oprel_nn::rope::{Pairing, Rope};

use super::{Described, block, generator, layer};
use crate::parts::{Windows, attention, ffn, head, head_norm, layer_norm, token_input};
use crate::source::Source;
use crate::{Hyper, Result};

/// Gemma: no windows, no norms after blocks.
pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let rope = h.rope(s, Pairing::Halves)?;
    family(s, &h, &Windows::none(), &[rope.clone(), rope])
}

/// Gemma 2: every other layer looks at a window, of 4096 tokens if the file does not say.
pub(super) fn describe_2(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let rope = h.rope(s, Pairing::Halves)?;
    let in_window = Rope { base: window_base(s, rope.base)?, ..rope.clone() };
    let windows = Windows::read(s, h.n_layers, 2, Some(4096))?;
    let mut described = family(s, &h, &windows, &[rope, in_window])?;
    let cap = s.nonzero_f32("attn_logit_softcapping")?.unwrap_or(50.0);
    for attn in super::attentions(&mut described.decoder) {
        attn.soft_cap = Some(cap);
    }
    for head in &mut described.decoder.heads {
        head.soft_cap = Some(s.nonzero_f32("final_logit_softcapping")?.unwrap_or(30.0));
    }
    Ok(described)
}

/// Gemma 3: five layers of six look at a window, with a rope of their own that is never stretched.
pub(super) fn describe_3(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let rope = h.rope(s, Pairing::Halves)?;
    let in_window = Rope { base: window_base(s, 10000.0)?, freq_scale: 1.0, ..rope.clone() };
    let windows = Windows::read(s, h.n_layers, 6, None)?;
    let mut described = family(s, &h, &windows, &[rope, in_window])?;
    for head in &mut described.decoder.heads {
        head.soft_cap = s.nonzero_f32("final_logit_softcapping")?;
    }
    Ok(described)
}

fn window_base(s: &Source<'_>, usual: f32) -> Result<f32> {
    Ok(s.nonzero_f32("rope.freq_base_swa")?.unwrap_or(usual))
}

/// The layers; `ropes` are those of full attention and of windows.
fn family(
    s: &mut Source<'_>,
    h: &Hyper,
    windows: &Windows,
    ropes: &[Rope; 2],
) -> Result<Described> {
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let mask = windows.mask(i);
        let rope = s.rope(ropes[usize::from(mask != Mask::Full)].clone());
        let attn_norm = layer_norm(s, h, i, "attn_norm")?;
        let mut attn = attention(s, h, i, Some(rope), mask)?;
        let of_heads = |part: &str| format!("blk.{i}.attn_{part}_norm");
        attn.q_norm = head_norm(s, &of_heads("q"), attn.n_heads, h.k_dim, h.eps)?;
        attn.k_norm = head_norm(s, &of_heads("k"), attn.n_kv_heads, h.k_dim, h.eps)?;
        attn.scale = scale(s, h, &attn);
        let ffn_norm = layer_norm(s, h, i, "ffn_norm")?;
        let size = (h.width, h.ff[i as usize]);
        let ffn = ffn(s, &format!("blk.{i}.ffn"), "", size, Activation::GeluTanh)?;
        let after = |s: &mut Source<'_>, name: &str| -> Result<Option<Norm>> {
            s.maybe_norm(&format!("blk.{i}.{name}"), h.width, NormKind::Rms, h.eps)
        };
        steps.push(layer(vec![
            Block { post: after(s, "post_attention_norm")?, ..block(attn_norm, Op::Attn(attn)) },
            Block { post: after(s, "post_ffw_norm")?, ..block(ffn_norm, Op::Ffn(ffn)) },
        ]));
    }
    let input = token_input(s, h, (h.width as f32).sqrt())?;
    let head = head(s, h, NormKind::Rms)?;
    Ok(generator(s, h, input, steps, head))
}

/// 1 / sqrt of the head's elements; the 27B models of 2 (46 layers) and 3 (62) count width / heads.
fn scale(s: &Source<'_>, h: &Hyper, attn: &Attn) -> f32 {
    let dim = match (s.architecture(), h.n_layers) {
        ("gemma2", 46) | ("gemma3", 62) => h.width / attn.n_heads.max(1),
        _ => h.k_dim,
    };
    1.0 / (dim as f32).sqrt()
}
