use super::*;
use oprel_api::{LogitBias, Mirostat};
use random::{Purpose, uniform};

mod history;
mod masks;
mod properties;
mod reference;

fn drawn(how: Sampling, logits: &[f32], n: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(how).unwrap();
    let mut scratch = Scratch::new();
    let mut tokens = vec![0];
    for _ in 0..n {
        let next = sampler.choose(&mut scratch, logits, Given::after(&tokens)).unwrap();
        tokens.push(next);
    }
    tokens.split_off(1)
}

/// The first choice after these tokens.
fn one(how: Sampling, logits: &[f32], given: Given<'_>) -> Result<u32> {
    Sampler::new(how).unwrap().choose(&mut Scratch::new(), logits, given)
}

fn open() -> Sampling {
    Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: Some(1), ..Sampling::default() }
}

#[test]
fn temperature_zero_takes_the_first_of_the_largest() {
    assert_eq!(drawn(Sampling::greedy(), &[0.5, 2.0, 2.0], 3), [1, 1, 1]);
}

#[test]
fn the_same_seed_gives_the_same_tokens_and_another_seed_others() {
    let logits: Vec<f32> = (0..50).map(|i| (i % 7) as f32 * 0.3).collect();
    let with = |seed| drawn(Sampling { seed: Some(seed), ..open() }, &logits, 32);
    assert_eq!(with(7), with(7));
    assert_ne!(with(7), with(8));
}

#[test]
fn frequencies_follow_the_probabilities() {
    let logits = [0.0, (2.0_f32).ln(), (5.0_f32).ln()];
    let n = 8000;
    let mut counts = [0.0; 3];
    let how = Sampling { repeat_last_n: 0, ..open() };
    for id in drawn(how, &logits, n) {
        counts[id as usize] += 1.0 / n as f64;
    }
    for (got, want) in counts.iter().zip([0.125, 0.25, 0.625]) {
        assert!((got - want).abs() < 0.02, "{counts:?}");
    }
}

#[test]
fn each_cut_leaves_what_it_says() {
    let logits = [(0.5_f32).ln(), (0.3_f32).ln(), (0.15_f32).ln(), (0.05_f32).ln()];
    let seen = |how: Sampling| {
        let mut ids = drawn(how, &logits, 600);
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    assert_eq!(seen(open()), [0, 1, 2, 3]);
    assert_eq!(seen(Sampling { top_k: 2, ..open() }), [0, 1]);
    assert_eq!(seen(Sampling { top_p: 0.75, ..open() }), [0, 1]);
    assert_eq!(seen(Sampling { top_p: 0.0, ..open() }), [0]);
    assert_eq!(seen(Sampling { min_p: 0.2, ..open() }), [0, 1, 2]);
    assert_eq!(seen(Sampling { min_p: 1.0, ..open() }), [0]);
    assert_eq!(seen(Sampling { typical_p: 0.5, ..open() }).len(), 2);
}

#[test]
fn penalties_count_recent_tokens_only() {
    let how = Sampling { repeat_penalty: 2.0, repeat_last_n: 2, ..Sampling::greedy() };
    assert_eq!(one(how.clone(), &[3.0, 2.0], Given::after(&[0, 1, 1])).unwrap(), 0);
    assert_eq!(one(how, &[3.0, 2.0], Given::after(&[1, 0, 0])).unwrap(), 1);
}

#[test]
fn a_bias_can_forbid_and_banned_tokens_are_never_chosen() {
    let bias = vec![LogitBias { token: 1, bias: f32::NEG_INFINITY }];
    let how = Sampling { logit_bias: bias, ..Sampling::greedy() };
    let with = |banned| one(how.clone(), &[1.0, 9.0, 2.0], Given { banned, ..Given::after(&[0]) });
    assert_eq!(with(&[]).unwrap(), 2);
    assert_eq!(with(&[2]).unwrap(), 0);
    assert!(with(&[0, 2]).is_err());
}

#[test]
fn nan_is_an_error_and_infinity_is_not_chosen() {
    let with = |logits: &[f32]| one(open(), logits, Given::after(&[0]));
    assert!(with(&[0.0, f32::NAN]).is_err());
    assert!(with(&[f32::NEG_INFINITY]).is_err());
    assert_eq!(with(&[0.0, f32::NEG_INFINITY, f32::INFINITY]).unwrap(), 0);
}

#[test]
fn a_tiny_temperature_is_greedy_and_does_not_overflow() {
    assert_eq!(drawn(Sampling { temperature: 1e-30, ..open() }, &[1.0, 1.1], 4), [1; 4]);
}

#[test]
fn a_number_out_of_range_is_refused_by_name() {
    let mirostat = Mirostat { version: 2, tau: -5.0, eta: 0.1 };
    let error = Sampler::new(Sampling { mirostat, ..open() }).unwrap_err();
    assert!(error.to_string().starts_with("mirostat_tau"));
}

#[test]
fn min_p_goes_by_the_likeliest_that_typical_sampling_left() {
    // The likeliest is far from the expected surprise and drops out first.
    let logits: Vec<f32> = std::iter::once(4.0).chain(std::iter::repeat_n(0.0, 60)).collect();
    let how = Sampling { typical_p: 0.2, min_p: 1.0, ..open() };
    assert!(drawn(how, &logits, 20).iter().all(|&t| t != 0));
}

/// A bell of logits, some of them equal, some banned, a few likely.
fn bell(n: usize, peaks: usize) -> Vec<f32> {
    let mut logits: Vec<f32> = (0..n as u64)
        .map(|i| {
            let sum: f64 = (0..12).map(|j| uniform(i, j, Purpose::Token)).sum();
            ((sum - 6.0) * 200.0).round() as f32 / 100.0
        })
        .collect();
    logits.iter_mut().skip(11).step_by(97).for_each(|x| *x = f32::NEG_INFINITY);
    for i in 0..peaks {
        logits[(i * 7919 + 13) % n] = 14.0 - i as f32 * 0.5;
    }
    logits
}

#[test]
fn many_candidates_are_cut_and_drawn_as_if_they_were_sorted() {
    let mut ways = Vec::new();
    for temperature in [0.02, 0.8, 1.0, 1.7, 30.0] {
        for (top_p, min_p) in [(1.0, 0.0), (0.95, 0.0), (0.3, 0.0), (1.0, 0.05), (0.95, 0.02)] {
            for top_k in [0, 37, 2999] {
                ways.push(Sampling { temperature, top_k, top_p, min_p, ..open() });
            }
        }
    }
    for logits in [bell(9000, 12), bell(9001, 0), vec![1.5; 4999], vec![-0.0; 3001]] {
        for how in &ways {
            for position in 1..8 {
                let given = Given { position, ..Given::default() };
                let got = one(how.clone(), &logits, given).unwrap();
                let want = reference::choose(how, &logits, &given, &[], (1, 0.0, None)).unwrap();
                assert_eq!(got, want.id, "{how:?} {position}");
            }
        }
    }
}

#[test]
fn extremes_among_many_candidates_are_not_drawn_and_do_not_panic() {
    let mut logits = bell(9000, 0);
    (logits[3], logits[4], logits[5]) = (f32::INFINITY, f32::MAX, f32::MIN);
    for temperature in [1e-38, 1.0, f32::MAX] {
        let how = Sampling { temperature, top_p: 0.5, ..open() };
        assert_eq!(drawn(how, &logits, 4), [4; 4]);
    }
    logits[4] = 0.0;
    let how = Sampling { temperature: f32::MAX, ..open() };
    assert!(drawn(how, &logits, 50).iter().all(|&t| logits[t as usize].is_finite()));
}

#[test]
fn a_penalty_beyond_the_range_of_numbers_forbids() {
    let how = Sampling { frequency_penalty: f32::MAX, ..Sampling::greedy() };
    assert_eq!(one(how.clone(), &[9.0, 1.0], Given::after(&[0, 0, 0])).unwrap(), 1);
    // Tokens that the model does not have are nobody's.
    let given = Given { banned: &[9], ..Given::after(&[7]) };
    assert_eq!(one(how, &[9.0, 1.0], given).unwrap(), 0);
}
