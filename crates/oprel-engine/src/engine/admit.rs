//! Who begins to run, and who has to make room.

use std::time::Duration;

use oprel_api::{EndReason, Failure};
use oprel_nn::PAGE_LEN;
use oprel_nn::batch::SeqId;

use super::Engine;
use crate::index::same;
use crate::sequence::{Says, Sequence};

/// Fewest tokens that are worth waiting for while another sequence computes them.
const WORTH_WAITING: usize = 32;

/// Pages that must be left to each running sequence when one that made room for them comes back.
const SPARE: usize = 4;

impl Engine {
    /// Lets those begin for whom there is room, in the order of the queue.
    pub(super) fn admit(&mut self, now: Duration, says: &mut Vec<(SeqId, Says)>) {
        while let Some(next) = self.queue.peek() {
            let full = self.running.len() >= self.limits.spans as usize;
            // A lone sequence always has room: there are pages for a whole context.
            let spare = if next.was_preempted { SPARE } else { 1 } * self.running.len();
            let lacks = spare > 0 && self.state.lacks(next.tokens.len() + spare * PAGE_LEN);
            if full || lacks {
                let priority = next.ask.priority;
                match self.weakest().filter(|&i| self.running[i].ask.priority < priority) {
                    Some(victim) => self.preempt(victim),
                    None => return,
                }
                continue;
            }
            let Some(sequence) = self.queue.pop() else { return };
            self.start(sequence, now, says);
        }
    }

    /// A sequence begins to run, with what is there of its tokens.
    fn start(&mut self, mut s: Sequence, now: Duration, says: &mut Vec<(SeqId, Says)>) {
        s.times.started.get_or_insert(now);
        let at_once = s.ask.max_tokens.is_some_and(|most| s.made >= most);
        if let Some(guide) = &mut s.ask.guide {
            guide.0.prepare();
        }
        s.waits_for = self.whom_to_wait_for(&mut s);
        let began = if s.waits_for.is_some() { Ok(()) } else { self.begin(&mut s) };
        self.running.push(s);
        let at = self.running.len() - 1;
        match began {
            Err(error) => self.fail(at, Failure::from(error), says),
            Ok(()) if at_once && !self.running[at].tells_prompt() => {
                self.end(at, EndReason::MaxTokens, says);
            }
            Ok(()) => {}
        }
    }

    /// Takes over what is there of a sequence's tokens. The last token is always fed: its logits are
    /// needed.
    pub(super) fn begin(&mut self, s: &mut Sequence) -> crate::Result<()> {
        self.begin_in_memory(s)?;
        if s.reuses() && self.options.cache {
            self.begin_loading(s);
        }
        Ok(())
    }

    pub(super) fn begin_in_memory(&mut self, s: &mut Sequence) -> crate::Result<()> {
        let publishes = s.ask.leave && self.options.cache;
        if !s.reuses() || !self.options.cache {
            s.holding = Some(self.state.empty(s.names.root(), publishes));
            return Ok(());
        }
        let tokens = &s.tokens[..s.reusable()];
        self.save_evicted();
        let text = (tokens, s.names.of(tokens));
        let (holding, fed) = self.state.begin(&mut *self.exec, text, publishes)?;
        s.holding = Some(holding);
        s.fed = fed;
        if !s.was_preempted && s.made == 0 {
            s.cached = fed as u32;
            self.gauges.cached_tokens += fed as u64;
        }
        Ok(())
    }

    /// A running sequence that computes what this one begins with, and up to where.
    fn whom_to_wait_for(&self, s: &mut Sequence) -> Option<(SeqId, usize)> {
        if !s.reuses() || !self.options.cache || self.state.is_recurrent() {
            return None;
        }
        let most = s.reusable();
        let computes = |other: &&Sequence| {
            let is_open = other.ask.leave && !other.decodes && !other.alone;
            let alike = other.names.root() == s.names.root();
            is_open && alike && !self.waits_for(other, s.id)
        };
        let shared = |other: &Sequence| same(&other.tokens, &s.tokens).min(most);
        let others = self.running.iter().filter(computes).map(|o| (o.id, shared(o), o.fed));
        let ahead = others.filter(|(_, n, fed)| *n > fed + WORTH_WAITING);
        let (id, n, _) = ahead.max_by_key(|(_, n, _)| *n)?;
        let tokens = &s.tokens[..most];
        (n > self.state.has(tokens, s.names.of(tokens)) + WORTH_WAITING).then_some((id, n))
    }

    /// Whether a running sequence waits for this one, or for another that does: it came back before the
    /// wait for it was over.
    fn waits_for(&self, s: &Sequence, id: SeqId) -> bool {
        let mut awaited = s.waits_for;
        while let Some((next, _)) = awaited.filter(|(next, _)| *next != id) {
            awaited = self.running.iter().find(|s| s.id == next).and_then(|s| s.waits_for);
        }
        awaited.is_some()
    }

    /// Lets those go on whose wait is over.
    pub(super) fn end_waits(&mut self, says: &mut Vec<(SeqId, Says)>) {
        for i in (0..self.running.len()).rev() {
            let Some((id, upto)) = self.running[i].waits_for else { continue };
            let whole = upto.next_multiple_of(PAGE_LEN);
            let goes_on = |o: &Sequence| o.id == id && !o.decodes && o.fed < whole && !o.alone;
            if self.running.iter().any(goes_on) {
                continue;
            }
            self.running[i].waits_for = None;
            self.begin_again(i, says);
        }
    }

    /// A running sequence lets go of what it holds and takes over what is there of its tokens. What it
    /// held is not what its tokens compute, or there is none yet.
    pub(super) fn begin_again(&mut self, at: usize, says: &mut Vec<(SeqId, Says)>) {
        let mut sequence = self.running.remove(at);
        if let Some(holding) = sequence.holding.take() {
            self.state.release(holding);
        }
        (sequence.fed, sequence.decodes) = (0, false);
        let began = self.begin(&mut sequence);
        self.running.insert(at, sequence);
        if let Err(error) = began {
            self.fail(at, Failure::from(error), says);
        }
    }

    /// Who has to make room first: the lowest priority, of these who came last.
    pub(super) fn weakest(&self) -> Option<usize> {
        let rank = |&i: &usize| (-i64::from(self.running[i].ask.priority), self.running[i].order);
        (0..self.running.len()).max_by_key(rank)
    }

    /// A sequence gives up its pages and waits for others. What it has said stays said.
    pub(super) fn preempt(&mut self, at: usize) {
        let mut sequence = self.running.remove(at);
        self.let_go(&mut sequence);
        sequence.was_preempted = true;
        sequence.waits_for = None;
        self.gauges.preemptions += 1;
        self.queue.push_back(sequence);
    }

    /// A sequence failed; the others go on.
    pub(super) fn fail(&mut self, at: usize, failure: Failure, says: &mut Vec<(SeqId, Says)>) {
        let mut sequence = self.running.remove(at);
        if let Some(holding) = sequence.holding.take() {
            self.state.release(holding);
        }
        if let Some(draft) = &mut self.draft {
            draft.forget(&mut sequence);
        }
        self.queue.close(&sequence.ask.client);
        says.push((sequence.id, Says::Failed(failure)));
    }
}
