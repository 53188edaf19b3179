//! What follows from earlier choices: determinism, Mirostat's state, forks.

use oprel_api::{Mirostat, Sampling, Xtc};

use super::*;

fn steered(version: u8, tau: f32) -> Sampling {
    let mirostat = Mirostat { version, tau, eta: 0.1 };
    Sampling { mirostat, temperature: 1.0, seed: Some(5), ..Sampling::default() }
}

fn zipf(n: usize, power: f32) -> Vec<f32> {
    (0..n).map(|i| -power * ((i + 1) as f32).ln()).collect()
}

fn at(position: u64) -> Given<'static> {
    Given { position, ..Given::default() }
}

#[test]
fn a_choice_depends_on_seed_and_position_and_not_on_what_was_chosen_before() {
    let xtc = Xtc { probability: 0.5, threshold: 0.05 };
    for logits in [bell(31, 3), bell(5000, 12)] {
        let how = Sampling { xtc, dynatemp_range: 0.3, top_k: 0, ..open() };
        let mut scratch = Scratch::new();
        let mut all = Sampler::new(how.clone()).unwrap();
        let choices: Vec<u32> =
            (0..40).map(|p| all.choose(&mut scratch, &logits, at(p)).unwrap()).collect();
        for p in (0..40).rev() {
            let alone = one(how.clone(), &logits, at(p)).unwrap();
            assert_eq!(alone, choices[p as usize]);
        }
        assert!(!all.has_history());
        let other = all.clone().with_seed(99);
        let mut other =
            (0..40).map(|p| other.clone().choose(&mut scratch, &logits, at(p)).unwrap());
        assert!(choices.iter().any(|&c| Some(c) != other.next()));
    }
}

#[test]
fn the_coin_of_xtc_falls_as_often_as_asked_and_not_by_the_draw() {
    // Two top choices of 0.4; where XTC applies, the first cannot come.
    let logits = [0.4_f32.ln(), 0.4_f32.ln(), 0.2_f32.ln()];
    let n = 20_000;
    for probability in [0.0, 0.3, 1.0] {
        let xtc = Xtc { probability, threshold: 0.3 };
        let mut sampler = Sampler::new(Sampling { xtc, ..open() }).unwrap();
        let mut scratch = Scratch::new();
        let mut counts = [0.0; 3];
        (0..n).for_each(|p| {
            counts[sampler.choose(&mut scratch, &logits, at(p)).unwrap() as usize] += 1.0;
        });
        let p = f64::from(probability);
        let want = [0.4 * (1.0 - p), 0.4 * (1.0 - p) + p * 2.0 / 3.0, 0.2 * (1.0 - p) + p / 3.0];
        let chi: f64 = counts
            .iter()
            .zip(want)
            .filter(|(_, want)| *want > 0.0)
            .map(|(got, want)| (got - n as f64 * want).powi(2) / (n as f64 * want))
            .sum();
        assert!(chi < 14.0, "{chi} {counts:?}");
        assert!(p < 1.0 || counts[0] == 0.0);
    }
}

#[test]
fn mirostat_holds_the_surprise_that_is_wanted() {
    for version in [1, 2] {
        for (n, steps) in [(31, 3000), (2049, 1000), (128_256, 100)] {
            let tau = if n == 31 { 2.0 } else { 4.0 };
            let logits = zipf(n, 1.1);
            let mut sampler = Sampler::new(steered(version, tau)).unwrap();
            let mut scratch = Scratch::new();
            let mut sum = 0.0;
            for p in 0..steps {
                let before = sampler.state().mu;
                sampler.choose(&mut scratch, &logits, at(p)).unwrap();
                // mu falls by eta times what was too much.
                sum += (before - sampler.state().mu) / 0.1_f32 as f64;
            }
            let off = sum / steps as f64;
            assert!(off.abs() < 0.3, "version {version}, {n} tokens: off by {off} bits");
        }
    }
}

#[test]
fn observing_a_choice_learns_what_choosing_learned() {
    for version in [1, 2] {
        for n in [31, 2049, 4500] {
            let logits = bell(n, 9);
            let mut words = vec![u32::MAX; n.div_ceil(32)];
            words[0] = 0x00ff_ff0f;
            for allowed in [None, Some(&words[..]), Some(&words[..1])] {
                let mut chooser = Sampler::new(steered(version, 3.0)).unwrap();
                let mut watcher = chooser.clone().with_seed(1234);
                let mut scratch = Scratch::new();
                assert!(chooser.has_history());
                for p in 0..50 {
                    let given = Given { allowed, banned: &[17], ..at(p) };
                    let chosen = chooser.choose(&mut scratch, &logits, given).unwrap();
                    watcher.observe(&mut scratch, &logits, given, chosen).unwrap();
                    assert_eq!(chooser.state(), watcher.state());
                    let before = watcher.state();
                    watcher.observe(&mut scratch, &logits, given, 17).unwrap();
                    watcher.observe(&mut scratch, &logits, given, u32::MAX).unwrap();
                    assert_eq!(watcher.state(), before, "a token that cannot come was learned");
                }
            }
        }
    }
}

#[test]
fn a_token_outside_of_the_cut_is_learned_within_bounds() {
    let mut sampler = Sampler::new(Sampling { temperature: 1e-30, ..steered(2, 3.0) }).unwrap();
    let before = sampler.state().mu;
    sampler.observe(&mut Scratch::new(), &[9.0, -9.0], at(0), 1).unwrap();
    assert!((before - sampler.state().mu - 0.1 * 61.0).abs() < 1e-4);
}

#[test]
fn a_state_taken_back_gives_the_same_choices_again() {
    let logits = bell(2500, 9);
    let mut sampler = Sampler::new(steered(2, 3.0)).unwrap();
    let mut scratch = Scratch::new();
    let mut run = |sampler: &mut Sampler| -> Vec<u32> {
        (0..30).map(|p| sampler.choose(&mut scratch, &logits, at(p)).unwrap()).collect()
    };
    run(&mut sampler);
    let state = sampler.state();
    let mut fork = sampler.clone();
    let first = run(&mut sampler);
    assert_ne!(sampler.state(), state);
    sampler.restore(state);
    assert_eq!(run(&mut sampler), first);
    assert_eq!(run(&mut fork), first);
}

#[test]
fn without_mirostat_there_is_no_history_to_observe() {
    for how in [open(), Sampling { temperature: 0.0, ..steered(2, 3.0) }] {
        let mut sampler = Sampler::new(how).unwrap();
        let state = sampler.state();
        sampler.observe(&mut Scratch::new(), &[f32::NAN], at(0), 0).unwrap();
        assert!(!sampler.has_history() && sampler.state() == state);
    }
}

#[test]
fn draws_follow_the_probabilities_of_what_is_left() {
    // Sigma, top-p and the temperature leave few of many; chi-square over those.
    let logits = bell(4000, 12);
    let how = Sampling { temperature: 1.3, top_n_sigma: 3.0, min_p: 0.02, ..open() };
    let mut sampler = Sampler::new(how).unwrap();
    let mut scratch = Scratch::new();
    let n = 8000;
    let mut counts = std::collections::BTreeMap::new();
    for p in 0..n {
        *counts.entry(sampler.choose(&mut scratch, &logits, at(p)).unwrap()).or_insert(0.0) += 1.0;
    }
    let most = 14.0_f32;
    let left: Vec<u32> =
        (0..4000).filter(|&i| logits[i as usize] >= most + 0.02_f32.ln()).collect();
    let weight = |id: u32| (f64::from(logits[id as usize] - most) / f64::from(1.3_f32)).exp();
    let total: f64 = left.iter().map(|&id| weight(id)).sum();
    assert!(counts.keys().all(|id| left.contains(id)));
    let chi: f64 = left
        .iter()
        .map(|&id| {
            let want = n as f64 * weight(id) / total;
            (counts.get(&id).unwrap_or(&0.0) - want).powi(2) / want
        })
        .sum();
    assert!(chi < 3.0 * left.len() as f64, "{chi} of {}", left.len());
}
