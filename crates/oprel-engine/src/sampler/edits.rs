//! What changes single logits before any cut: bans, bias, penalties for recent tokens.

use oprel_api::Sampling;

use super::Given;
use super::board::Logits;
use super::dry::Repeats;

/// Room for counting.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// How often each token occurred (n_vocab); zeros between choices.
    counts: Vec<u32>,
    repeats: Repeats,
}

impl Edits {
    /// Looks for repetitions; whether any logit is to be changed.
    pub(super) fn begin(
        &mut self,
        (how, breakers): (&Sampling, &super::Breakers),
        given: &Given<'_>,
        n_vocab: usize,
    ) -> bool {
        self.counts.resize(self.counts.len().max(n_vocab), 0);
        let repeats =
            self.repeats.find(&how.dry, breakers, given.tokens, &mut self.counts[..n_vocab]);
        repeats
            || !given.banned.is_empty()
            || !how.logit_bias.is_empty()
            || (how.penalizes() && !given.tokens.is_empty())
    }

    /// Changes logits, in the documented order.
    pub(super) fn apply(
        &mut self,
        how: &Sampling,
        given: &Given<'_>,
        logits: &mut (impl Logits + ?Sized),
    ) {
        for &id in given.banned {
            edit(logits, id, |_| f32::NEG_INFINITY);
        }
        for b in &how.logit_bias {
            edit(logits, b.token, |logit| logit + b.bias);
        }
        self.penalize(how, given.tokens, logits);
        self.repeats.penalize(&how.dry, logits);
    }

    fn penalize(&mut self, how: &Sampling, tokens: &[u32], logits: &mut (impl Logits + ?Sized)) {
        if !how.penalizes() {
            return;
        }
        let recent = last(tokens, how.repeat_last_n);
        for &id in recent {
            if let Some(count) = self.counts.get_mut(id as usize) {
                *count += 1;
            }
        }
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
}

/// The last `n` tokens; all of them if `n` is negative.
pub(super) fn last(tokens: &[u32], n: i32) -> &[u32] {
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    &tokens[tokens.len().saturating_sub(n)..]
}

/// Changes a logit, unless it is not finite and out of the running anyway. One that leaves the range
/// of numbers leaves the running.
pub(super) fn edit(logits: &mut (impl Logits + ?Sized), id: u32, change: impl FnOnce(f32) -> f32) {
    if let Some(logit) = logits.logit(id).filter(|logit| logit.is_finite()) {
        let changed = change(*logit);
        *logit = if changed.is_nan() { f32::NEG_INFINITY } else { changed };
    }
}
