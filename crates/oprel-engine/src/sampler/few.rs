//! The cuts and the draw over a list of tokens, few enough to be sorted.

use oprel_cpu::sampling::{Moments, Sums};

use super::random::Purpose;
use super::wish::{Choice, Wish};
use super::{Candidate, mirostat};

/// Chooses one of `left`, which are finite and at least one, in any order.
pub(super) fn choose(left: &mut Vec<Candidate>, wish: &Wish<'_>) -> Choice {
    let how = wish.how;
    if how.is_greedy() {
        let best = left.iter().min_by(|a, b| a.likelier(b)).unwrap_or(&left[0]);
        return Choice::of(best.id);
    }
    if how.mirostat.is_on() {
        left.sort_unstable_by(Candidate::likelier);
        return steer(left, wish);
    }
    let k = how.top_k as usize;
    if (1..left.len()).contains(&k) {
        left.select_nth_unstable_by(k - 1, Candidate::likelier);
        left.truncate(k);
    }
    left.sort_unstable_by(Candidate::likelier);
    cut_to_typical(left, how.typical_p);
    if how.top_p < 1.0 {
        weigh(left, 1.0);
        let last = reached(left, f64::from(how.top_p));
        left.truncate(last + 1);
    }
    if how.min_p > 0.0 {
        // Measured by the likeliest that is left, which need not be the likeliest of all.
        let least = left[0].logit + how.min_p.ln();
        left.retain(|c| c.logit >= least);
    }
    if wish.excludes() {
        weigh(left, 1.0);
        let threshold = f64::from(how.xtc.threshold);
        let top = left.iter().take_while(|c| c.p >= threshold).count();
        left.drain(..top.saturating_sub(1));
    }
    let temperature = wish.temperature(|| sums(left));
    weigh(left, temperature);
    Choice::of(left[reached(left, wish.draw(Purpose::Token))].id)
}

/// Keeps those within so many standard deviations of the largest.
pub(super) fn cut_to_sigma(left: &mut Vec<Candidate>, wish: &Wish<'_>) {
    if wish.how.top_n_sigma <= 0.0 || wish.how.mirostat.is_on() {
        return;
    }
    let most = left.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max);
    let mut moments = Moments { count: left.len() as f64, ..Moments::default() };
    for c in left.iter() {
        let below = f64::from(most) - f64::from(c.logit);
        moments.sum += below;
        moments.squares += below * below;
    }
    let least = wish.floor(most, moments);
    left.retain(|c| c.logit >= least);
}

/// Probabilities of sorted candidates from their logits over a temperature; the sum of their
/// weights, of which the likeliest has 1.
fn weigh(left: &mut [Candidate], temperature: f32) -> f64 {
    let most = left[0].logit;
    let mut sum = 0.0;
    for c in left.iter_mut() {
        c.p = (-c.depth(most, temperature)).exp();
        sum += c.p;
    }
    left.iter_mut().for_each(|c| c.p /= sum);
    sum
}

/// Sums of sorted candidates at temperature 1.
fn sums(left: &[Candidate]) -> Sums {
    let mut sums = Sums { count: left.len() as f64, ..Sums::default() };
    for c in left {
        let depth = c.depth(left[0].logit, 1.0);
        sums.weight += (-depth).exp();
        sums.depth += if depth < 1e4 { (-depth).exp() * depth } else { 0.0 };
    }
    sums
}

/// Where the probabilities, added up in order, reach a share. Rounding may let them fall short.
fn reached(left: &[Candidate], share: f64) -> usize {
    let mut sum = 0.0;
    let at = left.iter().position(|c| {
        sum += c.p;
        sum >= share
    });
    at.unwrap_or(left.len() - 1)
}

/// Locally typical sampling (arXiv 2202.00666): nearest to the expected surprise first, the likelier
/// first among equals.
fn cut_to_typical(left: &mut Vec<Candidate>, share: f32) {
    if share >= 1.0 {
        return;
    }
    let (most, sums) = (left[0].logit, sums(left));
    weigh(left, 1.0);
    let expected = sums.depth / sums.weight;
    let off = |c: &Candidate| (c.depth(most, 1.0) - expected).abs();
    left.sort_by(|a, b| off(a).total_cmp(&off(b)));
    let last = reached(left, f64::from(share));
    left.truncate(last + 1);
    left.sort_unstable_by(Candidate::likelier);
}

/// Mirostat over sorted candidates.
fn steer(left: &mut Vec<Candidate>, wish: &Wish<'_>) -> Choice {
    let temperature = wish.how.temperature;
    let seen = wish.seen.map(|id| left.iter().find(|c| c.id == id).copied());
    let most = left[0].logit;
    weigh(left, temperature);
    let kept = if wish.how.mirostat.version == 1 {
        let largest = left.iter().map(|c| -c.depth(most, temperature));
        mirostat::count_of(largest, wish.n_vocab, wish.mu)
    } else {
        left.iter().take_while(|c| -c.p.log2() <= wish.mu).count()
    };
    left.truncate(kept.max(1));
    let total = weigh(left, temperature);
    let chosen = match seen {
        Some(Some(seen)) => seen,
        // It could not have been chosen.
        Some(None) => return Choice::of(u32::MAX),
        None => left[reached(left, wish.draw(Purpose::Token))],
    };
    let surprise = mirostat::bits(total, chosen.depth(most, temperature));
    Choice { id: chosen.id, surprise }
}
