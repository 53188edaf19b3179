//! The memory of activations: one slice, cut into buffers when a model is prepared.
//!
//! A buffer holds a row for each token of the largest batch. Operations that never run at the same
//! time share memory: what is laid out after a [`Layout::mark`] ends at [`Layout::release`].

use std::ops::Range;

use crate::{Error, Result};

/// Elements to which buffers are aligned: 64 bytes.
const ALIGN: usize = 16;
/// From so many bytes on, allocators ask the system for memory of its own.
const MAPPED: u64 = 128 << 10;
/// What allocators never keep when it is given back: glibc's largest threshold, and a little more.
const NEVER_KEPT: usize = 33 << 20;

/// A buffer of the arena: a row of `cols` elements for each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buf {
    start: usize,
    /// Elements of a token's row.
    pub(super) cols: usize,
}

impl Buf {
    /// The elements of the first `n` rows.
    pub(super) fn range(self, n: usize) -> Range<usize> {
        self.start..self.start + n * self.cols
    }
}

/// Cuts buffers from an arena that does not exist yet.
#[derive(Debug)]
pub(super) struct Layout {
    rows: usize,
    top: usize,
    high: usize,
    /// The same, of buffers that usual batches touch.
    used: usize,
}

/// A point of a layout to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(usize);

impl Layout {
    /// A layout whose buffers have up to `rows` rows.
    pub(super) fn new(rows: usize) -> Layout {
        Layout { rows, top: 0, high: 0, used: 0 }
    }

    /// Most rows of a buffer.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// A new buffer.
    ///
    /// # Errors
    /// [`Error::Memory`] if the arena would be larger than memory can be.
    pub(super) fn buf(&mut self, cols: usize) -> Result<Buf> {
        let buf = self.spare(cols)?;
        self.used = self.used.max(self.top);
        Ok(buf)
    }

    /// A new buffer that usual batches leave alone: it takes addresses, but no memory.
    ///
    /// # Errors
    /// As [`Layout::buf`].
    pub(super) fn spare(&mut self, cols: usize) -> Result<Buf> {
        let end = self
            .rows
            .checked_mul(cols)
            .and_then(|len| len.checked_next_multiple_of(ALIGN))
            .and_then(|len| len.checked_add(self.top))
            .filter(|&end| end < isize::MAX as usize / 8)
            .ok_or(Error::Memory { what: "activations", bytes: u64::MAX })?;
        let start = std::mem::replace(&mut self.top, end);
        self.high = self.high.max(end);
        Ok(Buf { start, cols })
    }

    /// Remembers what is laid out so far.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.top)
    }

    /// Gives the memory of everything after the mark to what comes next.
    pub(super) fn release(&mut self, mark: Mark) {
        self.top = mark.0;
    }

    /// Bytes of the memory.
    pub(super) fn bytes(&self) -> u64 {
        self.high as u64 * 4
    }

    /// How many of them no usual batch touches.
    pub(super) fn idle_bytes(&self) -> u64 {
        (self.high - self.used) as u64 * 4
    }

    /// Takes the memory.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not enough.
    pub(super) fn build(&self) -> Result<Arena> {
        Ok(Arena { data: zeroed(self.high, "activations")? })
    }
}

/// The memory that a [`Layout`] described.
#[derive(Debug)]
pub(super) struct Arena {
    data: Box<[f32]>,
}

impl Arena {
    pub(super) fn bytes(&self) -> u64 {
        self.data.len() as u64 * 4
    }

    /// The first `n` rows of several buffers at once.
    ///
    /// # Panics
    /// If buffers overlap.
    pub(super) fn rows<const N: usize>(&mut self, n: usize, bufs: [Buf; N]) -> [&mut [f32]; N] {
        self.ranges(bufs.map(|b| b.range(n)))
    }

    /// Several ranges at once.
    ///
    /// # Panics
    /// If they overlap.
    pub(super) fn ranges<const N: usize>(&mut self, ranges: [Range<usize>; N]) -> [&mut [f32]; N] {
        match self.data.get_disjoint_mut(ranges) {
            Ok(slices) => slices,
            Err(e) => panic!("buffers of an operation: {e}"),
        }
    }

    /// The first `n` rows of one buffer.
    pub(super) fn row(&mut self, n: usize, buf: Buf) -> &mut [f32] {
        &mut self.data[buf.range(n)]
    }
}

/// Zeroed memory, not touched before it is used.
///
/// # Errors
/// [`Error::Memory`] if there is not enough.
pub(super) fn zeroed<T: Copy + Default>(len: usize, what: &'static str) -> Result<Box<[T]>> {
    let bytes = len.checked_mul(size_of::<T>()).map_or(u64::MAX, |bytes| bytes as u64);
    // Zeroed memory comes untouched from `vec!` alone, which aborts where there is none: ask first.
    let ask = |len| Vec::<T>::new().try_reserve_exact(len);
    // Of what was asked for and given back, allocators make their next zeroed memory by writing zeros, which
    // takes all of it at once. Those of so many bytes go straight back to the system.
    let beyond = if bytes < MAPPED { len } else { len.max(NEVER_KEPT / size_of::<T>().max(1)) };
    ask(beyond).or_else(|_| ask(len)).map_err(|_| Error::Memory { what, bytes })?;
    Ok(vec![T::default(); len].into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_after_a_release_reuse_memory_and_never_overlap_what_came_before() {
        let mut layout = Layout::new(3);
        let a = layout.buf(5).unwrap();
        let mark = layout.mark();
        let b = layout.buf(7).unwrap();
        layout.release(mark);
        let c = layout.buf(2).unwrap();
        assert_eq!(b.range(1).start, c.range(1).start);
        let mut arena = layout.build().unwrap();
        let [x, y] = arena.rows(3, [a, c]);
        x.fill(1.0);
        y.fill(2.0);
        assert!(x.iter().all(|&v| v == 1.0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn zeroed_memory_is_not_taken_before_it_is_used() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
            pages * 4096
        };
        let before = resident();
        let all: Vec<Box<[u8]>> = (0..30).map(|_| zeroed(17 << 20, "test").unwrap()).collect();
        let taken = resident().saturating_sub(before);
        assert!(taken < 200 << 20, "{taken} bytes of {}", all.len() * (17 << 20));
    }

    #[test]
    fn an_arena_beyond_memory_is_refused() {
        let mut layout = Layout::new(usize::MAX / 2);
        assert!(matches!(layout.buf(1 << 20), Err(Error::Memory { .. })));
        assert!(zeroed::<f32>(usize::MAX / 2, "test").is_err());
        assert!(zeroed::<f32>(1 << 50, "test").is_err());
    }
}
