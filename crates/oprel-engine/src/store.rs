//! Pages and checkpoints that outlive their place in memory, as the engine sees them.

use crate::name::Name;

/// What a store keeps under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageKey {
    /// The page, or the beginning of one.
    pub name: Name,
    /// Which part of it.
    pub part: Part,
}

/// A part of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// What a group of layers holds of the positions of a whole page.
    Group(u32),
    /// A checkpoint: the recurrent state after some tokens, and what all groups hold of the positions of
    /// those that fill no page.
    Point {
        /// The last whole page before it.
        page: Name,
        /// Tokens after that page.
        rest: u32,
    },
}

impl PageKey {
    /// What a group holds of a whole page.
    pub fn page(name: Name, group: usize) -> PageKey {
        PageKey { name, part: Part::Group(group as u32) }
    }

    /// The checkpoint after a page and these tokens.
    pub fn point(page: Name, rest: &[u32]) -> PageKey {
        let name = if rest.is_empty() { page } else { page.child(rest) };
        PageKey { name, part: Part::Point { page, rest: rest.len() as u32 } }
    }

    /// Whether it is a checkpoint after this page.
    pub(crate) fn is_after(self, name: Name) -> bool {
        matches!(self.part, Part::Point { page, .. } if page == name)
    }

    /// Tokens between the last whole page and a checkpoint; none for pages.
    pub fn rest(self) -> usize {
        match self.part {
            Part::Group(_) => 0,
            Part::Point { rest, .. } => rest as usize,
        }
    }
}

/// Keeps pages and checkpoints outside the engine's memory. Whatever takes time happens on other
/// threads; no method waits but [`PageStore::flush`].
pub trait PageStore: Send {
    /// Whether a page can probably be had.
    fn holds(&self, key: PageKey) -> bool;

    /// Checkpoints after this page that can probably be had.
    fn points(&self, page: Name) -> Vec<PageKey>;

    /// Whether so many bytes would be taken now.
    fn takes(&self, bytes: usize) -> bool;

    /// Takes a page to keep; gives it back if there is too much to do now.
    ///
    /// # Errors
    /// The bytes, to be offered again later.
    fn put(&mut self, key: PageKey, bytes: Vec<u8>) -> Result<(), Vec<u8>>;

    /// Begins to bring a page of so many bytes.
    fn fetch(&mut self, key: PageKey, bytes: usize);

    /// Pages that have come since; none where it was gone or not what it should be.
    fn fetched(&mut self) -> Vec<(PageKey, Option<Vec<u8>>)>;

    /// Waits until everything taken is safe.
    fn flush(&mut self);
}
