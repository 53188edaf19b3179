//! GLM-4 (9B, 32B of 2025): norms before and after each block, rope on part of a head, fused SwiGLU.

use oprel_nn::describe::{Activation, Block, Mask, NormKind, Op};
use oprel_nn::rope::{Pairing, Rope, Sections};

use super::{Described, block, generator, layer};
use crate::parts::{attention, ffn, head, layer_norm, token_input};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let rope = rope(s, &h)?;
    let rope = s.rope(rope);
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let attn_norm = layer_norm(s, &h, i, "attn_norm")?;
        let attn = attention(s, &h, i, Some(rope), Mask::Full)?;
        let ffn_norm = layer_norm(s, &h, i, "ffn_norm")?;
        let size = (h.width, h.ff[i as usize]);
        let ffn = ffn(s, &format!("blk.{i}.ffn"), "", size, Activation::Silu)?;
        let after_attn = Some(layer_norm(s, &h, i, "post_attention_norm")?);
        let after_ffn = Some(layer_norm(s, &h, i, "post_ffw_norm")?);
        steps.push(layer(vec![
            Block { post: after_attn, ..block(attn_norm, Op::Attn(attn)) },
            Block { post: after_ffn, ..block(ffn_norm, Op::Ffn(ffn)) },
        ]));
    }
    let input = token_input(s, &h, 1.0)?;
    let head = head(s, &h, NormKind::Rms)?;
    Ok(generator(s, &h, input, steps, head))
}

/// Adjacent pairs in text models; halves in sections where the file has sections (vision models).
fn rope(s: &mut Source<'_>, h: &Hyper) -> Result<Rope> {
    let sections = s.metadata().u32s(&s.key("rope.dimension_sections"))?.unwrap_or_default();
    let &[time, height, width, ref rest @ ..] = &*sections else {
        return h.rope(s, Pairing::Adjacent);
    };
    if time == 0 || height == 0 {
        return h.rope(s, Pairing::Adjacent);
    }
    let pairs = [time, height, width, rest.first().copied().unwrap_or(0)];
    let rope = h.rope(s, Pairing::Halves)?;
    Ok(Rope { sections: Some(Sections { pairs, interleaved: false }), ..rope })
}
