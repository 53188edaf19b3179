//! Pages and rows of state: copied within an executor, out of it and into it.

use candle_core::{DType, Tensor};

use super::check::unsupported;
use super::state::State;
use crate::Result;
use crate::batch::same_len;
use crate::state::PAGE_LEN;

impl State {
    /// Copies a page of a group.
    pub(super) fn copy_page(&self, group: usize, from: usize, to: usize) -> Result<()> {
        self.paged(group).try_for_each(|store| {
            let page = store.narrow(0, from * PAGE_LEN, PAGE_LEN)?.copy()?;
            Ok(store.slice_set(&page, 0, to * PAGE_LEN)?)
        })
    }

    pub(super) fn page_bytes(&self, group: usize) -> usize {
        self.paged(group).map(|store| bytes_of(store, PAGE_LEN)).sum()
    }

    pub(super) fn read_page(&self, group: usize, page: usize, to: &mut [u8]) -> Result<()> {
        same_len(to.len(), self.page_bytes(group))?;
        read(self.paged(group), (page * PAGE_LEN, PAGE_LEN), to)
    }

    pub(super) fn write_page(&self, group: usize, page: usize, from: &[u8]) -> Result<()> {
        same_len(from.len(), self.page_bytes(group))?;
        write(self.paged(group), (page * PAGE_LEN, PAGE_LEN), from)
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.rows().map(|store| bytes_of(store, 1)).sum()
    }

    pub(super) fn read_row(&self, row: usize, to: &mut [u8]) -> Result<()> {
        same_len(to.len(), self.row_bytes())?;
        read(self.rows(), (row, 1), to)
    }

    pub(super) fn write_row(&self, row: usize, from: &[u8]) -> Result<()> {
        same_len(from.len(), self.row_bytes())?;
        write(self.rows(), (row, 1), from)
    }
}

/// Bytes of `n` rows of a store.
fn bytes_of(store: &Tensor, n: usize) -> usize {
    n * store.dims()[1] * store.dtype().size_in_bytes()
}

/// Copies rows `start..start + n` of every store out, one store after another.
fn read<'s>(
    stores: impl Iterator<Item = &'s Tensor>,
    (start, n): (usize, usize),
    mut to: &mut [u8],
) -> Result<()> {
    for store in stores {
        let (own, rest) = to.split_at_mut(bytes_of(store, n));
        let rows = store.narrow(0, start, n)?.flatten_all()?;
        match store.dtype() {
            DType::F32 => fill(own, rows.to_vec1::<f32>()?, f32::to_ne_bytes),
            DType::F16 => fill(own, rows.to_vec1::<half::f16>()?, half::f16::to_ne_bytes),
            DType::BF16 => fill(own, rows.to_vec1::<half::bf16>()?, half::bf16::to_ne_bytes),
            other => return Err(unsupported(format!("a state of {other:?}"))),
        }
        to = rest;
    }
    Ok(())
}

fn fill<T, const N: usize>(to: &mut [u8], values: Vec<T>, bytes: impl Fn(T) -> [u8; N]) {
    for (to, value) in to.chunks_exact_mut(N).zip(values) {
        to.copy_from_slice(&bytes(value));
    }
}

/// Copies rows `start..start + n` of every store in.
fn write<'s>(
    stores: impl Iterator<Item = &'s Tensor>,
    (start, n): (usize, usize),
    mut from: &[u8],
) -> Result<()> {
    for store in stores {
        let (own, rest) = from.split_at(bytes_of(store, n));
        let shape = [n, store.dims()[1]];
        let rows = Tensor::from_raw_buffer(own, store.dtype(), &shape, store.device())?;
        store.slice_set(&rows, 0, start)?;
        from = rest;
    }
    Ok(())
}
