//! The pages of one group: which are free, which are held, and which only the prefix cache remembers.

use std::collections::BTreeMap;

use oprel_nn::state::PageId;

use crate::name::Name;

/// The pages of one group.
#[derive(Debug)]
pub(crate) struct Pages {
    /// By page: how many sequences hold it.
    held: Vec<u32>,
    /// By page: under which name the prefix cache knows it.
    names: Vec<Option<Name>>,
    /// By page: when it became idle.
    since: Vec<u64>,
    free: Vec<PageId>,
    /// Named pages that nobody holds, oldest first.
    idle: BTreeMap<u64, PageId>,
    tick: u64,
}

impl Pages {
    pub(crate) fn new(n: u32) -> Pages {
        Pages {
            held: vec![0; n as usize],
            names: vec![None; n as usize],
            since: vec![0; n as usize],
            free: (0..n).rev().map(PageId).collect(),
            idle: BTreeMap::new(),
            tick: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Pages that nobody holds: free ones, and those that the prefix cache would give up.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Pages that hold nothing.
    pub(crate) fn n_free(&self) -> usize {
        self.free.len()
    }

    /// A page to hold alone, if one is free.
    pub(crate) fn take(&mut self) -> Option<PageId> {
        let page = self.free.pop()?;
        self.held[page.0 as usize] = 1;
        Some(page)
    }

    /// The page that has been idle for longest.
    pub(crate) fn oldest_idle(&self) -> Option<(PageId, Name)> {
        let (_, &page) = self.idle.first_key_value()?;
        Some((page, self.names[page.0 as usize]?))
    }

    /// One more holder.
    pub(crate) fn hold(&mut self, page: PageId) {
        let i = page.0 as usize;
        if self.held[i] == 0 {
            self.idle.remove(&self.since[i]);
        }
        self.held[i] += 1;
    }

    /// One holder less. A named page that nobody holds becomes idle, another one free.
    pub(crate) fn release(&mut self, page: PageId) {
        let i = page.0 as usize;
        debug_assert!(self.held[i] > 0, "page {i} is held by nobody");
        self.held[i] -= 1;
        if self.held[i] > 0 {
            return;
        }
        match self.names[i] {
            Some(_) => {
                self.tick += 1;
                self.since[i] = self.tick;
                self.idle.insert(self.tick, page);
            }
            None => self.free.push(page),
        }
    }

    /// Under which name the prefix cache knows it.
    pub(crate) fn name_of(&self, page: PageId) -> Option<Name> {
        self.names[page.0 as usize]
    }

    /// The prefix cache knows it from now on.
    pub(crate) fn name(&mut self, page: PageId, name: Name) {
        self.names[page.0 as usize] = Some(name);
    }

    /// The prefix cache forgets it; free if nobody holds it.
    pub(crate) fn forget(&mut self, page: PageId) {
        let i = page.0 as usize;
        if self.names[i].take().is_some() && self.held[i] == 0 {
            self.idle.remove(&self.since[i]);
            self.free.push(page);
        }
    }

    /// Holders of all pages together, for tests.
    #[cfg(test)]
    pub(crate) fn n_held(&self) -> usize {
        self.held.iter().map(|&n| n as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_around() {
        let mut pages = Pages::new(2);
        let (a, b) = (pages.take().unwrap(), pages.take().unwrap());
        assert_eq!(pages.take(), None);
        pages.name(a, Name::root(b"", None));
        pages.hold(a);
        pages.release(a);
        assert_eq!(pages.available(), 0);
        pages.release(a);
        pages.release(b);
        assert_eq!((pages.available(), pages.n_free()), (2, 1));
        assert_eq!(pages.oldest_idle().map(|(page, _)| page), Some(a));
        pages.hold(a);
        assert_eq!(pages.oldest_idle(), None);
        pages.forget(a);
        pages.release(a);
        assert_eq!((pages.available(), pages.n_free()), (2, 2));
    }
}
