//! Llama 1 to 3, Mistral, Mixtral and what shares their tensors: RMS norms, rope on adjacent
//! pairs, SwiGLU, dense or with routed experts.

use oprel_nn::describe::{Activation, Mask, NormKind, Op};
use oprel_nn::rope::Pairing;

use super::{Described, block, generator, layer};
use crate::parts::{attention, ffn, head, moe, token_input};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let rope = h.rope(s, Pairing::Adjacent)?;
    let rope = s.rope(rope);
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let attn_norm = s.norm(&format!("blk.{i}.attn_norm"), h.width, NormKind::Rms, h.eps)?;
        let attn = attention(s, &h, i, Some(rope), Mask::Full)?;
        let ffn_norm = s.norm(&format!("blk.{i}.ffn_norm"), h.width, NormKind::Rms, h.eps)?;
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
