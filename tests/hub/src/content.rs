//! What a file contains: bytes that are kept, or bytes that follow from a number, so that a file of many gigabytes
//! needs no memory.

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

/// Bytes that are made at once.
pub(crate) const PIECE: u64 = 64 << 10;

/// What a file contains.
#[derive(Clone, Debug)]
pub struct Content {
    kind: Kind,
    digest: String,
}

#[derive(Clone, Debug)]
enum Kind {
    Kept(Bytes),
    Made { seed: u64, size: u64 },
}

impl Content {
    /// These bytes.
    pub fn kept(bytes: impl Into<Bytes>) -> Content {
        let bytes = bytes.into();
        let digest = hex(&Sha256::digest(&bytes));
        Content { kind: Kind::Kept(bytes), digest }
    }

    /// So many bytes, which differ from one seed to the next.
    pub fn made(seed: u64, size: u64) -> Content {
        let mut content = Content { kind: Kind::Made { seed, size }, digest: String::new() };
        let mut hasher = Sha256::new();
        let mut at = 0;
        while at < size {
            let piece = content.piece(at, size);
            at += piece.len() as u64;
            hasher.update(&piece);
        }
        content.digest = hex(&hasher.finalize());
        content
    }

    /// As many bytes as nobody will ever ask for, with a digest that is not theirs.
    pub fn vast(size: u64) -> Content {
        Content { kind: Kind::Made { seed: 0, size }, digest: "f".repeat(64) }
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::Kept(bytes) => bytes.len() as u64,
            Kind::Made { size, .. } => *size,
        }
    }

    /// The SHA-256 in hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// All bytes: only of what is small.
    pub fn all(&self) -> Bytes {
        let mut all = BytesMut::new();
        while (all.len() as u64) < self.size() {
            all.extend_from_slice(&self.piece(all.len() as u64, self.size()));
        }
        all.freeze()
    }

    /// Bytes from a place on: to the next border of a piece, or to `end`.
    pub(crate) fn piece(&self, at: u64, end: u64) -> Bytes {
        let (index, offset) = (at / PIECE, at % PIECE);
        let end = end.min((index + 1) * PIECE);
        match &self.kind {
            Kind::Kept(bytes) => bytes.slice(at as usize..end as usize),
            Kind::Made { seed, .. } => {
                let mut piece = BytesMut::from(noise());
                let name = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index;
                piece[..8].copy_from_slice(&name.to_le_bytes());
                piece.freeze().slice(offset as usize..(offset + end - at) as usize)
            }
        }
    }
}

/// A piece of bytes without a pattern.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut state = 88_172_645_463_325_252_u64;
        let mut bytes = Vec::with_capacity(PIECE as usize);
        while bytes.len() < PIECE as usize {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
