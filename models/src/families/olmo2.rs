//! OLMo 2 and 3: norms after each block only, norms over all queries and all keys; in 3, three layers of
//! four look at a window and their rope is never stretched.

use oprel_nn::describe::{Activation, Block, Branch, Norm, NormKind, Op, Read, Write};
use oprel_nn::rope::{Pairing, Rope};

use super::{Described, generator, layer};
use crate::parts::{Windows, attention, ffn, head, layer_norm, token_input};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let windows = Windows::read(s, h.n_layers, 4, None)?;
    let rope = h.rope(s, Pairing::Halves)?;
    let unstretched = Rope { freq_scale: 1.0, yarn: None, magnitude: 1.0, ..rope.clone() };
    let in_window = s.rope(unstretched);
    let everywhere = s.rope(rope);
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let rope = if windows.has(i) { in_window } else { everywhere };
        let mut attn = attention(s, &h, i, Some(rope), windows.mask(i))?;
        let mut over_all = |part: &str, len: u32| {
            s.norm(&format!("blk.{i}.attn_{part}_norm"), len, NormKind::Rms, h.eps)
        };
        attn.q_norm = Some(over_all("q", attn.n_heads * h.k_dim)?);
        attn.k_norm = Some(over_all("k", attn.n_kv_heads * h.k_dim)?);
        let size = (h.width, h.ff[i as usize]);
        let ffn = ffn(s, &format!("blk.{i}.ffn"), "", size, Activation::Silu)?;
        let after_attn = layer_norm(s, &h, i, "post_attention_norm")?;
        let after_ffn = layer_norm(s, &h, i, "post_ffw_norm")?;
        steps.push(layer(vec![
            normed_after(Op::Attn(attn), after_attn),
            normed_after(Op::Ffn(ffn), after_ffn),
        ]));
    }
    let input = token_input(s, &h, 1.0)?;
    let head = head(s, &h, NormKind::Rms)?;
    Ok(generator(s, &h, input, steps, head))
}

/// Reads the residual as it is; the norm is on what is added.
fn normed_after(op: Op, norm: Norm) -> Block {
    Block {
        read: Read::Plain(None),
        branches: vec![Branch::plain(op)],
        post: Some(norm),
        write: Write::ADD,
    }
}
