//! Keys and values of sequences, in pages, as the attention kernels lay them out.

use oprel_cpu::attention::{Kv, KvLayout, KvMut};

use super::arena::zeroed;
use crate::Result;
use crate::describe::VDim;
use crate::state::{KvTypes, PAGE_LEN};

/// Bytes of a cache line: where cells begin.
const ALIGN: usize = 64;

/// Cells of keys or of values.
#[derive(Debug)]
struct Cells {
    memory: Box<[u8]>,
    start: usize,
    len: usize,
}

impl Cells {
    fn new(len: Option<usize>) -> Result<Cells> {
        let room = len.and_then(|len| len.checked_add(ALIGN));
        let memory: Box<[u8]> = zeroed(room.unwrap_or(usize::MAX), "the KV cache")?;
        let start = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        let len = memory.len() - ALIGN;
        Ok(Cells { memory, start, len })
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }

    fn copy_page(&mut self, bytes: usize, from: usize, to: usize) {
        self.bytes_mut().copy_within(from * bytes..(from + 1) * bytes, to * bytes);
    }

    fn page(&self, bytes: usize, page: usize) -> &[u8] {
        &self.bytes()[page * bytes..(page + 1) * bytes]
    }

    fn page_mut(&mut self, bytes: usize, page: usize) -> &mut [u8] {
        &mut self.bytes_mut()[page * bytes..(page + 1) * bytes]
    }
}

/// One slot of keys and values.
#[derive(Debug)]
pub(super) struct KvStore {
    /// Which page table of a span leads here.
    pub(super) group: usize,
    pub(super) layout: KvLayout,
    keys: Cells,
    /// `None` where the first elements of a key are the value.
    values: Option<Cells>,
}

impl KvStore {
    /// A slot of `pages` pages.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if it cannot be had.
    pub(super) fn new(
        group: usize,
        shape: (usize, usize, VDim),
        pages: usize,
        kv: KvTypes,
    ) -> Result<KvStore> {
        let layout = KvStore::layout_of(shape, kv);
        let cells = |page: usize| Cells::new(pages.checked_mul(page));
        let keys = cells(layout.k_page_bytes())?;
        let values = match layout.is_aliased() {
            true => None,
            false => Some(cells(layout.v_page_bytes())?),
        };
        Ok(KvStore { group, layout, keys, values })
    }

    /// How pages of so many heads, and elements of a key and a value, are laid out.
    pub(super) fn layout_of((heads, k_dim, v_dim): (usize, usize, VDim), kv: KvTypes) -> KvLayout {
        match v_dim {
            VDim::Own(v_dim) => KvLayout::new(kv, heads, PAGE_LEN, k_dim, v_dim as usize),
            VDim::AliasK(v_dim) => KvLayout::aliased(kv, heads, PAGE_LEN, k_dim, v_dim as usize),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.keys.len + self.values.as_ref().map_or(0, |v| v.len)) as u64
    }

    /// What is stored.
    pub(super) fn cells(&self) -> Kv<'_> {
        let k = self.keys.bytes();
        Kv { k, v: self.values.as_ref().map_or(k, Cells::bytes) }
    }

    /// The same, to be written.
    pub(super) fn cells_mut(&mut self) -> KvMut<'_> {
        let v = self.values.as_mut().map_or(&mut [][..], Cells::bytes_mut);
        KvMut { k: self.keys.bytes_mut(), v }
    }

    /// Copies a page.
    pub(super) fn copy_page(&mut self, from: usize, to: usize) {
        self.keys.copy_page(self.layout.k_page_bytes(), from, to);
        if let Some(values) = &mut self.values {
            values.copy_page(self.layout.v_page_bytes(), from, to);
        }
    }

    /// Bytes of a page, keys and values.
    pub(super) fn page_bytes(&self) -> usize {
        self.layout.k_page_bytes() + self.layout.v_page_bytes()
    }

    /// Copies a page out, keys and then values.
    pub(super) fn read_page(&self, page: usize, to: &mut [u8]) {
        let (keys, values) = to.split_at_mut(self.layout.k_page_bytes());
        keys.copy_from_slice(self.keys.page(keys.len(), page));
        if let Some(own) = &self.values {
            values.copy_from_slice(own.page(values.len(), page));
        }
    }

    /// Copies a page in.
    pub(super) fn write_page(&mut self, page: usize, from: &[u8]) {
        let (keys, values) = from.split_at(self.layout.k_page_bytes());
        self.keys.page_mut(keys.len(), page).copy_from_slice(keys);
        if let Some(own) = &mut self.values {
            own.page_mut(values.len(), page).copy_from_slice(values);
        }
    }
}
