//! Falcon-H1: attention and Mamba-2 side by side on one input, then a SwiGLU feed-forward.
//!
//! The multipliers of the original are folded into the weights of GGUF files.

use oprel_nn::describe::{Activation, Block, Branch, Mask, Norm, NormKind, Op, Read, Write};
use oprel_nn::rope::Pairing;

use super::{Described, block, generator, layer};
use crate::parts::{attention, ffn, head, token_input};
use crate::recurrent::{Ssm, mamba2, without_bias};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let ssm = Ssm::read(s)?.with_heads(s)?;
    let mut rope = h.rope(s, Pairing::Halves)?;
    rope.factors = None; // files carry them, the reference leaves them out
    let rope = s.rope(rope);
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let mut attn = attention(s, &h, i, Some(rope), Mask::Full)?;
        attn.o = without_bias(attn.o);
        let norm = s.norm(&format!("blk.{i}.attn_norm"), h.width, NormKind::Rms, h.eps)?;
        let mixer = Block {
            read: Read::Plain(Some(norm)),
            branches: vec![
                Branch::plain(Op::Attn(attn)),
                Branch::plain(Op::Mamba2(mamba2(s, &h, &ssm, i)?)),
            ],
            post: None,
            write: Write::ADD,
        };
        let (width, ff) = (h.width, h.ff[i as usize]);
        let ffn = ffn(s, &format!("blk.{i}.ffn"), "", (width, ff), Activation::Silu)?;
        steps.push(layer(vec![mixer, block(ffn_norm(s, &h, i)?, Op::Ffn(ffn))]));
    }
    let input = token_input(s, &h, 1.0)?;
    let head = head(s, &h, NormKind::Rms)?;
    Ok(generator(s, &h, input, steps, head))
}

/// Files name this norm without the usual ".weight".
fn ffn_norm(s: &mut Source<'_>, h: &Hyper, i: u32) -> Result<Norm> {
    let name = format!("blk.{i}.ffn_norm");
    match s.maybe_tensor(&name, &[h.width])? {
        Some(w) => {
            Ok(Norm { kind: NormKind::Rms, eps: h.eps, groups: 1, weight: Some(w), bias: None })
        }
        None => s.norm(&name, h.width, NormKind::Rms, h.eps),
    }
}
