//! The name of content: the SHA-256 of its bytes.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// The SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// A text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no digest: `sha256:` and 64 hexadecimal digits are")]
pub struct NoDigest(String);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// Of all that a reader gives, and how many bytes that is.
    ///
    /// # Errors
    /// What the reader says.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Digest, u64)> {
        let (mut hasher, mut size) = (Sha256::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok((Digest::finish(hasher), size)),
                Ok(n) => {
                    hasher.update(chunk.get(..n).unwrap_or_default());
                    size += n as u64;
                }
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
    }

    /// Of what `hasher` has read.
    pub fn finish(hasher: Sha256) -> Digest {
        Digest(hasher.finalize().into())
    }

    /// The 64 hexadecimal digits alone.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The name of its file in a store: `sha256-` and the digits.
    pub fn file_name(&self) -> String {
        format!("sha256-{}", self.hex())
    }
}

/// `sha256:` or `sha256-` before 64 digits of either case, or the digits alone.
impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Digest, NoDigest> {
        let wrong = || NoDigest(text.chars().take(80).collect());
        let hex = ["sha256:", "sha256-"].iter().find_map(|p| text.strip_prefix(p)).unwrap_or(text);
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Digest(bytes))
    }
}

/// As manifests have it: `sha256:` and the digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_what_it_writes_and_nothing_else() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest = Digest::of(b"abc");
        assert_eq!(digest.hex(), hex);
        assert_eq!(digest.file_name(), format!("sha256-{hex}"));
        for text in [format!("sha256:{hex}"), format!("sha256-{hex}"), hex.to_uppercase()] {
            assert_eq!(text.parse(), Ok(digest), "{text}");
        }
        for text in ["", "sha256:zz", "sha256:../x", &hex[1..], &format!("sha256:{hex}0")] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        let accented = format!("{}é", &hex[..62]);
        assert!(accented.parse::<Digest>().is_err());
    }
}
