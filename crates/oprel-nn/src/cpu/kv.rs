//! Keys and values of sequences, in pages: a slot holds [page][kv head][position][element].

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::arena::zeroed;
use crate::Result;
use crate::describe::VDim;
use crate::state::{KvType, PAGE_LEN};

/// Cells of keys or of values, as they are stored.
#[derive(Debug)]
pub(super) enum Cells {
    F32(Box<[f32]>),
    /// Bits of half-precision numbers.
    F16(Box<[u16]>),
}

impl Cells {
    fn new(kv: KvType, len: usize) -> Result<Cells> {
        Ok(match kv {
            KvType::F32 => Cells::F32(zeroed(len, "the KV cache")?),
            KvType::F16 => Cells::F16(zeroed(len, "the KV cache")?),
        })
    }

    fn bytes(&self) -> u64 {
        match self {
            Cells::F32(x) => x.len() as u64 * 4,
            Cells::F16(x) => x.len() as u64 * 2,
        }
    }

    fn write(&mut self, at: usize, row: &[f32]) {
        match self {
            Cells::F32(x) => x[at..at + row.len()].copy_from_slice(row),
            Cells::F16(x) => {
                let cells: &mut [f16] = x[at..at + row.len()].reinterpret_cast_mut();
                cells.convert_from_f32_slice(row);
            }
        }
    }

    fn copy(&mut self, from: usize, to: usize, len: usize) {
        match self {
            Cells::F32(x) => x.copy_within(from..from + len, to),
            Cells::F16(x) => x.copy_within(from..from + len, to),
        }
    }
}

/// One slot of keys and values.
#[derive(Debug)]
pub(super) struct KvStore {
    /// Which page table of a span leads here.
    pub(super) group: usize,
    pub(super) heads: usize,
    pub(super) k_dim: usize,
    pub(super) v_dim: usize,
    pub(super) keys: Cells,
    /// `None` where the first elements of a key are the value.
    pub(super) values: Option<Cells>,
}

impl KvStore {
    /// A slot of `pages` pages.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if it cannot be had.
    pub(super) fn new(
        group: usize,
        (heads, k_dim, v_dim): (usize, usize, VDim),
        pages: usize,
        kv: KvType,
    ) -> Result<KvStore> {
        let cells = |dim: usize| {
            let len = [heads, PAGE_LEN, dim].iter().try_fold(pages, |n, &m| n.checked_mul(m));
            Cells::new(kv, len.unwrap_or(usize::MAX))
        };
        let keys = cells(k_dim)?;
        let (v_dim, values) = match v_dim {
            VDim::Own(dim) => (dim as usize, Some(cells(dim as usize)?)),
            VDim::AliasK(dim) => (dim as usize, None),
        };
        Ok(KvStore { group, heads, k_dim, v_dim, keys, values })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.keys.bytes() + self.values.as_ref().map_or(0, Cells::bytes)
    }

    /// Stores the key (heads, k_dim) and the value (heads, v_dim) of position `at` of a page.
    pub(super) fn append(&mut self, page: usize, at: usize, key: &[f32], value: &[f32]) {
        let row = |head: usize| (page * self.heads + head) * PAGE_LEN + at;
        for (head, key) in key.chunks_exact(self.k_dim).enumerate() {
            self.keys.write(row(head) * self.k_dim, key);
        }
        if let Some(values) = &mut self.values {
            for (head, value) in value.chunks_exact(self.v_dim).enumerate() {
                values.write(row(head) * self.v_dim, value);
            }
        }
    }

    /// Copies a page.
    pub(super) fn copy_page(&mut self, from: usize, to: usize) {
        let page = self.heads * PAGE_LEN;
        self.keys.copy(from * page * self.k_dim, to * page * self.k_dim, page * self.k_dim);
        if let Some(values) = &mut self.values {
            values.copy(from * page * self.v_dim, to * page * self.v_dim, page * self.v_dim);
        }
    }
}
