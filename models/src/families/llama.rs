//! Llama 1 to 3, Mistral, Mixtral and what shares their tensors: RMS norms, rope on adjacent
//! pairs, SwiGLU, dense or with routed experts; Mistral 3 warms queries by their position.

use oprel_nn::describe::{Activation, Mask, NormKind, Op, Temperature};
use oprel_nn::rope::Pairing;

use super::{Described, block, generator, layer};
use crate::parts::{attention, ffn, head, layer_norm, moe, token_input};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let rope = h.rope(s, Pairing::Adjacent)?;
    let temperature = temperature(s, &h)?;
    let rope = s.rope(rope);
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let attn_norm = layer_norm(s, &h, i, "attn_norm")?;
        let mut attn = attention(s, &h, i, Some(rope), Mask::Full)?;
        attn.temperature = temperature;
        let ffn_norm = layer_norm(s, &h, i, "ffn_norm")?;
        let ff = h.ff[i as usize];
        let feed_forward = match h.n_experts {
            0 => Op::Ffn(ffn(s, &format!("blk.{i}.ffn"), "", (h.width, ff), Activation::Silu)?),
            _ => Op::Moe(Box::new(moe(s, &h, i, ff, Activation::Silu)?)),
        };
        steps.push(layer(vec![block(attn_norm, Op::Attn(attn)), block(ffn_norm, feed_forward)]));
    }
    let input = token_input(s, &h, 1.0)?;
    let head = head(s, &h, NormKind::Rms)?;
    Ok(generator(s, &h, input, steps, head))
}

/// Mistral 3's factor on queries beyond the original context.
fn temperature(s: &Source<'_>, h: &Hyper) -> Result<Option<Temperature>> {
    if s.architecture() != "mistral3" {
        return Ok(None);
    }
    let Some(scale) = s.nonzero_f32("attention.temperature_scale")? else { return Ok(None) };
    let original = s.maybe_u32("rope.scaling.original_context_length")?.filter(|&n| n > 0);
    let floor = original.unwrap_or(h.context_length) as f32;
    Ok(Some(Temperature { scale, floor, offset: 0.0 }))
}
