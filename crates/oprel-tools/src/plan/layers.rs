//! Where weights and state belong, layer by layer.

use oprel_engine::fit::Needs;
use oprel_models::Model;
use oprel_nn::Placement;
use oprel_nn::describe::{self, Op, Reach, SlotId, StateSpec, VDim};
use serde::Serialize;

use super::Outside;

/// A layer of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerPlan {
    /// Its number in the file.
    pub index: usize,
    /// Where its weights are.
    pub device: u8,
    /// Where its experts are.
    pub experts_device: u8,
    /// Bytes of its weights, without those of experts.
    pub weights: u64,
    /// Bytes of its experts.
    pub experts: u64,
    /// What it keeps of texts.
    pub state: Vec<StateKind>,
    /// Bytes that it keeps of one text of the whole context.
    pub state_bytes: u64,
}

/// What a layer keeps of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StateKind {
    /// Keys and values of all positions.
    Full,
    /// Those of the last so many.
    Window(u32),
    /// A latent of which keys and values are made (MLA), of all positions.
    Latent,
    /// State of a fixed size.
    Recurrent,
    /// What an earlier layer keeps.
    Shared,
}

/// The slots that an operation keeps state in.
pub(super) fn slots(layer: &describe::Layer) -> impl Iterator<Item = SlotId> {
    layer.blocks.iter().flat_map(|block| &block.branches).filter_map(|branch| match &branch.op {
        Op::Attn(op) => op.slot,
        Op::Mla(op) => Some(op.slot),
        Op::Compressed(op) => Some(op.slot),
        Op::Cross(op) => Some(op.slot),
        Op::Mamba(op) => Some(op.slot),
        Op::Mamba2(op) => Some(op.slot),
        Op::Delta(op) => Some(op.slot),
        Op::Rwkv(op) => Some(op.slot),
        Op::Conv(op) => Some(op.slot),
        _ => None,
    })
}

/// The layers, with what they take at a context.
pub(super) fn layers(
    model: &Model,
    needs: &Needs,
    placement: &Placement,
    context: u32,
) -> Vec<LayerPlan> {
    let mut seen = Vec::new();
    let weights = by_layer(model);
    let layer = |(index, layer): (usize, &describe::Layer)| {
        let mut plan = LayerPlan {
            index,
            device: placement.layers[index].mixer.0,
            experts_device: placement.layers[index].experts.0,
            weights: weights.get(index).map_or(0, |w| w.0),
            experts: weights.get(index).map_or(0, |w| w.1),
            state: Vec::new(),
            state_bytes: 0,
        };
        for SlotId(id) in slots(layer) {
            let slot = model.decoder.slots[usize::from(id)];
            if seen.contains(&id) {
                plan.state.push(StateKind::Shared);
                continue;
            }
            seen.push(id);
            plan.state.push(kind(&slot));
            plan.state_bytes += needs.slot(usize::from(id), slot.reach(), context);
        }
        plan
    };
    model.decoder.layers().enumerate().map(layer).collect()
}

fn kind(slot: &StateSpec) -> StateKind {
    match slot {
        StateSpec::Recurrent { .. } => StateKind::Recurrent,
        StateSpec::Kv { v: VDim::AliasK(_), .. } => StateKind::Latent,
        StateSpec::Kv { reach: Reach::Window(n), .. } => StateKind::Window(*n),
        _ => StateKind::Full,
    }
}

/// Bytes of weights and of experts, by layer.
fn by_layer(model: &Model) -> Vec<(u64, u64)> {
    let mut layers: Vec<(u64, u64)> = Vec::new();
    for (_, matrix) in model.weights.iter() {
        let Some(index) = layer_of(&matrix.name) else { continue };
        if layers.len() <= index {
            layers.resize(index + 1, (0, 0));
        }
        let bytes = matrix.bytes().len() as u64;
        match matrix.experts {
            1 => layers[index].0 += bytes,
            _ => layers[index].1 += bytes,
        }
    }
    layers
}

/// Weights of no layer.
pub(super) fn outside(model: &Model, placement: &Placement) -> Vec<Outside> {
    let of_none = model.weights.iter().filter(|(_, m)| layer_of(&m.name).is_none());
    let outside = of_none.map(|(_, m)| Outside {
        name: m.name.clone(),
        device: if m.name.contains("embd") { placement.embed.0 } else { placement.head.0 },
        bytes: m.bytes().len() as u64,
    });
    outside.collect()
}

/// The number in `blk.7.attn_q.weight`. No model has so many layers that a larger one would be true.
fn layer_of(name: &str) -> Option<usize> {
    let number = name.strip_prefix("blk.")?.split('.').next()?;
    number.parse().ok().filter(|n| *n < 1 << 16)
}
