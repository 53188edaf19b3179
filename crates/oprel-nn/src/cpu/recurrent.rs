//! Recurrent state of sequences: a row for each, the recurrent part and then the convolution's
//! past inputs.

use std::ops::Range;

use super::arena::zeroed;
use super::run::SpanAt;
use crate::state::{RowId, Transfer};
use crate::{Error, Result};

/// One slot of recurrent state.
#[derive(Debug)]
pub(super) struct RecurrentStore {
    rows: Box<[f32]>,
    state: usize,
    conv: usize,
}

impl RecurrentStore {
    /// A slot of `rows` rows.
    ///
    /// # Errors
    /// [`Error::Memory`] if it cannot be had.
    pub(super) fn new(rows: usize, state: usize, conv: usize) -> Result<RecurrentStore> {
        let len = state.checked_add(conv).and_then(|len| len.checked_mul(rows));
        let rows = zeroed(len.unwrap_or(usize::MAX), "recurrent state")?;
        Ok(RecurrentStore { rows, state, conv })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.rows.len() as u64 * 4
    }

    /// Bytes of a row.
    pub(super) fn row_bytes(&self) -> usize {
        (self.state + self.conv) * 4
    }

    /// Bytes of a row of these parts.
    pub(super) fn row_bytes_of(state: usize, conv: usize) -> u64 {
        (state as u64).saturating_add(conv as u64).saturating_mul(4)
    }

    /// The bytes of a row.
    pub(super) fn row(&self, row: RowId) -> &[u8] {
        bytemuck::cast_slice(&self.rows[self.range(row)])
    }

    /// The same, to be written.
    pub(super) fn row_mut(&mut self, row: RowId) -> &mut [u8] {
        let range = self.range(row);
        bytemuck::cast_slice_mut(&mut self.rows[range])
    }

    fn range(&self, row: RowId) -> Range<usize> {
        let len = self.state + self.conv;
        row.0 as usize * len..(row.0 as usize + 1) * len
    }

    /// Brings each span's state to the row where it is worked on and stays: from where it comes from,
    /// or zeros. A row that another span starts from is read before it is written.
    ///
    /// # Errors
    /// [`Error::Batch`] if spans exchange their rows.
    pub(super) fn begin(&mut self, transfers: &[Transfer<'_>], done: &mut Vec<bool>) -> Result<()> {
        done.clear();
        done.resize(transfers.len(), false);
        for _ in 0..transfers.len() {
            let waits = |i: usize| {
                let mut others = transfers.iter().zip(&*done).enumerate();
                others.any(|(j, (t, done))| i != j && !done && t.from == transfers[i].to)
            };
            let next = (0..transfers.len()).find(|&i| !done[i] && !waits(i));
            let exchanged = || Error::Batch("spans exchange their rows of state".into());
            let next = next.ok_or_else(exchanged)?;
            done[next] = true;
            self.start(&transfers[next]);
        }
        Ok(())
    }

    fn start(&mut self, transfer: &Transfer<'_>) {
        let Some(to) = transfer.to else { return };
        let to = self.range(to);
        match transfer.from {
            Some(from) if self.range(from) == to => {}
            Some(from) => self.rows.copy_within(self.range(from), to.start),
            None => self.rows[to].fill(0.0),
        }
    }

    /// One part of a row.
    fn part(&self, part: Part, row: RowId) -> Range<usize> {
        let Range { start, end } = self.range(row);
        match part {
            Part::State => start..start + self.state,
            Part::Conv => start + self.state..end,
        }
    }

    /// Runs `f` over the tokens of every span in order, with that part of its state: `f` leaves there
    /// what it is after the tokens it is given. States that are to be kept are copied on the way.
    pub(super) fn for_spans(
        &mut self,
        part: Part,
        spans: &[SpanAt],
        transfers: &[Transfer<'_>],
        mut f: impl FnMut(&mut [f32], Range<usize>),
    ) {
        for (span, transfer) in spans.iter().zip(transfers) {
            let Some(to) = transfer.to else { continue };
            let range = self.part(part, to);
            for piece in pieces(span.n, transfer.keep) {
                let first = span.first + piece.start;
                if piece.n > 0 {
                    f(&mut self.rows[range.clone()], first..first + piece.n);
                }
                if let Some(keep) = piece.keep {
                    let keep = self.part(part, keep).start;
                    self.rows.copy_within(range.clone(), keep);
                }
            }
        }
    }
}

/// What of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The recurrent part.
    State,
    /// The convolution's past inputs, (taps - 1, channels), oldest first.
    Conv,
}

/// A run of a span's tokens after which its state is copied to another row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// First token, counted from the span's first.
    pub(super) start: usize,
    /// Tokens; may be 0.
    pub(super) n: usize,
    /// Where the state after them is kept, besides in the span's own row.
    pub(super) keep: Option<RowId>,
}

/// The pieces of a span of `n` tokens: `keep[i]` is the state after all but the last `i + 1`.
pub(super) fn pieces(n: usize, keep: &[RowId]) -> impl Iterator<Item = Piece> {
    let keep = &keep[..keep.len().min(n)];
    (0..=keep.len()).map(move |i| {
        let start = if i == 0 { 0 } else { n - keep.len() + i - 1 };
        let end = n - keep.len() + i;
        Piece { start, n: end - start, keep: keep.iter().rev().nth(i).copied() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_kept_after_all_but_the_last_tokens() {
        let keep = [RowId(7), RowId(8)];
        let all: Vec<_> = pieces(5, &keep).map(|p| (p.start, p.n, p.keep)).collect();
        assert_eq!(all, [(0, 3, Some(RowId(8))), (3, 1, Some(RowId(7))), (4, 1, None)]);
        assert_eq!(pieces(5, &[]).count(), 1);
        let short: Vec<_> = pieces(1, &keep).map(|p| (p.start, p.n, p.keep)).collect();
        assert_eq!(short, [(0, 0, Some(RowId(7))), (0, 1, None)]);
    }

    #[test]
    fn states_start_from_zero_or_from_what_the_row_held_before_the_batch() {
        let mut store = RecurrentStore::new(3, 1, 1).unwrap();
        let row = |r| Some(RowId(r));
        let t = |from, to| Transfer { from, to, keep: &[] };
        store.rows.copy_from_slice(&[1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
        let mut done = Vec::new();
        // The first span goes on where it is, the second and third start from others' rows.
        let transfers = [t(row(0), row(1)), t(row(1), row(2)), t(None, row(0))];
        store.begin(&transfers, &mut done).unwrap();
        assert_eq!(*store.rows, [0.0, 0.0, 1.0, 1.5, 2.0, 2.5]);
        assert!(store.begin(&[t(row(0), row(1)), t(row(1), row(0))], &mut done).is_err());
    }

    #[test]
    fn a_kept_state_is_the_one_after_all_but_the_last_token() {
        let mut store = RecurrentStore::new(2, 1, 0).unwrap();
        let keep = [RowId(1)];
        let transfers = [Transfer { from: None, to: Some(RowId(0)), keep: &keep }];
        store.begin(&transfers, &mut Vec::new()).unwrap();
        let spans = [SpanAt { first: 4, n: 3, start: 0 }];
        store.for_spans(Part::State, &spans, &transfers, |state, tokens| {
            tokens.for_each(|t| state[0] = state[0] * 10.0 + t as f32);
        });
        assert_eq!(*store.rows, [456.0, 45.0]);
    }
}
