//! What preparing an executor counts and refuses.

use oprel_models::{Model, describe};
use oprel_nn::candle::CandleExec;
use oprel_nn::cpu::{CpuExec, CpuOptions};
use oprel_nn::describe::{Input, Op, Step};
use oprel_nn::{Decoder, Dev, Error, Exec, KvType, Limits, Memory, Placement, Result, What};
use oprel_tests::run::{Sequence, error, executors, limits};
use oprel_tests::zoo::{Set, Skeleton};

fn model(name: &str) -> Model {
    let skeleton = Skeleton::load(Set::Plain, name).expect("a skeleton of this name");
    describe(&skeleton.gguf(11)).expect("the zoo can be described")
}

fn prepare(exec: &mut dyn Exec, model: &Model, d: &Decoder, limits: &Limits) -> Result<Memory> {
    exec.prepare(d, &model.weights, &Placement::all_on(Dev(0), d.layers().count()), limits)
}

#[test]
fn keys_and_values_are_kept_in_the_type_that_limits_name() {
    let model = model("llama-dense");
    for (name, mut exec) in executors() {
        let mut state = |kv| {
            prepare(exec.as_mut(), &model, &model.decoder, &limits(&model.decoder, 100, kv))
                .unwrap()
                .state
        };
        // Two pages of 64 positions, keys and values, in each layer.
        let layers = model.decoder.layers().count() as u64;
        let elements = 2 * 64 * 2 * u64::from(model.decoder.width) * layers;
        assert_eq!(state(KvType::F16), 2 * elements, "{name}");
        assert_eq!(state(KvType::F32), 4 * elements, "{name}");
    }
    for ((name, exact), (_, half)) in executors().into_iter().zip(executors()) {
        let tokens: Vec<u32> = (0..20).map(|i| i * 5 % 128).collect();
        let exact = Sequence::new(exact, &model, 64, KvType::F32).feed(&tokens, What::Logits);
        let half = Sequence::new(half, &model, 64, KvType::F16).feed(&tokens, What::Logits);
        let error = error(&exact, &half);
        assert!(error > 0.0 && error < 1e-4, "{name}: {error:e}");
    }
}

#[test]
fn state_beyond_all_memory_is_refused() {
    let model = model("llama-dense");
    for (name, mut exec) in executors() {
        let limits = Limits { pages: vec![u32::MAX], ..limits(&model.decoder, 100, KvType::F32) };
        let refused = prepare(exec.as_mut(), &model, &model.decoder, &limits);
        assert!(matches!(refused, Err(Error::Memory { .. })), "{name}: {refused:?}");
    }
}

#[test]
fn what_an_executor_cannot_do_is_refused_by_name() {
    let model = model("llama-dense");
    let lanes = Decoder { lanes: 4, ..model.decoder.clone() };
    let grams = Decoder { inputs: vec![Input::NGram { tables: vec![] }], ..model.decoder.clone() };
    for (decoder, what) in [(lanes, "lanes"), (grams, "n-gram")] {
        let mut exec = CandleExec::cpu();
        match prepare(&mut exec, &model, &decoder, &limits(&decoder, 64, KvType::F16)) {
            Err(Error::Unsupported { what: said, .. }) => assert!(said.contains(what), "{said}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_description_that_names_what_is_not_there_is_refused() {
    let model = model("llama-dense");
    for (name, mut exec) in executors() {
        let mut slots = model.decoder.clone();
        slots.slots.clear();
        let mut ropes = model.decoder.clone();
        ropes.ropes.clear();
        let mut blocks = model.decoder.clone();
        for step in &mut blocks.steps {
            if let Step::Layer(layer) = step {
                layer.blocks[0].branches.clear();
            }
        }
        let mut heads = model.decoder.clone();
        for step in &mut heads.steps {
            let Step::Layer(layer) = step else { continue };
            if let Op::Attn(attn) = &mut layer.blocks[0].branches[0].op {
                attn.n_kv_heads = 0;
            }
        }
        for decoder in [slots, ropes, blocks, heads] {
            let refused =
                prepare(exec.as_mut(), &model, &decoder, &limits(&decoder, 64, KvType::F16));
            assert!(matches!(refused, Err(Error::Description(_))), "{name}: {refused:?}");
        }
    }
}

/// Every architecture that runs, in both sets.
fn all() -> impl Iterator<Item = (String, Model)> {
    let of = |set| oprel_tests::zoo::names(set).into_iter().map(move |name| (set, name));
    of(Set::Plain).chain(of(Set::Hard)).filter_map(|(set, name)| {
        let file = Skeleton::load(set, &name)?.gguf(3);
        Some((format!("{set:?} {name}"), describe(&file).ok()?))
    })
}

#[test]
fn what_will_be_taken_is_known_before() {
    let mut n = 0;
    for (name, model) in all() {
        for kv in [KvType::I16, KvType::Q8_0] {
            let limits = limits(&model.decoder, 100, kv);
            let mut exec = CpuExec::new(CpuOptions { threads: 1, isa: None }).unwrap();
            let needs = oprel_nn::cpu::needs(&model.decoder, &model.weights, &limits, exec.isa());
            let taken = prepare(&mut exec, &model, &model.decoder, &limits);
            let (needs, taken) = match (needs, taken) {
                (Ok(needs), Ok(taken)) => (needs, taken),
                (needs, taken) => {
                    assert!(needs.is_err() && taken.is_err(), "{name}: {needs:?}, {taken:?}");
                    continue;
                }
            };
            assert_eq!(needs.memory, taken, "{name}");
            for (group, bytes) in needs.page_bytes.iter().enumerate() {
                assert_eq!(*bytes, exec.page_bytes(group) as u64, "{name}");
            }
            assert_eq!(needs.row_bytes, exec.row_bytes() as u64, "{name}");
            n += 1;
        }
    }
    assert!(n >= 50, "{n} models");
}
