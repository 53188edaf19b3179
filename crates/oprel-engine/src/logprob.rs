//! Log probabilities of tokens, as the model gave them: before penalties and cuts.

use oprel_api::{Sampled, TopToken};

/// The token with its log probability and the `top` likeliest of its position.
pub(crate) fn sampled(logits: &[f32], token: u32, top: Option<u32>) -> Sampled {
    let Some(top) = top else {
        return Sampled { id: token, ..Sampled::default() };
    };
    let log_sum = log_sum_exp(logits);
    let best = likeliest(logits, top as usize).into_iter().map(|id| TopToken {
        id,
        bytes: Vec::new(),
        logprob: logits[id as usize] - log_sum,
    });
    Sampled {
        id: token,
        bytes: Vec::new(),
        logprob: Some(logits[token as usize] - log_sum),
        top: best.collect(),
    }
}

/// Natural logarithm of the sum of exponentials, in f64.
fn log_sum_exp(logits: &[f32]) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
    most + sum.ln() as f32
}

/// Ids of the `k` largest, largest first; the smaller id first among equals.
fn likeliest(logits: &[f32], k: usize) -> Vec<u32> {
    let k = k.min(logits.len());
    if k == 0 {
        return Vec::new();
    }
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit =
        |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if k < ids.len() {
        ids.select_nth_unstable_by(k - 1, by_logit);
        ids.truncate(k);
    }
    ids.sort_unstable_by(by_logit);
    ids
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
    fn without_being_asked_nothing_is_computed() {
        assert_eq!(sampled(&[0.0], 0, None).logprob, None);
    }
}
