//! Which cached positions each token of a span sees.

use crate::batch::{See, Span};
use crate::describe::Mask;

/// A span's tokens among the positions of its sequence.
pub(super) struct Sight<'a> {
    see: See<'a>,
    /// Positions cached before the span.
    cached: usize,
    /// Place of each token of the span in its text; in a tree, by depth.
    place: Vec<usize>,
}

impl<'a> Sight<'a> {
    pub(super) fn new(span: &Span<'a>) -> Sight<'a> {
        let (cached, n) = (span.cache_start as usize, span.n as usize);
        let mut place: Vec<usize> = (cached..cached + n).collect();
        if let See::Tree(parents) = span.see {
            for (i, &parent) in parents.iter().enumerate() {
                place[i] = usize::try_from(parent).map_or(cached, |p| place[p] + 1);
            }
        }
        Sight { see: span.see, cached, place }
    }

    /// Tokens of the span.
    pub(super) fn n(&self) -> usize {
        self.place.len()
    }

    /// Positions of the cache once the span is appended.
    pub(super) fn end(&self) -> usize {
        self.cached + self.n()
    }

    /// Positions between token `t` and the cached one at `key`; negative where that comes later.
    pub(super) fn distance(&self, t: usize, key: usize) -> i64 {
        let key = if key < self.cached { key } else { self.place[key - self.cached] };
        self.place[t] as i64 - key as i64
    }

    /// The first position that any token sees under this mask: what the first token of the span sees.
    pub(super) fn first(&self, mask: Mask) -> usize {
        let at = self.cached;
        let first = match mask {
            Mask::Full => 0,
            Mask::Window(n) => (at + 1).saturating_sub(n as usize),
            Mask::Chunk(n) => at - at % n.max(1) as usize,
            Mask::Symmetric(n) => at.saturating_sub(n as usize / 2),
        };
        first.min(at)
    }

    /// Whether token `t` sees the cached position `key`.
    pub(super) fn sees(&self, t: usize, key: usize, mask: Mask) -> bool {
        self.span_allows(t, key) && mask_allows(mask, self.place[t] as i64, self.distance(t, key))
    }

    fn span_allows(&self, t: usize, key: usize) -> bool {
        let at = self.cached + t;
        match self.see {
            See::Causal => key <= at,
            See::All => true,
            See::PrefixLm(prefix) => key <= at || at.max(key) < prefix as usize,
            See::Tree(parents) => key < self.cached || is_ancestor(parents, key - self.cached, t),
        }
    }
}

/// Whether `ancestor` is `token` or stands above it.
fn is_ancestor(parents: &[i32], ancestor: usize, token: usize) -> bool {
    let mut at = token;
    while at > ancestor {
        match usize::try_from(parents[at]) {
            Ok(parent) => at = parent,
            Err(_) => return false,
        }
    }
    at == ancestor
}

fn mask_allows(mask: Mask, at: i64, distance: i64) -> bool {
    match mask {
        Mask::Full => true,
        Mask::Window(n) => distance < i64::from(n),
        Mask::Chunk(n) => at - distance >= at - at % i64::from(n.max(1)),
        Mask::Symmetric(n) => distance.abs() <= i64::from(n / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::SeqId;

    /// The positions that each token of a span sees.
    fn seen(see: See<'_>, n: u32, cached: u32, mask: Mask) -> Vec<Vec<usize>> {
        let sight = Sight::new(&Span { see, ..Span::causal(SeqId(0), n, cached) });
        let of = |t| (0..sight.end()).filter(|&key| sight.sees(t, key, mask)).collect();
        let all: Vec<Vec<usize>> = (0..sight.n()).map(of).collect();
        assert_eq!(sight.first(mask), *all.iter().flatten().min().expect("itself at least"));
        all
    }

    #[test]
    fn a_causal_token_sees_itself_and_what_came_before() {
        assert_eq!(seen(See::Causal, 2, 1, Mask::Full), [vec![0, 1], vec![0, 1, 2]]);
    }

    #[test]
    fn a_window_counts_the_token_itself() {
        assert_eq!(seen(See::Causal, 2, 3, Mask::Window(2)), [vec![2, 3], vec![3, 4]]);
    }

    #[test]
    fn a_chunk_starts_anew_at_multiples_of_its_length() {
        let want = [vec![2, 3], vec![4], vec![4, 5]];
        assert_eq!(seen(See::Causal, 3, 3, Mask::Chunk(2)), want);
    }

    #[test]
    fn a_symmetric_window_looks_half_its_length_to_both_sides() {
        let want = [vec![0, 1], vec![0, 1, 2], vec![1, 2, 3], vec![2, 3]];
        assert_eq!(seen(See::All, 4, 0, Mask::Symmetric(3)), want);
    }

    #[test]
    fn a_prefix_sees_all_of_itself_and_nothing_after_it() {
        let want = [vec![0, 1], vec![0, 1], vec![0, 1, 2]];
        assert_eq!(seen(See::PrefixLm(2), 3, 0, Mask::Full), want);
    }

    #[test]
    fn a_window_in_a_tree_counts_depth_and_not_siblings() {
        // Two drafts of one place, and a child of the second.
        let want = [vec![1, 2], vec![1, 3], vec![3, 4]];
        assert_eq!(seen(See::Tree(&[-1, -1, 1]), 3, 2, Mask::Window(2)), want);
    }
}
