//! Mamba and Mamba-2: layers of a state space alone.

use oprel_nn::describe::{NormKind, Op};

use super::{Described, block, generator, layer};
use crate::parts::{head, token_input};
use crate::recurrent::{Ssm, mamba, mamba2};
use crate::source::Source;
use crate::{Hyper, Result};

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let ssm = Ssm::read(s)?;
    described(s, |s, h, i| Ok(Op::Mamba(mamba(s, h, &ssm, i)?)))
}

pub(super) fn describe_2(s: &mut Source<'_>) -> Result<Described> {
    let ssm = Ssm::read(s)?.with_heads(s)?;
    described(s, |s, h, i| Ok(Op::Mamba2(mamba2(s, h, &ssm, i)?)))
}

fn described(
    s: &mut Source<'_>,
    mixer: impl Fn(&mut Source<'_>, &Hyper, u32) -> Result<Op>,
) -> Result<Described> {
    let h = Hyper::read(s)?;
    let mut steps = Vec::new();
    for i in 0..h.n_layers {
        let norm = s.norm(&format!("blk.{i}.attn_norm"), h.width, NormKind::Rms, h.eps)?;
        steps.push(layer(vec![block(norm, mixer(s, &h, i)?)]));
    }
    let input = token_input(s, &h, 1.0)?;
    let head = head(s, &h, NormKind::Rms)?;
    Ok(generator(s, &h, input, steps, head))
}
