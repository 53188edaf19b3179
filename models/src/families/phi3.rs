//! Phi-3 and Phi-4-mini: fused projections, rope on halves with long and short factors, SwiGLU.

use oprel_nn::describe::{Activation, Mask, NormKind, Op};
use oprel_nn::rope::Pairing;

use super::{Described, block, generator, layer};
use crate::parts::{attention, ffn, head, layer_norm, token_input};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let rope = h.rope(s, Pairing::Halves)?;
    let rope = s.rope(rope);
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let attn_norm = layer_norm(s, &h, i, "attn_norm")?;
        // Files name a window that the models' authors and llama.cpp do not apply.
        let attn = attention(s, &h, i, Some(rope), Mask::Full)?;
        let ffn_norm = layer_norm(s, &h, i, "ffn_norm")?;
        let size = (h.width, h.ff[i as usize]);
        let ffn = ffn(s, &format!("blk.{i}.ffn"), "", size, Activation::Silu)?;
        steps.push(layer(vec![block(attn_norm, Op::Attn(attn)), block(ffn_norm, Op::Ffn(ffn))]));
    }
    let input = token_input(s, &h, 1.0)?;
    let head = head(s, &h, NormKind::Rms)?;
    Ok(generator(s, &h, input, steps, head))
}
