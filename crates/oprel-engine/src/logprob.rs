//! Log probabilities of tokens, as the model gave them: of its own logits at temperature 1, before
//! constraint, bans, bias, penalties and cuts.

use oprel_api::{Sampled, TopToken};
use oprel_cpu::Isa;
use oprel_cpu::sampling::{Run, sum_weights};

use crate::sampler::peaks::Peaks;

/// The token with its log probability by the model's logits (n_vocab), at temperature 1, before
/// constraint, bans, bias, penalties and cuts; and the `top` likeliest of its position: largest first,
/// the smaller id first among equals, none that is impossible. Without `top` nothing is computed.
pub fn sampled(logits: &[f32], token: u32, top: Option<u32>) -> Sampled {
    let Some(top) = top else {
        return Sampled { id: token, ..Sampled::default() };
    };
    let mut peaks = Peaks::default();
    let sound = peaks.scan(logits, None);
    let most = peaks.likeliest(logits, None).map(|(_, most)| most).filter(|_| sound);
    let log_sum = most.map_or(f64::NAN, |most| log_sum_exp(logits, most));
    let logprob = |logit: f32| (f64::from(logit) - log_sum) as f32;
    let best = likeliest(&mut peaks, logits, top as usize).into_iter();
    Sampled {
        id: token,
        bytes: Vec::new(),
        logprob: logits.get(token as usize).map(|&logit| logprob(logit)),
        top: best
            .map(|(id, logit)| TopToken { id, bytes: Vec::new(), logprob: logprob(logit) })
            .collect(),
    }
}

/// Natural logarithm of the sum of exponentials; `most` is the largest.
fn log_sum_exp(logits: &[f32], most: f32) -> f64 {
    let all = Run::new(most, 1.0, f32::MIN, u32::MAX);
    f64::from(most) + sum_weights(Isa::detect(), &all, logits).ln()
}

/// The `k` largest that are finite.
fn likeliest(peaks: &mut Peaks, logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    if k == 0 {
        return Vec::new();
    }
    let least = peaks.reached_by(k);
    let mut found = Vec::new();
    peaks.each_in(logits, least..=f32::MAX, None, |id, logit| {
        found.push((id, logit + 0.0));
        true
    });
    let likelier = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if k < found.len() {
        found.select_nth_unstable_by(k, likelier);
        found.truncate(k);
    }
    found.sort_unstable_by(likelier);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_and_the_likeliest_come_first() {
        let logits = [1.0, 3.0, 2.0, 3.0];
        let s = sampled(&logits, 2, Some(4));
        let ids: Vec<u32> = s.top.iter().map(|t| t.id).collect();
        assert_eq!(ids, [1, 3, 2, 0]);
        let sum: f32 = s.top.iter().map(|t| t.logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        assert_eq!(s.logprob, Some(s.top[2].logprob));
    }

    #[test]
    fn they_are_those_of_double_precision_over_any_vocabulary() {
        for n in [1, 31, 2049, 128_256] {
            let mut logits: Vec<f32> =
                (0..n as u64).map(|i| (i * 7919 % 4001) as f32 * 0.005 - 3.0).collect();
            if n > 31 {
                (logits[5], logits[n - 1]) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
            }
            let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            let want = |id: u32| (f64::from(logits[id as usize]) - sum.ln()) as f32;
            let mut ids: Vec<u32> = (0..n as u32).filter(|&i| logits[i as usize] > -9.0).collect();
            ids.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
            for top in [0, 1, 5, 20] {
                let token = n as u32 / 3;
                let s = sampled(&logits, token, Some(top));
                assert!((s.logprob.unwrap() - want(token)).abs() < 1e-5);
                let got: Vec<u32> = s.top.iter().map(|t| t.id).collect();
                assert_eq!(got, ids[..ids.len().min(top as usize)]);
                assert!(s.top.iter().all(|t| (t.logprob - want(t.id)).abs() < 1e-5));
            }
        }
    }

    #[test]
    fn odd_logits_do_not_panic() {
        let s = sampled(&[f32::NAN, 1.0], 1, Some(2));
        assert!(s.logprob.unwrap().is_nan());
        let s = sampled(&[f32::NEG_INFINITY; 3], 1, Some(2));
        assert!(s.logprob.unwrap().is_nan() && s.top.is_empty());
        assert_eq!(sampled(&[0.0], 7, Some(1)).logprob, None);
    }

    #[test]
    fn without_being_asked_nothing_is_computed() {
        assert_eq!(sampled(&[0.0], 0, None).logprob, None);
    }
}
