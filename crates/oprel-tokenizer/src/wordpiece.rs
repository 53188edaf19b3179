//! BERT's WordPiece: words are found by white space and punctuation and spelled with the longest
//! tokens; a word that cannot be spelled is unknown as a whole.
//!
//! The vocabulary of a GGUF file has `▁` before the token that begins a word.

use crate::seam::SPACE;
use crate::trie::Trie;
use crate::unicode::{base_letter, class, class_of, lower};
use crate::vocab::Vocab;

/// The tokens by spelling and what is done to a text first.
pub(crate) struct WordPiece {
    trie: Trie,
    pub(crate) lowercase: bool,
    pub(crate) strip_accents: bool,
}

impl WordPiece {
    pub(crate) fn new(vocab: &Vocab, lowercase: bool, strip_accents: bool) -> WordPiece {
        WordPiece { trie: Trie::new(vocab.texts().zip(0..)), lowercase, strip_accents }
    }

    /// Adds the tokens of `text`, in which no special token is left.
    pub(crate) fn tokenize(&self, text: &str, unknown: Option<u32>, out: &mut Vec<u32>) {
        let mut word = String::from(SPACE);
        let mut flush = |word: &mut String| {
            if word.len() > SPACE.len_utf8() {
                self.spell(word, unknown, out);
                word.truncate(SPACE.len_utf8());
            }
        };
        for c in text.chars() {
            let c = if self.strip_accents { base_letter(c) } else { c };
            let bits = class_of(c);
            if bits & class::SPACE != 0 {
                flush(&mut word);
                continue;
            }
            if self.is_dropped(c, bits) {
                continue;
            }
            let alone =
                bits & class::P != 0 || c.is_ascii() && bits & class::S != 0 || is_chinese(c);
            if alone {
                flush(&mut word);
            }
            word.push(if self.lowercase { lower(c) } else { c });
            if alone {
                flush(&mut word);
            }
        }
        flush(&mut word);
    }

    fn is_dropped(&self, c: char, bits: u8) -> bool {
        c == '\u{FFFD}' || bits & class::C != 0 || self.strip_accents && bits & class::M != 0
    }

    fn spell(&self, word: &str, unknown: Option<u32>, out: &mut Vec<u32>) {
        let (start, mut rest) = (out.len(), word.as_bytes());
        while !rest.is_empty() {
            let Some((id, len)) = self.trie.longest(rest) else {
                out.truncate(start);
                out.extend(unknown);
                return;
            };
            out.push(id);
            rest = &rest[len..];
        }
    }
}

/// BERT's Chinese characters. The fifth block begins late, as in the implementation that everybody
/// copies.
fn is_chinese(c: char) -> bool {
    matches!(
        c,
        '\u{4E00}'..='\u{9FFF}'
            | '\u{3400}'..='\u{4DBF}'
            | '\u{20000}'..='\u{2A6DF}'
            | '\u{2A700}'..='\u{2B73F}'
            | '\u{2B740}'..='\u{2B81F}'
            | '\u{2B920}'..='\u{2CEAF}'
            | '\u{F900}'..='\u{FAFF}'
            | '\u{2F800}'..='\u{2FA1F}'
    )
}
