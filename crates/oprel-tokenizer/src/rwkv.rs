//! RWKV's tokenizer: the longest token first, over bytes.

use crate::trie::Trie;
use crate::vocab::Vocab;

/// The tokens by the bytes that their escaped texts stand for.
pub(crate) struct Rwkv {
    trie: Trie,
}

impl Rwkv {
    pub(crate) fn new(vocab: &Vocab) -> Rwkv {
        Rwkv { trie: Trie::new(vocab.texts().map(unescape).zip(0..)) }
    }

    /// Adds the tokens of `text`, in which no special token is left.
    pub(crate) fn tokenize(&self, text: &str, unknown: Option<u32>, out: &mut Vec<u32>) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let (id, len) = match self.trie.longest(rest) {
                Some((id, len)) => (Some(id), len),
                None => (unknown, 1),
            };
            out.extend(id);
            rest = &rest[len..];
        }
    }
}

/// The bytes that a token's text stands for: `\t`, `\n`, `\r`, `\xHH` and `\` before any other.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(b) = rest.next() {
        let plain = match b {
            b'\\' => match rest.next() {
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b'x') => {
                    let (Some(high), Some(low)) = (rest.next(), rest.next()) else { break };
                    (nibble(high) << 4).wrapping_add(nibble(low))
                }
                Some(other) => other,
                None => break,
            },
            b => b,
        };
        bytes.push(plain);
    }
    bytes
}

fn nibble(hex: u8) -> u8 {
    if hex >= b'a' { hex.wrapping_sub(b'a').wrapping_add(10) } else { hex.wrapping_sub(b'0') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_bytes() {
        assert_eq!(unescape(r"a\t\n\r\\\'\xe4\x0fz"), b"a\t\n\r\\'\xe4\x0fz");
        assert_eq!(unescape(r"a\x1"), b"a");
        assert_eq!(unescape("\\"), b"");
    }
}
