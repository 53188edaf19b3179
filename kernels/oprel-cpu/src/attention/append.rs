//! New keys and values into their pages.

use super::cells::{Bf16, F16, F32, Store};
use super::integers::I16;
use super::kv_type::KvType;
use super::layout::KvLayout;
use super::quantized::{Q4, Q8};
use super::wide::{LANES, Wide, wide_tiers};
use crate::disjoint::Disjoint;
use crate::{Isa, Pool};

/// Elements below which a region costs more than it gains.
const FEW: usize = 1 << 14;

/// The pages of a cache, to be written.
#[derive(Debug)]
pub struct KvMut<'a> {
    /// Keys.
    pub k: &'a mut [u8],
    /// Values; empty where they are in the keys.
    pub v: &'a mut [u8],
}

/// Positions that a sequence gets.
#[derive(Clone, Copy, Debug)]
pub struct AppendSpan<'a> {
    /// The sequence's pages: entry `i` holds positions from `i * page_len`.
    pub pages: &'a [u32],
    /// Row of the first, among keys and values.
    pub first: usize,
    /// Position of the first.
    pub start: usize,
    /// How many.
    pub n: usize,
}

/// What all tasks share.
struct Shared<'a> {
    layout: &'a KvLayout,
    k: Disjoint<'a, u8>,
    v: Disjoint<'a, u8>,
    spans: &'a [AppendSpan<'a>],
    keys: &'a [f32],
    values: &'a [f32],
}

/// Stores keys (rows, kv heads * k_dim) and values (rows, kv heads * v_dim) of the rows of `spans`;
/// values are not looked at where they are in the keys.
///
/// # Panics
/// If shapes do not fit each other, or a position has no page.
pub fn append(
    pool: &mut Pool,
    isa: Isa,
    layout: &KvLayout,
    kv: KvMut<'_>,
    spans: &[AppendSpan<'_>],
    keys: &[f32],
    values: &[f32],
) {
    let (k, v) = (Disjoint::new(kv.k), Disjoint::new(kv.v));
    let shared = Shared { layout, k, v, spans, keys, values };
    let n: usize = spans.iter().map(|span| span.n).sum();
    let heads = layout.n_kv_heads();
    if n * heads * (layout.k_dim() + layout.v_dim()) < FEW {
        (0..heads).for_each(|head| append_head(isa, &shared, head));
    } else {
        pool.run(heads, |head, _| append_head(isa, &shared, head));
    }
}

wide_tiers! {
    fn append_head(shared: &Shared<'_>, head: usize) = append_head_wide;
}

#[inline(always)]
fn append_head_wide<O: Wide>(ops: O, shared: &Shared<'_>, head: usize) {
    match shared.layout.k_type() {
        KvType::F32 => store_keys::<O, F32>(ops, shared, head),
        KvType::I16 => store_keys::<O, I16>(ops, shared, head),
        KvType::F16 => store_keys::<O, F16>(ops, shared, head),
        KvType::Bf16 => store_keys::<O, Bf16>(ops, shared, head),
        KvType::Q8_0 => store_keys::<O, Q8>(ops, shared, head),
        KvType::Q4_0 => store_keys::<O, Q4>(ops, shared, head),
    }
    if shared.layout.is_aliased() {
        return;
    }
    match shared.layout.v_type() {
        KvType::F32 => store_values::<O, F32>(ops, shared, head),
        KvType::I16 => store_values::<O, I16>(ops, shared, head),
        KvType::F16 => store_values::<O, F16>(ops, shared, head),
        KvType::Bf16 => store_values::<O, Bf16>(ops, shared, head),
        KvType::Q8_0 => store_values::<O, Q8>(ops, shared, head),
        KvType::Q4_0 => store_values::<O, Q4>(ops, shared, head),
    }
}

/// Positions that a page gets: its number, the first position in it, how many, and their first row.
struct Piece {
    page: usize,
    at: usize,
    n: usize,
    row: usize,
}

impl Shared<'_> {
    /// Every run of new positions that lies in one page.
    fn pieces(&self) -> impl Iterator<Item = Piece> {
        let page_len = self.layout.page_len();
        self.spans.iter().flat_map(move |span| {
            let mut done = 0;
            std::iter::from_fn(move || {
                let (position, row) = (span.start + done, span.first + done);
                let at = position % page_len;
                let n = (span.n - done).min(page_len - at);
                done += n;
                let page = |n: usize| span.pages[n] as usize;
                (n > 0).then(|| Piece { page: page(position / page_len), at, n, row })
            })
        })
    }
}

#[inline(always)]
fn store_keys<O: Wide, S: Store>(ops: O, shared: &Shared<'_>, head: usize) {
    let layout = shared.layout;
    for Piece { page, at, n, row } in shared.pieces() {
        // SAFETY: tiles of different heads do not overlap, and a head belongs to one task, which
        // holds one tile at a time.
        #[expect(unsafe_code, reason = "threads write tiles of different heads")]
        let tile = unsafe { shared.k.range(layout.k_tile(page, head)) };
        put_keys::<O, S>(ops, layout, tile, at, n, head_of(shared.keys, layout, row, head));
    }
}

#[inline(always)]
fn store_values<O: Wide, S: Store>(ops: O, shared: &Shared<'_>, head: usize) {
    let layout = shared.layout;
    let (dim, stride) = (layout.v_dim(), layout.n_kv_heads() * layout.v_dim());
    for Piece { page, at, n, row } in shared.pieces() {
        // SAFETY: as for keys.
        #[expect(unsafe_code, reason = "threads write tiles of different heads")]
        let tile = unsafe { shared.v.range(layout.v_tile(page, head)) };
        let values = &shared.values[row * stride + head * dim..];
        for i in 0..n {
            S::put_row(ops, tile, layout.v_size(), at + i, &values[i * stride..][..dim]);
        }
    }
}

/// Keys of a head from a row on.
fn head_of<'a>(keys: &'a [f32], layout: &KvLayout, row: usize, head: usize) -> &'a [f32] {
    &keys[(row * layout.n_kv_heads() + head) * layout.k_dim()..]
}

#[inline(always)]
fn put_keys<O: Wide, S: Store>(
    ops: O,
    layout: &KvLayout,
    tile: &mut [u8],
    at: usize,
    n: usize,
    keys: &[f32],
) {
    let (dim, stride) = (layout.k_dim(), layout.n_kv_heads() * layout.k_dim());
    let mut i = 0;
    while i < n {
        let keys = &keys[i * stride..];
        if layout.is_aliased() {
            S::put_row(ops, tile, layout.k_size(), at + i, &keys[..dim]);
            i += 1;
        } else if (at + i).is_multiple_of(LANES) && n - i >= LANES {
            S::put_columns(ops, tile, layout.k_size(), at + i, (keys, stride, dim));
            i += LANES;
        } else {
            S::put_column(ops, tile, layout.k_size(), at + i, &keys[..dim]);
            i += 1;
        }
    }
}
