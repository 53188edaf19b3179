//! HRM-Text: two stacks of layers, low and high, run in turns over one token stream. A turn's keys
//! and values are its own; its weights are those of every turn.

use oprel_nn::describe::{
    Activation, AttnGate, GateSource, Head, HeadKind, Layer, Mask, Norm, NormKind, Op, Reg, Step,
};
use oprel_nn::rope::Pairing;

use super::{Described, block, generator};
use crate::parts::{attention, ffn, kv_slot, token_input};
use crate::recurrent::without_bias;
use crate::source::Source;
use crate::{Hyper, Result};

/// State of the low stack, and of the high one.
const LOW: Reg = Reg(0);
const HIGH: Reg = Reg(1);

pub(super) fn describe(s: &mut Source<'_>) -> Result<Described> {
    let h = Hyper::read(s)?;
    let sizes = Sizes::read(s, &h)?;
    let mut low = Stack::read(s, &h, 0, sizes.stack)?;
    let mut high = Stack::read(s, &h, sizes.stack, sizes.stack)?;
    let start = s.tensor("hrm.z_l_init", &[h.width])?;
    let mut steps = vec![Step::Save(HIGH), Step::AddRow { table: start, row: 0 }];
    for turn in 0..sizes.high {
        for low_turn in 0..sizes.low {
            match (turn, low_turn) {
                (0, 0) => {}
                // The residual is what the stack before gave; the other stack's state joins it.
                (_, 0) => steps.push(Step::Add(LOW)),
                _ => steps.push(Step::Add(HIGH)),
            }
            low.run(s, &h, &mut steps);
        }
        steps.extend([Step::Save(LOW), Step::Add(HIGH)]);
        high.run(s, &h, &mut steps);
        steps.push(Step::Save(HIGH));
    }
    let scale = s.nonzero_f32("embedding_scale")?.unwrap_or(1.0);
    let input = token_input(s, &h, scale)?;
    let head = head(s, &h)?;
    Ok(generator(s, &h, input, steps, head))
}

struct Sizes {
    /// Layers of a stack.
    stack: u32,
    /// Turns of the high stack.
    high: u32,
    /// Turns of the low stack for each of those.
    low: u32,
}

impl Sizes {
    fn read(s: &Source<'_>, h: &Hyper) -> Result<Sizes> {
        let (stack, high, low) =
            (s.u32("hrm.layers_per_stack")?, s.u32("hrm.h_cycles")?, s.u32("hrm.l_cycles")?);
        let runs = stack.checked_mul(high).and_then(|n| n.checked_mul(low.checked_add(1)?));
        if low == 0 || runs != Some(h.n_layers) {
            let why = "must be layers_per_stack * h_cycles * (l_cycles + 1)";
            return Err(s.wrong("block_count", h.n_layers, why));
        }
        Ok(Sizes { stack, high, low })
    }
}

/// The layers of one stack, each with the slot of its first run.
struct Stack {
    layers: Vec<Layer>,
    first: u32,
    fresh: bool,
    norm: Norm,
}

impl Stack {
    fn read(s: &mut Source<'_>, h: &Hyper, first: u32, n: u32) -> Result<Stack> {
        let norm = Norm { kind: NormKind::Rms, eps: h.eps, groups: 1, weight: None, bias: None };
        let rope = h.rope(s, Pairing::Halves)?;
        let rope = s.rope(rope);
        let mut layers = Vec::new();
        for i in first..first + n {
            let mut attn = attention(s, h, i, Some(rope), Mask::Full)?;
            let gate =
                s.linear(&format!("blk.{i}.attn_gate"), h.width, attn.n_heads * attn.v_dim)?;
            attn.gate = Some(AttnGate { source: GateSource::Own(gate), per_head: false });
            attn.o = without_bias(attn.o);
            let sizes = (h.width, h.ff[i as usize]);
            let ffn = ffn(s, &format!("blk.{i}.ffn"), "", sizes, Activation::Silu)?;
            let blocks =
                vec![block(norm.clone(), Op::Attn(attn)), block(norm.clone(), Op::Ffn(ffn))];
            layers.push(Layer { blocks, out_scale: None });
        }
        Ok(Stack { layers, first, fresh: true, norm })
    }

    /// One more run: the same weights, with new slots after the first time.
    fn run(&mut self, s: &mut Source<'_>, h: &Hyper, steps: &mut Vec<Step>) {
        for (i, layer) in self.layers.iter().enumerate() {
            let mut layer = layer.clone();
            let attn = layer.blocks[0].branches.first_mut().map(|b| &mut b.op);
            if let (Some(Op::Attn(attn)), false) = (attn, self.fresh) {
                attn.slot = Some(kv_slot(s, h, self.first + i as u32, Mask::Full));
            }
            steps.push(Step::Layer(layer));
        }
        self.fresh = false;
        steps.push(Step::Norm(self.norm.clone()));
    }
}

/// The last run's norm is the final one.
fn head(s: &mut Source<'_>, h: &Hyper) -> Result<Head> {
    let out = match s.maybe_linear("output", h.width, h.n_vocab)? {
        Some(out) => out,
        None => s.linear("token_embd", h.width, h.n_vocab)?,
    };
    let kind = HeadKind::LanguageModel;
    Ok(Head { kind, norm: None, out: Some(out), scale: 1.0, soft_cap: None })
}
