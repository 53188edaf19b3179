//! What the engine itself takes of a step: many sequences over an executor that computes nothing.

#![allow(missing_docs)] // criterion's macros make undocumented functions

use std::cell::Cell;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use oprel_api::Sampling;
use oprel_engine::{Ask, Engine, Options, Scope};
use oprel_nn::describe::{Decoder, Head, HeadKind, Linear, Reach, SiteId, StateSpec, VDim};
use oprel_nn::state::{PageId, RowId};
use oprel_nn::{
    Batch, Dev, Exec, Limits, Memory, Observer, Placement, Result, StateView, StepOut, WeightId,
    Weights,
};

const VOCAB: u32 = 32;

/// Gives the same logits to all.
struct Nothing;

impl Exec for Nothing {
    fn prepare(&mut self, _: &Decoder, _: &Weights, _: &Placement, _: &Limits) -> Result<Memory> {
        Ok(Memory::default())
    }

    fn step(
        &mut self,
        batch: &Batch<'_>,
        _: &StateView<'_>,
        out: &mut StepOut,
        _: Option<&mut dyn Observer>,
    ) -> Result<()> {
        out.reset(batch.want.len());
        let mut rows = Vec::new();
        for (want, got) in batch.want.iter().zip(&mut out.got) {
            want.of.resolve(batch, &mut rows)?;
            got.values.resize(rows.len() * VOCAB as usize, 0.5);
        }
        Ok(())
    }

    fn copy_pages(&mut self, _: usize, _: &[(PageId, PageId)]) -> Result<()> {
        Ok(())
    }

    fn page_bytes(&self, _: usize) -> usize {
        0
    }

    fn read_page(&self, _: usize, _: PageId, _: &mut [u8]) -> Result<()> {
        Ok(())
    }

    fn write_page(&mut self, _: usize, _: PageId, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn row_bytes(&self) -> usize {
        0
    }

    fn read_row(&self, _: RowId, _: &mut [u8]) -> Result<()> {
        Ok(())
    }

    fn write_row(&mut self, _: RowId, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

fn decoder() -> Decoder {
    let out = Linear { w: WeightId(0), rows: 0..VOCAB, bias: None, scale: None, site: SiteId(0) };
    Decoder {
        width: 1,
        n_vocab: VOCAB,
        context_length: 1 << 20,
        inputs: Vec::new(),
        lanes: 1,
        slots: vec![StateSpec::Kv { heads: 1, k: 1, v: VDim::Own(1), reach: Reach::Full }],
        ropes: Vec::new(),
        steps: Vec::new(),
        heads: vec![Head {
            kind: HeadKind::LanguageModel,
            norm: None,
            out: Some(out),
            scale: 1.0,
            soft_cap: None,
        }],
        classifier: None,
    }
}

fn steps(c: &mut Criterion) {
    for sequences in [1, 16, 256] {
        let options = Options { sequences, positions: 1 << 24, ..Options::new(1 << 24) };
        let (weights, placement) = (Weights::default(), Placement::all_on(Dev(0), 0));
        let exec = Box::new(Nothing);
        let mut engine =
            Engine::new(exec, &decoder(), &weights, &placement, Scope::Causal, &options)
                .expect("prepared");
        for i in 0..sequences {
            // No proposals: this text repeats itself, and an executor that takes no time invites them.
            let ask = Ask {
                sampling: Sampling::greedy(),
                speculate: false,
                ..Ask::new(vec![i % VOCAB, 3])
            };
            engine.submit(ask, Duration::ZERO).expect("a good ask");
        }
        let now = Cell::new(0);
        let clock = || {
            now.set(now.get() + 1);
            Duration::from_micros(now.get())
        };
        let mut says = Vec::new();
        for _ in 0..600 {
            engine.step(&clock, &mut says);
        }
        c.bench_function(&format!("step of {sequences} sequences"), |b| {
            b.iter(|| {
                says.clear();
                engine.step(&clock, &mut says)
            })
        });
        assert_eq!(engine.gauges().running, sequences as usize);
    }
}

/// Short, for every iteration makes a token, and a context ends.
fn short() -> Criterion {
    let usual = Criterion::default().measurement_time(Duration::from_millis(800));
    usual.warm_up_time(Duration::from_millis(200))
}

criterion_group! { name = benches; config = short(); targets = steps }
criterion_main!(benches);
