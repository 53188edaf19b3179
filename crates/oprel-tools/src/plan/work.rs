//! What one token costs: weights that are read, weights that are multiplied, keys and values that are
//! looked at.

use std::collections::HashSet;

use oprel_engine::fit::Needs;
use oprel_models::Model;
use oprel_nn::describe::{Decoder, Input, Moe, Op, Reach, StateSpec};
use oprel_nn::{PAGE_LEN, WeightId};
use oprel_quant::QuantType;

/// What one token costs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// By type: bytes that a decoded token reads, and weights that a prompt's token is multiplied with.
    pub weights: Vec<(QuantType, f64, f64)>,
    /// Of layers that look back alike: how far, bytes of a position, and products of a position with a
    /// query.
    pub looks: Vec<(Reach, f64, f64)>,
    /// Bytes of recurrent state that are read and written.
    pub recurrent: f64,
    /// Operations that wait for the one before.
    pub stages: f64,
    /// Weights of the model.
    pub n_weights: f64,
}

impl Work {
    /// That of a described model.
    pub fn of(model: &Model, needs: &Needs) -> Work {
        let decoder = &model.decoder;
        let mut work = Work {
            looks: looks(decoder, needs),
            recurrent: 2.0 * needs.rows.1 as f64,
            stages: stages(decoder),
            n_weights: model.weights.iter().map(|(_, m)| m.n_elements() as f64).sum(),
            ..Work::default()
        };
        let (experts, tables, heads) = (experts(decoder), tables(decoder), heads(decoder));
        for (id, m) in model.weights.iter() {
            // Vectors are decoded once; of a table one row is read.
            if m.rows * m.experts == 1 || tables.contains(&id) && !heads.contains(&id) {
                continue;
            }
            let share = experts.iter().find(|(e, _)| *e == id).map_or(1.0, |(_, share)| *share);
            let bytes = m.bytes().len() as f64 * share;
            // Logits are made of the last token of a prompt alone.
            let n = if heads.contains(&id) { 0.0 } else { m.n_elements() as f64 * share };
            match work.weights.iter_mut().find(|(ty, ..)| *ty == m.ty) {
                Some((_, b, e)) => (*b, *e) = (*b + bytes, *e + n),
                None => work.weights.push((m.ty, bytes, n)),
            }
        }
        work
    }

    /// Bytes of weights that a decoded token reads.
    pub fn active_bytes(&self) -> f64 {
        self.weights.iter().map(|(_, bytes, _)| bytes).sum()
    }

    /// Bytes of keys and values that it reads at a depth.
    pub fn state_bytes(&self, depth: u32) -> f64 {
        self.looks.iter().map(|(reach, bytes, _)| bytes * seen(*reach, depth)).sum::<f64>()
            + self.recurrent
    }

    /// Products that attention makes for a token at a depth.
    pub fn attention(&self, depth: f64) -> f64 {
        self.looks.iter().map(|(reach, _, n)| n * seen_f(*reach, depth)).sum()
    }
}

fn seen(reach: Reach, depth: u32) -> f64 {
    seen_f(reach, f64::from(depth))
}

fn seen_f(reach: Reach, depth: f64) -> f64 {
    match reach {
        Reach::Full => depth,
        Reach::Window(n) => depth.min(f64::from(n)),
    }
}

/// All operations of all layers.
fn ops(decoder: &Decoder) -> impl Iterator<Item = &Op> {
    let blocks = decoder.layers().flat_map(|layer| &layer.blocks);
    blocks.flat_map(|block| &block.branches).map(|branch| &branch.op)
}

fn experts(decoder: &Decoder) -> Vec<(WeightId, f64)> {
    let of = |moe: &Moe| {
        let share = |id: WeightId| (id, f64::from(moe.router.n_used));
        [moe.gate.as_ref().map(|g| share(g.w)), Some(share(moe.up.w)), Some(share(moe.down.w))]
    };
    let n_experts = |moe: &Moe| f64::from(moe.router.w.rows.len() as u32).max(1.0);
    let moes =
        ops(decoder).filter_map(|op| if let Op::Moe(moe) = op { Some(&**moe) } else { None });
    let all = moes.flat_map(|moe| {
        of(moe).into_iter().flatten().map(move |(id, used)| (id, (used / n_experts(moe)).min(1.0)))
    });
    all.collect()
}

fn tables(decoder: &Decoder) -> HashSet<WeightId> {
    let tables = decoder.inputs.iter().flat_map(|input| match input {
        Input::Token { table, .. } | Input::Position { table, .. } | Input::Row { table, .. } => {
            vec![*table]
        }
        Input::NGram { tables } => tables.clone(),
    });
    tables.collect()
}

fn heads(decoder: &Decoder) -> HashSet<WeightId> {
    decoder.heads.iter().filter_map(|head| head.out.as_ref()).map(|out| out.w).collect()
}

fn looks(decoder: &Decoder, needs: &Needs) -> Vec<(Reach, f64, f64)> {
    let mut looks: Vec<(Reach, f64, f64)> = Vec::new();
    for op in ops(decoder) {
        let (slot, products) = match op {
            Op::Attn(attn) => (attn.slot, attn.n_heads * (attn.k_dim + attn.v_dim)),
            Op::Mla(mla) => (Some(mla.slot), mla.n_heads * (2 * mla.kv_rank + mla.rope_dim)),
            _ => continue,
        };
        let Some(slot) = slot.map(|slot| usize::from(slot.0)) else { continue };
        let Some(reach) = decoder.slots.get(slot).and_then(StateSpec::reach) else { continue };
        let bytes = needs.slots.get(slot).map_or(0.0, |b| *b as f64 / PAGE_LEN as f64);
        let products = f64::from(products);
        match looks.iter_mut().find(|(r, ..)| *r == reach) {
            Some((_, b, n)) => (*b, *n) = (*b + bytes, *n + products),
            None => looks.push((reach, bytes, products)),
        }
    }
    looks
}

/// About how often all threads wait for each other.
fn stages(decoder: &Decoder) -> f64 {
    let of = |op: &Op| match op {
        Op::Ffn(_) => 3.0,
        Op::Moe(_) => 7.0,
        Op::Attn(_) => 6.0,
        Op::Mla(_) => 10.0,
        Op::Term(_) => 0.0,
        _ => 8.0,
    };
    4.0 + ops(decoder).map(of).sum::<f64>()
}
