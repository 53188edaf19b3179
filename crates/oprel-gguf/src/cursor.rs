//! A position in the bytes of a file: reads numbers and strings in the file's byte order and width.
//!
//! Every read is checked against what is left; none allocates. Says where it was and what it read when
//! the bytes run out.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::limits;
use crate::value::Kind;

/// What is being read, for messages.
pub(crate) enum Place {
    Header,
    Entry(u64),
    Metadata(Arc<str>),
    TensorAt(u64),
    Tensor(Arc<str>),
}

pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Numbers are stored with the highest byte first.
    pub(crate) big_endian: bool,
    /// Lengths and dimensions are 64 bits wide (since version 2), not 32.
    pub(crate) wide: bool,
    pub(crate) place: Place,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0, big_endian: false, wide: true, place: Place::Header }
    }

    /// The byte that is read next.
    pub(crate) fn offset(&self) -> u64 {
        self.at as u64
    }

    pub(crate) fn left(&self) -> u64 {
        self.bytes.len().saturating_sub(self.at) as u64
    }

    /// Bytes of a length in this file.
    pub(crate) fn length_bytes(&self) -> u64 {
        if self.wide { 8 } else { 4 }
    }

    /// "`what` of metadata `key`".
    pub(crate) fn reading(&self, what: &str) -> String {
        match &self.place {
            Place::Header => what.to_owned(),
            Place::Entry(i) => format!("{what} of metadata entry {i}"),
            Place::Metadata(key) => format!("{what} of metadata {:?}", short(key)),
            Place::TensorAt(i) => format!("{what} of tensor {i}"),
            Place::Tensor(name) => format!("{what} of tensor {:?}", short(name)),
        }
    }

    /// Fails unless `count` things of at least `each` bytes may follow.
    pub(crate) fn expect(&self, count: u64, each: u64, what: &str) -> Result<()> {
        let needed = count.saturating_mul(each);
        if needed <= self.left() {
            return Ok(());
        }
        let (offset, left) = (self.offset(), self.left());
        Err(Error::Truncated { offset, reading: self.reading(what), needed, left })
    }

    /// Fails if `found`, read at `offset`, is above `limit`.
    pub(crate) fn cap(&self, offset: u64, found: u64, limit: u64, what: &str) -> Result<()> {
        if found <= limit {
            return Ok(());
        }
        Err(Error::Limit { offset, reading: self.reading(what), found, limit })
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8]> {
        self.expect(n, 1, what)?;
        let end = self.at.saturating_add(n as usize);
        let taken = self.bytes.get(self.at..end).unwrap_or_default();
        self.at = end;
        Ok(taken)
    }

    /// The bytes of `n` elements of a fixed size.
    pub(crate) fn take_array(&mut self, n: u64, kind: Kind) -> Result<&'a [u8]> {
        self.expect(n, kind.width(), "array")?;
        self.header_stays_small(n.saturating_mul(kind.width()), "array")?;
        self.take(n.saturating_mul(kind.width()), "array")
    }

    /// All bytes that are left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The next `N` bytes, the lowest of a number first.
    pub(crate) fn number<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        self.expect(N as u64, 1, what)?;
        let mut number = *self.rest().first_chunk::<N>().unwrap_or(&[0; N]);
        self.at = self.at.saturating_add(N);
        if self.big_endian {
            number.reverse();
        }
        Ok(number)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.number(what)?))
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.number(what)?))
    }

    /// A count, a length or a dimension.
    pub(crate) fn length(&mut self, what: &str) -> Result<u64> {
        if self.wide { self.u64(what) } else { self.u32(what).map(u64::from) }
    }

    /// The bytes of a string: its length, then itself.
    pub(crate) fn str_bytes(&mut self, limit: u64, what: &str) -> Result<&'a [u8]> {
        let offset = self.offset();
        let n = self.length(what)?;
        self.cap(offset, n, limit, what)?;
        self.take(n, what)
    }

    /// A string. It is copied before it is looked at: the file may be changed by others meanwhile.
    pub(crate) fn string(&mut self, limit: u64, what: &str) -> Result<String> {
        let bytes = self.str_bytes(limit, what)?.to_vec();
        let start = self.offset().saturating_sub(bytes.len() as u64);
        String::from_utf8(bytes).map_err(|e| {
            let offset = start.saturating_add(e.utf8_error().valid_up_to() as u64);
            Error::NotUtf8 { offset, reading: self.reading(what) }
        })
    }

    /// Fails once everything before the tensor data takes more than it may.
    pub(crate) fn header_stays_small(&self, more: u64, what: &str) -> Result<()> {
        let total = self.offset().saturating_add(more);
        self.cap(self.offset(), total, limits::HEADER_BYTES, what)
    }
}

/// At most the first 80 characters: a key may be as long as a page.
pub(crate) fn short(name: &str) -> &str {
    match name.char_indices().nth(80) {
        Some((end, _)) => name.get(..end).unwrap_or_default(),
        None => name,
    }
}
