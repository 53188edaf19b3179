//! The spans of a batch: where they stand, with page numbers side by side.

use super::compile::unsupported;
use super::run::{Run, SpanAt};
use crate::batch::See;
use crate::describe::Mask;
use crate::state::{PAGE_LEN, PageId};
use crate::{Error, Result};

/// Stands for a page that is not needed any more.
const NO_PAGE: u32 = u32::MAX;

impl Run<'_> {
    /// Notes where spans of a checked batch stand, which pages are theirs, and who sees whom.
    pub(super) fn note_spans(&mut self) -> Result<()> {
        self.mem.spans.clear();
        let mut first = 0;
        for span in self.batch.spans {
            let at = SpanAt { first, n: span.n as usize, start: span.cache_start as usize };
            self.mem.spans.push(at);
            first += at.n;
        }
        self.fill_tables()?;
        self.fill_trees()
    }

    fn fill_trees(&mut self) -> Result<()> {
        let mut rest = &mut *self.mem.trees;
        for span in self.batch.spans {
            let See::Tree(parents) = span.see else { continue };
            if self.mem.recurrent.iter().flatten().next().is_some() {
                return Err(unsupported("trees of drafts through recurrent layers"));
            }
            let (own, others) = std::mem::take(&mut rest).split_at_mut(parents.len().pow(2));
            fill_tree(parents, own);
            rest = others;
        }
        Ok(())
    }

    /// Copies page numbers side by side; those that attention will read must be pages.
    fn fill_tables(&mut self) -> Result<()> {
        let n_groups = self.mem.tables.n_groups - 1;
        let mut uncached = 0;
        for (i, span) in self.mem.spans.iter().enumerate() {
            let n_pages = (span.start + span.n).div_ceil(PAGE_LEN);
            for group in 0..n_groups {
                let pages = self.state.pages[i * n_groups + group].0;
                let seen_from = (span.start + 1).saturating_sub(self.mem.windows[group]);
                let table = &mut self.mem.tables.fill(i, group)[..n_pages];
                fill_table(table, pages, seen_from / PAGE_LEN)?;
            }
            for page in &mut self.mem.tables.fill(i, n_groups)[..span.n.div_ceil(PAGE_LEN)] {
                *page = uncached;
                uncached += 1;
            }
        }
        Ok(())
    }
}

/// Copies page numbers; from `needed` on there must be one.
fn fill_table(table: &mut [u32], pages: &[PageId], needed: usize) -> Result<()> {
    for (i, (entry, page)) in table.iter_mut().zip(pages).enumerate() {
        *entry = match *page {
            PageId::NONE if i < needed => NO_PAGE,
            PageId::NONE => return Err(Error::Batch(format!("no page at {i} of a page table"))),
            PageId(page) => page,
        };
    }
    Ok(())
}

/// Notes which tokens of a tree see which: (n, n), each itself and its ancestors.
fn fill_tree(parents: &[i32], visible: &mut [bool]) {
    let n = parents.len();
    for (i, row) in visible.chunks_exact_mut(n).enumerate() {
        row.fill(false);
        let mut at = i as i32;
        while let Ok(token) = usize::try_from(at) {
            row[token] = true;
            at = parents[token];
        }
    }
}

/// First and last but one cache position that token `i` of a span sees.
pub(super) fn visible(mask: Mask, see: See<'_>, span: SpanAt, i: usize) -> (usize, usize) {
    let (position, end) = (span.start + i, span.start + span.n);
    let last = match see {
        See::All => end,
        See::PrefixLm(n) => (position + 1).max(end.min(n as usize)),
        See::Causal | See::Tree(_) => position + 1,
    };
    match mask {
        Mask::Full => (0, last),
        Mask::Window(n) => ((position + 1).saturating_sub(n as usize), last),
        Mask::Chunk(n) => (position - position % n as usize, last),
        Mask::Symmetric(n) => {
            let half = n as usize / 2;
            (position.saturating_sub(half), last.min(position + half + 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: SpanAt = SpanAt { first: 0, n: 4, start: 10 };

    #[test]
    fn masks_and_spans_say_what_a_token_sees() {
        assert_eq!(visible(Mask::Full, See::Causal, SPAN, 1), (0, 12));
        assert_eq!(visible(Mask::Full, See::All, SPAN, 1), (0, 14));
        assert_eq!(visible(Mask::Full, See::PrefixLm(13), SPAN, 0), (0, 13));
        assert_eq!(visible(Mask::Full, See::PrefixLm(13), SPAN, 3), (0, 14));
        assert_eq!(visible(Mask::Window(3), See::Causal, SPAN, 0), (8, 11));
        assert_eq!(visible(Mask::Chunk(4), See::Causal, SPAN, 1), (8, 12));
        assert_eq!(visible(Mask::Symmetric(4), See::All, SPAN, 0), (8, 13));
    }

    #[test]
    fn a_token_of_a_tree_sees_its_ancestors() {
        let mut visible = [true; 9];
        fill_tree(&[-1, 0, 0], &mut visible);
        let (t, f) = (true, false);
        assert_eq!(visible, [t, f, f, t, t, f, t, f, t]);
    }

    #[test]
    fn pages_that_went_back_may_be_missing_only_where_nobody_looks() {
        let pages = [PageId::NONE, PageId(4)];
        let mut table = [0; 2];
        assert!(fill_table(&mut table, &pages, 1).is_ok());
        assert_eq!(table, [NO_PAGE, 4]);
        assert!(fill_table(&mut table, &pages, 0).is_err());
    }
}
