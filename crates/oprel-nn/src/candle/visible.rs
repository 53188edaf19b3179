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

    /// The first position that any token sees under this mask.
    pub(super) fn first(&self, mask: Mask) -> usize {
        let sees = |&key: &usize| (0..self.n()).any(|t| self.sees(t, key, mask));
        (0..self.end()).find(sees).unwrap_or(self.cached)
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
