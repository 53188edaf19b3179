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

/// A bell of logits, some of them equal, some banned, a few likely.
fn bell(n: usize, peaks: usize) -> Vec<f32> {
    let mut logits: Vec<f32> = (0..n as u64)
        .map(|i| {
            let sum: f64 = (0..12).map(|j| uniform(i, j)).sum();
            ((sum - 6.0) * 200.0).round() as f32 / 100.0
        })
        .collect();
    logits.iter_mut().skip(11).step_by(97).for_each(|x| *x = f32::NEG_INFINITY);
    for i in 0..peaks {
        logits[(i * 7919 + 13) % n] = 14.0 - i as f32 * 0.5;
    }
    logits
}

/// The same choice in double precision, everything sorted.
fn plainly(how: &Sampling, logits: &[f32], position: u64) -> u32 {
    let mut all: Vec<(f64, u32)> = (0..logits.len() as u32)
        .map(|id| (f64::from(logits[id as usize]), id))
        .filter(|(x, _)| x.is_finite())
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let most = all[0].0;
    if how.top_k > 0 {
        all.truncate(how.top_k as usize);
    }
    let weights = |all: &[(f64, u32)], t: f32| -> Vec<f64> {
        all.iter().map(|(x, _)| ((x - most) / f64::from(t)).exp()).collect()
    };
    let reach = |weights: &[f64], share: f64| {
        let goal = share * weights.iter().sum::<f64>();
        let mut sum = 0.0;
        let at = weights.iter().position(|w| {
            sum += w;
            sum >= goal
        });
        at.unwrap_or(weights.len() - 1)
    };
    if how.top_p < 1.0 {
        let at = reach(&weights(&all, 1.0), f64::from(how.top_p));
        all.truncate(at + 1);
    }
    if how.min_p > 0.0 {
        all.retain(|(x, _)| *x as f32 >= most as f32 + how.min_p.ln());
    }
    all[reach(&weights(&all, how.temperature), uniform(how.seed.unwrap(), position))].1
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
            let mut sampler = Sampler::new(how.clone()).unwrap();
            for length in 1..8 {
                let got = sampler.choose(&logits, &vec![0; length], &[]).unwrap();
                assert_eq!(got, plainly(how, &logits, length as u64), "{how:?} {length}");
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
    let mut sampler = Sampler::new(how).unwrap();
    assert_eq!(sampler.choose(&[9.0, 1.0], &[0, 0, 0], &[]).unwrap(), 1);
    // Tokens that the model does not have are nobody's.
    assert_eq!(sampler.choose(&[9.0, 1.0], &[7], &[9]).unwrap(), 0);
}
