//! The parts of a batch, as they are collected.

use oprel_nn::batch::SeqId;
use oprel_nn::state::PageId;
use oprel_nn::{
    Batch, Exec, PageTable, Pos, RowSet, See, Span, StateView, StepOut, Transfer, Want, What,
};

use crate::engine::Becomes;

/// The parts of a batch, as they are collected.
#[derive(Default)]
pub(crate) struct Spans<'a> {
    tokens: Vec<u32>,
    positions: Vec<i32>,
    spans: Vec<Span<'a>>,
    tables: Vec<PageTable<'a>>,
    transfers: Vec<Transfer<'a>>,
    rows: Vec<u32>,
    vectors: Vec<Want>,
}

impl<'a> Spans<'a> {
    /// How many tokens there are.
    pub(crate) fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// A run of tokens after those that are in the state; the logits of its last `rows` are wanted.
    pub(crate) fn sequence(
        &mut self,
        id: SeqId,
        fed: [&[u32]; 2],
        next: [&[u32]; 2],
        rows: usize,
        (pages, transfer): (&'a [Vec<PageId>], Transfer<'a>),
    ) {
        let mut history = [0; 4];
        let before = fed[1].iter().rev().chain(fed[0].iter().rev());
        for (place, token) in history.iter_mut().zip(before) {
            *place = *token;
        }
        let (start, n) = (fed[0].len() + fed[1].len(), next[0].len() + next[1].len());
        self.spans.push(Span {
            history,
            keep_states: transfer.keep.len() as u8,
            ..Span::causal(id, n as u32, start as u32)
        });
        self.tokens.extend_from_slice(next[0]);
        self.tokens.extend_from_slice(next[1]);
        self.positions.extend((start..start + n).map(|p| p as i32));
        self.state(pages, transfer);
        let end = self.tokens.len() as u32;
        self.rows.extend(end - rows as u32..end);
    }

    /// A text that becomes a vector or classes.
    pub(crate) fn text(
        &mut self,
        id: SeqId,
        tokens: &[u32],
        (see, becomes): (See<'a>, Becomes),
        (pages, transfer): (&'a [Vec<PageId>], Transfer<'a>),
    ) {
        let n = tokens.len();
        let of = RowSet::Span(self.spans.len() as u32);
        let what = match becomes {
            Becomes::Vector(pooling) => What::Pool(pooling),
            Becomes::Classes => What::Class,
        };
        self.vectors.push(Want { of, what });
        self.spans.push(Span { see, ..Span::causal(id, n as u32, 0) });
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((0..n).map(|p| p as i32));
        self.state(pages, transfer);
    }

    fn state(&mut self, pages: &'a [Vec<PageId>], transfer: Transfer<'a>) {
        self.tables.extend(pages.iter().map(|pages| PageTable(pages)));
        self.transfers.push(transfer);
    }

    /// Runs them. Where logits are wanted entry 0 of the output has all of them; the others are the
    /// vectors of texts.
    pub(crate) fn run(self, exec: &mut dyn Exec, out: &mut StepOut) -> oprel_nn::Result<()> {
        let logits = Want { of: RowSet::Rows(self.rows), what: What::Logits };
        let has_rows = matches!(&logits.of, RowSet::Rows(rows) if !rows.is_empty());
        let wants: Vec<Want> = has_rows.then_some(logits).into_iter().chain(self.vectors).collect();
        let batch = Batch {
            spans: &self.spans,
            tokens: &self.tokens,
            pos: Pos::Text(&self.positions),
            embeds: &[],
            want: &wants,
        };
        let state = StateView { pages: &self.tables, recurrent: &self.transfers };
        exec.step(&batch, &state, out, None)
    }
}
