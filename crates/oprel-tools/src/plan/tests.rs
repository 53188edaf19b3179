use oprel_nn::KvType;
use oprel_telemetry::{AttentionRate, Gpu, KernelRate, Rates};

use super::*;
use crate::Error;

const MB: u64 = 1 << 20;

fn host(free: u64) -> Host {
    let mut host = Host::default();
    host.memory.free_bytes = Some(free);
    host.cpu.usable_cores = Some(6);
    host.cpu.usable = (0..12).collect();
    host
}

fn demo(options: &PlanOptions, free: u64) -> Plan {
    plan(&oprel_models::demo().unwrap(), options, &host(free)).unwrap()
}

#[test]
fn parts_add_up_and_layers_hold_all_weights() {
    let plan = demo(&PlanOptions::default(), 4096 * MB);
    let p = plan.bytes;
    let parts = [p.weights, p.converted, p.state, p.scratch, p.threads, p.vocabulary, p.process];
    assert_eq!(parts.iter().sum::<u64>(), p.total);
    let layers: u64 = plan.layers.iter().map(|l| l.weights + l.experts).sum();
    let outside: u64 = plan.outside.iter().map(|o| o.bytes).sum();
    let tensors = oprel_models::demo().unwrap();
    let all: u64 = tensors.tensors().iter().map(|t| t.n_bytes()).sum();
    assert_eq!(layers + outside, all);
    assert!(p.weights <= all && p.weights + p.converted + 4096 >= all);
    assert_eq!(plan.placement.layers.len(), plan.layers.len());
    assert_eq!(plan.fits, Fits::Yes);
    let state: u64 = plan.layers.iter().map(|l| l.state_bytes).sum();
    assert!(state <= p.state && p.state - state < MB, "{state} of {}", p.state);
    assert!(serde_json::to_string(&plan).unwrap().contains("\"fits\":\"yes\""));
}

#[test]
fn longer_texts_and_wider_types_need_more() {
    let total = |context, kv: KvType| {
        let options =
            PlanOptions { context: Some(context), kv: kv.into(), ..PlanOptions::default() };
        demo(&options, 4096 * MB).bytes.total
    };
    assert!(total(256, KvType::F16) < total(512, KvType::F16));
    assert!(total(512, KvType::Q8_0) < total(512, KvType::F16));
    assert!(total(512, KvType::F16) < total(512, KvType::F32));
}

#[test]
fn what_does_not_fit_says_what_would() {
    let options = PlanOptions { context: Some(1 << 20), ..PlanOptions::default() };
    let plan = demo(&options, 200 * MB);
    assert_eq!(plan.fits, Fits::No);
    assert!(plan.instead.as_ref().unwrap().contains("--ctx-size"), "{:?}", plan.instead);
    assert!(plan.sum().contains("state of 1048576 tokens"), "{}", plan.sum());
    assert_eq!(Fits::of(100, None), Fits::Unknown);
    assert_eq!(Fits::of(100, Some(200)), Fits::Tight);
}

#[test]
fn faster_memory_makes_faster_tokens() {
    let plan = demo(&PlanOptions::default(), 4096 * MB);
    let speeds = |rate: f64| {
        let of = |alike: &Alike| KernelRate {
            ty: alike.matrices.ty.to_string(),
            tokens: alike.matrices.tokens,
            one: rate,
            many: 100.0 * rate,
        };
        let attention = Some(AttentionRate { one: rate, many: 100.0 * rate });
        Speeds {
            rates: Rates { threads: 2, read: rate, arithmetic: 1e12 },
            kernels: plan.work.weights.iter().map(of).collect(),
            attention: vec![attention; plan.work.looks.len()],
        }
    };
    let (slow, fast) = (speeds(1e9), speeds(1e10));
    let at = |speeds: &Speeds, depth| speeds.predict(&plan, depth).decode_tok_s;
    assert!(at(&fast, 0) > at(&slow, 0));
    assert!(at(&slow, 400) < at(&slow, 0), "keys and values are read");
    assert!(fast.predict(&plan, 0).prefill_tok_s > at(&fast, 0));
    let mut doubled = plan.clone();
    doubled.work.weights.iter_mut().for_each(|w| w.bytes *= 2.0);
    assert!(slow.predict(&doubled, 0).decode_tok_s < at(&slow, 0));
    let unmeasured = Speeds { attention: Vec::new(), ..slow.clone() };
    assert!(unmeasured.predict(&plan, 400).decode_tok_s > 0.0);
}

#[test]
fn a_measurement_rates_every_type_that_matters_and_every_look_back() {
    let host = host(4096 * MB);
    let plan = demo(&PlanOptions { threads: Some(2), ..PlanOptions::default() }, 4096 * MB);
    let speeds = Speeds::measure(&plan, &oprel_models::demo().unwrap(), &host).unwrap();
    assert!(!speeds.kernels.is_empty());
    assert!(speeds.attention.iter().all(Option::is_some), "{speeds:?}");
    let speed = speeds.predict(&plan, 128);
    assert!(speed.decode_tok_s > 0.0 && speed.prefill_tok_s > 0.0, "{speed:?}");
}

fn candidates() -> Vec<Candidate> {
    // As parts of what the demo model has.
    let bytes = oprel_models::demo().unwrap().total_bytes();
    [("A", 1), ("B", 2), ("C", 4)]
        .map(|(quant, n)| Candidate { name: quant.into(), quant: quant.into(), bytes: bytes * n })
        .into()
}

fn choose(host: &Host, read: Option<f64>) -> Recommendation {
    let file = oprel_models::demo().unwrap();
    recommend(&candidates(), (&file, &PlanOptions::default()), host, read).unwrap()
}

#[test]
fn the_largest_file_that_fits_and_is_not_more_than_eight_bits_is_taken() {
    let file = oprel_models::demo().unwrap();
    let plan = demo(&PlanOptions::default(), 4096 * MB);
    let bits = |n: u64| 8.0 * (plan.bytes.weights * n) as f64 / plan.work.n_weights;
    let chosen = choose(&host(8192 * MB), None);
    let expected = candidates().iter().rposition(|c| bits(c.bytes / file.total_bytes()) <= 8.6);
    assert_eq!(chosen.file, expected.or(Some(2)), "{chosen:?}");
    assert_eq!(chosen.threads, 6);
    assert!(chosen.needed_bytes < 8192 * MB);
    assert!(chosen.reasons.iter().any(|r| r.contains("best that fits")), "{:?}", chosen.reasons);
}

#[test]
fn where_nothing_fits_the_reason_is_told() {
    let chosen = choose(&host(520 * MB), None);
    assert_eq!(chosen.file, None);
    assert!(chosen.reasons.last().unwrap().contains("none fits with a text of"), "{chosen:?}");
    assert!(matches!(
        recommend(&[], (&oprel_models::demo().unwrap(), &PlanOptions::default()), &host(1), None),
        Err(Error::Nothing)
    ));
}

#[test]
fn an_accelerator_gets_the_layers_that_it_holds() {
    let mut with = host(8192 * MB);
    with.gpus = vec![Gpu { name: Some("X".into()), free_bytes: Some(8192 * MB), ..Gpu::default() }];
    let n_layers = demo(&PlanOptions::default(), MB).layers.len();
    assert_eq!(choose(&with, None).gpu_layers, n_layers);
    with.gpus[0].free_bytes = Some(513 * MB);
    assert_eq!(choose(&with, None).gpu_layers, 0);
}

#[test]
fn a_quota_is_why_there_are_few_threads() {
    let mut limited = host(8192 * MB);
    limited.groups.cpu_quota = Some(2.5);
    let chosen = choose(&limited, None);
    assert_eq!(chosen.threads, 2);
    assert!(chosen.reasons.iter().any(|r| r.contains("grants 2.5")), "{:?}", chosen.reasons);
}
