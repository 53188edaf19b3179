//! Constraints: what they leave is chosen from as if there were nothing else.

use oprel_api::{Dry, Mirostat, Sampling};

use super::*;

fn all_but(n: usize, without: &[u32]) -> Vec<u32> {
    let mut words = vec![u32::MAX; n.div_ceil(32)];
    without.iter().for_each(|&id| words[id as usize / 32] &= !(1 << (id % 32)));
    words
}

#[test]
fn greedy_takes_the_likeliest_that_is_allowed() {
    let n = 128_256;
    let logits = bell(n, 5);
    let mut order: Vec<u32> = (0..n as u32).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    for taken in 0..8 {
        let words = all_but(n, &order[..taken]);
        let given = Given { allowed: Some(&words), ..Given::default() };
        assert_eq!(one(Sampling::greedy(), &logits, given).unwrap(), order[taken]);
    }
    // Equals in one block, the first not allowed.
    let logits = vec![1.0; 4096];
    let words = all_but(4096, &[0, 1, 2, 33]);
    let given = Given { allowed: Some(&words), ..Given::default() };
    assert_eq!(one(Sampling::greedy(), &logits, given).unwrap(), 3);
}

#[test]
fn masked_choices_are_those_of_logits_without_the_rest() {
    let ways = [
        open(),
        Sampling { top_k: 40, ..open() },
        Sampling { top_p: 0.9, top_n_sigma: 2.0, ..open() },
        Sampling { typical_p: 0.7, ..open() },
        Sampling { mirostat: Mirostat { version: 1, ..Mirostat::default() }, ..open() },
        Sampling { mirostat: Mirostat { version: 2, ..Mirostat::default() }, ..open() },
        Sampling { dry: Dry { multiplier: 1.0, ..Dry::default() }, repeat_penalty: 1.2, ..open() },
    ];
    let n = 6000;
    let logits = bell(n, 12);
    for keep in [3, 2000, 5500] {
        let mut words = vec![0_u32; n.div_ceil(32)];
        (0..keep).map(|i| i * 7919 % n).for_each(|id| words[id / 32] |= 1 << (id % 32));
        let mut without = logits.clone();
        for (id, x) in without.iter_mut().enumerate() {
            if !allowed::has(&words, id as u32) {
                *x = f32::NEG_INFINITY;
            }
        }
        for how in &ways {
            for position in 0..20 {
                let tokens = [1, 2, 3, 9, 1, 2, 3];
                let given = Given { tokens: &tokens, position, ..Given::default() };
                let masked = Given { allowed: Some(&words), ..given };
                assert_eq!(
                    one(how.clone(), &logits, masked).unwrap(),
                    one(how.clone(), &without, given).unwrap(),
                    "{how:?}"
                );
            }
        }
    }
}

#[test]
fn nothing_allowed_is_an_error_and_what_is_not_allowed_may_be_anything() {
    let logits = [f32::NAN, 1.0, f32::NEG_INFINITY];
    let with = |words: &[u32], how: Sampling| {
        one(how, &logits, Given { allowed: Some(words), ..Given::default() })
    };
    for how in [Sampling::greedy(), open()] {
        assert!(with(&[], how.clone()).is_err());
        assert!(with(&[0b100], how.clone()).is_err());
        assert!(with(&[0b011], how.clone()).is_err(), "NaN");
        assert_eq!(with(&[0b110, 7], how).unwrap(), 1);
    }
}
