//! Which bytes of a file are there.

use std::ops::Range;

/// Ranges of bytes in order, none of which touches the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Adds a range, whatever of it is there already.
    pub(crate) fn add(&mut self, new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        let first = self.0.partition_point(|r| r.end < new.start);
        let behind = self.0.partition_point(|r| r.start <= new.end);
        let touched = &self.0[first..behind.max(first)];
        let start = touched.first().map_or(new.start, |r| r.start.min(new.start));
        let end = touched.last().map_or(new.end, |r| r.end.max(new.end));
        self.0.splice(first..behind.max(first), std::iter::once(start..end));
    }

    /// How many bytes are there.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).sum()
    }

    /// How many bytes are there from the beginning on.
    pub(crate) fn prefix(&self) -> u64 {
        self.0.first().filter(|r| r.start == 0).map_or(0, |r| r.end)
    }

    /// What is missing of so many bytes.
    pub(crate) fn gaps(&self, size: u64) -> Vec<Range<u64>> {
        let mut at = 0;
        let mut gaps = Vec::new();
        for range in &self.0 {
            if at < range.start {
                gaps.push(at..range.start.min(size));
            }
            at = range.end;
        }
        if at < size {
            gaps.push(at..size);
        }
        gaps
    }

    /// As pairs of start and end.
    pub(crate) fn pairs(&self) -> Vec<(u64, u64)> {
        self.0.iter().map(|r| (r.start, r.end)).collect()
    }

    /// From pairs of start and end within so many bytes; none if one makes no sense.
    pub(crate) fn from_pairs(pairs: &[(u64, u64)], size: u64) -> Option<Ranges> {
        let mut ranges = Ranges::default();
        for &(start, end) in pairs {
            if start > end || end > size {
                return None;
            }
            ranges.add(start..end);
        }
        Some(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_agree_with_a_bit_for_every_byte() {
        const SIZE: u64 = 40;
        let mut state = 12345_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..500 {
            let mut ranges = Ranges::default();
            let mut bits = [false; SIZE as usize];
            for _ in 0..next(12) {
                let start = next(SIZE);
                let end = start + next(SIZE - start + 1);
                ranges.add(start..end);
                bits[start as usize..end as usize].fill(true);
            }
            assert_eq!(ranges.total(), bits.iter().filter(|b| **b).count() as u64);
            assert_eq!(ranges.prefix(), bits.iter().take_while(|b| **b).count() as u64);
            let mut missing = [false; SIZE as usize];
            for gap in ranges.gaps(SIZE) {
                missing[gap.start as usize..gap.end as usize].fill(true);
            }
            assert!(bits.iter().zip(missing).all(|(b, m)| *b != m));
            assert!(ranges.0.windows(2).all(|w| w[0].end < w[1].start), "{ranges:?}");
            assert_eq!(Ranges::from_pairs(&ranges.pairs(), SIZE), Some(ranges));
        }
    }

    #[test]
    fn pairs_beyond_the_file_or_backwards_are_refused() {
        for pair in [(3, 2), (0, 11), (u64::MAX, u64::MAX)] {
            assert_eq!(Ranges::from_pairs(&[pair], 10), None);
        }
    }
}
