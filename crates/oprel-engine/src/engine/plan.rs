//! What the next batch is made of.

use std::time::Duration;

use oprel_nn::batch::SeqId;
use oprel_nn::state::RowId;

use super::Engine;
use crate::draft::Source;
use crate::sequence::Says;

/// Tokens between checkpoints of recurrent state in a long prompt.
pub(super) const SPARSE: usize = 2048;

/// A batch to be run.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Spans of running sequences.
    pub(super) pieces: Vec<Piece>,
    /// How many of the waiting texts are made vectors.
    pub(super) texts: usize,
}

/// A span of a running sequence.
#[derive(Debug)]
pub(super) struct Piece {
    /// Whose.
    pub(super) id: SeqId,
    /// Tokens of the text.
    pub(super) n: usize,
    /// Proposed tokens after them, and who proposed them.
    pub(super) drafts: Vec<u32>,
    pub(super) source: Source,
    /// What the smaller model says comes next, where that is not checked but compared.
    pub(super) rehearsed: Option<u32>,
    /// Of how many of its last rows logits are wanted.
    pub(super) rows: usize,
    /// Where its recurrent state goes.
    pub(super) to: Option<RowId>,
    /// Where its states before the last tokens go, latest first.
    pub(super) keep: Vec<RowId>,
    /// Whether it reads its prompt.
    pub(super) prefills: bool,
}

impl Plan {
    /// Tokens of streams, with those proposed.
    pub(super) fn n_decoded(&self) -> usize {
        let decoded = self.pieces.iter().filter(|p| !p.prefills);
        decoded.map(|p| p.n + p.drafts.len()).sum()
    }

    /// Tokens of prompts.
    pub(super) fn n_prompt(&self) -> usize {
        self.pieces.iter().filter(|p| p.prefills).map(|p| p.n).sum()
    }
}

impl Engine {
    /// What to run now; `None` if there is nothing.
    pub(super) fn plan(
        &mut self,
        clock: &dyn Fn() -> Duration,
        says: &mut Vec<(SeqId, Says)>,
    ) -> Option<Plan> {
        self.end_waits(says);
        let mut plan = Plan::default();
        if let Some(at) = self.running.iter().position(|s| s.alone && s.loading.is_none()) {
            let id = self.running[at].id;
            let most = self.limits.tokens as usize;
            self.add_prompt(&mut plan, id, &mut { most }, &mut { self.limits.logit_rows as usize });
            return (!plan.pieces.is_empty()).then_some(plan);
        }
        let mut rows = self.limits.logit_rows as usize;
        self.add_streams(&mut plan, &mut rows);
        self.add_drafts(&mut plan, &mut rows, clock);
        self.add_prompts(&mut plan, &mut rows);
        self.add_texts(&mut plan);
        (!plan.pieces.is_empty() || plan.texts > 0).then_some(plan)
    }

    /// All that decode, those who came first first.
    fn add_streams(&mut self, plan: &mut Plan, rows: &mut usize) {
        let mut room = self.limits.tokens as usize;
        let mut streams: Vec<(u64, SeqId)> =
            self.running.iter().filter(|s| s.decodes).map(|s| (s.order, s.id)).collect();
        streams.sort_unstable();
        for (_, id) in streams {
            // It may have had to make room for one before it.
            let Some(s) = self.running.iter().find(|s| s.id == id) else { continue };
            let n = s.pending();
            if n > room || *rows == 0 || !self.reserve(plan, id, n) {
                continue;
            }
            room -= n;
            *rows -= 1;
            self.add(plan, id, n, 1, false);
        }
    }

    /// Pieces of prompts, as many tokens as streams bear.
    fn add_prompts(&mut self, plan: &mut Plan, rows: &mut usize) {
        let decoded: usize = plan.n_decoded();
        let free = (self.limits.tokens as usize).saturating_sub(decoded);
        let mut prompts: Vec<_> = self.running.iter().filter(|s| !s.decodes).collect();
        prompts.retain(|s| s.waits_for.is_none() && s.loading.is_none());
        prompts.sort_by_key(|s| (-i64::from(s.ask.priority), s.order));
        let prompts: Vec<SeqId> = prompts.iter().map(|s| s.id).collect();
        if prompts.is_empty() {
            return;
        }
        let Some(mut room) = self.pace.beside(decoded, free) else { return };
        for id in prompts {
            if room == 0 || plan.pieces.len() >= self.limits.spans as usize {
                return;
            }
            self.add_prompt(plan, id, &mut room, rows);
        }
    }

    /// The next piece of a prompt, of at most so many tokens.
    fn add_prompt(&mut self, plan: &mut Plan, id: SeqId, room: &mut usize, rows: &mut usize) {
        let Some(s) = self.running.iter().find(|s| s.id == id) else { return };
        let mut n = s.pending().min(*room).min(self.until_checkpoint(id));
        if s.rows_of(n) > *rows {
            n = n.min(*rows);
        }
        let wanted = s.rows_of(n);
        if n == 0 || wanted > *rows || !self.reserve(plan, id, n) {
            return;
        }
        *room -= n;
        *rows -= wanted;
        self.add(plan, id, n, wanted, true);
    }

    /// How many tokens may be fed before the recurrent state is to be kept: at the end of
    /// the last message, and at sparse intervals.
    fn until_checkpoint(&self, id: SeqId) -> usize {
        if !self.state.is_recurrent() {
            return usize::MAX;
        }
        let Some(s) = self.running.iter().find(|s| s.id == id) else { return usize::MAX };
        let from = s.fed;
        let sparse = (from / SPARSE + 1) * SPARSE;
        let message = s.message_end().filter(|&at| at > from && at < s.tokens.len());
        message.map_or(sparse, |at| at.min(sparse)) - from
    }

    /// Makes sure that a sequence has pages for its next tokens, and a row. Others make room if they
    /// must: those of lower priority, then those who came later.
    fn reserve(&mut self, plan: &mut Plan, id: SeqId, n: usize) -> bool {
        loop {
            let Some(at) = self.running.iter().position(|s| s.id == id) else { return false };
            let s = &mut self.running[at];
            let end = s.fed + n;
            let Some(holding) = s.holding.as_mut() else { return false };
            if self.state.extend(holding, end).is_ok() {
                return true;
            }
            let Some(victim) = self.weakest() else { return false };
            let victim_id = self.running[victim].id;
            self.drop_piece(plan, victim_id);
            self.preempt(victim);
            if victim_id == id {
                return false;
            }
        }
    }

    /// The same for tokens that are only proposed: nobody makes room for them.
    pub(super) fn reserve_spare(&mut self, at: usize, end: usize) -> bool {
        let holding = self.running[at].holding.as_mut();
        holding.is_some_and(|holding| self.state.extend(holding, end).is_ok())
    }

    fn add(&mut self, plan: &mut Plan, id: SeqId, n: usize, rows: usize, prefills: bool) {
        let Some(s) = self.running.iter().find(|s| s.id == id) else { return };
        let to = s.holding.as_ref().and_then(|holding| self.state.row_to_write(holding));
        plan.pieces.push(Piece {
            id,
            n,
            drafts: Vec::new(),
            source: Source::default(),
            rehearsed: None,
            rows,
            to,
            keep: Vec::new(),
            prefills,
        });
    }

    /// A sequence that makes room is not run.
    fn drop_piece(&mut self, plan: &mut Plan, id: SeqId) {
        let Some(at) = plan.pieces.iter().position(|p| p.id == id) else { return };
        let piece = plan.pieces.remove(at);
        self.state.release_rows(&piece.keep);
        self.release_to(&piece);
    }

    /// Gives back the row that was meant for a state, unless it is the sequence's own.
    pub(super) fn release_to(&mut self, piece: &Piece) {
        let own = self.running.iter().find(|s| s.id == piece.id);
        let own = own.and_then(|s| s.holding.as_ref()).and_then(|h| h.row);
        if piece.to != own {
            self.state.release_rows(piece.to.as_slice());
        }
    }
}
