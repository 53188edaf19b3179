//! Where a share of the probability lies among many tokens, without sorting them.
//!
//! Tokens are taken likeliest first, the smaller id first among equals, as if they were sorted. Mostly
//! the share is reached among the few hundred that are sorted. Otherwise probabilities are added up
//! in bins of like logits, and the one bin in which the share is reached is sorted.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use oprel_cpu::Isa;
use oprel_cpu::sampling::{
    About, BINS, Moments, Run, Sums, bin_weights, bin_weights_about, moments, sum_run, sum_weights,
};

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
        peaks.each_in(logits, least..=f32::MAX, None, |id, logit| {
            self.head.push(Candidate::new(id, logit));
            self.head.len() <= MOST_HEAD
        });
        if self.head.len() > MOST_HEAD {
            self.head.clear();
        }
        self.head.sort_unstable_by(Candidate::likelier);
    }

    /// Those of a run that are sorted, and whether they are all of it.
    fn head_of(&self, run: &Run) -> (&[Candidate], bool) {
        let n = self.head.partition_point(|c| run.has(c.logit, c.id));
        (&self.head[..n], n < self.head.len())
    }

    /// The token at which the probabilities of a run, added up, reach the share `share` of their
    /// sum; `last` is the last of the run.
    pub(super) fn reach(
        &mut self,
        (logits, peaks): (&[f32], &Peaks),
        run: &Run,
        last: Last,
        share: f64,
    ) -> Last {
        let total = self.total(logits, run);
        let (head, is_all) = self.head_of(run);
        let mut sum = 0.0;
        let reached = head.iter().find(|c| {
            sum += run.weight(c.logit);
            sum >= share * total
        });
        // Rounding may let the sum fall short.
        match reached.or(head.last().filter(|_| is_all)) {
            Some(c) => Last::of(c),
            None => self.reach_in_bins((logits, peaks), run, share).unwrap_or(last),
        }
    }

    /// What the weights of a run add up to.
    pub(super) fn total(&self, logits: &[f32], run: &Run) -> f64 {
        match self.head_of(run) {
            (head, true) => head.iter().map(|c| run.weight(c.logit)).sum(),
            _ => sum_weights(self.isa, run, logits),
        }
    }

    /// What a run adds up to.
    pub(super) fn sums(&self, logits: &[f32], run: &Run) -> Sums {
        let (head, is_all) = self.head_of(run);
        if !is_all {
            return sum_run(self.isa, run, logits);
        }
        let mut sums = Sums { count: head.len() as f64, ..Sums::default() };
        for c in head {
            let weight = run.weight(c.logit);
            sums.weight += weight;
            sums.depth += if weight > 0.0 { -weight * weight.ln() } else { 0.0 };
        }
        sums
    }

    /// What all finite logits add up to.
    pub(super) fn moments(&self, logits: &[f32], most: f32) -> Moments {
        moments(self.isa, most, logits)
    }

    /// The `k` likeliest tokens in order; all if there are no more.
    pub(super) fn largest(
        &mut self,
        (logits, peaks): (&[f32], &mut Peaks),
        k: usize,
    ) -> &[Candidate] {
        if self.head.len() >= k {
            return &self.head[..k];
        }
        self.members.clear();
        let least = peaks.reached_by(k);
        peaks.each_in(logits, least..=f32::MAX, None, |id, logit| {
            self.members.push(Candidate::new(id, logit));
            true
        });
        if k < self.members.len() {
            self.members.select_nth_unstable_by(k, Candidate::likelier);
            self.members.truncate(k);
        }
        self.members.sort_unstable_by(Candidate::likelier);
        &self.members
    }

    /// The bin about a logit and the token in it at which the probabilities of a run, added up in
    /// the order of `nearer`, reach a share. None if the run is empty.
    pub(super) fn reach_about(
        &mut self,
        (logits, peaks): (&[f32], &Peaks),
        run: &Run,
        about: &About,
        share: f64,
        nearer: impl Fn(&Candidate, &Candidate) -> Ordering,
    ) -> Option<(u32, Candidate)> {
        self.bins.fill(0.0);
        bin_weights_about(self.isa, run, about, logits, &mut self.bins);
        let (found, sum, goal) = find_bin(&self.bins, share);
        self.members.clear();
        peaks.each_in(logits, range_of(about.range_of(found)), None, |id, logit| {
            if about.bin(logit) == found && run.has(logit, id) {
                self.members.push(Candidate::new(id, logit));
            }
            true
        });
        self.members.sort_unstable_by(nearer);
        self.reached_by_members(run, sum, goal).map(|last| (found, last))
    }

    fn reach_in_bins(
        &mut self,
        (logits, peaks): (&[f32], &Peaks),
        run: &Run,
        share: f64,
    ) -> Option<Last> {
        self.bins.fill(0.0);
        bin_weights(self.isa, run, logits, &mut self.bins);
        let (found, sum, goal) = find_bin(&self.bins, share);
        self.members.clear();
        peaks.each_in(logits, range_of(run.range_of(found)), None, |id, logit| {
            if run.bin(logit) == found && run.has(logit, id) {
                self.members.push(Candidate::new(id, logit));
            }
            true
        });
        self.members.sort_unstable_by(Candidate::likelier);
        self.reached_by_members(run, sum, goal).as_ref().map(Last::of)
    }

    /// The token of the bin with which a sum reaches its goal.
    fn reached_by_members(&self, run: &Run, mut sum: f64, goal: f64) -> Option<Candidate> {
        let reached = self.members.iter().find(|c| {
            sum += run.weight(c.logit);
            sum >= goal
        });
        // Rounding may let the sum fall short.
        reached.or(self.members.last()).copied()
    }
}

/// The bin in which a share of all is reached, the sum before it, and what is to be reached.
fn find_bin(bins: &[f64; BINS], share: f64) -> (u32, f64, f64) {
    let goal = share * bins.iter().sum::<f64>();
    let (mut sum, mut before, mut found) = (0.0, 0.0, 0);
    for (i, &weight) in bins.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        (found, before) = (i as u32, sum);
        if sum + weight >= goal {
            break;
        }
        sum += weight;
    }
    (found, before, goal)
}

fn range_of((least, most): (f32, f32)) -> RangeInclusive<f32> {
    least..=most
}
