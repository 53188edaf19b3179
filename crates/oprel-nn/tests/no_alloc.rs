//! A decode step takes no memory: everything was taken when the model was prepared.

use std::alloc::System;
use std::sync::Arc;

use oprel_nn::batch::SeqId;
use oprel_nn::cpu::{CpuExec, CpuOptions};
use oprel_nn::describe::{
    Activation, Attn, Block, Branch, Conv1d, Decoder, Ffn, Gating, Head, HeadKind, Input, Layer,
    Linear, Mamba2, Mask, Moe, Norm, NormKind, Op, Reach, Read, RopeId, Router, RouterInput,
    SiteId, SlotId, StateSpec, Step, VDim, Write,
};
use oprel_nn::rope::{Pairing, Rope};
use oprel_nn::state::{PageId, RowId};
use oprel_nn::{
    Batch, Dev, Exec, KvType, Limits, PageTable, Placement, Pos, QMatrix, RowSet, Span, StateView,
    StepOut, Transfer, Want, WeightId, Weights, What,
};
use oprel_quant::QuantType;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WIDTH: u32 = 64;
const VOCAB: u32 = 100;
const FF: u32 = 96;
const EXPERTS: u32 = 6;

/// Weights of a model being made up.
#[derive(Default)]
struct Maker {
    weights: Weights,
    count: u32,
}

impl Maker {
    fn matrix(&mut self, ty: QuantType, (experts, rows, cols): (u32, u32, u32)) -> WeightId {
        self.count += 1;
        let n = (experts * rows * cols) as usize;
        let seed = self.count as usize;
        let value = |i: usize| ((i * 37 + seed * 11) % 101) as f32 / 500.0 - 0.1;
        let values: Vec<f32> = (0..n).map(value).collect();
        let mut bytes = vec![0; ty.row_bytes(n).expect("whole blocks")];
        oprel_quant::quantize(ty, &values, &mut bytes).expect("a simple type");
        let name = format!("made up {}", self.count);
        let matrix = QMatrix::in_memory(&name, ty, (experts, rows, cols), Arc::from(bytes));
        self.weights.add(matrix.expect("a matrix"))
    }

    fn vector(&mut self, n: u32) -> WeightId {
        self.matrix(QuantType::F32, (1, 1, n))
    }

    fn linear(&mut self, rows: u32, cols: u32) -> Linear {
        self.experts(1, rows, cols)
    }

    fn experts(&mut self, experts: u32, rows: u32, cols: u32) -> Linear {
        let w = self.matrix(QuantType::Q8_0, (experts, rows, cols));
        Linear { w, rows: 0..rows, bias: None, scale: None, site: SiteId(w.0) }
    }

    fn norm(&mut self, n: u32) -> Norm {
        let weight = Some(self.vector(n));
        Norm { kind: NormKind::Rms, eps: 1e-5, groups: 1, weight, bias: None }
    }

    fn block(&mut self, op: Op) -> Block {
        let read = Read::Plain(Some(self.norm(WIDTH)));
        Block { read, branches: vec![Branch::plain(op)], post: None, write: Write::ADD }
    }

    fn attention(&mut self) -> Op {
        Op::Attn(Attn {
            n_heads: 2,
            n_kv_heads: 1,
            k_dim: 32,
            v_dim: 32,
            q: self.linear(64, WIDTH),
            k: Some(self.linear(32, WIDTH)),
            v: Some(self.linear(32, WIDTH)),
            o: self.linear(WIDTH, 64),
            q_norm: None,
            k_norm: None,
            v_norm: None,
            norm_after_rope: false,
            rope: Some(RopeId(0)),
            scale: 0.2,
            soft_cap: Some(30.0),
            mask: Mask::Full,
            sinks: None,
            alibi: None,
            clamp: None,
            temperature: None,
            gate: None,
            o_norm: None,
            slot: Some(SlotId(0)),
        })
    }

    fn ffn(&mut self) -> Op {
        Op::Ffn(Ffn {
            gate: Some(self.linear(FF, WIDTH)),
            up: self.linear(FF, WIDTH),
            down: self.linear(WIDTH, FF),
            act: Activation::Silu,
            norm: None,
        })
    }

    fn moe(&mut self) -> Op {
        Op::Moe(Box::new(Moe {
            router: Router {
                w: self.linear(EXPERTS, WIDTH),
                input: RouterInput::Same,
                gating: Gating::Softmax,
                n_used: 2,
                choice_bias: None,
                groups: None,
                normalize: true,
                scale: 1.0,
                by_token: None,
            },
            gate: Some(self.experts(EXPERTS, FF, WIDTH)),
            up: self.experts(EXPERTS, FF, WIDTH),
            down: self.experts(EXPERTS, WIDTH, FF),
            act: Activation::Silu,
            weigh_input: false,
            latent: None,
            shared: None,
        }))
    }

    fn mamba2(&mut self) -> Op {
        let (inner, state, heads) = (64, 16, 4);
        let channels = inner + 2 * state;
        let weight = self.matrix(QuantType::F32, (1, channels, 4));
        Op::Mamba2(Mamba2 {
            inner,
            state,
            n_heads: heads,
            n_groups: 1,
            input: self.linear(inner + channels + heads, WIDTH),
            conv: Conv1d { weight, bias: None, kernel: 4, channels },
            dt_bias: self.vector(heads),
            a: self.vector(heads),
            d: self.vector(heads),
            norm: None,
            out: self.linear(WIDTH, inner),
            slot: SlotId(1),
        })
    }

    /// Attention, dense feed-forward, Mamba-2 and experts.
    fn decoder(&mut self) -> Decoder {
        let ops = [self.attention(), self.ffn(), self.mamba2(), self.moe()];
        let blocks = ops.map(|op| self.block(op)).into_iter().collect();
        let head = Head {
            kind: HeadKind::LanguageModel,
            norm: Some(self.norm(WIDTH)),
            out: Some(self.linear(VOCAB, WIDTH)),
            scale: 1.0,
            soft_cap: None,
        };
        let table = self.matrix(QuantType::Q8_0, (1, VOCAB, WIDTH));
        let rope = Rope {
            dims: 32,
            pairing: Pairing::Halves,
            base: 10000.0,
            freq_scale: 1.0,
            yarn: None,
            magnitude: 1.0,
            factors: None,
            sections: None,
        };
        let kv = StateSpec::Kv { heads: 1, k: 32, v: VDim::Own(32), reach: Reach::Full };
        Decoder {
            width: WIDTH,
            n_vocab: VOCAB,
            context_length: 256,
            inputs: vec![Input::Token { table, scale: 1.0 }],
            lanes: 1,
            slots: vec![kv, StateSpec::Recurrent { state: 64 * 16, conv: 3 * 96 }],
            ropes: vec![rope],
            steps: vec![Step::Layer(Layer { blocks, out_scale: None })],
            heads: vec![head],
            classifier: None,
        }
    }
}

fn step(exec: &mut CpuExec, out: &mut StepOut, tokens: &[u32], start: u32, want: &[Want]) {
    let pages = [PageId(2), PageId(0), PageId(1), PageId(3)];
    let spans = [Span::causal(SeqId(0), tokens.len() as u32, start)];
    let mut pos = [0; 128];
    let pos = &mut pos[..tokens.len()];
    pos.iter_mut().zip(start..).for_each(|(p, i)| *p = i as i32);
    let batch = Batch { spans: &spans, tokens, pos: Pos::Text(pos), embeds: &[], want };
    let row = Some(RowId(0));
    let transfer = [Transfer { from: row.filter(|_| start > 0), to: row, keep: &[] }];
    let tables = [PageTable(&pages)];
    let state = StateView { pages: &tables, recurrent: &transfer };
    exec.step(&batch, &state, out, None).expect("the step runs");
}

#[test]
fn a_decode_step_takes_no_memory() {
    let mut maker = Maker::default();
    let decoder = maker.decoder();
    let options = CpuOptions { threads: 3, isa: None };
    let mut exec = CpuExec::new(options).expect("threads");
    let limits = Limits {
        tokens: 128,
        spans: 1,
        logit_rows: 1,
        context: 256,
        pages: vec![4],
        recurrent_rows: 1,
        kv: KvType::default().into(),
    };
    let placement = Placement::all_on(Dev(0), 1);
    exec.prepare(&decoder, &maker.weights, &placement, &limits).expect("prepared");
    let wants = [What::Logits, What::TopK(5)].map(|what| [Want { of: RowSet::Last, what }]);
    let mut out = StepOut::default();
    let prompt: Vec<u32> = (0..100).collect();
    step(&mut exec, &mut out, &prompt, 0, &wants[0]);
    // The caller's `out` grows to what is asked once.
    for want in &wants {
        step(&mut exec, &mut out, &[7], 100, want);
    }
    // A thread of the pool that has not run yet takes memory when it does: then that round does not
    // count. What steps themselves take, they take in every round.
    let mut taken_in_round = || {
        let region = Region::new(COUNTED);
        for start in 100..140 {
            for want in &wants {
                step(&mut exec, &mut out, &[start % VOCAB], start, want);
            }
        }
        let change = region.change();
        change.allocations + change.reallocations
    };
    let least = std::iter::repeat_with(&mut taken_in_round).take(50).find(|&taken| taken == 0);
    assert_eq!(least, Some(0), "every round of steps takes memory");
    assert!(out.got[0].values.iter().all(|x| x.is_finite()));
}
