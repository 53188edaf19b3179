//! Where a share of the probability lies among many tokens, without sorting them.
//!
//! Tokens are taken likeliest first, the smaller id first among equals, as if they were sorted. Mostly
//! the share is reached among the few hundred that are sorted. Otherwise probabilities are added up
//! in bins of like logits, and the one bin in which the share is reached is sorted.

use oprel_cpu::Isa;
use oprel_cpu::sampling::{BINS, Run, bin_weights, sum_weights};

use super::Candidate;
use super::peaks::Peaks;

/// Fewest tokens that are sorted at first, where the vocabulary is large enough to find them quickly.
const HEAD: usize = 256;
/// Most of them.
const MOST_HEAD: usize = 1024;

/// The last token of a run of tokens, likeliest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Last {
    pub(super) logit: f32,
    pub(super) id: u32,
}

impl Last {
    /// All finite logits.
    pub(super) const OF_ALL: Last = Last { logit: f32::MIN, id: u32::MAX };

    fn of(c: &Candidate) -> Last {
        Last { logit: c.logit, id: c.id }
    }
}

/// Sums of probabilities, in parts and whole.
#[derive(Debug)]
pub(super) struct Spread {
    isa: Isa,
    /// The likeliest tokens, sorted; none if too many are alike.
    head: Vec<Candidate>,
    bins: Box<[f64; BINS]>,
    /// The tokens of a bin.
    members: Vec<Candidate>,
}

impl Spread {
    pub(super) fn new() -> Spread {
        Spread {
            isa: Isa::detect(),
            head: Vec::new(),
            bins: Box::new([0.0; BINS]),
            members: Vec::new(),
        }
    }

    /// Sorts the likeliest tokens, which every later look starts with.
    pub(super) fn begin(&mut self, logits: &[f32], peaks: &mut Peaks) {
        self.head.clear();
        let least = peaks.reached_by(HEAD);
        peaks.each_in(logits, least..=f32::MAX, |id, logit| {
            self.head.push(Candidate::new(id, logit));
            self.head.len() <= MOST_HEAD
        });
        if self.head.len() > MOST_HEAD {
            self.head.clear();
        }
        self.head.sort_unstable_by(Candidate::likelier);
    }

    /// The token at which the probabilities of a run, added up, reach the share `share` of their
    /// sum. `most` is the largest finite logit.
    pub(super) fn reach(
        &mut self,
        (logits, peaks): (&[f32], &Peaks),
        most: f32,
        temperature: f32,
        last: Last,
        share: f64,
    ) -> Last {
        let run = Run::new(most, temperature, last.logit, last.id);
        let n = self.head.partition_point(|c| run.has(c.logit, c.id));
        let (head, is_all) = (&self.head[..n], n < self.head.len());
        let total = if is_all {
            head.iter().map(|c| run.weight(c.logit)).sum()
        } else {
            sum_weights(self.isa, &run, logits)
        };
        let mut sum = 0.0;
        let reached = head.iter().find(|c| {
            sum += run.weight(c.logit);
            sum >= share * total
        });
        // Rounding may let the sum fall short.
        match reached.or(head.last().filter(|_| is_all)) {
            Some(c) => Last::of(c),
            None => self.reach_in_bins((logits, peaks), &run, share).unwrap_or(last),
        }
    }

    fn reach_in_bins(
        &mut self,
        (logits, peaks): (&[f32], &Peaks),
        run: &Run,
        share: f64,
    ) -> Option<Last> {
        self.bins.fill(0.0);
        bin_weights(self.isa, run, logits, &mut self.bins);
        let goal = share * self.bins.iter().sum::<f64>();
        let (mut sum, mut found) = (0.0, 0);
        for (i, &weight) in self.bins.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            found = i as u32;
            if sum + weight >= goal {
                break;
            }
            sum += weight;
        }
        self.members.clear();
        let (least, most) = run.range_of(found);
        peaks.each_in(logits, least..=most, |id, logit| {
            if run.bin(logit) == found && run.has(logit, id) {
                self.members.push(Candidate::new(id, logit));
            }
            true
        });
        self.members.sort_unstable_by(Candidate::likelier);
        let reached = self.members.iter().find(|c| {
            sum += run.weight(c.logit);
            sum >= goal
        });
        // Rounding may let the sum fall short.
        reached.or(self.members.last()).map(Last::of)
    }
}
