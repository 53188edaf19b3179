//! Texts that become vectors, several in a step.

use std::time::Duration;

use oprel_api::{EndReason, Failure, Usage};
use oprel_nn::batch::SeqId;
use oprel_nn::exec::Got;
use oprel_nn::state::{PageId, RowId};
use oprel_nn::{Batch, Pooling, Pos, RowSet, See, Span, StateView, Transfer, Want, What};

use super::Engine;
use super::plan::Plan;
use crate::name::Name;
use crate::sequence::Says;
use crate::state::Holding;
use crate::{Error, Result};

/// What a text becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Becomes {
    /// A vector of the model's width.
    Vector(Pooling),
    /// What the model's classifier says of it.
    Classes,
}

/// A text that waits to become a vector.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) id: SeqId,
    pub(super) tokens: Vec<u32>,
    pub(super) becomes: Becomes,
    /// Pages for the step in which it is made, by group.
    pub(super) pages: Vec<Vec<PageId>>,
    pub(super) row: Option<RowId>,
    submitted: Duration,
    /// A batch with it failed: it runs alone.
    alone: bool,
}

impl Engine {
    /// Queues a text that shall become one vector.
    ///
    /// # Errors
    /// If the text is empty, longer than a step, or names tokens that are none. A model without a
    /// classifier fails later where classes are asked for.
    pub fn submit_text(
        &mut self,
        tokens: Vec<u32>,
        becomes: Becomes,
        now: Duration,
    ) -> Result<SeqId> {
        self.check_text(&tokens)?;
        let (id, _) = self.new_id();
        let (pages, row, alone) = (Vec::new(), None, false);
        self.texts.push_back(Text { id, tokens, becomes, pages, row, submitted: now, alone });
        Ok(id)
    }

    /// Whether a text can become a vector.
    ///
    /// # Errors
    /// As [`Engine::submit_text`].
    pub fn check_text(&self, tokens: &[u32]) -> Result<()> {
        let most = self.bounds.longest_embedded;
        if tokens.len() > most as usize {
            return Err(Error::TextTooLong { tokens: tokens.len(), most });
        }
        self.bounds.check_tokens(tokens)
    }

    /// Texts that wait to become vectors.
    pub fn n_texts(&self) -> usize {
        self.texts.len()
    }

    /// As many of the waiting texts as fit beside what is planned. Beside streams it is one at a time:
    /// a text cannot be read in pieces.
    pub(super) fn add_texts(&mut self, plan: &mut Plan) {
        let used: usize = plan.pieces.iter().map(|p| p.n + p.drafts.len()).sum();
        let mut room = (self.limits.tokens as usize).saturating_sub(used);
        let mut spans = (self.limits.spans as usize).saturating_sub(plan.pieces.len());
        if plan.n_decoded() > 0 {
            spans = spans.min(1);
        }
        while let Some(text) = self.texts.get(plan.texts).filter(|_| spans > 0) {
            let n = text.tokens.len();
            let first = plan.texts == 0 && plan.pieces.is_empty();
            if n > room || (text.alone && !first) || !self.lay_out(plan.texts) {
                return;
            }
            (room, spans) = (room - n, spans - 1);
            plan.texts += 1;
            if self.texts[plan.texts - 1].alone {
                return;
            }
        }
    }

    /// Gives a text the pages and the row it needs; `false` if there are none.
    fn lay_out(&mut self, at: usize) -> bool {
        let mut holding = self.state.empty(Name::root(&[], None), false);
        let enough = self.state.extend(&mut holding, self.texts[at].tokens.len()).is_ok();
        let row = self.state.row_to_write(&holding);
        if !enough || (self.state.is_recurrent() && row.is_none()) {
            holding.row = row;
            self.state.release(holding);
            return false;
        }
        let text = &mut self.texts[at];
        (text.pages, text.row) = (holding.pages, row);
        true
    }

    fn take_back(&mut self, text: &mut Text) {
        let mut holding: Holding = self.state.empty(Name::root(&[], None), false);
        (holding.pages, holding.row) = (std::mem::take(&mut text.pages), text.row.take());
        self.state.release(holding);
    }

    /// Says the vectors of the first texts.
    pub(super) fn take_vectors(
        &mut self,
        n: usize,
        got: &mut [Got],
        now: Duration,
        says: &mut Vec<(SeqId, Says)>,
    ) {
        for got in got.iter_mut().take(n) {
            let Some(mut text) = self.texts.pop_front() else { return };
            self.take_back(&mut text);
            let prompt_tokens = text.tokens.len() as u32;
            let total_ns = now.saturating_sub(text.submitted).as_nanos() as u64;
            let usage = Usage { prompt_tokens, total_ns, ..Usage::default() };
            says.push((text.id, Says::Vector(std::mem::take(&mut got.values))));
            says.push((text.id, Says::End(EndReason::Complete, usage)));
        }
    }

    /// A batch with the first texts failed: alone, a text fails with it.
    pub(super) fn fail_texts(
        &mut self,
        n: usize,
        lone: bool,
        failure: &Failure,
        says: &mut Vec<(SeqId, Says)>,
    ) {
        let mut failed: Vec<Text> = self.texts.drain(..n.min(self.texts.len())).collect();
        failed.iter_mut().for_each(|text| self.take_back(text));
        if lone {
            says.extend(failed.iter().map(|text| (text.id, Says::Failed(failure.clone()))));
            return;
        }
        for mut text in failed.into_iter().rev() {
            text.alone = true;
            self.texts.push_front(text);
        }
    }

    /// Logits of every token of a text, (n, n_vocab), fed in pieces of these lengths, the rest in one.
    ///
    /// # Errors
    /// If the text is empty or longer than the context, the executor fails, or sequences leave no room.
    pub fn logits(&mut self, tokens: &[u32], pieces: &[usize]) -> Result<Vec<f32>> {
        self.bounds.check_tokens(tokens)?;
        let context = self.limits.context;
        if tokens.len() > context as usize {
            return Err(Error::PromptTooLong { tokens: tokens.len(), context });
        }
        let mut holding = self.state.empty(Name::root(&[], None), false);
        let enough = self.state.extend(&mut holding, tokens.len()).is_ok();
        holding.row = self.state.row_to_write(&holding);
        let short = !enough || (self.state.is_recurrent() && holding.row.is_none());
        self.save_evicted();
        let logits = match short {
            true => Err(Error::Busy { waiting: self.queue.len() }),
            false => self.logits_of(tokens, pieces, &holding),
        };
        self.state.release(holding);
        logits
    }

    fn logits_of(
        &mut self,
        tokens: &[u32],
        pieces: &[usize],
        holding: &Holding,
    ) -> Result<Vec<f32>> {
        let most = self.limits.logit_rows.min(self.limits.tokens) as usize;
        let mut out = Vec::new();
        let mut pieces = pieces.iter().copied().chain(std::iter::repeat(usize::MAX));
        let mut at = 0;
        while at < tokens.len() {
            let end = pieces.next().unwrap_or(usize::MAX).saturating_add(at).min(tokens.len());
            while at < end {
                let n = (end - at).min(most);
                self.run_alone(&tokens[at..at + n], at, holding)?;
                out.extend_from_slice(&self.out.got[0].values);
                at += n;
            }
        }
        Ok(out)
    }

    /// One span, all its logits.
    fn run_alone(&mut self, tokens: &[u32], at: usize, holding: &Holding) -> Result<()> {
        let (id, _) = self.new_id();
        let n = tokens.len();
        let spans = [Span { see: See::Causal, ..Span::causal(id, n as u32, at as u32) }];
        let positions: Vec<i32> = (at..at + n).map(|p| p as i32).collect();
        let tables: Vec<_> = holding.pages.iter().map(|pages| oprel_nn::PageTable(pages)).collect();
        let row = holding.row;
        let recurrent = [Transfer { from: row.filter(|_| at > 0), to: row, keep: &[] }];
        let want = [Want { of: RowSet::All, what: What::Logits }];
        let pos = Pos::Text(&positions);
        let batch = Batch { spans: &spans, tokens, pos, embeds: &[], want: &want };
        let state = StateView { pages: &tables, recurrent: &recurrent };
        Ok(self.exec.step(&batch, &state, &mut self.out, None)?)
    }
}
