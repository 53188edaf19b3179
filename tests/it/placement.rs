//! A model whose parts lie on different devices of the list gives the same logits, and its values do
//! move: the CPU stands in the list twice, and its two places share nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oprel_models::{Model, describe};
use oprel_nn::candle::{CandleExec, Device};
use oprel_nn::state::{PageId, RowId};
use oprel_nn::{
    Batch, Decoder, Dev, Error, Exec, KvType, Limits, Memory, Observer, Place, Placement, Result,
    StateView, StepOut, Weights,
};
use oprel_tests::run::{Sequence, error, limits};
use oprel_tests::zoo::{Reference, Set, Skeleton};

/// Two places on the CPU, and how many values have crossed between them.
struct Counted {
    exec: CandleExec,
    moved: Arc<AtomicU64>,
}

impl Counted {
    fn new(moved: &Arc<AtomicU64>) -> Counted {
        Counted { exec: CandleExec::new(vec![Device::Cpu, Device::Cpu]), moved: moved.clone() }
    }
}

impl Exec for Counted {
    fn prepare(&mut self, d: &Decoder, w: &Weights, p: &Placement, l: &Limits) -> Result<Memory> {
        self.exec.prepare(d, w, p, l)
    }

    fn step(
        &mut self,
        batch: &Batch<'_>,
        state: &StateView<'_>,
        out: &mut StepOut,
        watch: Option<&mut dyn Observer>,
    ) -> Result<()> {
        let result = self.exec.step(batch, state, out, watch);
        self.moved.store(self.exec.moved(), Ordering::Relaxed);
        result
    }

    fn copy_pages(&mut self, group: usize, pages: &[(PageId, PageId)]) -> Result<()> {
        self.exec.copy_pages(group, pages)
    }

    fn page_bytes(&self, group: usize) -> usize {
        self.exec.page_bytes(group)
    }

    fn read_page(&self, group: usize, page: PageId, to: &mut [u8]) -> Result<()> {
        self.exec.read_page(group, page, to)
    }

    fn write_page(&mut self, group: usize, page: PageId, from: &[u8]) -> Result<()> {
        self.exec.write_page(group, page, from)
    }

    fn row_bytes(&self) -> usize {
        self.exec.row_bytes()
    }

    fn read_row(&self, row: RowId, to: &mut [u8]) -> Result<()> {
        self.exec.read_row(row, to)
    }

    fn write_row(&mut self, row: RowId, from: &[u8]) -> Result<()> {
        self.exec.write_row(row, from)
    }
}

fn model(name: &str) -> Model {
    let skeleton = Skeleton::load(Set::Hard, name).expect("a skeleton of this name");
    describe(&skeleton.gguf(7)).expect("the zoo can be described")
}

/// Logits under a placement, and values moved in one step.
fn run(model: &Model, placement: &Placement) -> (Vec<f32>, u64) {
    let moved = Arc::new(AtomicU64::new(0));
    let exec = Box::new(Counted::new(&moved));
    let mut sequence = Sequence::placed(exec, model, 256, KvType::F16, placement);
    let tokens = &Reference::load(Set::Hard).tokens[..80];
    let pieces = [70, 1];
    let logits = sequence.logits(tokens, &pieces);
    let steps = pieces.len() as u64 + 1;
    let all = moved.load(Ordering::Relaxed);
    assert_eq!(all % steps, 0, "every step moves as much");
    (logits, all / steps)
}

/// Checks that a placement changes no logit and moves so many values a step.
fn check(name: &str, place: impl Fn(usize) -> Place, moves: u64) {
    let model = model(name);
    let n_layers = model.decoder.layers().count();
    let whole = Placement::all_on(Dev(0), n_layers);
    let split = Placement { layers: (0..n_layers).map(place).collect(), ..whole.clone() };
    let (want, none) = run(&model, &whole);
    let (got, moved) = run(&model, &split);
    assert_eq!(none, 0, "one device moves nothing");
    assert_eq!(moved, moves, "{name}");
    let error = error(&want, &got);
    assert!(error < 1e-10, "{name}: {error:e}");
}

fn all(dev: Dev) -> Place {
    Place { mixer: dev, ffn: dev, experts: dev, state: dev }
}

#[test]
fn layers_that_alternate_between_devices_give_the_same_logits() {
    // Four layers on 0, 1, 0, 1, then the head on 0.
    check("llama-dense", |i| all(Dev(i as u8 % 2)), 4);
    check("gemma2-dense", |i| all(Dev(i as u8 % 2)), 4);
}

#[test]
fn experts_on_another_device_give_the_same_logits() {
    // There and back, in each of four layers; the shared experts of qwen2moe stay with the router.
    let place = |_| Place { experts: Dev(1), ..Place::default() };
    check("qwen3moe-moe", place, 8);
    check("qwen2moe-moe", place, 8);
    check("gpt-oss-moe", place, 8);
}

#[test]
fn keys_and_values_on_another_device_give_the_same_logits() {
    // Queries, keys and values there, the result back, in each of four layers.
    check("llama-dense", |_| Place { state: Dev(1), ..Place::default() }, 16);
    check("gpt-oss-moe", |_| Place { state: Dev(1), ..Place::default() }, 16);
}

#[test]
fn mixer_and_feed_forward_on_different_devices_give_the_same_logits() {
    let place = |_| Place { ffn: Dev(1), experts: Dev(1), ..Place::default() };
    check("llama-moe", place, 8);
}

#[test]
fn a_placement_on_a_device_that_is_not_there_is_refused() {
    let model = model("llama-dense");
    let n_layers = model.decoder.layers().count();
    let limits = limits(&model.decoder, 64, KvType::F16);
    for placement in [
        Placement::all_on(Dev(2), n_layers),
        Placement { head: Dev(2), ..Placement::all_on(Dev(0), n_layers) },
        Placement::all_on(Dev(0), n_layers - 1),
    ] {
        let mut exec = CandleExec::new(vec![Device::Cpu, Device::Cpu]);
        let refused = exec.prepare(&model.decoder, &model.weights, &placement, &limits);
        assert!(matches!(refused, Err(Error::Description(_))), "{refused:?}");
    }
}
