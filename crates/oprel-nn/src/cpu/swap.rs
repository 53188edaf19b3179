//! Pages and rows of state out of an executor and into it, byte by byte as they lie in memory.

use super::Prepared;
use super::kv::KvStore;
use super::recurrent::RecurrentStore;
use crate::Result;
use crate::batch::same_len;
use crate::state::{PageId, RowId};

impl Prepared {
    fn slots(&self, group: usize) -> impl Iterator<Item = &KvStore> {
        self.mem.kv.iter().flatten().filter(move |slot| slot.group == group)
    }

    /// The slots of a group of pages.
    pub(super) fn slots_mut(&mut self, group: usize) -> impl Iterator<Item = &mut KvStore> {
        self.mem.kv.iter_mut().flatten().filter(move |slot| slot.group == group)
    }

    pub(super) fn page_bytes(&self, group: usize) -> usize {
        self.slots(group).map(KvStore::page_bytes).sum()
    }

    pub(super) fn read_page(&self, group: usize, page: PageId, mut to: &mut [u8]) -> Result<()> {
        let page = self.bounds.page(group, page)?;
        same_len(to.len(), self.page_bytes(group))?;
        for slot in self.slots(group) {
            let (own, rest) = to.split_at_mut(slot.page_bytes());
            slot.read_page(page, own);
            to = rest;
        }
        Ok(())
    }

    pub(super) fn write_page(&mut self, group: usize, page: PageId, mut from: &[u8]) -> Result<()> {
        let page = self.bounds.page(group, page)?;
        same_len(from.len(), self.page_bytes(group))?;
        for slot in self.slots_mut(group) {
            let (own, rest) = from.split_at(slot.page_bytes());
            slot.write_page(page, own);
            from = rest;
        }
        Ok(())
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.mem.recurrent.iter().flatten().map(RecurrentStore::row_bytes).sum()
    }

    pub(super) fn read_row(&self, row: RowId, mut to: &mut [u8]) -> Result<()> {
        self.bounds.row(row)?;
        same_len(to.len(), self.row_bytes())?;
        for slot in self.mem.recurrent.iter().flatten() {
            let (own, rest) = to.split_at_mut(slot.row_bytes());
            own.copy_from_slice(slot.row(row));
            to = rest;
        }
        Ok(())
    }

    pub(super) fn write_row(&mut self, row: RowId, mut from: &[u8]) -> Result<()> {
        self.bounds.row(row)?;
        same_len(from.len(), self.row_bytes())?;
        for slot in self.mem.recurrent.iter_mut().flatten() {
            let (own, rest) = from.split_at(slot.row_bytes());
            slot.row_mut(row).copy_from_slice(own);
            from = rest;
        }
        Ok(())
    }
}
