//! Bytes of a tensor or a file, wherever they live: shared, never copied by handing on.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::map::Map;

/// A piece of a mapped file, of an embedded one, or of memory. Cheap to clone; keeps what it points into alive.
#[derive(Clone)]
pub struct Bytes {
    source: Source,
    range: Range<usize>,
}

/// What the bytes are a piece of.
#[derive(Clone)]
pub(crate) enum Source {
    Map(Arc<Map>),
    Static(&'static [u8]),
    Heap(Arc<[u8]>),
    /// Memory whose start was chosen for alignment.
    Vec(Arc<Vec<u8>>),
}

impl Source {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Source::Map(map) => map,
            Source::Static(bytes) => bytes,
            Source::Heap(bytes) => bytes,
            Source::Vec(bytes) => bytes,
        }
    }
}

impl Bytes {
    /// All of `source`.
    pub(crate) fn all(source: Source) -> Bytes {
        let range = 0..source.as_slice().len();
        Bytes { source, range }
    }

    /// A copy of `bytes` that begins at a multiple of `align`, a power of two, and was changed by `change`.
    pub(crate) fn aligned_copy(
        bytes: &[u8],
        align: usize,
        change: impl FnOnce(&mut [u8]),
    ) -> Bytes {
        let mut memory: Vec<u8> = Vec::with_capacity(bytes.len().saturating_add(align));
        let skip = memory.as_ptr().align_offset(align).min(align);
        memory.resize(skip, 0);
        memory.extend_from_slice(bytes);
        change(memory.get_mut(skip..).unwrap_or_default());
        let range = skip..memory.len();
        Bytes { source: Source::Vec(Arc::new(memory)), range }
    }

    /// The bytes at `range` of these.
    ///
    /// # Panics
    ///
    /// If `range` does not lie within `0..len`.
    pub fn slice(&self, range: Range<usize>) -> Bytes {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "{range:?} of {} bytes",
            self.len()
        );
        let start = self.range.start.saturating_add(range.start);
        let end = self.range.start.saturating_add(range.end);
        Bytes { source: self.source.clone(), range: start..end }
    }

    /// The bytes are a file's, and take no memory of their own.
    pub fn is_mapped(&self) -> bool {
        matches!(self.source, Source::Map(_))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.source.as_slice().get(self.range.clone()).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes::all(Source::Vec(Arc::new(bytes)))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.len())
    }
}
