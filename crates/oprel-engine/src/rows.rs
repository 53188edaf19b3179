//! Rows of recurrent state: those of sequences, and checkpoints that later sequences may start from.

use std::collections::{BTreeMap, HashMap};

use oprel_nn::state::RowId;

use crate::name::Name;
use crate::store::{PageKey, Part};

/// A state after some tokens.
#[derive(Debug)]
struct Point {
    /// The tokens after the last whole page before it.
    rest: Box<[u32]>,
    row: RowId,
    since: u64,
    /// It is where others may begin: worth a place outside memory.
    lasting: bool,
}

/// Rows of recurrent state.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// By row: how many sequences and checkpoints hold it.
    held: Vec<u32>,
    free: Vec<RowId>,
    /// By name of the last whole page before it.
    points: HashMap<Name, Vec<Point>>,
    /// Checkpoints by last use.
    order: BTreeMap<u64, Name>,
    tick: u64,
    /// Lasting checkpoints that were given up. What their rows held is there until the next step.
    evicted: Vec<Gone>,
}

/// A checkpoint that is none any more.
#[derive(Debug)]
pub(crate) struct Gone {
    pub(crate) row: RowId,
    /// The last whole page before it, and the tokens after that.
    pub(crate) page: Name,
    pub(crate) rest: Box<[u32]>,
}

impl Rows {
    pub(crate) fn new(n: u32) -> Rows {
        Rows {
            held: vec![0; n as usize],
            free: (0..n).rev().map(RowId).collect(),
            ..Rows::default()
        }
    }

    /// A row to hold alone: a free one, or that of the checkpoint unused for longest.
    pub(crate) fn take(&mut self) -> Option<RowId> {
        if self.free.is_empty() {
            self.evict();
        }
        let row = self.free.pop()?;
        self.held[row.0 as usize] = 1;
        Some(row)
    }

    fn evict(&mut self) {
        let lone = |(&since, name): (&u64, &Name)| {
            let point = self.points.get(name)?.iter().find(|p| p.since == since)?;
            (self.held[point.row.0 as usize] == 1).then_some((since, *name))
        };
        if let Some((since, name)) = self.order.iter().find_map(lone) {
            self.remove(since, name);
        }
    }

    fn remove(&mut self, since: u64, name: Name) {
        self.order.remove(&since);
        let Some(points) = self.points.get_mut(&name) else { return };
        let Some(at) = points.iter().position(|p| p.since == since) else { return };
        let point = points.swap_remove(at);
        if points.is_empty() {
            self.points.remove(&name);
        }
        self.release(point.row);
        if point.lasting {
            self.evicted.push(Gone { row: point.row, page: name, rest: point.rest });
        }
    }

    /// Checkpoints that went since the last time.
    pub(crate) fn take_evicted(&mut self) -> Vec<Gone> {
        std::mem::take(&mut self.evicted)
    }

    /// The checkpoint of a key: its row, and the tokens after the page.
    pub(crate) fn point(&self, key: PageKey) -> Option<(RowId, &[u32])> {
        let Part::Point { page, rest } = key.part else { return None };
        let mut points = self.points.get(&page)?.iter();
        let point = points
            .find(|p| p.rest.len() == rest as usize && PageKey::point(page, &p.rest) == key)?;
        Some((point.row, &point.rest))
    }

    /// Keys of lasting checkpoints after this page on the way of a text whose tokens after the page are
    /// these.
    pub(crate) fn lasting(&self, page: Name, tokens: &[u32]) -> impl Iterator<Item = PageKey> {
        let points = self.points.get(&page).map_or(&[][..], Vec::as_slice);
        let on_the_way = points.iter().filter(|p| p.lasting && tokens.starts_with(&p.rest));
        on_the_way.map(move |p| PageKey::point(page, &p.rest))
    }

    pub(crate) fn hold(&mut self, row: RowId) {
        self.held[row.0 as usize] += 1;
    }

    pub(crate) fn release(&mut self, row: RowId) {
        let held = &mut self.held[row.0 as usize];
        debug_assert!(*held > 0, "row {} is held by nobody", row.0);
        *held -= 1;
        if *held == 0 {
            self.free.push(row);
        }
    }

    /// Whether somebody else holds this row too.
    pub(crate) fn is_shared(&self, row: RowId) -> bool {
        self.held[row.0 as usize] > 1
    }

    /// Keeps a row as the state after a page and the `rest` of the tokens; whether others may begin there.
    pub(crate) fn keep(&mut self, page: Name, rest: &[u32], row: RowId, lasting: bool) {
        let points = self.points.entry(page).or_default();
        if let Some(point) = points.iter_mut().find(|p| *p.rest == *rest) {
            point.lasting |= lasting;
            return;
        }
        self.tick += 1;
        points.push(Point { rest: rest.into(), row, since: self.tick, lasting });
        self.order.insert(self.tick, page);
        self.held[row.0 as usize] += 1;
    }

    /// Gives up all checkpoints of a row.
    pub(crate) fn forget(&mut self, row: RowId) {
        let of_row = |(name, points): (&Name, &Vec<Point>)| {
            let of_row = points.iter().filter(|p| p.row == row);
            of_row.map(|p| (p.since, *name)).collect::<Vec<_>>()
        };
        let found: Vec<_> = self.points.iter().flat_map(of_row).collect();
        for (since, name) in found {
            self.remove(since, name);
        }
    }

    /// Checkpoints after this page from which a text goes on whose tokens after the page are these:
    /// how many tokens each is after the page, most first.
    pub(crate) fn points(&self, page: Name, tokens: &[u32]) -> Vec<(usize, RowId)> {
        let points = self.points.get(&page).map_or(&[][..], Vec::as_slice);
        let fit = points.iter().filter(|p| tokens.starts_with(&p.rest));
        let mut fit: Vec<_> = fit.map(|p| (p.rest.len(), p.row)).collect();
        fit.sort_unstable_by(|a, b| b.cmp(a));
        fit
    }

    /// A checkpoint was used.
    pub(crate) fn touch(&mut self, page: Name, row: RowId) {
        let Some(points) = self.points.get_mut(&page) else { return };
        let Some(point) = points.iter_mut().find(|p| p.row == row) else { return };
        self.order.remove(&point.since);
        self.tick += 1;
        point.since = self.tick;
        self.order.insert(self.tick, page);
    }

    /// Rows that sequences hold, for tests.
    #[cfg(test)]
    pub(crate) fn n_held(&self) -> usize {
        let held: u32 = self.held.iter().sum();
        held as usize - self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_give_way_to_sequences_oldest_first() {
        let page = Name::root(b"", None);
        let mut rows = Rows::new(2);
        let (a, b) = (rows.take().unwrap(), rows.take().unwrap());
        rows.keep(page, &[1], a, false);
        rows.keep(page, &[1, 2], b, true);
        assert_eq!(rows.take(), None);
        rows.release(a);
        rows.release(b);
        assert_eq!(rows.points(page, &[1, 2, 3]), [(2, b), (1, a)]);
        assert_eq!(rows.points(page, &[1, 3]), [(1, a)]);
        rows.touch(page, a);
        assert_eq!(rows.take(), Some(b));
        // Only what lasts is told of.
        let gone: Vec<RowId> = rows.take_evicted().iter().map(|gone| gone.row).collect();
        assert_eq!(gone, [b]);
        rows.forget(a);
        assert_eq!((rows.points(page, &[1]), rows.take()), (vec![], Some(a)));
        assert_eq!(rows.n_held(), 2);
    }
}
