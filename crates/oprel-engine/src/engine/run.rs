//! A planned batch on the executor.

use oprel_nn::{See, Transfer};

use super::plan::Plan;
use super::{Engine, Scope};
use crate::Result;
use crate::spans::Spans;

impl Engine {
    /// Runs a batch. Entry 0 of the output has the logits of the pieces, the others the vectors of
    /// texts.
    pub(super) fn run(&mut self, plan: &Plan) -> Result<()> {
        let mut spans = Spans::default();
        for piece in &plan.pieces {
            let Some(s) = self.running.iter().find(|s| s.id == piece.id) else { continue };
            let Some(holding) = &s.holding else { continue };
            let transfer = Transfer {
                from: holding.row.filter(|_| s.fed > 0),
                to: piece.to,
                keep: &piece.keep,
            };
            let (fed, rest) = s.tokens.split_at(s.fed);
            let next = [&rest[..piece.n], &piece.drafts];
            spans.sequence(s.id, [fed, &[]], next, piece.rows, (&holding.pages, transfer));
        }
        let see = match self.scope {
            Scope::Causal => See::Causal,
            Scope::Bidirectional => See::All,
        };
        for text in self.texts.iter().take(plan.texts) {
            let transfer = Transfer { from: None, to: text.row, keep: &[] };
            let state = (text.pages.as_slice(), transfer);
            spans.text(text.id, &text.tokens, (see, text.becomes), state);
        }
        Ok(spans.run(&mut *self.exec, &mut self.out)?)
    }
}
