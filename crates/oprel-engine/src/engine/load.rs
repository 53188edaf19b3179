//! Pages and checkpoints from a store: what a prompt begins with is brought before it is read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use oprel_api::Failure;
use oprel_nn::PAGE_LEN;
use oprel_nn::batch::SeqId;

use super::Engine;
use super::spill::bytes_of;
use crate::name::Name;
use crate::sequence::{Says, Sequence};
use crate::state::Holding;
use crate::store::{PageKey, PageStore};

/// What a sequence waits for.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    /// Names of the pages after those that it holds.
    names: Vec<Name>,
    /// The checkpoint after them, of a recurrent model.
    point: Option<PageKey>,
    /// What has not come yet.
    awaits: HashSet<PageKey>,
    /// What came; `None` where there is nothing.
    parts: HashMap<PageKey, Option<Arc<[u8]>>>,
}

impl Loading {
    fn bytes(&self, key: PageKey) -> Option<&Arc<[u8]>> {
        self.parts.get(&key).and_then(Option::as_ref)
    }
}

impl Engine {
    /// Begins to bring what the store has of a text beyond what is in memory.
    pub(super) fn begin_loading(&mut self, s: &mut Sequence) {
        if self.store.is_none() || !s.ask.reuse {
            return;
        }
        let most = s.reusable();
        let names = s.names.of(&s.tokens[..most]).to_vec();
        match self.state.is_recurrent() {
            true => self.begin_loading_point(s, &names),
            false => self.begin_loading_pages(s, &names),
        }
    }

    /// Whole pages after those that are in memory, as many as the store has.
    fn begin_loading_pages(&mut self, s: &mut Sequence, names: &[Name]) {
        let (Some(store), Some(mut holding)) = (&self.store, s.holding.take()) else { return };
        let whole = holding.names.len() - 1;
        let reaches = |end: &usize| self.reaches(&**store, names, *end);
        if let Some(end) = farthest(whole, names.len() - 1, reaches) {
            s.fed = self.state.drop_rest(&mut holding);
            s.loading = Some(self.fetch(&holding, &names[..=end], None));
        }
        s.holding = Some(holding);
    }

    /// The farthest checkpoint that the store has, if it is beyond what is in memory, and all pages
    /// before it.
    fn begin_loading_point(&mut self, s: &mut Sequence, names: &[Name]) {
        let Some(key) = self.farthest_point(s, names) else { return };
        let Some(before) = s.holding.take() else { return };
        let end = (0..names.len()).find(|&i| key.is_after(names[i])).unwrap_or_default();
        let mut holding = self.state.empty(names[0], s.ask.leave && self.options.cache);
        for &name in &names[1..=end] {
            if !self.state.hold_page(&mut holding, name, end) {
                break;
            }
        }
        self.state.release(before);
        s.fed = (holding.names.len() - 1) * PAGE_LEN;
        s.loading = Some(self.fetch(&holding, &names[..=end], Some(key)));
        s.holding = Some(holding);
    }

    fn farthest_point(&self, s: &Sequence, names: &[Name]) -> Option<PageKey> {
        let store = self.store.as_deref()?;
        let (from, most) = (s.fed, s.reusable());
        for (i, &page) in names.iter().enumerate().rev() {
            let start = i * PAGE_LEN;
            if start + PAGE_LEN <= from {
                return None;
            }
            let mut points = store.points(page);
            points.retain(|key| (from + 1..=most).contains(&(start + key.rest())));
            points.sort_by_key(|key| std::cmp::Reverse(key.rest()));
            let fits =
                |key: &PageKey| *key == PageKey::point(page, &s.tokens[start..start + key.rest()]);
            if let Some(key) = points.into_iter().find(fits)
                && self.reaches(store, names, i)
            {
                return Some(key);
            }
        }
        None
    }

    /// Whether all that a sequence needs to go on after `end` pages is in memory or in the store.
    fn reaches(&self, store: &dyn PageStore, names: &[Name], end: usize) -> bool {
        let had = |key: PageKey| self.state.page(key).is_some() || store.holds(key);
        self.state.parts(end).all(|(i, group)| had(PageKey::page(names[i + 1], group)))
    }

    /// Asks the store for what is missing between a holding and the end of these pages, and for a
    /// checkpoint after them.
    fn fetch(&mut self, holding: &Holding, names: &[Name], point: Option<PageKey>) -> Loading {
        let (begun, end) = (holding.names.len() - 1, names.len() - 1);
        let parts = self.state.parts(end).filter(|(i, _)| *i >= begun);
        let keys = parts.map(|(i, group)| PageKey::page(names[i + 1], group));
        let absent = keys.filter(|key| self.state.page(*key).is_none()).chain(point);
        let awaits: Vec<PageKey> = absent.collect();
        if let Some(store) = &mut self.store {
            for &key in &awaits {
                store.fetch(key, bytes_of(&*self.exec, self.state.n_groups(), key));
            }
        }
        let (names, awaits) = (names[begun + 1..].to_vec(), awaits.into_iter().collect());
        Loading { names, point, awaits, parts: HashMap::new() }
    }

    /// Takes what came from the store; sequences that have all of theirs go on.
    pub(super) fn take_fetched(&mut self, says: &mut Vec<(SeqId, Says)>) {
        let Some(store) = &mut self.store else { return };
        for (key, bytes) in store.fetched() {
            let bytes: Option<Arc<[u8]>> = bytes.map(Arc::from);
            for loading in self.running.iter_mut().filter_map(|s| s.loading.as_mut()) {
                if loading.awaits.remove(&key) {
                    loading.parts.insert(key, bytes.clone());
                }
            }
        }
        for at in (0..self.running.len()).rev() {
            let loading = self.running[at].loading.take_if(|loading| loading.awaits.is_empty());
            if let Some(loading) = loading
                && let Err(error) = self.place(at, &loading)
            {
                self.fail(at, Failure::from(error), says);
            }
        }
    }

    /// Puts what came into its places.
    fn place(&mut self, at: usize, loading: &Loading) -> crate::Result<()> {
        let Some(mut holding) = self.running[at].holding.take() else { return Ok(()) };
        let text = self.running[at].tokens.clone();
        let begun = holding.names.len() - 1;
        let end = begun + loading.names.len();
        self.place_pages(&mut holding, &text, loading);
        let whole = holding.names.len() - 1;
        // Windows may lack what they see before the place that was reached.
        let mut short = whole < end && self.state.has_windows() && whole > begun;
        if let Some(point) = loading.point {
            short = whole < end || !self.place_point(&mut holding, &text, point, loading);
        }
        if short {
            self.state.release(holding);
            let mut s = self.running.remove(at);
            let began = self.begin_in_memory(&mut s);
            self.running.insert(at, s);
            return began;
        }
        let s = &mut self.running[at];
        s.fed = whole * PAGE_LEN + loading.point.map_or(0, PageKey::rest);
        s.holding = Some(holding);
        if s.made == 0 && !s.was_preempted {
            self.gauges.cached_tokens += (s.fed as u64).saturating_sub(u64::from(s.cached));
            s.cached = s.fed as u32;
        }
        Ok(())
    }

    /// Whole pages, until one is missing.
    fn place_pages(&mut self, holding: &mut Holding, text: &[u32], loading: &Loading) {
        let begun = holding.names.len() - 1;
        let end = begun + loading.names.len();
        for (i, &name) in (begun..end).zip(&loading.names) {
            let Some(fill) = self.state.add_page(holding, name, end) else { return };
            self.save_evicted();
            let mut whole = true;
            for (group, page) in fill.into_iter().enumerate() {
                let Some(page) = page else { continue };
                let bytes = loading.bytes(PageKey::page(name, group));
                let written = bytes.map(|bytes| self.exec.write_page(group, page, bytes));
                whole &= matches!(written, Some(Ok(())));
            }
            if !whole {
                return self.state.drop_last(holding);
            }
            self.state.publish_last(holding, &text[i * PAGE_LEN..(i + 1) * PAGE_LEN]);
        }
    }

    /// The state after all whole pages and some tokens; `false` if it did not come, or has no place.
    fn place_point(
        &mut self,
        holding: &mut Holding,
        text: &[u32],
        point: PageKey,
        loading: &Loading,
    ) -> bool {
        let Some(bytes) = loading.bytes(point) else { return false };
        let whole = holding.names.len() - 1;
        let position = whole * PAGE_LEN + point.rest();
        let is_whole = bytes.len() == bytes_of(&*self.exec, self.state.n_groups(), point);
        if !is_whole
            || self.state.extend(holding, position).is_err()
            || !self.state.take_row(holding)
        {
            return false;
        }
        self.save_evicted();
        let (row, mut rest) = bytes.split_at(self.exec.row_bytes());
        let mut written = holding.row.is_some_and(|to| self.exec.write_row(to, row).is_ok());
        let groups = if point.rest() > 0 { self.state.n_groups() } else { 0 };
        for group in 0..groups {
            let page;
            (page, rest) = rest.split_at(self.exec.page_bytes(group));
            written &= self.exec.write_page(group, holding.pages[group][whole], page).is_ok();
        }
        if written {
            self.state.publish_rest(holding, text, position);
            self.state.keep_point(holding, text, position, true);
        }
        written
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
