//! Where keys and values lie in a page.

use super::kv_type::{KvType, KvTypes};
use super::wide::LANES;

/// A cache: pages, in them heads, in them a tile of keys or of values.
///
/// A tile of keys holds a position in a column (elements, positions), so that the scores of
/// neighbouring positions are computed side by side; a tile of values one in a row. A cell of integers
/// is a pair, of two rows. Where values
/// are the first elements of keys, keys lie in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    types: KvTypes,
    n_kv_heads: usize,
    page_len: usize,
    k_dim: usize,
    v_dim: usize,
    aliased: bool,
}

impl KvLayout {
    /// Pages of `page_len` positions with keys of `k_dim` elements and values of `v_dim`.
    ///
    /// # Panics
    /// If `page_len` is no multiple of sixteen.
    pub fn new(
        types: KvTypes,
        n_kv_heads: usize,
        page_len: usize,
        k_dim: usize,
        v_dim: usize,
    ) -> KvLayout {
        assert!(page_len > 0 && page_len.is_multiple_of(LANES), "positions in whole vectors");
        KvLayout { types, n_kv_heads, page_len, k_dim, v_dim, aliased: false }
    }

    /// As [`KvLayout::new`], values being the first `v_dim` elements of keys (MLA): the cache has
    /// keys alone, which are to be given as values too.
    ///
    /// # Panics
    /// As [`KvLayout::new`]; and if values are longer than keys.
    pub fn aliased(
        types: KvTypes,
        n_kv_heads: usize,
        page_len: usize,
        k_dim: usize,
        v_dim: usize,
    ) -> KvLayout {
        assert!(v_dim <= k_dim, "values are in keys");
        let types = KvTypes::both(types.k.in_floats());
        KvLayout { aliased: true, ..KvLayout::new(types, n_kv_heads, page_len, k_dim, v_dim) }
    }

    /// How keys are stored.
    pub fn k_type(&self) -> KvType {
        self.types.k
    }

    /// How values are stored; as keys where they are part of them.
    pub fn v_type(&self) -> KvType {
        self.types.v
    }

    /// Heads of a page.
    pub fn n_kv_heads(&self) -> usize {
        self.n_kv_heads
    }

    /// Positions of a page.
    pub fn page_len(&self) -> usize {
        self.page_len
    }

    /// Elements of a key.
    pub fn k_dim(&self) -> usize {
        self.k_dim
    }

    /// Elements of a value.
    pub fn v_dim(&self) -> usize {
        self.v_dim
    }

    /// Whether values are the first elements of keys.
    pub fn is_aliased(&self) -> bool {
        self.aliased
    }

    /// Bytes of a page of keys.
    pub fn k_page_bytes(&self) -> usize {
        self.n_kv_heads * self.k_tile_bytes()
    }

    /// Bytes of a page of values; 0 where they are in the keys.
    pub fn v_page_bytes(&self) -> usize {
        if self.aliased { 0 } else { self.n_kv_heads * self.v_tile_bytes() }
    }

    /// Elements for which a key has room.
    pub(super) fn k_room(&self) -> usize {
        self.k_dim.next_multiple_of(self.types.k.unit())
    }

    /// Elements from a value to the next.
    pub(super) fn v_room(&self) -> usize {
        if self.aliased { self.k_room() } else { self.v_dim.next_multiple_of(self.types.v.unit()) }
    }

    /// Elements of a value in whole vectors.
    pub(super) fn v_wide(&self) -> usize {
        self.v_dim.next_multiple_of(LANES)
    }

    fn k_tile_bytes(&self) -> usize {
        self.types.k.row_bytes(self.k_room()) * self.page_len
    }

    fn v_tile_bytes(&self) -> usize {
        self.types.v.row_bytes(self.v_room()) * self.page_len
    }

    /// Bytes of a tile of keys before its scales.
    pub(super) fn k_cells(&self) -> usize {
        self.k_tile_bytes() - self.types.k.scale_bytes(self.k_room()) * self.page_len
    }

    /// Bytes of a tile of values before its scales.
    pub(super) fn v_cells(&self) -> usize {
        self.v_tile_bytes() - self.types.v.scale_bytes(self.v_room()) * self.page_len
    }

    /// Where a head's keys lie.
    pub(super) fn k_tile(&self, page: usize, head: usize) -> std::ops::Range<usize> {
        let start = (page * self.n_kv_heads + head) * self.k_tile_bytes();
        start..start + self.k_tile_bytes()
    }

    /// Where a head's values lie.
    pub(super) fn v_tile(&self, page: usize, head: usize) -> std::ops::Range<usize> {
        let start = (page * self.n_kv_heads + head) * self.v_tile_bytes();
        start..start + self.v_tile_bytes()
    }

    /// Rows and columns of a tile of keys, in cells.
    pub(super) fn k_size(&self) -> (usize, usize) {
        match (self.types.k, self.aliased) {
            (_, true) => (self.page_len, self.k_room()),
            (KvType::I16, false) => (self.k_room() / 2, self.page_len),
            (_, false) => (self.k_room(), self.page_len),
        }
    }

    /// Rows and columns of a tile of values.
    pub(super) fn v_size(&self) -> (usize, usize) {
        match self.types.v {
            KvType::I16 => (self.page_len / 2, self.v_room()),
            _ => (self.page_len, self.v_room()),
        }
    }
}
