//! The state of sequences as executors see it: pages of KV cache and rows of recurrent state.
//!
//! The engine owns which page belongs to whom; an executor owns the bytes. A page is [`PAGE_LEN`]
//! positions of every slot of one group; a recurrent row is the state of every recurrent slot.

use crate::describe::{Reach, StateSpec};

/// Positions in a page of KV cache.
pub const PAGE_LEN: usize = 64;

/// A page of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId(pub u32);

impl PageId {
    /// In a table: positions that no layer can see any more and whose page went back.
    pub const NONE: PageId = PageId(u32::MAX);
}

/// The pages of one sequence in one group: entry `i` holds cache positions
/// `i * PAGE_LEN .. (i + 1) * PAGE_LEN`.
#[derive(Clone, Copy, Debug)]
pub struct PageTable<'a>(pub &'a [PageId]);

/// A row of recurrent state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId(pub u32);

/// Where a span's recurrent state comes from and goes to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transfer<'a> {
    /// State before the span; `None` starts from zero.
    pub from: Option<RowId>,
    /// Where the state after the span is stored; may be the same row. `None` if the model has none.
    pub to: Option<RowId>,
    /// Where the states after the last so many tokens but one go, latest first (speculation).
    pub keep: &'a [RowId],
}

/// The state of every span of a batch.
#[derive(Clone, Copy, Debug)]
pub struct StateView<'a> {
    /// `pages[span * n_groups + group]`.
    pub pages: &'a [PageTable<'a>],
    /// One a span.
    pub recurrent: &'a [Transfer<'a>],
}

pub use oprel_cpu::attention::{KvType, KvTypes};

/// The slots that share a page table: those of equal [`Reach`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// How far back its layers look.
    pub reach: Reach,
    /// Indices into `Decoder::slots`.
    pub slots: Vec<usize>,
}

/// Groups of the paged slots, in order of first appearance.
pub fn groups(slots: &[StateSpec]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (i, slot) in slots.iter().enumerate() {
        let Some(reach) = slot.reach() else { continue };
        match groups.iter_mut().find(|g| g.reach == reach) {
            Some(g) => g.slots.push(i),
            None => groups.push(Group { reach, slots: vec![i] }),
        }
    }
    groups
}
