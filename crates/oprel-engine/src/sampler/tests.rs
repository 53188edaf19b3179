use super::*;
use oprel_api::{LogitBias, Mirostat};

fn drawn(how: Sampling, logits: &[f32], n: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(how).unwrap();
    let mut tokens = vec![0];
    for _ in 0..n {
        let next = sampler.choose(logits, &tokens, &[]).unwrap();
        tokens.push(next);
    }
    tokens.split_off(1)
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
    let mut sampler = Sampler::new(how).unwrap();
    assert_eq!(sampler.choose(&[3.0, 2.0], &[0, 1, 1], &[]).unwrap(), 0);
    assert_eq!(sampler.choose(&[3.0, 2.0], &[1, 0, 0], &[]).unwrap(), 1);
}

#[test]
fn a_bias_can_forbid_and_banned_tokens_are_never_chosen() {
    let bias = vec![LogitBias { token: 1, bias: f32::NEG_INFINITY }];
    let mut sampler = Sampler::new(Sampling { logit_bias: bias, ..Sampling::greedy() }).unwrap();
    assert_eq!(sampler.choose(&[1.0, 9.0, 2.0], &[0], &[]).unwrap(), 2);
    assert_eq!(sampler.choose(&[1.0, 9.0, 2.0], &[0], &[2]).unwrap(), 0);
    assert!(sampler.choose(&[1.0, 9.0, 2.0], &[0], &[0, 2]).is_err());
}

#[test]
fn nan_is_an_error_and_infinity_is_not_chosen() {
    let mut sampler = Sampler::new(open()).unwrap();
    assert!(sampler.choose(&[0.0, f32::NAN], &[0], &[]).is_err());
    assert_eq!(sampler.choose(&[0.0, f32::NEG_INFINITY], &[0], &[]).unwrap(), 0);
}

#[test]
fn a_tiny_temperature_is_greedy_and_does_not_overflow() {
    assert_eq!(drawn(Sampling { temperature: 1e-30, ..open() }, &[1.0, 1.1], 4), [1; 4]);
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let mirostat = Some(Mirostat { version: 2, tau: 5.0, eta: 0.1 });
    let error = Sampler::new(Sampling { mirostat, ..open() }).unwrap_err();
    assert!(error.to_string().starts_with("mirostat"));
}

#[test]
fn min_p_goes_by_the_likeliest_that_typical_sampling_left() {
    // The likeliest is far from the expected surprise and drops out first.
    let logits: Vec<f32> = std::iter::once(4.0).chain(std::iter::repeat_n(0.0, 60)).collect();
    let how = Sampling { typical_p: 0.2, min_p: 1.0, ..open() };
    assert!(drawn(how, &logits, 20).iter().all(|&t| t != 0));
}
