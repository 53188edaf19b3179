//! The cuts and the draw over a large vocabulary, without sorting it.
//!
//! Most cuts leave a run of the likeliest tokens, which is known by its last. Typical sampling and XTC
//! also take likely ones out: there the logits are copied without them, and looked at anew.

use oprel_cpu::sampling::{About, Run, Sums};

use super::board::Board;
use super::peaks::Peaks;
use super::random::Purpose;
use super::spread::{Last, Spread};
use super::wish::{Choice, Wish};
use super::{Candidate, mirostat};

/// Tokens of a large vocabulary that are left.
pub(super) struct Many<'a> {
    board: Board<'a>,
    peaks: &'a mut Peaks,
    spread: &'a mut Spread,
    most: f32,
    last: Last,
}

impl<'a> Many<'a> {
    /// All that are finite; `most` is the largest logit. The peaks are those of these logits.
    pub(super) fn new(
        board: Board<'a>,
        peaks: &'a mut Peaks,
        spread: &'a mut Spread,
        most: f32,
    ) -> Many<'a> {
        spread.begin(board.logits(), peaks);
        Many { board, peaks, spread, most, last: Last::OF_ALL }
    }

    pub(super) fn choose(mut self, wish: &Wish<'_>) -> Choice {
        let how = wish.how;
        if how.mirostat.is_on() {
            return self.steer(wish);
        }
        if how.top_n_sigma > 0.0 {
            let moments = self.spread.moments(self.board.logits(), self.most);
            self.cut_below(wish.floor(self.most, moments));
        }
        if how.top_k > 0 {
            self.cut_to_count(how.top_k as usize);
        }
        if how.typical_p < 1.0 {
            self.cut_to_typical(f64::from(how.typical_p));
        }
        if how.top_p < 1.0 {
            self.last = self.reach(1.0, f64::from(how.top_p));
        }
        if how.min_p > 0.0 {
            self.cut_below(self.most + how.min_p.ln());
        }
        if wish.excludes() {
            self.cut_top_choices(f64::from(how.xtc.threshold));
        }
        let temperature = wish.temperature(|| self.sums(1.0));
        Choice::of(self.reach(temperature, wish.draw(Purpose::Token)).id)
    }

    fn run(&self, temperature: f32) -> Run {
        Run::new(self.most, temperature, self.last.logit, self.last.id)
    }

    /// The token at which the probabilities, likeliest first, reach a share.
    fn reach(&mut self, temperature: f32, share: f64) -> Last {
        let run = self.run(temperature);
        self.spread.reach((self.board.logits(), self.peaks), &run, self.last, share)
    }

    fn total(&self, temperature: f32) -> f64 {
        self.spread.total(self.board.logits(), &self.run(temperature))
    }

    fn sums(&self, temperature: f32) -> Sums {
        self.spread.sums(self.board.logits(), &self.run(temperature))
    }

    fn cut_below(&mut self, least: f32) {
        if least > self.last.logit {
            self.last = Last { logit: least, id: u32::MAX };
        }
    }

    /// Keeps what is at most so far below the largest; if nothing is, the likeliest alone.
    fn cut_to_depth(&mut self, depth: f64) {
        if depth >= 0.0 {
            let least = f64::from(self.most) - depth;
            self.cut_below(least.max(f64::from(f32::MIN)) as f32);
        } else if let Some((id, logit)) = self.peaks.likeliest(self.board.logits(), None) {
            self.last = Last { logit, id };
        }
    }

    fn cut_to_count(&mut self, k: usize) {
        // So hot that all weigh the same.
        let count = self.total(f32::MAX).round();
        if (k as f64) < count {
            self.last = self.reach(f32::MAX, (k as f64 - 0.5) / count);
        }
    }

    /// Locally typical sampling (arXiv 2202.00666): nearest to the expected surprise first, the
    /// likelier first among equals.
    fn cut_to_typical(&mut self, share: f64) {
        let (run, sums) = (self.run(1.0), self.sums(1.0));
        let expected = sums.depth / sums.weight;
        let off = move |most: f32, x: f32| (f64::from(most) - f64::from(x) - expected).abs();
        let about = About::new((f64::from(self.most) - expected) as f32);
        let seen = (self.board.logits(), &*self.peaks);
        let most = self.most;
        let nearer = |a: &Candidate, b: &Candidate| {
            off(most, a.logit).total_cmp(&off(most, b.logit)).then(a.likelier(b))
        };
        let Some((bin, last)) = self.spread.reach_about(seen, &run, &about, share, nearer) else {
            return;
        };
        self.board.keep(|id, x| {
            let at = about.bin(x);
            at < bin || (at == bin && nearer(&Candidate::new(id, x), &last).is_le())
        });
        self.look_again();
    }

    /// "Exclude top choices": of the tokens that have at least this probability, only the least
    /// likely stays.
    fn cut_top_choices(&mut self, threshold: f64) {
        let run = self.run(1.0);
        let goal = threshold * self.total(1.0);
        let is_top = |logit: f32, id: u32| run.has(logit, id) && run.weight(logit) >= goal;
        // A little lower, for rounding; the run bounds it too.
        let least = (f64::from(self.most) + goal.ln() - 1e-3) as f32;
        let least = least.max(self.last.logit).min(self.most);
        let mut last: Option<Candidate> = None;
        self.peaks.each_in(self.board.logits(), least..=self.most, None, |id, logit| {
            let top = Candidate::new(id, logit);
            if is_top(logit, id) && last.is_none_or(|l| l.likelier(&top).is_lt()) {
                last = Some(top);
            }
            true
        });
        if let Some(last) = last {
            self.board.keep(|id, x| (x < last.logit) | ((x == last.logit) & (id >= last.id)));
            self.look_again();
        }
    }

    /// After logits have left the running.
    fn look_again(&mut self) {
        let logits = self.board.logits();
        // None of them became NaN.
        let _ = self.peaks.scan(logits, None);
        if let Some((_, most)) = self.peaks.likeliest(logits, None) {
            self.most = most;
        }
        self.spread.begin(logits, self.peaks);
    }

    /// Mirostat.
    fn steer(&mut self, wish: &Wish<'_>) -> Choice {
        let temperature = wish.how.temperature;
        let depth = |most: f32, x: f32| Candidate::new(0, x).depth(most, temperature);
        let most = self.most;
        if wish.how.mirostat.version == 1 {
            let seen = (self.board.logits(), &mut *self.peaks);
            let largest = self.spread.largest(seen, mirostat::FITTED);
            let largest = largest.iter().map(|c| -depth(most, c.logit));
            let k = mirostat::count_of(largest, wish.n_vocab, wish.mu);
            self.cut_to_count(k);
        } else {
            let below = mirostat::depth_of(self.total(temperature), wish.mu);
            self.cut_to_depth(below * f64::from(temperature));
        }
        let total = self.total(temperature);
        let chosen = match wish.seen {
            None => self.reach(temperature, wish.draw(Purpose::Token)),
            Some(id) => match self.board.logits().get(id as usize) {
                Some(&logit) if logit.is_finite() => Last { logit, id },
                // It could not have been chosen.
                _ => return Choice::of(id),
            },
        };
        let surprise = mirostat::bits(total, depth(most, chosen.logit));
        Choice { id: chosen.id, surprise }
    }
}
