//! What of the state goes to a store and comes back: pages by name, checkpoints with the tokens after
//! them.

use oprel_nn::state::{PAGE_LEN, PageId, RowId};

use super::{Holding, State};
use crate::name::Name;
use crate::rows::Gone;
use crate::store::{PageKey, Part};

/// Where a checkpoint lies: its row, and by group the page with the tokens after the last whole one; no
/// page where there are no such tokens.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) row: RowId,
    pub(crate) pages: Vec<PageId>,
}

impl State {
    /// Pages whose names went since the last time.
    pub(crate) fn take_evicted(&mut self) -> Vec<(PageId, PageKey)> {
        std::mem::take(&mut self.evicted)
    }

    /// Checkpoints that went since the last time, with the places that hold them until the next step;
    /// without those whose tokens after the page are nowhere any more.
    pub(crate) fn take_evicted_points(&mut self) -> Vec<(PageKey, Place)> {
        let mut points = std::mem::take(&mut self.evicted_points);
        let gone = self.rows.take_evicted();
        let place = |gone: Gone| {
            let pages = self.pages_with(gone.page, &gone.rest)?;
            Some((PageKey::point(gone.page, &gone.rest), Place { row: gone.row, pages }))
        };
        points.extend(gone.into_iter().filter_map(place));
        points
    }

    /// A page loses its name to be used for something else.
    pub(super) fn evict(&mut self, name: Name, group: usize, page: PageId) {
        if let Some((parent, tokens)) = self.index.tokens(name) {
            let points: Vec<PageKey> = self.rows.lasting(parent, tokens).collect();
            for key in points.into_iter().filter(|key| key.rest() > 0) {
                self.evicted_points.extend(self.point(key).map(|place| (key, place)));
            }
            // The beginning of a page is of no use to a store on its own.
            if self.index.tokens(name).is_some_and(|(_, tokens)| tokens.len() == PAGE_LEN) {
                self.evicted.push((page, PageKey::page(name, group)));
            }
        }
        self.index.remove(name, group);
    }

    /// What these pages held is about to be overwritten, one a group.
    pub(super) fn forget_evicted(&mut self, targets: &[PageId]) {
        let overwritten = |page: &PageId, key: &PageKey| match key.part {
            Part::Group(group) => targets.get(group as usize) == Some(page),
            Part::Point { .. } => false,
        };
        self.evicted.retain(|(page, key)| !overwritten(page, key));
        let kept = |place: &Place| place.pages.iter().zip(targets).all(|(a, b)| a != b);
        self.evicted_points.retain(|(_, place)| kept(place));
    }

    /// Where a checkpoint is, if it is in memory.
    pub(crate) fn point(&self, key: PageKey) -> Option<Place> {
        let Part::Point { page, .. } = key.part else { return None };
        let (row, rest) = self.rows.point(key)?;
        Some(Place { row, pages: self.pages_with(page, rest)? })
    }

    /// By group, a page that begins with these tokens.
    fn pages_with(&self, after: Name, tokens: &[u32]) -> Option<Vec<PageId>> {
        if tokens.is_empty() || self.groups.is_empty() {
            return Some(Vec::new());
        }
        let whole = |node: &crate::index::Node| {
            node.tokens.starts_with(tokens) && node.pages.iter().all(|&p| p != PageId::NONE)
        };
        let (name, _) = self.index.best_child(after, tokens, whole)?;
        (0..self.groups.len()).map(|group| self.index.page(name, group)).collect()
    }

    /// Lasting checkpoints in memory on the way of a text with these pages and tokens.
    pub(crate) fn points_of(&self, names: &[Name], tokens: &[u32]) -> Vec<PageKey> {
        let after = |(i, &page): (usize, &Name)| {
            self.rows.lasting(page, tokens.get(i * PAGE_LEN..).unwrap_or_default())
        };
        names.iter().enumerate().flat_map(after).collect()
    }

    /// Adds the next whole page, of this name, to what a sequence holds that is to go on after `end` whole
    /// pages, if all that it needs of it is in memory.
    pub(crate) fn hold_page(&mut self, holding: &mut Holding, name: Name, end: usize) -> bool {
        let i = holding.names.len() - 1;
        let needs = |group: &usize| i >= self.first_seen(*group, end * PAGE_LEN);
        let there = |group: usize| self.index.page(name, group).is_some();
        if !(0..self.groups.len()).filter(needs).all(there) {
            return false;
        }
        self.add_page(holding, name, end).is_some()
    }

    /// Takes a row for the state of what a sequence holds; `false` if there is none.
    pub(crate) fn take_row(&mut self, holding: &mut Holding) -> bool {
        let row = self.rows.take();
        self.move_to(holding, row);
        row.is_some()
    }

    /// The page of a name, if it is in memory.
    pub(crate) fn page(&self, key: PageKey) -> Option<PageId> {
        match key.part {
            Part::Group(group) => self.index.page(key.name, group as usize),
            Part::Point { .. } => None,
        }
    }

    /// Parts of pages that a sequence needs to go on after so many whole pages: all of some groups, of
    /// others what their windows see.
    pub(crate) fn parts(&self, whole: usize) -> impl Iterator<Item = (usize, usize)> {
        let parts = move |group: usize| {
            let first = self.first_seen(group, whole * PAGE_LEN);
            (first..whole).map(move |i| (i, group))
        };
        (0..self.groups.len()).flat_map(parts)
    }

    /// Drops what a sequence holds beyond its whole pages; how many tokens are left.
    pub(crate) fn drop_rest(&mut self, holding: &mut Holding) -> usize {
        let whole = holding.names.len() - 1;
        for (pages, table) in self.groups.iter_mut().zip(&mut holding.pages) {
            for page in table.drain(whole.min(table.len())..).filter(|&p| p != PageId::NONE) {
                pages.release(page);
            }
        }
        whole * PAGE_LEN
    }

    /// Adds the next whole page, of this name, to what a sequence holds that is to go on after `end` whole
    /// pages: by group what is in memory, and a page to be filled where it is not. `None` if there is
    /// no page for it.
    pub(crate) fn add_page(
        &mut self,
        holding: &mut Holding,
        name: Name,
        end: usize,
    ) -> Option<Vec<Option<PageId>>> {
        let i = holding.names.len() - 1;
        let mut fill = vec![None; self.groups.len()];
        let mut added = Vec::new();
        for group in 0..self.groups.len() {
            let page = match self.index.page(name, group) {
                _ if i < self.first_seen(group, end * PAGE_LEN) => PageId::NONE,
                Some(page) => {
                    self.groups[group].hold(page);
                    page
                }
                None => match self.take(group) {
                    Some(page) => {
                        fill[group] = Some(page);
                        page
                    }
                    None => {
                        self.release_part(&added);
                        return None;
                    }
                },
            };
            added.push(page);
        }
        for (table, page) in holding.pages.iter_mut().zip(added) {
            table.push(page);
        }
        holding.names.push(name);
        Some(fill)
    }

    fn release_part(&mut self, added: &[PageId]) {
        for (pages, &page) in self.groups.iter_mut().zip(added) {
            if page != PageId::NONE {
                pages.release(page);
            }
        }
    }

    /// The last page added was filled: others may use it.
    pub(crate) fn publish_last(&mut self, holding: &mut Holding, tokens: &[u32]) {
        if let [.., parent, name] = holding.names[..]
            && holding.publishes
        {
            let i = holding.names.len() - 2;
            self.publish(holding, i, name, (parent, tokens));
        }
    }

    /// The last page added could not be filled.
    pub(crate) fn drop_last(&mut self, holding: &mut Holding) {
        if holding.names.len() > 1 {
            holding.names.pop();
            self.drop_rest(holding);
        }
    }
}
