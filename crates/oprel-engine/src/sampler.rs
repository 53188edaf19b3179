//! From logits to a token.
//!
//! Order: bias, penalties, then the likeliest (temperature 0) or: top-k, typical, top-p, min-p,
//! temperature, draw. The draw at a position is a function of seed and position alone, so that a
//! sequence that is preempted, moved or resumed goes on with the same text.

use std::collections::HashMap;

use oprel_api::Sampling;

use crate::{Error, Result};

/// Chooses tokens for one sequence.
#[derive(Debug)]
pub struct Sampler {
    how: Sampling,
    seed: u64,
    /// Logits after bias and penalties (n_vocab).
    logits: Vec<f32>,
    /// What is still in the running, likeliest first once sorted.
    left: Vec<Candidate>,
    counts: HashMap<u32, u32>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
    p: f32,
}

impl Sampler {
    /// Whether all that is asked for is there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the name of a method that is not there.
    pub fn check(how: &Sampling) -> Result<()> {
        let unsupported = [
            ("mirostat", how.mirostat.is_some()),
            ("dry_multiplier", how.dry.as_ref().is_some_and(|d| d.multiplier != 0.0)),
            ("xtc_probability", how.xtc.is_some_and(|x| x.probability != 0.0)),
        ];
        match unsupported.iter().find(|(_, asked)| *asked) {
            Some((field, _)) => Err(Error::Unsupported { field }),
            None => Ok(()),
        }
    }

    /// A sampler; a missing seed is 0.
    ///
    /// # Errors
    /// As [`Sampler::check`].
    pub fn new(how: Sampling) -> Result<Sampler> {
        Sampler::check(&how)?;
        let seed = how.seed.unwrap_or(0);
        Ok(Sampler { how, seed, logits: Vec::new(), left: Vec::new(), counts: HashMap::new() })
    }

    /// The next token after `tokens` (prompt and answer), from the model's logits (n_vocab); `banned`
    /// are never chosen.
    ///
    /// # Errors
    /// [`Error::Logits`] if there is nothing to choose from.
    pub fn choose(&mut self, logits: &[f32], tokens: &[u32], banned: &[u32]) -> Result<u32> {
        if logits.iter().any(|x| x.is_nan()) {
            return Err(Error::Logits { what: "NaN" });
        }
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.bias(banned);
        self.penalize(tokens);
        let best = self.likeliest().ok_or(Error::Logits { what: "none of them is finite" })?;
        if self.how.is_greedy() || self.how.top_k == 1 {
            return Ok(best);
        }
        self.cut_to_top_k();
        self.cut_to_typical();
        self.cut_to_top_p();
        self.cut_to_min_p();
        Ok(self.draw(tokens.len() as u64))
    }

    fn bias(&mut self, banned: &[u32]) {
        for b in &self.how.logit_bias {
            if let Some(logit) = self.logits.get_mut(b.token as usize) {
                *logit += b.bias;
            }
        }
        for &id in banned {
            if let Some(logit) = self.logits.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    fn penalize(&mut self, tokens: &[u32]) {
        if !self.how.penalizes() {
            return;
        }
        let n = usize::try_from(self.how.repeat_last_n).unwrap_or(usize::MAX);
        let recent = &tokens[tokens.len().saturating_sub(n)..];
        self.counts.clear();
        for &id in recent {
            *self.counts.entry(id).or_default() += 1;
        }
        for (&id, &count) in &self.counts {
            let Some(logit) = self.logits.get_mut(id as usize) else { continue };
            *logit = if *logit > 0.0 {
                *logit / self.how.repeat_penalty
            } else {
                *logit * self.how.repeat_penalty
            };
            *logit -= count as f32 * self.how.frequency_penalty + self.how.presence_penalty;
        }
    }

    /// The largest finite logit; the smallest id among equals.
    fn likeliest(&self) -> Option<u32> {
        let mut best: Option<usize> = None;
        for (id, &logit) in self.logits.iter().enumerate() {
            if logit.is_finite() && best.is_none_or(|b| logit > self.logits[b]) {
                best = Some(id);
            }
        }
        best.map(|id| id as u32)
    }

    /// Fills the candidates, sorted, with their probabilities.
    fn cut_to_top_k(&mut self) {
        let finite = self.logits.iter().enumerate().filter(|(_, x)| x.is_finite());
        self.left.clear();
        self.left.extend(finite.map(|(id, &logit)| Candidate { id: id as u32, logit, p: 0.0 }));
        let by_logit =
            |a: &Candidate, b: &Candidate| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id));
        let k = match self.how.top_k {
            0 => self.left.len(),
            k => (k as usize).min(self.left.len()),
        };
        if k < self.left.len() {
            self.left.select_nth_unstable_by(k - 1, by_logit);
            self.left.truncate(k);
        }
        self.left.sort_unstable_by(by_logit);
        self.softmax(1.0);
    }

    /// Probabilities of the candidates from their logits over a temperature.
    fn softmax(&mut self, temperature: f32) {
        let most = self.left[0].logit;
        let mut sum = 0.0;
        for c in &mut self.left {
            c.p = ((c.logit - most) / temperature).exp();
            sum += c.p;
        }
        for c in &mut self.left {
            c.p /= sum;
        }
    }

    /// Locally typical sampling (arXiv 2202.00666): nearest to the expected surprise first.
    fn cut_to_typical(&mut self) {
        if self.how.typical_p >= 1.0 {
            return;
        }
        let surprise = |c: &Candidate| -c.p.max(f32::MIN_POSITIVE).ln();
        let entropy: f32 = self.left.iter().map(|c| c.p * surprise(c)).sum();
        let off = |c: &Candidate| (surprise(c) - entropy).abs();
        self.left.sort_by(|a, b| off(a).total_cmp(&off(b)));
        self.keep_mass(self.how.typical_p);
        self.left.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id)));
        self.softmax(1.0);
    }

    fn cut_to_top_p(&mut self) {
        if self.how.top_p < 1.0 {
            self.keep_mass(self.how.top_p);
            self.softmax(1.0);
        }
    }

    /// Keeps candidates in order until their probabilities reach `mass`; at least one.
    fn keep_mass(&mut self, mass: f32) {
        let mut sum = 0.0;
        let reached = self.left.iter().position(|c| {
            sum += c.p;
            sum >= mass
        });
        if let Some(last) = reached {
            self.left.truncate(last + 1);
        }
    }

    /// Measured by the likeliest that is left, which need not be the likeliest of all.
    fn cut_to_min_p(&mut self) {
        if self.how.min_p <= 0.0 {
            return;
        }
        let least = self.left[0].logit + self.how.min_p.ln();
        self.left.retain(|c| c.logit >= least);
    }

    fn draw(&mut self, position: u64) -> u32 {
        self.softmax(self.how.temperature.max(f32::MIN_POSITIVE));
        let mut rest = uniform(self.seed, position);
        for c in &self.left {
            rest -= f64::from(c.p);
            if rest < 0.0 {
                return c.id;
            }
        }
        self.left[self.left.len() - 1].id
    }
}

/// A uniform number in [0, 1) from seed and position: two rounds of splitmix64's finaliser.
fn uniform(seed: u64, position: u64) -> f64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let golden = 0x9E37_79B9_7F4A_7C15_u64;
    let z = mix(mix(seed.wrapping_add(golden)) ^ position.wrapping_mul(golden));
    (z >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests;
