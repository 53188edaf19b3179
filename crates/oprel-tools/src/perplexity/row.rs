//! One row of logits as a distribution.

use super::Compared;
use super::base::StoredRow;

/// Less likely tokens of a base do not count: they are stored as this, or less exactly.
const LEAST: f32 = -16.0;

/// What makes a distribution of logits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The likeliest token.
    top: usize,
    /// Logarithm of the sum of all exponentials.
    pub(super) ln_sum: f64,
    /// The largest and the smallest logit.
    pub(super) bounds: (f32, f32),
}

impl Row {
    pub(super) fn of(logits: &[f32]) -> Row {
        let (mut top, mut most, mut least) = (0, f32::MIN, f32::MAX);
        for (i, x) in logits.iter().enumerate() {
            if *x > most {
                (top, most) = (i, *x);
            }
            least = least.min(*x);
        }
        let sum: f64 = logits.iter().map(|x| f64::from((x - most).exp())).sum();
        Row { top, ln_sum: f64::from(most) + sum.ln(), bounds: (most, least) }
    }

    /// How unlikely `token` is, in nats.
    pub(super) fn surprise(&self, logits: &[f32], token: u32) -> f64 {
        self.ln_sum - f64::from(logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY))
    }

    /// This distribution beside that of a base.
    pub(super) fn compare(&self, logits: &[f32], base: StoredRow<'_>, token: u32) -> Compared {
        let (mut kl, mut base_top) = (0.0, (0, f32::NEG_INFINITY));
        for (i, (x, ln_base)) in logits.iter().zip(base.ln_probabilities()).enumerate() {
            if ln_base > base_top.1 {
                base_top = (i, ln_base);
            }
            if ln_base > LEAST {
                let ln_base = f64::from(ln_base);
                kl += ln_base.exp() * (ln_base - f64::from(*x) + self.ln_sum);
            }
        }
        let surprise = self.surprise(logits, token);
        let base_surprise = -f64::from(base.ln_probability(token as usize));
        Compared {
            surprise,
            base_surprise,
            kl,
            p_difference: (-surprise).exp() - (-base_surprise).exp(),
            same_top: base_top.0 == self.top,
        }
    }
}

/// Does `each` for all rows, on several threads, and gives the results in order.
pub(super) fn over_rows<T: Send + Default + Clone>(
    logits: &[f32],
    n_vocab: usize,
    each: impl Fn(usize, &[f32]) -> T + Sync,
) -> Vec<T> {
    let rows: Vec<&[f32]> = logits.chunks_exact(n_vocab.max(1)).collect();
    let mut results = vec![T::default(); rows.len()];
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let share = rows.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (part, (rows, results)) in rows.chunks(share).zip(results.chunks_mut(share)).enumerate()
        {
            let each = &each;
            scope.spawn(move || {
                for (i, (row, result)) in rows.iter().zip(results).enumerate() {
                    *result = each(part * share + i, row);
                }
            });
        }
    });
    results
}
