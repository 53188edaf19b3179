//! What one token costs: weights that are read, weights that are multiplied, keys and values that are
//! looked at.

use std::collections::HashSet;

use oprel_engine::fit::Needs;
use oprel_models::Model;
use oprel_nn::describe::{Decoder, Input, Moe, Op, Reach, StateSpec};
use oprel_nn::{PAGE_LEN, WeightId};
use oprel_quant::QuantType;
use oprel_telemetry::{Look, Matrices};

/// Tokens of a prompt that one step takes at once.
const STEP: f64 = 512.0;

/// What one token costs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// Of matrices that are alike: of one type, for as many tokens.
    pub weights: Vec<Alike>,
    /// Of layers that look back alike.
    pub looks: Vec<LookBack>,
    /// Bytes of recurrent state that are read and written.
    pub recurrent: f64,
    /// Operations that wait for the one before.
    pub stages: f64,
    /// Weights of the model.
    pub n_weights: f64,
}

/// Matrices of one type that as many tokens of a prompt meet at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Alike {
    /// What they are, in the shape that most of their bytes have.
    pub matrices: Matrices,
    /// Bytes that a decoded token reads.
    pub bytes: f64,
    /// Weights that a prompt's token is multiplied with.
    pub weights: f64,
    /// Bytes by shape.
    shapes: Vec<((usize, usize), f64)>,
}

/// Layers that look back alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LookBack {
    /// How far.
    pub reach: Reach,
    /// Bytes of a position.
    pub bytes: f64,
    /// Products of a position with a query.
    pub products: f64,
    /// The sizes of each, where it is attention as usual.
    pub look: Option<Look>,
}

impl Alike {
    /// Counts a matrix too.
    fn add(&mut self, shape: (usize, usize), bytes: f64, weights: f64) {
        self.bytes += bytes;
        self.weights += weights;
        match self.shapes.iter_mut().find(|(of, _)| *of == shape) {
            Some((_, sum)) => *sum += bytes,
            None => self.shapes.push((shape, bytes)),
        }
        let most = self.shapes.iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
        if let Some(&((rows, cols), _)) = most {
            (self.matrices.rows, self.matrices.cols) = (rows, cols);
        }
    }
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
            let shape = (m.rows as usize, m.cols as usize);
            work.add((m.ty, share), shape, (bytes, n));
        }
        work
    }

    /// Counts a matrix of a type; a token meets it with this share of its kind.
    fn add(
        &mut self,
        (ty, share): (QuantType, f64),
        shape: (usize, usize),
        (bytes, n): (f64, f64),
    ) {
        let tokens = (STEP * share).ceil() as usize;
        let is_alike = |a: &Alike| a.matrices.ty == ty && a.matrices.tokens == tokens;
        match self.weights.iter_mut().find(|a| is_alike(a)) {
            Some(alike) => alike.add(shape, bytes, n),
            None => {
                let matrices = Matrices { ty, rows: shape.0, cols: shape.1, tokens };
                let shapes = vec![(shape, bytes)];
                self.weights.push(Alike { matrices, bytes, weights: n, shapes });
            }
        }
    }

    /// Bytes of weights that a decoded token reads.
    pub fn active_bytes(&self) -> f64 {
        self.weights.iter().map(|alike| alike.bytes).sum()
    }

    /// Bytes of keys and values that it reads at a depth.
    pub fn state_bytes(&self, depth: u32) -> f64 {
        let depth = f64::from(depth);
        self.looks.iter().map(|look| look.bytes * look.seen(depth)).sum::<f64>() + self.recurrent
    }
}

impl LookBack {
    /// Positions that are seen at a depth.
    pub fn seen(&self, depth: f64) -> f64 {
        match self.reach {
            Reach::Full => depth,
            Reach::Window(n) => depth.min(f64::from(n)),
        }
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

fn looks(decoder: &Decoder, needs: &Needs) -> Vec<LookBack> {
    let mut looks: Vec<LookBack> = Vec::new();
    for op in ops(decoder) {
        let (slot, look, products) = match op {
            Op::Attn(attn) => {
                let look = Look {
                    n_heads: attn.n_heads as usize,
                    n_kv_heads: attn.n_kv_heads as usize,
                    k_dim: attn.k_dim as usize,
                    v_dim: attn.v_dim as usize,
                };
                (attn.slot, Some(look), look.products())
            }
            Op::Mla(mla) => {
                let products = mla.n_heads * (2 * mla.kv_rank + mla.rope_dim);
                (Some(mla.slot), None, f64::from(products))
            }
            _ => continue,
        };
        let Some(slot) = slot.map(|slot| usize::from(slot.0)) else { continue };
        let Some(reach) = decoder.slots.get(slot).and_then(StateSpec::reach) else { continue };
        let bytes = needs.slots.get(slot).map_or(0.0, |b| *b as f64 / PAGE_LEN as f64);
        match looks.iter_mut().find(|l| l.reach == reach && l.look == look) {
            Some(l) => (l.bytes, l.products) = (l.bytes + bytes, l.products + products),
            None => looks.push(LookBack { reach, bytes, products, look }),
        }
    }
    looks
}

/// About how often all threads wait for each other, products of matrices aside.
fn stages(decoder: &Decoder) -> f64 {
    let of = |op: &Op| match op {
        Op::Ffn(_) => 1.0,
        Op::Moe(_) => 5.0,
        Op::Attn(_) => 4.0,
        Op::Mla(_) => 6.0,
        Op::Term(_) => 0.0,
        _ => 5.0,
    };
    4.0 + ops(decoder).map(of).sum::<f64>()
}
