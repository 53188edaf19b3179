//! gpt-oss: biases everywhere, a sink for each head, windows in every other layer, experts with clamped
//! SwiGLU whose weights are a softmax over the chosen.

use oprel_nn::describe::{Activation, Gating, NormKind, Op};
use oprel_nn::rope::{Pairing, Rope};

use super::{Described, block, generator, layer};
use crate::parts::{Windows, attention, expert_ff, head, layer_norm, moe, token_input};
use crate::source::Source;
use crate::{Hyper, Result};

const ACT: Activation = Activation::SwigluOai { alpha: 1.702, limit: 7.0 };

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let windows = Windows::read(s, h.n_layers, 2, None)?;
    let rope = h.rope(s, Pairing::Halves)?;
    let window_base = s.nonzero_f32("rope.freq_base_swa")?.unwrap_or(rope.base);
    let in_window = s.rope(Rope { base: window_base, ..rope.clone() });
    let everywhere = s.rope(rope);
    let ff = expert_ff(s, &h)?;
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let rope = if windows.has(i) { in_window } else { everywhere };
        let attn_norm = layer_norm(s, &h, i, "attn_norm")?;
        let mut attn = attention(s, &h, i, Some(rope), windows.mask(i))?;
        attn.sinks = Some(s.tensor(&format!("blk.{i}.attn_sinks.weight"), &[attn.n_heads])?);
        let ffn_norm = layer_norm(s, &h, i, "post_attention_norm")?;
        let mut moe = moe(s, &h, i, ff[i as usize], ACT)?;
        moe.router.gating = Gating::SoftmaxChosen;
        moe.router.normalize = false;
        let experts = Op::Moe(Box::new(moe));
        steps.push(layer(vec![block(attn_norm, Op::Attn(attn)), block(ffn_norm, experts)]));
    }
    let input = token_input(s, &h, 1.0)?;
    let head = head(s, &h, NormKind::Rms)?;
    Ok(generator(s, &h, input, steps, head))
}
