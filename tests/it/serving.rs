//! Random schedules over real models: a sequence says the same alone and in company, preempted or not,
//! from the cache or not, with proposals or without, resumed or not; and every page comes back.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::Duration;

use oprel::Sampling;
use oprel_engine::{Ask, Engine, Options, Says, Scope, SeqId};
use oprel_models::{Model, describe};
use oprel_nn::cpu::{CpuExec, CpuOptions};
use oprel_nn::{Dev, Placement};
use oprel_quant::QuantType;
use oprel_tests::zoo::{Set, Skeleton};

use crate::divergence::{demo, golden, mixed};

const CONTEXT: u32 = 320;
const JOBS: usize = 6;
const ROUNDS: u64 = 3;

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 24) % below
    }
}

fn engine(model: &Model, options: &Options) -> Engine {
    let threads = CpuOptions { threads: 2, isa: None };
    let exec = CpuExec::new(threads).expect("threads");
    let placement = Placement::all_on(Dev(0), model.decoder.layers().count());
    let (decoder, weights) = (&model.decoder, &model.weights);
    Engine::new(Box::new(exec), decoder, weights, &placement, Scope::Causal, options)
        .expect("prepared")
}

/// A prompt that begins like others do, for a while.
fn ask(dice: &mut Dice, n_vocab: u32) -> Ask {
    let token = |i: u64| (i * 7919 % u64::from(n_vocab)) as u32;
    let common = [0, 30, 64, 100, 150][dice.roll(5) as usize];
    let own = 1 + dice.roll(40);
    // Few tokens again and again, so that there is something to propose.
    let own = (0..own).map(|i| token(1000 + i % (2 + dice.roll(5))));
    let tokens: Vec<u32> = (0..common).map(token).chain(own.collect::<Vec<_>>()).collect();
    let sampling = match dice.roll(2) {
        0 => Sampling::greedy(),
        _ => Sampling { temperature: 0.7, seed: Some(dice.roll(9)), ..Sampling::default() },
    };
    Ask {
        max_tokens: Some(1 + dice.roll(60) as u32),
        sampling,
        salt: (dice.roll(6) == 0).then(|| "tenant".into()),
        client: dice.roll(3).to_string().into(),
        shift: (dice.roll(4) == 0).then_some(5),
        ..Ask::new(tokens)
    }
}

fn ids(says: &[(SeqId, Says)]) -> HashMap<SeqId, Vec<u32>> {
    let mut by_id: HashMap<SeqId, Vec<u32>> = HashMap::new();
    for (id, said) in says {
        assert!(!matches!(said, Says::Failed(_)), "{said:?}");
        if let Says::Token(token) = said {
            by_id.entry(*id).or_default().push(token.id);
        }
    }
    by_id
}

fn alone(model: &Model, ask: &Ask) -> Vec<u32> {
    let options = Options { cache: false, sequences: 1, ..Options::new(CONTEXT) };
    let mut engine = engine(model, &options);
    let ask = Ask { speculate: false, ..ask.clone() };
    let id = engine.submit(ask, Duration::ZERO).expect("a good ask");
    let mut says = Vec::new();
    while !engine.is_idle() {
        engine.step(&|| Duration::ZERO, &mut says);
    }
    ids(&says).remove(&id).unwrap_or_default()
}

fn check(name: &str, model: &Model) {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut preempted, mut cached) = (0, 0);
    for round in 0..ROUNDS {
        let asks: Vec<Ask> = (0..JOBS).map(|_| ask(&mut dice, model.decoder.n_vocab)).collect();
        let expected: Vec<Vec<u32>> = asks.iter().map(|ask| alone(model, ask)).collect();
        let options = Options {
            sequences: 1 + dice.roll(5) as u32,
            batch: [5, 64, 512][dice.roll(3) as usize],
            positions: CONTEXT + 64 * dice.roll(4) as u32,
            ..Options::new(CONTEXT)
        };
        let mut engine = engine(model, &options);
        let mut says = Vec::new();
        let mut running = HashMap::new();
        let mut waiting: Vec<usize> = (0..JOBS).collect();
        let now = Cell::new(0);
        let clock = || {
            now.set(now.get() + 1 + now.get() % 17);
            Duration::from_micros(now.get())
        };
        while !waiting.is_empty() || !engine.is_idle() {
            while !waiting.is_empty() && (engine.is_idle() || dice.roll(6) == 0) {
                let job = waiting.remove(0);
                let mut ask = asks[job].clone();
                let resumed = match dice.roll(3) {
                    0 => dice.roll(1 + expected[job].len() as u64) as usize,
                    _ => 0,
                };
                ask.produced = expected[job][..resumed].to_vec();
                let id = engine.submit(ask, Duration::ZERO).expect("a good ask");
                running.insert(id, (job, resumed));
            }
            engine.step(&clock, &mut says);
        }
        let made = ids(&says);
        for (id, (job, resumed)) in running {
            let made = made.get(&id).map_or(&[][..], Vec::as_slice);
            assert_eq!(made, &expected[job][resumed..], "{name}, round {round}, job {job}");
        }
        let gauges = engine.gauges();
        assert_eq!((gauges.running, gauges.pages_held), (0, 0), "{name}: a page is lost");
        preempted += gauges.preemptions;
        cached += gauges.cached_tokens;
    }
    println!("{name}: {preempted} preemptions, {cached} cached tokens");
    assert!(cached > 0, "{name}: nothing was ever shared");
}

#[test]
fn the_demo_model_says_the_same_in_company() {
    check("demo", &demo());
    let blocks = golden().into_iter().find(|(ty, _)| *ty == QuantType::Q4_K);
    let (ty, blocks) = blocks.expect("a golden vector");
    check("demo in Q4_K", &mixed(&demo(), ty, &blocks));
}

#[test]
fn hybrids_and_windows_say_the_same_in_company() {
    for name in ["falcon-h1-dense", "qwen35-dense", "gemma3-dense", "deepseek2-moe"] {
        let skeleton = Skeleton::load(Set::Hard, name).or_else(|| Skeleton::load(Set::Plain, name));
        let Some(skeleton) = skeleton else {
            println!("skipped: {name} is not there");
            continue;
        };
        check(name, &describe(&skeleton.gguf(1)).expect("described"));
    }
}
