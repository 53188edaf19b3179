//! Sequences that wait, and who of them is next.
//!
//! Higher priority goes first; among equals the client that was served least, counted in tokens, so
//! that one who sends much does not keep others waiting; then who came first.

use std::collections::HashMap;
use std::sync::Arc;

use oprel_nn::batch::SeqId;

use crate::sequence::Sequence;

/// What one client had, while it has anything waiting or running.
#[derive(Debug, Default)]
struct Account {
    /// Tokens served. A newcomer starts where the least served one stands.
    served: u64,
    /// Sequences waiting or running.
    open: usize,
}

/// Sequences that wait, and what their clients had.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Vec<Sequence>,
    accounts: HashMap<Arc<str>, Account>,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A new sequence waits.
    pub(crate) fn push(&mut self, sequence: Sequence) {
        let least = self.accounts.values().map(|a| a.served).min().unwrap_or(0);
        let newcomer = || Account { served: least, open: 0 };
        self.accounts.entry(sequence.ask.client.clone()).or_insert_with(newcomer).open += 1;
        self.waiting.push(sequence);
    }

    /// A sequence that was running waits again.
    pub(crate) fn push_back(&mut self, sequence: Sequence) {
        self.waiting.push(sequence);
    }

    /// So many tokens were computed for a client.
    pub(crate) fn charge(&mut self, client: &Arc<str>, tokens: usize) {
        if let Some(account) = self.accounts.get_mut(client) {
            account.served += tokens as u64;
        }
    }

    /// A sequence is over.
    pub(crate) fn close(&mut self, client: &Arc<str>) {
        if let Some(account) = self.accounts.get_mut(client) {
            account.open -= 1;
            if account.open == 0 {
                self.accounts.remove(client);
            }
        }
    }

    /// Who is next.
    fn next_at(&self) -> Option<usize> {
        let served = |s: &Sequence| self.accounts.get(&s.ask.client).map_or(0, |a| a.served);
        let rank =
            |s: &Sequence| (-i64::from(s.ask.priority), !s.was_preempted, served(s), s.order);
        (0..self.waiting.len()).min_by_key(|&i| rank(&self.waiting[i]))
    }

    /// Who is next.
    pub(crate) fn peek(&self) -> Option<&Sequence> {
        self.next_at().map(|at| &self.waiting[at])
    }

    /// Takes who is next.
    pub(crate) fn pop(&mut self) -> Option<Sequence> {
        self.next_at().map(|at| self.waiting.swap_remove(at))
    }

    /// Takes one that nobody wants any more, or whose time is over.
    pub(crate) fn remove_where(&mut self, gone: impl Fn(&Sequence) -> bool) -> Vec<Sequence> {
        let removed: Vec<Sequence> = self.waiting.extract_if(.., |s| gone(s)).collect();
        removed.iter().for_each(|s| self.close(&s.ask.client));
        removed
    }

    /// A sequence that waits.
    pub(crate) fn get(&self, id: SeqId) -> Option<&Sequence> {
        self.waiting.iter().find(|s| s.id == id)
    }
}
