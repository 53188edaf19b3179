//! The list of tokens: their text, kind and score, and the way from a text to its id.
//!
//! Holds what a file says; which tokens are special beyond that is for [`crate::special`].

use std::borrow::Cow;

use oprel_gguf::{Array, Metadata, Value};

use crate::error::{Error, Result, Warning};
use crate::hash::{Index, hash};
use crate::strings::Strings;

/// The most tokens or merges that are read.
pub(crate) const MAX_ENTRIES: usize = 1 << 24;

/// The longest token that is read, in bytes; real ones have some hundred at most.
const MAX_TOKEN_LEN: usize = 1 << 16;

/// Bits of a token's attributes.
pub(crate) mod attr {
    pub(crate) const UNKNOWN: u8 = 1;
    pub(crate) const UNUSED: u8 = 2;
    pub(crate) const NORMAL: u8 = 4;
    pub(crate) const CONTROL: u8 = 8;
    pub(crate) const USER_DEFINED: u8 = 16;
    pub(crate) const BYTE: u8 = 32;
    /// White space before the token in a text belongs to it.
    pub(crate) const LSTRIP: u8 = 64;
    /// White space after the token in a text belongs to it.
    pub(crate) const RSTRIP: u8 = 128;
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// Stands for text that has no token.
    Unknown,
    /// Structure of the prompt, not text: `<s>`, `<|im_start|>`.
    Control,
    /// Added by the makers of the model: always found in a text, and part of it (`<think>`).
    UserDefined,
    /// Reserved, never produced.
    Unused,
    /// One byte, for text that has no token.
    Byte,
    /// Nothing is said about it.
    Undefined,
}

/// Tokens by id, and ids by text.
pub(crate) struct Vocab {
    pieces: Strings,
    scores: Vec<f32>,
    pub(crate) attrs: Vec<u8>,
    index: Index,
    /// Length of the longest token in bytes.
    pub(crate) max_len: usize,
}

impl Vocab {
    /// Reads the token list with its types and scores.
    pub(crate) fn read(m: &Metadata, warnings: &mut Vec<Warning>) -> Result<Vocab> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        let pieces = m.strs(TOKENS)?.ok_or(Error::Missing { key: TOKENS })?;
        let n = pieces.len();
        if n > MAX_ENTRIES {
            return Err(Error::TooLong { key: TOKENS, found: n, limit: MAX_ENTRIES });
        }
        let max_len = pieces.iter().map(str::len).max().unwrap_or(0);
        if max_len > MAX_TOKEN_LEN {
            return Err(Error::TooLong { key: TOKENS, found: max_len, limit: MAX_TOKEN_LEN });
        }
        let attrs = read_attrs(m, n)?;
        let scores = read_scores(m, n)?;
        // A token without text gets a name that no text has by chance.
        let pieces = Strings::new(pieces, |i| format!("[EMPTY_{i}]")).ok_or(Error::TooLong {
            key: TOKENS,
            found: usize::MAX,
            limit: u32::MAX as usize,
        })?;
        let entries: Vec<(u64, u32)> =
            pieces.iter().zip(0..).map(|(piece, id)| (hash(piece.as_bytes()), id)).collect();
        let same = |a: u32, b: u32| pieces.bytes(a) == pieces.bytes(b);
        let index = Index::new(&entries, same, |first, second| {
            warnings.push(Warning::Duplicate { first, second });
            true
        });
        Ok(Vocab { pieces, scores, attrs, index, max_len })
    }

    /// A vocabulary of `n` nameless tokens.
    pub(crate) fn nameless(n: usize) -> Vocab {
        Vocab {
            pieces: Strings::empty(n),
            scores: vec![0.0; n],
            attrs: vec![0; n],
            index: Index::default(),
            max_len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.attrs.len()
    }

    /// The token's text as the file has it; empty for an id outside the vocabulary.
    pub(crate) fn text(&self, id: u32) -> &str {
        self.pieces.get(id)
    }

    /// All texts in the order of their ids.
    pub(crate) fn texts(&self) -> impl ExactSizeIterator<Item = &str> + Clone + '_ {
        self.pieces.iter()
    }

    /// The id of the token spelled `text`.
    #[inline]
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.index.find(hash(text.as_bytes()), |id| self.pieces.bytes(id) == text.as_bytes())
    }

    pub(crate) fn score(&self, id: u32) -> f32 {
        self.scores.get(id as usize).copied().unwrap_or_default()
    }

    /// `id` has one of the attributes `bits`.
    #[inline]
    pub(crate) fn is(&self, id: u32, bits: u8) -> bool {
        self.attrs.get(id as usize).is_some_and(|a| a & bits != 0)
    }

    /// The token `<0xXX>` of the byte `b`.
    pub(crate) fn byte_named(&self, b: u8) -> Option<u32> {
        self.id(&format!("<0x{b:02X}>"))
    }

    /// The token of the byte `b`: `<0xXX>`, else the ASCII character itself.
    pub(crate) fn byte(&self, b: u8) -> Option<u32> {
        let own = || self.id(char::from(b).encode_utf8(&mut [0; 4]));
        self.byte_named(b).or_else(|| if matches!(b, 1..0x80) { own() } else { None })
    }

    pub(crate) fn kind(&self, id: u32) -> TokenKind {
        let is = |bits| self.is(id, bits);
        match () {
            () if is(attr::CONTROL) => TokenKind::Control,
            () if is(attr::UNKNOWN) => TokenKind::Unknown,
            () if is(attr::USER_DEFINED) => TokenKind::UserDefined,
            () if is(attr::BYTE) => TokenKind::Byte,
            () if is(attr::UNUSED) => TokenKind::Unused,
            () if is(attr::NORMAL) => TokenKind::Normal,
            () => TokenKind::Undefined,
        }
    }
}

fn read_attrs(m: &Metadata, n: usize) -> Result<Vec<u8>> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let Some(types) = m.i32s(KEY)? else { return Ok(vec![attr::NORMAL; n]) };
    check_len(KEY, types.len(), n)?;
    let of = |&kind: &i32| match kind {
        1 => attr::NORMAL,
        2 => attr::UNKNOWN,
        3 => attr::CONTROL,
        4 => attr::USER_DEFINED,
        5 => attr::UNUSED,
        6 => attr::BYTE,
        _ => 0,
    };
    Ok(types.iter().take(n).map(of).collect())
}

fn read_scores(m: &Metadata, n: usize) -> Result<Vec<f32>> {
    const KEY: &str = "tokenizer.ggml.scores";
    let scores: Cow<'_, [f32]> = match m.get(KEY) {
        None => return Ok(vec![0.0; n]),
        Some(Value::Array(Array::I32(scores))) => scores.iter().map(|&s| s as f32).collect(),
        Some(_) => m.f32s(KEY)?.unwrap_or_default(),
    };
    check_len(KEY, scores.len(), n)?;
    Ok(scores.iter().take(n).copied().collect())
}

fn check_len(key: &'static str, found: usize, tokens: usize) -> Result<()> {
    if found < tokens { Err(Error::TooShort { key, found, tokens }) } else { Ok(()) }
}
