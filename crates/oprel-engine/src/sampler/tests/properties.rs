//! Every method, alone and together, against the reference over vocabularies of three sizes.

use oprel_api::{Dry, LogitBias, Mirostat, Sampling, Xtc};
use proptest::prelude::*;
use proptest::sample::select;

use super::reference::{self, Answer};
use super::*;

/// Below this, rounding in single precision may choose otherwise.
const ROUNDING: f64 = 2e-5;

fn hash(seed: u64, i: u64) -> f64 {
    uniform(seed, i, Purpose::Token)
}

/// Logits of some shape: a bell with peaks, few values often, all alike, a Zipf law.
fn logits(n: usize, seed: u64, shape: u8) -> Vec<f32> {
    let mut logits: Vec<f32> = match shape {
        0 => bell(n, 12),
        1 => (0..n as u64).map(|i| (hash(seed, i) * 12.0).floor() as f32 * 0.75).collect(),
        2 => vec![-1.25; n],
        3 => (0..n as u64).map(|i| (hash(seed, i) * 30.0 - 20.0) as f32).collect(),
        _ => (0..n).map(|i| -1.1 * ((i * 7919 % n + 1) as f32).ln()).collect(),
    };
    for i in 0..n as u64 {
        if hash(seed ^ 5, i) < 0.02 {
            logits[i as usize] = f32::NEG_INFINITY;
        }
    }
    let some = (seed % n as u64) as usize;
    logits[some] = logits[some].max(-3.0);
    logits
}

/// Words that allow about this share of the tokens, and some token for certain.
fn words(n: usize, seed: u64, share: f64, sure: usize) -> Vec<u32> {
    let mut words = vec![0_u32; n.div_ceil(32)];
    for id in 0..words.len() * 32 {
        if id == sure || hash(seed ^ 77, id as u64) < share {
            words[id / 32] |= 1 << (id % 32);
        }
    }
    words
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let heat = (
        select(vec![0.0_f32, 1e-30, 0.05, 0.7, 0.8, 1.0, 1.7, 30.0, 1e30]),
        select(vec![0.0_f32, 0.0, 0.0, 0.5, 5.0]),
        select(vec![1.0_f32, 0.0, 0.3, 2.5]),
    );
    let cuts = (
        select(vec![0_u32, 0, 1, 5, 40, 333, 3000]),
        select(vec![1.0_f32, 1.0, 0.95, 0.5, 0.0]),
        select(vec![0.0_f32, 0.0, 0.05, 0.3, 1.0]),
        select(vec![1.0_f32, 1.0, 1.0, 0.95, 0.4, 0.0]),
        select(vec![0.0_f32, 0.0, -1.0, 1e-9, 0.7, 1.0, 2.5]),
        select(vec![(0.0_f32, 0.1_f32), (0.0, 0.1), (0.5, 0.1), (1.0, 0.02), (1.0, 0.0)]),
    );
    let penalties = (
        select(vec![1.0_f32, 1.0, 1.3]),
        select(vec![0.0_f32, 0.0, 0.4]),
        select(vec![-1_i32, 0, 3, 64]),
        select(vec![(0.0_f32, 2_u32), (0.0, 2), (0.8, 2), (3.0, 0), (1.0, 1)]),
    );
    (heat, cuts, penalties).prop_map(|(heat, cuts, penalties)| Sampling {
        temperature: heat.0,
        dynatemp_range: heat.1,
        dynatemp_exponent: heat.2,
        top_k: cuts.0,
        top_p: cuts.1,
        min_p: cuts.2,
        typical_p: cuts.3,
        top_n_sigma: cuts.4,
        xtc: Xtc { probability: cuts.5.0, threshold: cuts.5.1 },
        repeat_penalty: penalties.0,
        presence_penalty: penalties.1,
        frequency_penalty: penalties.1 / 2.0,
        repeat_last_n: penalties.2,
        dry: Dry {
            multiplier: penalties.3.0,
            allowed_length: penalties.3.1,
            last_n: penalties.2,
            ..Dry::default()
        },
        seed: Some(3),
        ..Sampling::default()
    })
}

/// Breakers of a vocabulary in which these tokens are a colon.
fn breakers(n: usize, breaks: &[u32]) -> Arc<Breakers> {
    let piece = |id| if breaks.contains(&id) { &b":"[..] } else { b"x" };
    Arc::new(Breakers::find(&[":".to_string()], n as u32, piece, |_| Vec::new()))
}

fn agree(got: Result<u32>, want: Option<Answer>, what: &dyn std::fmt::Debug) {
    match (got, want) {
        (Ok(got), Some(want)) => {
            assert!(got == want.id || want.margin < ROUNDING, "{got}, not {want:?}: {what:?}");
        }
        (Err(_), None) => {}
        (got, want) => panic!("{got:?}, not {want:?}: {what:?}"),
    }
}

/// Some choices one after the other, the reference beside them.
fn compare(how: &Sampling, logits: &[f32], allowed: Option<&[u32]>, seed: u64) {
    let n = logits.len();
    let breaks = [seed as u32 % 7];
    let mut sampler = Sampler::new(how.clone()).unwrap().with_breakers(breakers(n, &breaks));
    let mut scratch = Scratch::new();
    let mut tokens: Vec<u32> =
        (0..40).map(|i| (hash(seed, i) * 9.0) as u32 % n as u32).chain([2, 3, 4, 2, 3]).collect();
    let banned = [(seed % n as u64) as u32 ^ 1];
    for step in 0..3 {
        let position = seed + 11 * step;
        let given = Given { tokens: &tokens, position, banned: &banned, allowed };
        let mu = 2.0 * f64::from(how.mirostat.tau);
        let want = reference::choose(how, logits, &given, &breaks, (3, mu, None));
        sampler.restore(Sampler::new(how.clone()).unwrap().state());
        let got = sampler.choose(&mut scratch, logits, given);
        if how.mirostat.is_on()
            && how.temperature > 0.0
            && let Some(want) = want
            && want.margin > ROUNDING
        {
            let learned = mirostat::learn(mu, want.surprise, (how.mirostat.tau, how.mirostat.eta));
            assert!((sampler.state().mu - learned).abs() < 1e-4, "{want:?} {how:?}");
        }
        let next = got.as_ref().ok().copied();
        agree(got, want, how);
        tokens.extend(next);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn small_vocabularies_are_as_the_reference(
        how in sampling(), n in select(vec![1_usize, 2, 31, 65]), seed in 0_u64..1 << 40,
        shape in 0_u8..5,
    ) {
        compare(&how, &logits(n, seed, shape), None, seed);
    }

    #[test]
    fn constraints_are_as_the_reference(
        how in sampling(), n in select(vec![31_usize, 2049, 5000]), seed in 0_u64..1 << 40,
        shape in 0_u8..5, share in select(vec![0.0, 0.01, 0.5, 0.99, 1.0]), cut in any::<bool>(),
    ) {
        let logits = logits(n, seed, shape);
        let mut words = words(n, seed, share, (seed % n as u64) as usize);
        if cut {
            words.truncate(words.len() / 2 + 1);
        }
        compare(&how, &logits, Some(&words), seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn vocabularies_that_are_not_sorted_are_as_the_reference(
        how in sampling(), seed in 0_u64..1 << 40, shape in 0_u8..5,
    ) {
        compare(&how, &logits(2049, seed, shape), None, seed);
    }

    #[test]
    fn mirostat_is_as_the_reference(
        version in 1_u8..3, tau in 0.1_f32..12.0, temperature in select(vec![0.0_f32, 1e-30, 0.7, 1.0, 4.0]),
        n in select(vec![1_usize, 31, 2049, 4500]), seed in 0_u64..1 << 40, shape in 0_u8..5,
        share in select(vec![2.0, 2.0, 0.01, 0.5]),
    ) {
        let mirostat = Mirostat { version, tau, eta: 0.2 };
        let how = Sampling { mirostat, temperature, seed: Some(3), ..Sampling::default() };
        let words = words(n, seed, share, (seed % n as u64) as usize);
        compare(&how, &logits(n, seed, shape), (share < 1.0).then_some(&words[..]), seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn large_vocabularies_are_as_the_reference(
        how in sampling(), seed in 0_u64..1 << 40, shape in 0_u8..5, version in 0_u8..6,
    ) {
        let mirostat = Mirostat { version: if version < 3 { version } else { 0 }, tau: 4.0, eta: 0.1 };
        let how = Sampling { mirostat, ..how };
        let mut logits = logits(128_256, seed, shape);
        // Not all ties: the reference is slow, but exact.
        logits[77] += 0.5;
        compare(&how, &logits, None, seed);
    }

    #[test]
    fn a_bias_is_as_the_reference(how in sampling(), seed in 0_u64..1 << 40, by in -9.0_f32..9.0) {
        let logit_bias = (0..5).map(|token| LogitBias { token, bias: by }).collect();
        let how = Sampling { logit_bias, ..how };
        compare(&how, &logits(200, seed, 1), None, seed);
    }
}
