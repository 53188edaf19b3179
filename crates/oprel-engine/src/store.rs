//! Pages that outlive their place in memory, as the engine sees them.

use crate::name::Name;

/// One part of a page: what a group of layers holds of its positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageKey {
    /// What the page holds.
    pub name: Name,
    /// Which group.
    pub group: u32,
}

/// Keeps pages outside the engine's memory. Whatever takes time happens on other threads; no method
/// waits.
pub trait PageStore: Send {
    /// Whether a page can probably be had.
    fn holds(&self, key: PageKey) -> bool;

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
