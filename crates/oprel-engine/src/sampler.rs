//! From logits to a token.
//!
//! Order: bias, penalties, then the likeliest (temperature 0) or: top-k, typical, top-p, min-p,
//! temperature, draw. The draw at a position is a function of seed and position alone, so that a
//! sequence that is preempted, moved or resumed goes on with the same text.
//!
//! Candidates are sorted only where they are few: those that `top_k` leaves, or all of a small
//! vocabulary. Of many, the cuts and the draw are found by [`Spread`].

mod peaks;
mod spread;

use std::cmp::Ordering;

use oprel_api::Sampling;

use crate::{Error, Result};
use peaks::Peaks;
use spread::{Last, Spread};

/// The largest vocabulary all of which is sorted.
const FEW: usize = 2048;

/// Chooses tokens for one sequence.
#[derive(Debug)]
pub struct Sampler {
    how: Sampling,
    seed: u64,
    /// Logits after bias and penalties (n_vocab), where there are any.
    edited: Vec<f32>,
    /// How often each token occurred (n_vocab); zeros between choices.
    counts: Vec<u32>,
    peaks: Peaks,
    spread: Spread,
    /// What is still in the running, likeliest first once sorted.
    left: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
    p: f32,
}

impl Candidate {
    /// One whose probability is not known yet.
    fn new(id: u32, logit: f32) -> Candidate {
        // Minus zero becomes zero: it is no less likely.
        Candidate { id, logit: logit + 0.0, p: 0.0 }
    }

    /// Likeliest first; the smaller id first among equals.
    fn likelier(&self, other: &Candidate) -> Ordering {
        other.logit.total_cmp(&self.logit).then(self.id.cmp(&other.id))
    }
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
        Ok(Sampler {
            how,
            seed,
            edited: Vec::new(),
            counts: Vec::new(),
            peaks: Peaks::default(),
            spread: Spread::new(),
            left: Vec::new(),
        })
    }

    /// The next token after `tokens` (prompt and answer), from the model's logits (n_vocab); `banned`
    /// are never chosen.
    ///
    /// # Errors
    /// [`Error::Logits`] if there is nothing to choose from.
    pub fn choose(&mut self, logits: &[f32], tokens: &[u32], banned: &[u32]) -> Result<u32> {
        let position = tokens.len() as u64;
        let edits = !self.how.logit_bias.is_empty() || !banned.is_empty() || self.how.penalizes();
        if !edits {
            return self.choose_from(logits, position);
        }
        let mut edited = std::mem::take(&mut self.edited);
        edited.clear();
        edited.extend_from_slice(logits);
        self.bias(&mut edited, banned);
        self.penalize(&mut edited, tokens);
        let chosen = self.choose_from(&edited, position);
        self.edited = edited;
        chosen
    }

    fn choose_from(&mut self, logits: &[f32], position: u64) -> Result<u32> {
        if !self.peaks.scan(logits) {
            return Err(Error::Logits { what: "NaN" });
        }
        let likeliest = self.peaks.likeliest(logits);
        let (best, most) = likeliest.ok_or(Error::Logits { what: "none of them is finite" })?;
        if self.how.is_greedy() || self.how.top_k == 1 {
            return Ok(best);
        }
        if self.how.top_k == 0 && self.how.typical_p >= 1.0 && logits.len() > FEW {
            return Ok(self.choose_of_many(logits, most, position));
        }
        self.cut_to_top_k(logits);
        self.cut_to_typical();
        self.cut_to_top_p();
        self.cut_to_min_p();
        Ok(self.draw(position))
    }

    fn bias(&self, logits: &mut [f32], banned: &[u32]) {
        for b in &self.how.logit_bias {
            edit(logits, b.token, |logit| logit + b.bias);
        }
        for &id in banned {
            edit(logits, id, |_| f32::NEG_INFINITY);
        }
    }

    fn penalize(&mut self, logits: &mut [f32], tokens: &[u32]) {
        if !self.how.penalizes() {
            return;
        }
        let n = usize::try_from(self.how.repeat_last_n).unwrap_or(usize::MAX);
        let recent = &tokens[tokens.len().saturating_sub(n)..];
        self.counts.resize(logits.len(), 0);
        for &id in recent {
            if let Some(count) = self.counts.get_mut(id as usize) {
                *count += 1;
            }
        }
        let how = &self.how;
        for &id in recent {
            // Where a token occurred again, it has been counted and penalized.
            let count = self.counts.get_mut(id as usize).map_or(0, std::mem::take);
            if count == 0 {
                continue;
            }
            edit(logits, id, |logit| {
                let repeated = if logit > 0.0 {
                    logit / how.repeat_penalty
                } else {
                    logit * how.repeat_penalty
                };
                repeated - (count as f32 * how.frequency_penalty + how.presence_penalty)
            });
        }
    }

    /// Top-p, min-p and the draw over a large vocabulary. Each cut leaves a run of the likeliest.
    fn choose_of_many(&mut self, logits: &[f32], most: f32, position: u64) -> u32 {
        let how = &self.how;
        self.spread.begin(logits, &mut self.peaks);
        let mut reach = |temperature: f32, last: Last, share: f64| {
            self.spread.reach((logits, &self.peaks), most, temperature, last, share)
        };
        let mut last = Last::OF_ALL;
        if how.top_p < 1.0 {
            last = reach(1.0, last, f64::from(how.top_p));
        }
        if how.min_p > 0.0 {
            let least = most + how.min_p.ln();
            if least > last.logit {
                last = Last { logit: least, id: u32::MAX };
            }
        }
        reach(how.temperature, last, uniform(self.seed, position)).id
    }

    /// Fills the candidates, sorted, with their probabilities.
    fn cut_to_top_k(&mut self, logits: &[f32]) {
        let k = self.how.top_k as usize;
        let least = self.peaks.reached_by(k);
        self.left.clear();
        self.peaks.each_in(logits, least..=f32::MAX, |id, logit| {
            self.left.push(Candidate::new(id, logit));
            true
        });
        if (1..self.left.len()).contains(&k) {
            self.left.select_nth_unstable_by(k - 1, Candidate::likelier);
            self.left.truncate(k);
        }
        self.left.sort_unstable_by(Candidate::likelier);
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
        self.left.sort_unstable_by(Candidate::likelier);
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

/// Changes a logit, unless it is not finite and out of the running anyway. One that leaves the range
/// of numbers leaves the running.
fn edit(logits: &mut [f32], id: u32, change: impl FnOnce(f32) -> f32) {
    if let Some(logit) = logits.get_mut(id as usize).filter(|logit| logit.is_finite()) {
        let changed = change(*logit);
        *logit = if changed.is_nan() { f32::NEG_INFINITY } else { changed };
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
