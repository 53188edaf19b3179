//! Pages to and from a store: what was computed is written out behind the work, and read in where a
//! prompt begins with it.
//!
//! Whole pages only, and only of models without recurrent state, whose pages say nothing without the
//! state between them.

use std::collections::HashMap;
use std::sync::Arc;

use oprel_api::Failure;
use oprel_nn::PAGE_LEN;
use oprel_nn::batch::SeqId;
use oprel_nn::state::PageId;

use super::Engine;
use crate::name::Name;
use crate::sequence::{Says, Sequence};
use crate::store::{PageKey, PageStore};

/// Fewest whole pages of a text that is worth a store.
const FEWEST: usize = 2;
/// Pages that are copied out in a step.
const A_STEP: usize = 1;

/// Pages that a sequence waits for.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    /// Names of the pages after those that it holds.
    names: Vec<Name>,
    /// Parts that have not come yet.
    missing: usize,
    /// What came; `None` where there is nothing.
    parts: HashMap<PageKey, Option<Arc<[u8]>>>,
}

impl Engine {
    /// Keeps whole pages there too, from now on.
    pub fn set_store(&mut self, store: Box<dyn PageStore>) {
        self.store = Some(store);
    }

    /// Whether pages are to be written out.
    pub fn has_spills(&self) -> bool {
        self.store.is_some() && !self.spills.is_empty()
    }

    /// Writes out some pages; whether it is worth going on now.
    pub fn spill(&mut self) -> bool {
        self.spill_some(16) > 0
    }

    /// Writes out everything, and waits until it is safe.
    pub fn flush(&mut self) {
        while self.has_spills() {
            if self.spill_some(usize::MAX) == 0
                && let Some(store) = &mut self.store
            {
                store.flush();
            }
        }
        if let Some(store) = &mut self.store {
            store.flush();
        }
    }

    /// Writes out pages beside the work of a step.
    pub(super) fn spill_a_few(&mut self) {
        self.spill_some(A_STEP);
    }

    fn spill_some(&mut self, most: usize) -> usize {
        let Some(store) = &mut self.store else { return 0 };
        let mut written = 0;
        while let Some(&key) = self.spills.front().filter(|_| written < most) {
            let page = self.state.page(key).filter(|_| !store.holds(key));
            if let Some(page) = page
                && let Ok(bytes) = read_page(&*self.exec, key, page)
                && store.put(key, bytes).is_err()
            {
                return written;
            }
            written += 1;
            self.spills.pop_front();
        }
        written
    }

    /// What a sequence computed is to be written out.
    pub(super) fn note_spills(&mut self, names: &[Name]) {
        if self.store.is_none() || self.state.is_recurrent() || names.len() <= FEWEST {
            return;
        }
        for &name in &names[1..] {
            let groups = 0..self.state.n_groups() as u32;
            self.spills.extend(groups.map(|group| PageKey { name, group }));
        }
    }

    /// Saves pages that are about to be used for something else.
    pub(super) fn save_evicted(&mut self) {
        for (page, key) in self.state.take_evicted() {
            if let Some(store) = &mut self.store
                && !self.state.is_recurrent()
                && !store.holds(key)
                && let Ok(bytes) = read_page(&*self.exec, key, page)
            {
                // A store that has too much to do goes without it.
                let _ = store.put(key, bytes);
            }
        }
    }

    /// Begins to bring what the store has of a text beyond what is in memory.
    pub(super) fn begin_loading(&mut self, s: &mut Sequence) {
        let most = s.reusable() / PAGE_LEN;
        let (Some(store), Some(holding)) = (&mut self.store, s.holding.as_mut()) else { return };
        if self.state.is_recurrent() || !s.ask.reuse {
            return;
        }
        let whole = holding.names.len() - 1;
        let mut names = holding.names.clone();
        for i in whole..most {
            names.push(names[i].child(&s.tokens[i * PAGE_LEN..(i + 1) * PAGE_LEN]));
        }
        let key = |i: usize, group: usize| PageKey { name: names[i + 1], group: group as u32 };
        let had = |i, group| self.state.page(key(i, group)).is_some() || store.holds(key(i, group));
        let reaches = |end: &usize| self.state.parts(*end).all(|(i, group)| had(i, group));
        let Some(end) = farthest(whole, most, reaches) else { return };
        let parts: Vec<PageKey> =
            self.state.parts(end).filter(|(i, _)| *i >= whole).map(|(i, g)| key(i, g)).collect();
        s.fed = self.state.drop_rest(holding);
        let absent: Vec<PageKey> =
            parts.into_iter().filter(|key| self.state.page(*key).is_none()).collect();
        for &key in &absent {
            store.fetch(key, self.exec.page_bytes(key.group as usize));
        }
        let names = names[whole + 1..=end].to_vec();
        s.loading = Some(Loading { names, missing: absent.len(), parts: HashMap::new() });
    }

    /// Takes pages that came from the store; sequences that have all of theirs go on.
    pub(super) fn take_fetched(&mut self, says: &mut Vec<(SeqId, Says)>) {
        let Some(store) = &mut self.store else { return };
        for (key, bytes) in store.fetched() {
            let bytes: Option<Arc<[u8]>> = bytes.map(Arc::from);
            for s in &mut self.running {
                let Some(loading) = s.loading.as_mut() else { continue };
                if loading.names.contains(&key.name) && !loading.parts.contains_key(&key) {
                    loading.parts.insert(key, bytes.clone());
                    loading.missing = loading.missing.saturating_sub(1);
                }
            }
        }
        let ready = |s: &Sequence| s.loading.as_ref().is_some_and(|l| l.missing == 0);
        for at in (0..self.running.len()).rev() {
            if !ready(&self.running[at]) {
                continue;
            }
            let Some(loading) = self.running[at].loading.take() else { continue };
            if let Err(error) = self.place(at, &loading) {
                self.fail(at, Failure::from(error), says);
            }
        }
    }

    /// Puts what came into pages.
    fn place(&mut self, at: usize, loading: &Loading) -> crate::Result<()> {
        let Some(mut holding) = self.running[at].holding.take() else { return Ok(()) };
        let text = self.running[at].tokens.clone();
        let begun = holding.names.len() - 1;
        let end = begun + loading.names.len();
        for (i, &name) in (begun..end).zip(&loading.names) {
            let tokens = &text[i * PAGE_LEN..(i + 1) * PAGE_LEN];
            let Some(fill) = self.state.add_page(&mut holding, name, end) else { break };
            self.save_evicted();
            let mut whole = true;
            for (group, page) in fill.into_iter().enumerate() {
                let Some(page) = page else { continue };
                let key = PageKey { name, group: group as u32 };
                let bytes = loading.parts.get(&key).and_then(Option::as_ref);
                let written = bytes.map(|bytes| self.exec.write_page(group, page, bytes));
                whole &= matches!(written, Some(Ok(())));
            }
            if !whole {
                self.state.drop_last(&mut holding);
                break;
            }
            self.state.publish_last(&mut holding, tokens);
        }
        let whole = holding.names.len() - 1;
        // Windows may lack what they see before the place that was reached.
        let short = whole < end && self.state.has_windows() && whole > begun;
        if short {
            self.state.release(holding);
            let mut s = self.running.remove(at);
            let began = self.begin_in_memory(&mut s);
            self.running.insert(at, s);
            return began;
        }
        let s = &mut self.running[at];
        s.fed = whole * PAGE_LEN;
        s.holding = Some(holding);
        if s.made == 0 && !s.was_preempted {
            self.gauges.cached_tokens += (s.fed as u64).saturating_sub(u64::from(s.cached));
            s.cached = s.fed as u32;
        }
        Ok(())
    }
}

/// The farthest whole page that can be reached, if it is beyond `whole`. What can be reached at all is
/// reached page by page, so that halving finds it; where windows have gaps it may find less.
fn farthest(whole: usize, most: usize, reaches: impl Fn(&usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (whole, most);
    while low < high {
        let middle = (low + high).div_ceil(2);
        match reaches(&middle) {
            true => low = middle,
            false => high = middle - 1,
        }
    }
    (low > whole).then_some(low)
}

fn read_page(exec: &dyn oprel_nn::Exec, key: PageKey, page: PageId) -> oprel_nn::Result<Vec<u8>> {
    let group = key.group as usize;
    let mut bytes = vec![0; exec.page_bytes(group)];
    exec.read_page(group, page, &mut bytes)?;
    Ok(bytes)
}
