//! The same choice in double precision, everything sorted, every step as the documentation says it.

use oprel_api::Sampling;

use super::super::Given;
use super::super::random::{Purpose, uniform};

/// What the reference would do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) id: u32,
    /// Bits, under Mirostat.
    pub(super) surprise: f64,
    /// How near any step was to doing otherwise; rounding may do that.
    pub(super) margin: f64,
}

/// The choice, or the surprise of a token that was chosen. `breaks` are the tokens that break
/// repetitions. None if nothing is left.
pub(super) fn choose(
    how: &Sampling,
    logits: &[f32],
    given: &Given<'_>,
    breaks: &[u32],
    (seed, mu, seen): (u64, f64, Option<u32>),
) -> Option<Answer> {
    let logits = edited(how, logits, given, breaks);
    let mut left = Left { all: Vec::new(), margin: f64::INFINITY };
    for (id, &x) in logits.iter().enumerate().filter(|(_, x)| x.is_finite()) {
        left.all.push((f64::from(x), id as u32));
    }
    left.all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let best = left.all.first()?.1;
    let answer = |id, left: &Left| Some(Answer { id, surprise: f64::NAN, margin: left.margin });
    if how.temperature == 0.0 {
        return answer(best, &left);
    }
    let draw = uniform(seed, given.position, Purpose::Token);
    if how.mirostat.version > 0 {
        return Some(left.mirostat(how, (logits.len(), mu, draw), seen));
    }
    left.sigma(how.top_n_sigma);
    if how.top_k > 0 {
        left.all.truncate(how.top_k as usize);
    }
    left.typical(how.typical_p);
    left.top_p(how.top_p);
    if how.min_p > 0.0 {
        left.at_least(left.all[0].0 + f64::from(how.min_p).ln());
    }
    if uniform(seed, given.position, Purpose::Xtc) < f64::from(how.xtc.probability) {
        left.xtc(f64::from(how.xtc.threshold));
    }
    let temperature = left.temperature(how);
    let at = left.reach(&left.shares(temperature), draw);
    answer(left.all[at].1, &left)
}

fn edited(how: &Sampling, logits: &[f32], given: &Given<'_>, breaks: &[u32]) -> Vec<f32> {
    let mut logits = logits.to_vec();
    let tokens = given.tokens;
    for (id, x) in logits.iter_mut().enumerate() {
        let id = id as u32;
        let allowed = given.allowed.is_none_or(|words| {
            words.get(id as usize / 32).is_some_and(|w| w & (1 << (id % 32)) != 0)
        });
        if !allowed || given.banned.contains(&id) {
            *x = f32::NEG_INFINITY;
        }
        for b in how.logit_bias.iter().filter(|b| b.token == id) {
            *x += b.bias;
        }
        if !x.is_finite() || !tokens.contains(&id) {
            continue;
        }
        let window = usize::try_from(how.repeat_last_n).unwrap_or(usize::MAX);
        let count = tokens.iter().rev().take(window).filter(|&&t| t == id).count();
        if count > 0 {
            *x = if *x > 0.0 { *x / how.repeat_penalty } else { *x * how.repeat_penalty };
            *x -= count as f32 * how.frequency_penalty + how.presence_penalty;
        }
        if let Some(length) = repeated(how, tokens, id, breaks) {
            let power = f64::from(length) - f64::from(how.dry.allowed_length);
            let penalty = f64::from(how.dry.multiplier) * f64::from(how.dry.base).powf(power);
            *x = (f64::from(*x) - penalty).max(f64::from(f32::MIN)) as f32;
        }
    }
    logits
}

/// The longest repetition that the token would continue, if it is to be penalized.
fn repeated(how: &Sampling, tokens: &[u32], next: u32, breaks: &[u32]) -> Option<u32> {
    let dry = &how.dry;
    if dry.multiplier == 0.0 || breaks.contains(&next) {
        return None;
    }
    let window = usize::try_from(dry.last_n).unwrap_or(usize::MAX);
    let window = &tokens[tokens.len().saturating_sub(window)..];
    let since = window.iter().rev().take_while(|t| !breaks.contains(t)).count();
    let lengths = (1..window.len()).filter(|&i| window[i] == next).map(|i| {
        let (before, end) = (window[..i].iter().rev(), window.iter().rev());
        (before.zip(end).take_while(|(a, b)| a == b).count().min(since)) as u32
    });
    lengths.max().filter(|&n| n >= dry.allowed_length && window.len() > dry.allowed_length as usize)
}

struct Left {
    /// Logits and tokens, likeliest first.
    all: Vec<(f64, u32)>,
    margin: f64,
}

impl Left {
    fn near(&mut self, distance: f64) {
        self.margin = self.margin.min(distance.abs());
    }

    fn shares(&self, temperature: f64) -> Vec<f64> {
        let weight = |x: f64| ((x - self.all[0].0) / temperature.max(1e-30)).exp();
        let sum: f64 = self.all.iter().map(|(x, _)| weight(*x)).sum();
        self.all.iter().map(|(x, _)| weight(*x) / sum).collect()
    }

    fn entropy(&self) -> f64 {
        self.shares(1.0).iter().map(|p| if *p > 0.0 { -p * p.ln() } else { 0.0 }).sum()
    }

    /// Where shares, added up, reach a goal.
    fn reach(&mut self, shares: &[f64], goal: f64) -> usize {
        let mut sum = 0.0;
        for (i, p) in shares.iter().enumerate() {
            self.near(sum + p - goal);
            sum += p;
            if sum >= goal {
                return i;
            }
        }
        // All but the likely may have weights that vanish.
        shares.iter().rposition(|p| *p > 0.0).unwrap_or(0)
    }

    fn at_least(&mut self, least: f64) {
        let nearest = self.all.iter().map(|(x, _)| (x - least).abs()).fold(f64::MAX, f64::min);
        self.near(nearest);
        self.all.retain(|(x, _)| *x >= least);
    }

    fn sigma(&mut self, n: f32) {
        if n <= 0.0 {
            return;
        }
        let count = self.all.len() as f64;
        let mean = self.all.iter().map(|(x, _)| x).sum::<f64>() / count;
        let variance = self.all.iter().map(|(x, _)| (x - mean).powi(2)).sum::<f64>() / count;
        self.at_least(self.all[0].0 - f64::from(n) * variance.sqrt());
    }

    fn typical(&mut self, share: f32) {
        if share >= 1.0 {
            return;
        }
        let entropy = self.entropy();
        let sum: f64 = self.all.iter().map(|(x, _)| (x - self.all[0].0).exp()).sum();
        let off = |x: f64| (sum.ln() + self.all[0].0 - x - entropy).abs();
        let mut by: Vec<(f64, usize)> =
            self.all.iter().enumerate().map(|(i, (x, _))| (off(*x), i)).collect();
        by.sort_by(|a, b| a.0.total_cmp(&b.0));
        let shares = self.shares(1.0);
        let shares: Vec<f64> = by.iter().map(|(_, i)| shares[*i]).collect();
        let last = self.reach(&shares, f64::from(share));
        if let Some((next, _)) = by.get(last + 1) {
            // Equals are kept in order, but rounding may part them.
            if self.all[by[last].1].0 != self.all[by[last + 1].1].0 {
                self.near(next - by[last].0);
            }
        }
        let mut kept: Vec<usize> = by[..=last].iter().map(|(_, i)| *i).collect();
        kept.sort_unstable();
        self.all = kept.into_iter().map(|i| self.all[i]).collect();
    }

    fn top_p(&mut self, share: f32) {
        if share < 1.0 {
            let last = self.reach(&self.shares(1.0), f64::from(share));
            self.all.truncate(last + 1);
        }
    }

    fn xtc(&mut self, threshold: f64) {
        if threshold > 0.5 {
            return;
        }
        let shares = self.shares(1.0);
        shares.iter().for_each(|p| self.near(p - threshold));
        let top = shares.iter().filter(|p| **p >= threshold).count();
        self.all.drain(..top.saturating_sub(1));
    }

    fn temperature(&self, how: &Sampling) -> f64 {
        let (t, range) = (f64::from(how.temperature), f64::from(how.dynatemp_range));
        if range == 0.0 || self.all.len() == 1 {
            return t;
        }
        let doubt = self.entropy() / (self.all.len() as f64).ln();
        let least = (t - range).max(0.0);
        least + (t + range - least) * doubt.min(1.0).powf(f64::from(how.dynatemp_exponent))
    }

    fn mirostat(
        mut self,
        how: &Sampling,
        (n_vocab, mu, draw): (usize, f64, f64),
        seen: Option<u32>,
    ) -> Answer {
        let t = f64::from(how.temperature).max(1e-30);
        let (all, shares) = (self.all.clone(), self.shares(t));
        let kept = if how.mirostat.version == 1 {
            let count = zipf_count(&all, t, n_vocab, mu);
            self.near((count - count.round()) / count.max(1.0));
            (count as usize).clamp(1, all.len())
        } else {
            shares.iter().for_each(|p| self.near((-p.log2() - mu) / mu.abs().max(1.0)));
            shares.iter().filter(|p| -p.log2() <= mu).count().max(1)
        };
        self.all.truncate(kept);
        let shares = self.shares(t);
        let sum: f64 = self.all.iter().map(|(x, _)| ((x - all[0].0) / t).exp()).sum();
        let found = match seen {
            None => {
                let at = self.reach(&shares, draw);
                self.all[at]
            }
            Some(id) => match all.iter().find(|(_, i)| *i == id) {
                Some(found) => *found,
                None => return Answer { id, surprise: f64::NAN, margin: self.margin },
            },
        };
        let surprise = (sum.ln() + (all[0].0 - found.0) / t) / std::f64::consts::LN_2;
        Answer { id: found.1, surprise, margin: self.margin }
    }
}

fn zipf_count(all: &[(f64, u32)], t: f64, n_vocab: usize, mu: f64) -> f64 {
    let (mut products, mut squares) = (0.0, 0.0);
    for i in 0..all.len().min(100) - 1 {
        let rank = ((i + 2) as f64 / (i + 1) as f64).ln();
        products += rank * (all[i].0 - all[i + 1].0) / t;
        squares += rank * rank;
    }
    let zipf: f64 = if squares > 0.0 { products / squares } else { 0.0 };
    let epsilon = zipf - 1.0;
    let n = n_vocab as f64;
    let count = (epsilon * mu.exp2() / (1.0 - n.powf(-epsilon))).powf(1.0 / zipf);
    if count.is_nan() { 0.0 } else { count.min(1e18) }
}
