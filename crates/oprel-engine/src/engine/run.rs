//! A planned batch on the executor.

use oprel_nn::state::PageId;
use oprel_nn::{Batch, PageTable, Pos, RowSet, See, Span, StateView, Transfer, Want, What};

use super::plan::Plan;
use super::vectors::{Becomes, Text};
use super::{Engine, Scope};
use crate::Result;
use crate::sequence::Sequence;

/// The parts of a batch, as they are collected.
#[derive(Default)]
struct Parts<'a> {
    tokens: Vec<u32>,
    positions: Vec<i32>,
    spans: Vec<Span<'a>>,
    tables: Vec<PageTable<'a>>,
    transfers: Vec<Transfer<'a>>,
    rows: Vec<u32>,
    wants: Vec<Want>,
}

impl Engine {
    /// Runs a batch. Entry 0 of the output has the logits of the pieces, the others the vectors of
    /// texts.
    pub(super) fn run(&mut self, plan: &Plan) -> Result<()> {
        let mut parts = Parts::default();
        for piece in &plan.pieces {
            if let Some(s) = self.running.iter().find(|s| s.id == piece.id) {
                let transfer = Transfer {
                    from: s.holding.as_ref().and_then(|h| h.row).filter(|_| s.fed > 0),
                    to: piece.to,
                    keep: &piece.keep,
                };
                parts.sequence(s, (piece.n, &piece.drafts), piece.rows, transfer);
            }
        }
        parts
            .wants
            .push(Want { of: RowSet::Rows(std::mem::take(&mut parts.rows)), what: What::Logits });
        if matches!(&parts.wants[0].of, RowSet::Rows(rows) if rows.is_empty()) {
            parts.wants.clear();
        }
        for text in self.texts.iter().take(plan.texts) {
            parts.text(text, self.scope);
        }
        let batch = Batch {
            spans: &parts.spans,
            tokens: &parts.tokens,
            pos: Pos::Text(&parts.positions),
            embeds: &[],
            want: &parts.wants,
        };
        let state = StateView { pages: &parts.tables, recurrent: &parts.transfers };
        Ok(self.exec.step(&batch, &state, &mut self.out, None)?)
    }
}

impl<'a> Parts<'a> {
    fn sequence(
        &mut self,
        s: &'a Sequence,
        (n, drafts): (usize, &[u32]),
        rows: usize,
        transfer: Transfer<'a>,
    ) {
        let Some(holding) = &s.holding else { return };
        let all = n + drafts.len();
        let mut history = [0; 4];
        for (place, token) in history.iter_mut().zip(s.tokens[..s.fed].iter().rev()) {
            *place = *token;
        }
        self.spans.push(Span {
            history,
            keep_states: transfer.keep.len() as u8,
            ..Span::causal(s.id, all as u32, s.fed as u32)
        });
        self.tokens.extend_from_slice(&s.tokens[s.fed..s.fed + n]);
        self.tokens.extend_from_slice(drafts);
        self.positions.extend((s.fed..s.fed + all).map(|p| p as i32));
        self.state(&holding.pages, transfer);
        let end = self.tokens.len() as u32;
        self.rows.extend(end - rows as u32..end);
    }

    fn text(&mut self, text: &'a Text, scope: Scope) {
        let see = match scope {
            Scope::Causal => See::Causal,
            Scope::Bidirectional => See::All,
        };
        let n = text.tokens.len();
        self.wants.push(Want {
            of: RowSet::Span(self.spans.len() as u32),
            what: match text.becomes {
                Becomes::Vector(pooling) => What::Pool(pooling),
                Becomes::Classes => What::Class,
            },
        });
        self.spans.push(Span { see, ..Span::causal(text.id, n as u32, 0) });
        self.tokens.extend_from_slice(&text.tokens);
        self.positions.extend((0..n).map(|p| p as i32));
        let transfer = Transfer { from: None, to: text.row, keep: &[] };
        self.state(text.pages.as_slice(), transfer);
    }

    fn state(&mut self, pages: &'a [Vec<PageId>], transfer: Transfer<'a>) {
        self.tables.extend(pages.iter().map(|pages| PageTable(pages)));
        self.transfers.push(transfer);
    }
}
