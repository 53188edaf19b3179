//! Mutable slices cut into parts that the threads of a region may hold at once.
#![expect(unsafe_code, reason = "threads hold disjoint parts of one slice")]

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice that several threads take ranges of. Copies stand for the same slice: what callers
/// of `range` promise spans them.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Disjoint` is a `&mut [T]` of which threads take disjoint ranges (the promise of
// callers of `range`), so sharing one is sending `&mut T`s.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}
// SAFETY: as a `&mut [T]`.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}

impl<T> Clone for Disjoint<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Disjoint { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// How many elements there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Elements `start..end` alone.
    pub(crate) fn cut(&self, start: usize, end: usize) -> Self {
        assert!(start <= end && end <= self.len, "range beyond the slice");
        // SAFETY: inside the slice, as just checked.
        Disjoint { start: unsafe { self.start.add(start) }, len: end - start, ..*self }
    }

    /// Where element `i` is: for threads that share elements, and take parts of them.
    pub(crate) fn at(&self, i: usize) -> *mut T {
        assert!(i < self.len, "an element of the slice");
        // SAFETY: inside the slice, as just checked.
        unsafe { self.start.add(i) }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No two results that are alive at once may overlap.
    pub(crate) unsafe fn range(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "range beyond the slice");
        // SAFETY: inside the slice (just checked), which is borrowed mutably for `'a`; the caller
        // promises that no other live reference overlaps.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// A mutable slice cut into parts of equal length, the last perhaps shorter.
pub struct Parts<'a, T> {
    slice: Disjoint<'a, T>,
    part_len: usize,
}

impl<'a, T: Send> Parts<'a, T> {
    /// Cuts `slice` into parts of `part_len` elements.
    ///
    /// # Panics
    /// If `part_len` is 0.
    pub fn new(slice: &'a mut [T], part_len: usize) -> Self {
        assert!(part_len > 0, "parts have elements");
        Parts { slice: Disjoint::new(slice), part_len }
    }

    /// How many parts there are.
    pub fn count(&self) -> usize {
        self.slice.len.div_ceil(self.part_len)
    }
}

/// Things cut into parts by number: [`Parts`] and tuples of them.
pub trait Cut: Sync {
    /// One part of the thing.
    type Part;

    /// Part `i`.
    ///
    /// # Safety
    /// No part may be taken while the same part is alive.
    unsafe fn part(&self, i: usize) -> Self::Part;

    /// The number of parts that all have.
    fn len(&self) -> usize;

    /// Whether there is no part.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Send> Cut for Parts<'a, T> {
    type Part = &'a mut [T];

    unsafe fn part(&self, i: usize) -> &'a mut [T] {
        let start = i * self.part_len;
        // SAFETY: ranges of different parts do not overlap, and the caller promises that this
        // part is not alive.
        unsafe { self.slice.range(start..(start + self.part_len).min(self.slice.len)) }
    }

    fn len(&self) -> usize {
        self.count()
    }
}

/// Parts of a thing that may not be there.
impl<C: Cut> Cut for Option<C> {
    type Part = Option<C::Part>;

    unsafe fn part(&self, i: usize) -> Option<C::Part> {
        // SAFETY: the caller's promise.
        self.as_ref().map(|cut| unsafe { cut.part(i) })
    }

    fn len(&self) -> usize {
        self.as_ref().map_or(usize::MAX, Cut::len)
    }
}

macro_rules! cut_tuple {
    ($($name:ident $index:tt),*) => {
        impl<$($name: Cut),*> Cut for ($($name,)*) {
            type Part = ($($name::Part,)*);

            unsafe fn part(&self, i: usize) -> Self::Part {
                // SAFETY: the caller's promise, for each element of the tuple.
                ($(unsafe { self.$index.part(i) },)*)
            }

            fn len(&self) -> usize {
                [$(self.$index.len()),*].into_iter().min().unwrap_or(0)
            }
        }
    };
}
cut_tuple!(A 0, B 1);
cut_tuple!(A 0, B 1, C 2);
cut_tuple!(A 0, B 1, C 2, D 3);
