//! Who holds which page and which row; what of a prompt is there already.
//!
//! A sequence holds whole pages together with others and writes only into pages of its own. What it
//! computed is published under names; what nobody holds stays until its place is needed.

use oprel_nn::describe::{Reach, StateSpec};
use oprel_nn::state::{PAGE_LEN, PageId, RowId, groups};
use oprel_nn::{Exec, Limits};

use crate::Result;
use crate::index::Index;
use crate::name::{Name, Names};
use crate::pages::Pages;
use crate::rows::Rows;
use crate::store::PageKey;

mod stored;

pub(crate) use stored::Place;

/// Positions that a window keeps beyond what its layers see, so that a few tokens can be taken back.
const SLACK: usize = PAGE_LEN;

/// What a sequence holds.
#[derive(Debug)]
pub(crate) struct Holding {
    /// By group: its page table.
    pub(crate) pages: Vec<Vec<PageId>>,
    /// Where its recurrent state is.
    pub(crate) row: Option<RowId>,
    /// The root, then the name of each whole page.
    pub(crate) names: Vec<Name>,
    /// Whether others may use what it computes.
    publishes: bool,
}

/// Pages and rows of an engine.
#[derive(Debug)]
pub(crate) struct State {
    /// By group: how many positions its layers look at, the token itself included.
    windows: Vec<usize>,
    groups: Vec<Pages>,
    index: Index,
    rows: Rows,
    recurrent: bool,
    /// Most tokens of a step.
    step: usize,
    /// Pages that lost their names to be used again. What they held is there until the next step.
    evicted: Vec<(PageId, PageKey)>,
    /// Checkpoints whose tokens after the last whole page lay in one of these.
    evicted_points: Vec<(PageKey, Place)>,
}

/// What of a text is there.
#[derive(Debug, Default)]
struct Found {
    names: Vec<Name>,
    /// Tokens after the whole pages.
    rest: usize,
    /// Whose page begins with them.
    partial: Option<Name>,
    row: Option<RowId>,
}

impl Found {
    fn position(&self) -> usize {
        (self.names.len() - 1) * PAGE_LEN + self.rest
    }
}

/// No page is free, and the prefix cache has none to give up.
#[derive(Debug)]
pub(crate) struct NoPage;

impl State {
    /// The state of these slots, as much of it as an executor was prepared for.
    pub(crate) fn new(slots: &[StateSpec], limits: &Limits) -> State {
        let window = |reach: Reach| match reach {
            Reach::Full => usize::MAX,
            Reach::Window(n) => n as usize,
        };
        let windows: Vec<usize> = groups(slots).iter().map(|g| window(g.reach)).collect();
        State {
            groups: limits.pages.iter().take(windows.len()).map(|&n| Pages::new(n)).collect(),
            index: Index::new(windows.len()),
            windows,
            rows: Rows::new(limits.recurrent_rows),
            step: limits.tokens as usize,
            evicted: Vec::new(),
            evicted_points: Vec::new(),
            recurrent: slots.iter().any(|s| matches!(s, StateSpec::Recurrent { .. })),
        }
    }

    pub(crate) fn n_groups(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn has_windows(&self) -> bool {
        (0..self.groups.len()).any(|g| !self.is_full(g))
    }

    pub(crate) fn is_recurrent(&self) -> bool {
        self.recurrent
    }

    /// Nothing yet.
    pub(crate) fn empty(&self, root: Name, publishes: bool) -> Holding {
        let pages = vec![Vec::new(); self.groups.len()];
        Holding { pages, row: None, names: vec![root], publishes }
    }

    /// How many of these tokens are there, whose pages have these names.
    pub(crate) fn has(&self, tokens: &[u32], names: &[Name]) -> usize {
        self.find(tokens, names).position()
    }

    /// Takes over what is there of these tokens, whose pages have these names: a holding, and how many
    /// tokens it stands for.
    ///
    /// # Errors
    /// If the executor cannot copy a page.
    pub(crate) fn begin(
        &mut self,
        exec: &mut dyn Exec,
        (tokens, names): (&[u32], &[Name]),
        publishes: bool,
    ) -> Result<(Holding, usize)> {
        let root = names[0];
        let mut found = self.find(tokens, names);
        let position = found.position();
        let mut holding = self.empty(root, publishes);
        holding.names = std::mem::take(&mut found.names);
        let whole = holding.names.len() - 1;
        for group in 0..self.groups.len() {
            let first = self.first_seen(group, position);
            for i in 0..whole {
                let page = self.index.page(holding.names[i + 1], group).filter(|_| i >= first);
                if let Some(page) = page {
                    self.groups[group].hold(page);
                }
                holding.pages[group].push(page.unwrap_or(PageId::NONE));
            }
        }
        if let Some(row) = found.row {
            self.rows.hold(row);
            self.rows.touch(holding.names[whole], row);
            holding.row = Some(row);
        }
        let copied = match found.partial {
            Some(partial) => self.copy(exec, partial, &mut holding),
            None => Ok(true),
        };
        match copied {
            Ok(true) => Ok((holding, position)),
            // No page to copy to. What is whole may do.
            Ok(false) if !self.recurrent => Ok((holding, whole * PAGE_LEN)),
            Ok(false) => {
                self.release(holding);
                Ok((self.empty(root, publishes), 0))
            }
            Err(error) => {
                self.release(holding);
                Err(error)
            }
        }
    }

    /// Copies the pages of a name to the end of the tables; `false` if there is no room.
    fn copy(&mut self, exec: &mut dyn Exec, from: Name, holding: &mut Holding) -> Result<bool> {
        let sources: Vec<PageId> =
            (0..self.groups.len()).filter_map(|g| self.index.page(from, g)).collect();
        if sources.len() < self.groups.len() {
            return Ok(false);
        }
        for (pages, &source) in self.groups.iter_mut().zip(&sources) {
            pages.hold(source);
        }
        let targets: Vec<PageId> =
            (0..self.groups.len()).map_while(|group| self.take(group)).collect();
        let enough = targets.len() == sources.len();
        // What they held is about to be overwritten.
        self.forget_evicted(&targets);
        let mut done = Ok(enough);
        for (group, &target) in targets.iter().enumerate() {
            if !enough {
                self.groups[group].release(target);
                continue;
            }
            if let Err(error) = exec.copy_pages(group, &[(sources[group], target)]) {
                done = Err(error.into());
            }
            holding.pages[group].push(target);
        }
        for (pages, source) in self.groups.iter_mut().zip(sources) {
            pages.release(source);
        }
        done
    }

    /// The first page that tokens from `position` on still see in a group.
    fn first_seen(&self, group: usize, position: usize) -> usize {
        (position + 1).saturating_sub(self.windows[group]) / PAGE_LEN
    }

    fn is_full(&self, group: usize) -> bool {
        self.windows[group] == usize::MAX
    }

    /// The longest beginning of these tokens from which a sequence can go on.
    fn find(&self, tokens: &[u32], all: &[Name]) -> Found {
        let full: Vec<usize> = (0..self.groups.len()).filter(|&g| self.is_full(g)).collect();
        let there = |name: Name| full.iter().all(|&g| self.index.page(name, g).is_some());
        let found = all[1..].iter().take_while(|&&name| there(name)).count();
        let mut names = all[..=found].to_vec();
        let whole = names.len() - 1;
        let after = &tokens[whole * PAGE_LEN..];
        let fits = |node: &crate::index::Node| full.iter().all(|&g| node.pages[g] != PageId::NONE);
        let partial = self.index.best_child(names[whole], after, fits);
        let source = |i: usize, rest: usize| match rest {
            0 => None,
            _ if i < whole => Some(names[i + 1]),
            _ => partial.filter(|(_, n)| *n >= rest).map(|(name, _)| name),
        };
        for (i, rest, row) in self.candidates(&names, tokens, partial.map_or(0, |(_, n)| n)) {
            let partial = source(i, rest);
            if (rest == 0 || partial.is_some() || self.groups.is_empty())
                && self.windows_reach(&names[..=i], rest, partial)
            {
                names.truncate(i + 1);
                let partial = partial.filter(|_| !self.groups.is_empty());
                return Found { names, rest, partial, row };
            }
        }
        Found { names: vec![all[0]], ..Found::default() }
    }

    /// Places from which a sequence could go on, farthest first: whole pages, tokens after them, and
    /// the recurrent state there.
    fn candidates(
        &self,
        names: &[Name],
        tokens: &[u32],
        rest: usize,
    ) -> Vec<(usize, usize, Option<RowId>)> {
        let whole = names.len() - 1;
        if !self.recurrent {
            let pages = (1..=whole).rev().map(|i| (i, 0, None));
            return (rest > 0).then_some((whole, rest, None)).into_iter().chain(pages).collect();
        }
        let points = |i: usize| {
            let points = self.rows.points(names[i], &tokens[i * PAGE_LEN..]);
            points.into_iter().map(move |(rest, row)| (i, rest, Some(row)))
        };
        (0..=whole).rev().flat_map(points).collect()
    }

    /// Whether windows have all the pages that tokens after this place see.
    fn windows_reach(&self, names: &[Name], rest: usize, partial: Option<Name>) -> bool {
        let whole = names.len() - 1;
        let mut windows = (0..self.groups.len()).filter(|&g| !self.is_full(g));
        windows.all(|g| {
            let first = self.first_seen(g, whole * PAGE_LEN + rest);
            let mut seen = names.iter().skip(first + 1).chain(partial.as_ref());
            seen.all(|&name| self.index.page(name, g).is_some())
        })
    }

    /// A page to hold alone: a free one, or one that the prefix cache gives up.
    fn take(&mut self, group: usize) -> Option<PageId> {
        let pages = &mut self.groups[group];
        if pages.n_free() == 0
            && let Some((page, name)) = pages.oldest_idle()
        {
            pages.forget(page);
            self.evict(name, group, page);
        }
        self.groups[group].take()
    }

    /// Makes room for tokens up to position `end`.
    ///
    /// # Errors
    /// If a page is missing; what was had stays.
    pub(crate) fn extend(&mut self, holding: &mut Holding, end: usize) -> Result<(), NoPage> {
        for group in 0..self.groups.len() {
            while holding.pages[group].len() < end.div_ceil(PAGE_LEN) {
                let page = self.take(group).ok_or(NoPage)?;
                holding.pages[group].push(page);
            }
        }
        Ok(())
    }

    /// Whether a group has not the pages for so many tokens, even if the prefix cache gives up all.
    pub(crate) fn lacks(&self, tokens: usize) -> bool {
        let needed = tokens.div_ceil(PAGE_LEN);
        self.groups.iter().zip(&self.windows).any(|(pages, &window)| {
            let most = window.saturating_add(self.step + 2 * SLACK).div_ceil(PAGE_LEN);
            pages.available() < needed.min(most)
        })
    }

    /// The row where the next state goes; the one it holds if nobody else does.
    pub(crate) fn row_to_write(&mut self, holding: &Holding) -> Option<RowId> {
        if !self.recurrent {
            return None;
        }
        match holding.row {
            Some(row) if !self.rows.is_shared(row) => Some(row),
            Some(row) => self.rows.take().or_else(|| {
                self.rows.forget(row);
                (!self.rows.is_shared(row)).then_some(row)
            }),
            None => self.rows.take(),
        }
    }

    /// The state is in this row from now on.
    pub(crate) fn move_to(&mut self, holding: &mut Holding, row: Option<RowId>) {
        if holding.row != row
            && let Some(before) = std::mem::replace(&mut holding.row, row)
        {
            self.rows.release(before);
        }
    }

    /// Rows for states that speculation may go back to; fewer if there are not so many.
    pub(crate) fn take_rows(&mut self, n: usize) -> Vec<RowId> {
        (0..n).map_while(|_| self.rows.take()).collect()
    }

    pub(crate) fn release_rows(&mut self, rows: &[RowId]) {
        rows.iter().for_each(|&row| self.rows.release(row));
    }

    /// The first `fed` tokens are in the state: whole pages get their names, and windows give back
    /// what nobody sees any more.
    pub(crate) fn advance(
        &mut self,
        holding: &mut Holding,
        tokens: &[u32],
        names: &mut Names,
        fed: usize,
    ) {
        while holding.names.len() * PAGE_LEN <= fed {
            let i = holding.names.len() - 1;
            let end = (i + 1) * PAGE_LEN;
            let page = &tokens[i * PAGE_LEN..end];
            let (parent, name) = (holding.names[i], names.of(&tokens[..end])[i + 1]);
            holding.names.push(name);
            if holding.publishes {
                self.publish(holding, i, name, (parent, page));
            }
        }
        for group in (0..self.groups.len()).filter(|&g| !self.is_full(g)).collect::<Vec<_>>() {
            let needed = self.first_seen(group, fed.saturating_sub(SLACK));
            let table = &mut holding.pages[group];
            let needed = needed.min(table.len());
            let gone = table[..needed].iter_mut().rev();
            for page in gone.take_while(|page| **page != PageId::NONE) {
                self.groups[group].release(std::mem::replace(page, PageId::NONE));
            }
        }
    }

    /// Gives page `i` of a holding its name; where another page has it already, that one is shared.
    fn publish(
        &mut self,
        holding: &mut Holding,
        i: usize,
        name: Name,
        (parent, of): (Name, &[u32]),
    ) {
        for group in 0..self.groups.len() {
            let page = holding.pages[group][i];
            if page == PageId::NONE {
                continue;
            }
            self.unname(group, page);
            match self.index.add(name, (parent, of), group, page) {
                Some(other) if other != page => {
                    self.groups[group].hold(other);
                    self.groups[group].release(page);
                    holding.pages[group][i] = other;
                }
                _ => self.groups[group].name(page, name),
            }
        }
        // What a whole page begins with needs no page of its own.
        for beginning in self.index.beginnings(parent, of) {
            self.drop_name(beginning);
        }
    }

    /// A page that goes on being written loses the name of what it held before.
    fn unname(&mut self, group: usize, page: PageId) {
        if let Some(name) = self.groups[group].name_of(page) {
            self.index.remove(name, group);
            self.groups[group].forget(page);
        }
    }

    fn drop_name(&mut self, name: Name) {
        for group in 0..self.groups.len() {
            if let Some(page) = self.index.page(name, group) {
                self.groups[group].forget(page);
                self.index.remove(name, group);
            }
        }
    }

    /// The beginning of a page can be copied by others from now on.
    pub(crate) fn publish_rest(&mut self, holding: &mut Holding, tokens: &[u32], fed: usize) {
        let whole = fed / PAGE_LEN;
        let rest = &tokens[whole * PAGE_LEN..fed];
        let parent = holding.names[whole];
        if !holding.publishes || rest.is_empty() || self.index.covers(parent, rest) {
            return;
        }
        let name = parent.child(rest);
        self.publish(holding, whole, name, (parent, rest));
    }

    /// The state after the first `fed` tokens can be started from; whether that is worth keeping beyond
    /// memory.
    pub(crate) fn keep_point(
        &mut self,
        holding: &Holding,
        tokens: &[u32],
        fed: usize,
        lasting: bool,
    ) {
        if let Some(row) = holding.row.filter(|_| holding.publishes && fed > 0) {
            let whole = fed / PAGE_LEN;
            self.rows.keep(holding.names[whole], &tokens[whole * PAGE_LEN..fed], row, lasting);
        }
    }

    /// A sequence goes. What it computed stays for others, if they may use it.
    pub(crate) fn leave(
        &mut self,
        mut holding: Holding,
        tokens: &[u32],
        names: &mut Names,
        fed: usize,
    ) {
        if holding.publishes {
            self.advance(&mut holding, tokens, names, fed);
            self.publish_rest(&mut holding, tokens, fed);
            self.keep_point(&holding, tokens, fed, true);
        }
        self.release(holding);
    }

    /// Gives everything back. The deepest pages become idle first, and go first.
    pub(crate) fn release(&mut self, holding: Holding) {
        for (pages, table) in self.groups.iter_mut().zip(&holding.pages) {
            let held = table.iter().rev().filter(|&&page| page != PageId::NONE);
            held.for_each(|&page| pages.release(page));
        }
        if let Some(row) = holding.row {
            self.rows.release(row);
        }
    }

    /// Pages that are held or remembered, and all there are, in the fullest group.
    pub(crate) fn usage(&self) -> (usize, usize, usize) {
        let usage = |p: &Pages| (p.len() - p.available(), p.available() - p.n_free(), p.len());
        let fullest = self.groups.iter().map(usage);
        fullest.max_by_key(|(held, _, all)| held * 1000 / (*all).max(1)).unwrap_or_default()
    }

    /// Names that the prefix cache knows.
    pub(crate) fn n_names(&self) -> usize {
        self.index.len()
    }

    /// Pages and rows that sequences hold, for tests.
    #[cfg(test)]
    pub(crate) fn n_held(&self) -> usize {
        self.groups.iter().map(Pages::n_held).sum::<usize>() + self.rows.n_held()
    }
}
