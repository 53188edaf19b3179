//! Files put together by hand, so that they may be wrong in every way. Shares no code with the writer.

use oprel_gguf::{Error, Gguf};

pub(crate) const U8: u32 = 0;
pub(crate) const U32: u32 = 4;
pub(crate) const I32: u32 = 5;
pub(crate) const BOOL: u32 = 7;
pub(crate) const STR: u32 = 8;
pub(crate) const ARRAY: u32 = 9;
pub(crate) const U64: u32 = 10;

pub(crate) const F32: u32 = 0;
pub(crate) const Q8_0: u32 = 8;
pub(crate) const TYPE_I8: u32 = 24;

/// The bytes of a file so far.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) bytes: Vec<u8>,
    big_endian: bool,
    /// Lengths are 64 bits wide.
    wide: bool,
}

impl Raw {
    /// Any bytes.
    pub(crate) fn of(bytes: &[u8]) -> Raw {
        Raw { bytes: bytes.to_vec(), big_endian: false, wide: true }
    }

    /// Magic and version 3 alone.
    pub(crate) fn magic() -> Raw {
        Raw::of(b"GGUF").u32(3)
    }

    /// A header of version 3.
    pub(crate) fn new(n_tensors: u64, n_entries: u64) -> Raw {
        Raw::magic().length(n_tensors).length(n_entries)
    }

    /// A header of any version and byte order.
    pub(crate) fn versioned(version: u32, big_endian: bool, n_tensors: u64, n_entries: u64) -> Raw {
        let raw = Raw { bytes: b"GGUF".to_vec(), big_endian, wide: version > 1 };
        raw.u32(version).length(n_tensors).length(n_entries)
    }

    pub(crate) fn put(mut self, bytes: &[u8]) -> Raw {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn number<const N: usize>(mut self, mut little_endian: [u8; N]) -> Raw {
        if self.big_endian {
            little_endian.reverse();
        }
        self.bytes.extend_from_slice(&little_endian);
        self
    }

    pub(crate) fn u8(self, n: u8) -> Raw {
        self.number([n])
    }

    pub(crate) fn u16(self, n: u16) -> Raw {
        self.number(n.to_le_bytes())
    }

    pub(crate) fn u32(self, n: u32) -> Raw {
        self.number(n.to_le_bytes())
    }

    pub(crate) fn u64(self, n: u64) -> Raw {
        self.number(n.to_le_bytes())
    }

    pub(crate) fn f32(self, n: f32) -> Raw {
        self.number(n.to_le_bytes())
    }

    /// A count, length or dimension, as wide as the version has them.
    pub(crate) fn length(self, n: u64) -> Raw {
        if self.wide { self.u64(n) } else { self.u32(n as u32) }
    }

    pub(crate) fn str(self, s: impl AsRef<[u8]>) -> Raw {
        self.length(s.as_ref().len() as u64).put(s.as_ref())
    }

    /// Key and type of an entry; its value follows.
    pub(crate) fn key(self, key: &str, kind: u32) -> Raw {
        self.str(key).u32(kind)
    }

    /// Key, type, element type and length of an array; its elements follow.
    pub(crate) fn array(self, key: &str, kind: u32, n: u64) -> Raw {
        self.key(key, ARRAY).u32(kind).length(n)
    }

    pub(crate) fn tensor(self, name: &str, shape: &[u64], ty: u32, data_offset: u64) -> Raw {
        let raw = self.str(name).u32(shape.len() as u32);
        let raw = shape.iter().fold(raw, |raw, dim| raw.length(*dim));
        raw.u32(ty).u64(data_offset)
    }

    /// Zeros up to a multiple of `alignment`.
    pub(crate) fn pad(mut self, alignment: usize) -> Raw {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
        self
    }

    /// `n` bytes of data.
    pub(crate) fn data(mut self, n: usize) -> Raw {
        self.bytes.extend((0..n).map(|i| i as u8));
        self
    }

    #[track_caller]
    pub(crate) fn accepted(self) -> Gguf {
        Gguf::from_bytes(self.bytes).unwrap()
    }

    /// The error of this file, after checking what every error of a malformed file must have.
    #[track_caller]
    pub(crate) fn refused(self) -> Error {
        let n = self.bytes.len() as u64;
        let error = Gguf::from_bytes(self.bytes).expect_err("must be refused");
        let offset = error.offset().expect("names a byte offset");
        assert!(offset <= n, "{error}");
        assert!(error.to_string().contains(&format!("byte {offset}")), "{error}");
        assert!(!error.hint().is_empty());
        error
    }
}
