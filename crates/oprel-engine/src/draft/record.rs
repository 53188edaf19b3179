//! What proposals of one source brought, and whether the next one is worth its place in a step.

/// How likely a proposed token is taken to be right before anything is known.
pub(crate) const HOPE: f64 = 0.7;
/// How much of that comes back in a step in which nothing was worth proposing.
const REGAIN: f64 = 0.002;
/// Steps without a proposal after those that were not worth their place, at first and at most.
const REST: (u32, u32) = (4, 256);
/// What must be promised: that much more speed for one stream, and none lost by the others.
const MARGIN: f64 = 0.05;

/// A step as it is planned: what it promises to its streams, and how long it is to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Deal {
    /// How many streams there are.
    pub(crate) streams: usize,
    /// Logarithms of the tokens that each is expected to get, added up.
    pub(crate) gain: f64,
    pub(crate) seconds: f64,
}

impl Deal {
    /// Adds up the logarithms of all streams' tokens a second: one that gains does not outweigh others that
    /// wait for it, as it would in a sum of the rates.
    pub(crate) fn score(self) -> f64 {
        self.gain - self.streams as f64 * self.seconds.ln()
    }
}

/// How fast one is believed and given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// How fast the rate of accepted tokens follows what happened.
    pub(crate) follow: f64,
    /// Proposals in a row of which nothing was taken before there is a rest.
    pub(crate) patience: u32,
    /// Tokens that are compared with what is chosen, and not checked in a step, before any are proposed and
    /// after a rest until one was right; 0 if that saves nothing.
    pub(crate) rehearsals: u32,
}

/// What proposals brought.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    manner: Manner,
    /// How likely a proposed token is right if those before it are.
    rate: f64,
    /// Steps until the next proposal, and how many there were after the last bad one.
    rests: u32,
    rest: u32,
    /// Proposals in a row of which nothing was taken.
    wrong: u32,
    /// Tokens that were right or wrong.
    checked: u32,
}

impl Record {
    /// `rate` is how likely a token is right, as `checked` others of the source tell.
    pub(crate) fn new(manner: Manner, rate: f64, checked: u32) -> Record {
        Record { manner, rate, rests: 0, rest: REST.0, wrong: 0, checked }
    }

    /// Whether what it says is only compared for now.
    pub(crate) fn rehearses(&self) -> bool {
        let Manner { patience, rehearsals, .. } = self.manner;
        rehearsals > 0 && (self.checked < rehearsals || self.wrong >= patience)
    }

    /// Whether it rests in the next step.
    pub(crate) fn rests(&self) -> bool {
        self.rests > 0
    }

    /// Whether it may propose in this step; counts the steps in which it rests.
    pub(crate) fn is_up(&mut self) -> bool {
        let up = self.rests == 0;
        self.rests = self.rests.saturating_sub(1);
        up
    }

    /// How many of `most` proposed tokens bring most to the step, and the step with them; `None` if it is
    /// better without. `cost` tells how many seconds so many take.
    pub(crate) fn worth(
        &mut self,
        most: usize,
        step: Deal,
        cost: impl Fn(usize) -> f64,
    ) -> Option<(usize, Deal)> {
        let (mut right, mut tokens) = (1.0, 1.0_f64);
        let mut best: Option<(usize, Deal)> = None;
        for n in 1..=most {
            right *= self.rate;
            tokens += right;
            let (gain, seconds) = (step.gain + tokens.ln(), step.seconds + cost(n));
            let with = Deal { gain, seconds, ..step };
            let least = best.map_or(step.score() + MARGIN, |(_, best)| best.score());
            if with.score() > least {
                best = Some((n, with));
            }
        }
        if best.is_none() {
            // Texts change: what did not pay is tried again some day.
            self.rate = (self.rate + REGAIN).min(HOPE.max(self.rate));
        }
        best
    }

    /// What became of a proposal: so many of its tokens were taken.
    pub(crate) fn learn(&mut self, proposed: usize, taken: usize) {
        if proposed == 0 {
            return;
        }
        // Tokens after the first wrong one tell nothing.
        let tried = (taken + 1).min(proposed);
        self.checked = self.checked.saturating_add(tried as u32);
        let tried = tried as f64;
        let weight = 1.0 - (1.0 - self.manner.follow).powf(tried);
        self.rate += weight * (taken as f64 / tried - self.rate);
        if taken > 0 {
            (self.wrong, self.rest) = (0, REST.0);
            self.rate = self.rate.max(0.3);
            return;
        }
        self.wrong += 1;
        if self.wrong >= self.manner.patience {
            self.rests = self.rest;
            self.rest = (self.rest * 2).min(REST.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Deal = Deal { streams: 1, gain: 0.0, seconds: 1.0 };

    fn record(patience: u32) -> Record {
        Record::new(Manner { follow: 0.25, patience, rehearsals: 2 }, HOPE, 0)
    }

    #[test]
    fn what_costs_nothing_is_proposed_whole() {
        assert_eq!(record(1).worth(8, STEP, |_| 0.0).map(|(n, _)| n), Some(8));
    }

    #[test]
    fn a_proposal_that_costs_more_than_it_brings_is_not_made() {
        assert_eq!(record(1).worth(4, STEP, |n| n as f64), None);
    }

    #[test]
    fn what_pays_for_one_stream_need_not_pay_for_many() {
        let cost = |n: usize| 0.2 * n as f64;
        assert!(record(1).worth(4, STEP, cost).is_some());
        // The other seven wait for it.
        let eight = Deal { streams: 8, ..STEP };
        assert_eq!(record(1).worth(4, eight, cost), None);
    }

    #[test]
    fn who_is_not_known_rehearses_and_who_failed_does_again() {
        let mut record = record(2);
        for (taken, rehearses) in [(1, true), (1, false), (0, false), (0, true), (1, false)] {
            record.learn(1, taken);
            assert_eq!(record.rehearses(), rehearses);
        }
    }

    #[test]
    fn one_who_is_wrong_is_asked_less_and_less() {
        for patience in [1, 3] {
            let mut record = record(patience);
            let mut proposals = 0;
            for _ in 0..1000 {
                let n = match record.is_up() {
                    true => record.worth(4, STEP, |_| 0.0).map_or(0, |(n, _)| n),
                    false => 0,
                };
                proposals += usize::from(n > 0);
                record.learn(n, 0);
            }
            assert!((3..16).contains(&proposals), "{proposals}");
        }
    }
}
