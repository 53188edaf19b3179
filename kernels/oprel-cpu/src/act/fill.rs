//! Filling quantized activations: whole tokens by the threads of a region, or blocks of tokens as a
//! product gives them.
#![expect(unsafe_code, reason = "threads fill disjoint tokens and blocks")]

use super::{
    ActGroup, BLOCKS, GROUP, Groups, LINE, Q8Acts, Rows, SCALED, Share, WholeGroup, q8_words,
    quantize_block, quantize_row, quantize_whole,
};
use crate::Isa;
use crate::disjoint::{Cut, Disjoint};
use crate::lanes::{Ops, tiers};
use std::ops::Range;

/// Memory of quantized activations (n, k) that is being filled.
pub struct Q8Mut<'m> {
    n: usize,
    k: usize,
    groups: GroupsMut<'m>,
}

/// (n, groups of k).
#[derive(Clone, Copy)]
enum GroupsMut<'m> {
    Block(Disjoint<'m, ActGroup>),
    Whole(Disjoint<'m, WholeGroup>),
}

impl<'m> Q8Mut<'m> {
    /// Room for `n` tokens of `k` elements in `memory`.
    ///
    /// # Panics
    /// If `memory` is shorter than [`q8_words`], or `k` is 0.
    pub fn new(share: Share, memory: &'m mut [f32], n: usize, k: usize) -> Q8Mut<'m> {
        assert!(k > 0, "rows have elements");
        let (start, len) = place(share, memory, n, k);
        let memory = &mut memory[start..start + len];
        let groups = match share {
            Share::Block => GroupsMut::Block(Disjoint::new(bytemuck::cast_slice_mut(memory))),
            Share::Group => GroupsMut::Whole(Disjoint::new(bytemuck::cast_slice_mut(memory))),
        };
        Q8Mut { n, k, groups }
    }

    /// How many elements share a scale.
    pub fn share(&self) -> Share {
        match self.groups {
            GroupsMut::Block(_) => Share::Block,
            GroupsMut::Whole(_) => Share::Group,
        }
    }

    /// How many tokens.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Elements of a token, without padding.
    pub fn k(&self) -> usize {
        self.k
    }

    /// What was filled in.
    pub fn finish(self) -> Q8Acts<'m> {
        // SAFETY: this value is gone, and with it all that was taken of it.
        let groups = unsafe {
            match self.groups {
                GroupsMut::Block(groups) => Groups::Block(groups.range(0..groups.len())),
                GroupsMut::Whole(groups) => Groups::Whole(groups.range(0..groups.len())),
            }
        };
        Q8Acts { k: self.k, groups, rows: Rows::All(self.n) }
    }

    /// Quantizes `x` (k) as token `i`.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn quantize(&mut self, isa: Isa, i: usize, x: &[f32]) {
        assert_eq!(x.len(), self.k, "a token's elements");
        // SAFETY: this borrow is the only one, and the groups are used here alone.
        unsafe {
            match self.groups {
                GroupsMut::Block(groups) => {
                    quantize_row(isa, x, groups.range(self.tokens(i, i + 1)))
                }
                GroupsMut::Whole(groups) => {
                    quantize_whole(isa, x, groups.range(self.tokens(i, i + 1)));
                }
            }
        }
    }

    /// Parts of `len` tokens, for the threads of a region.
    ///
    /// # Panics
    /// If `len` is 0.
    pub fn parts(&mut self, len: usize) -> Q8Parts<'_, 'm> {
        assert!(len > 0, "parts have tokens");
        Q8Parts { acts: self, len }
    }

    /// Which groups are those of tokens `start..end`.
    fn tokens(&self, start: usize, end: usize) -> Range<usize> {
        let n_groups = self.k.div_ceil(GROUP);
        start * n_groups..end * n_groups
    }

    /// Quantizes `x` to the elements of token `i` from `first` on. The last elements of a token bring
    /// the zeros after them.
    ///
    /// # Safety
    /// Nobody may read or write the same blocks of the token meanwhile, nor hold the token.
    ///
    /// # Panics
    /// If `x` are no whole blocks of the token, or groups where these share a scale, its end apart.
    pub(crate) unsafe fn put(&self, isa: Isa, i: usize, first: usize, x: &[f32]) {
        let (end, shared) = (first + x.len(), self.share().elements());
        assert!(i < self.n && end <= self.k && first.is_multiple_of(shared), "blocks of a token");
        assert!(end == self.k || end.is_multiple_of(shared), "whole blocks");
        match self.groups {
            // SAFETY: the caller's promise.
            GroupsMut::Block(groups) => unsafe { self.put_blocks(isa, groups, i, first, x) },
            GroupsMut::Whole(groups) => {
                let from = i * self.k.div_ceil(GROUP);
                let these = from + first / GROUP..from + end.div_ceil(GROUP);
                // SAFETY: the caller promises that these groups are this thread's.
                quantize_whole(isa, x, unsafe { groups.range(these) });
            }
        }
    }

    /// [`Q8Mut::put`] with scales of blocks.
    ///
    /// # Safety
    /// As there.
    unsafe fn put_blocks(
        &self,
        isa: Isa,
        groups: Disjoint<'_, ActGroup>,
        i: usize,
        first: usize,
        x: &[f32],
    ) {
        let end = first + x.len();
        let n_groups = self.k.div_ceil(GROUP);
        let n_blocks = if end == self.k { n_groups * BLOCKS } else { end / SCALED };
        let (whole, tail) = x.as_chunks::<SCALED>();
        let mut last = [0.0; SCALED];
        last[..tail.len()].copy_from_slice(tail);
        for (j, b) in (first / SCALED..n_blocks).enumerate() {
            let block = match whole.get(j) {
                Some(block) => block,
                None if j == whole.len() => &last,
                None => &[0.0; SCALED],
            };
            let group = groups.at(i * n_groups + b / BLOCKS);
            let b = b % BLOCKS;
            // SAFETY: the caller promises that this block is this thread's: no reference to another
            // block of the group is made.
            unsafe {
                let codes = (&raw mut (*group).codes).cast::<[i8; SCALED]>().add(b);
                let (scale, sums) = quantize_one(isa, block, &mut *codes);
                (&raw mut (*group).scales[b]).write(scale);
                (&raw mut (*group).totals[b]).write(sums[0] + sums[1]);
                (&raw mut (*group).sums[0][b]).write(sums[0]);
                (&raw mut (*group).sums[1][b]).write(sums[1]);
            }
        }
    }
}

tiers! {
    fn quantize_one(x: &[f32; SCALED], codes: &mut [i8; SCALED]) -> (f32, [i32; 2]) = quantize_one_lanes;
}

#[inline(always)]
fn quantize_one_lanes<O: Ops>(
    ops: O,
    x: &[f32; SCALED],
    codes: &mut [i8; SCALED],
) -> (f32, [i32; 2]) {
    quantize_block(ops, x, codes)
}

/// Tokens of a [`Q8Mut`], some at a time.
pub struct Q8Parts<'a, 'm> {
    acts: &'a mut Q8Mut<'m>,
    len: usize,
}

impl<'a> Cut for Q8Parts<'a, '_> {
    type Part = Q8Mut<'a>;

    unsafe fn part(&self, i: usize) -> Q8Mut<'a> {
        let (start, end) = (i * self.len, ((i + 1) * self.len).min(self.acts.n));
        let these = self.acts.tokens(start, end);
        let groups = match self.acts.groups {
            GroupsMut::Block(groups) => GroupsMut::Block(groups.cut(these.start, these.end)),
            GroupsMut::Whole(groups) => GroupsMut::Whole(groups.cut(these.start, these.end)),
        };
        Q8Mut { n: end - start, k: self.acts.k, groups }
    }

    fn len(&self) -> usize {
        self.acts.n.div_ceil(self.len)
    }
}

/// Activations (n, k) that `memory` holds since a [`Q8Mut`] of the same shape was filled there.
///
/// # Panics
/// If `memory` is shorter than [`q8_words`].
pub fn quantized(share: Share, memory: &[f32], n: usize, k: usize) -> Q8Acts<'_> {
    let (start, len) = place(share, memory, n, k);
    let memory = &memory[start..start + len];
    let groups = match share {
        Share::Block => Groups::Block(bytemuck::cast_slice(memory)),
        Share::Group => Groups::Whole(bytemuck::cast_slice(memory)),
    };
    Q8Acts { k, groups, rows: Rows::All(n) }
}

/// First f32 word of the groups, and their words: they begin with a cache line.
fn place(share: Share, memory: &[f32], n: usize, k: usize) -> (usize, usize) {
    let unaligned = memory.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    (unaligned, q8_words(share, n, k) - LINE)
}
