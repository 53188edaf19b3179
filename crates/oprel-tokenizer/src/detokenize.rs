//! Token ids back to text: all at once, or as they are generated.

use crate::bpe::{DNA_MARK, byte_of_letter};
use crate::plamo2::byte_of;
use crate::rwkv::unescape;
use crate::seam::SPACE;
use crate::vocab::{Vocab, attr};
use crate::{Algorithm, DetokenizeOptions, Tokenizer};

/// How the text of a token is spelled in the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// GPT-2's letters for bytes.
    ByteLetters,
    /// UTF-8 with `▁` for the space.
    Spaces,
    /// RWKV's escapes.
    Escapes,
    /// As it is.
    Plain,
    /// There is no text: the id in hexadecimal.
    Id,
}

/// The texts of all tokens, one after the other.
pub(crate) struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Pieces {
    pub(crate) fn new(vocab: &Vocab, spelling: Spelling, dna: bool) -> Pieces {
        let kmers = if dna { vocab.id("<oov>") } else { None };
        let mut pieces = Pieces { bytes: Vec::new(), ends: Vec::with_capacity(vocab.len()) };
        for (text, id) in vocab.texts().zip(0..) {
            let text = match kmers {
                Some(first) if id > first => text.strip_suffix(DNA_MARK).unwrap_or(text),
                _ => text,
            };
            render(vocab, spelling, id, text, &mut pieces.bytes);
            pieces.ends.push(pieces.bytes.len());
        }
        pieces
    }

    pub(crate) fn of(&self, id: u32) -> &[u8] {
        let i = id as usize;
        let start = i.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        match self.ends.get(i) {
            Some(&end) => &self.bytes[start.unwrap_or(0)..end],
            None => &[],
        }
    }
}

fn render(vocab: &Vocab, spelling: Spelling, id: u32, text: &str, out: &mut Vec<u8>) {
    let is = |bits| vocab.is(id, bits);
    match spelling {
        Spelling::Escapes => out.extend(unescape(text)),
        Spelling::Id => out.extend(format!("{id:x}").bytes()),
        Spelling::Plain => match byte_of(text).filter(|_| is(attr::BYTE)) {
            Some(byte) => out.push(byte),
            None => out.extend(text.bytes()),
        },
        Spelling::ByteLetters | Spelling::Spaces => {
            if is(attr::CONTROL | attr::UNKNOWN | attr::USER_DEFINED) {
                out.extend(text.bytes());
            } else if is(attr::NORMAL) && spelling == Spelling::Spaces {
                out.extend(text.replace(SPACE, " ").bytes());
            } else if is(attr::NORMAL) {
                render_letters(text, out);
            } else if is(attr::BYTE) {
                out.extend(leading_hex(text));
            }
        }
    }
}

/// In longer tokens, letters that stand for no byte are shown as they are.
const LONGEST_EXPLAINED: usize = 256;

/// Letters that stand for no byte are shown as such, with the token they are in.
fn render_letters(text: &str, out: &mut Vec<u8>) {
    for letter in text.chars() {
        match byte_of_letter(letter) {
            Some(byte) => out.push(byte),
            None if text.len() > LONGEST_EXPLAINED => out.extend(letter.to_string().bytes()),
            None => {
                let hex: String = letter.to_string().bytes().map(|b| format!("{b:02x}")).collect();
                out.extend(format!("[UNK_BYTE_0x{hex}{text}]").bytes());
            }
        }
    }
}

/// The byte of `<0xXX>`, as C's `strtol` reads its fourth and fifth character.
fn leading_hex(text: &str) -> Option<u8> {
    let digits = text.as_bytes().get(3..)?.iter().take(2);
    let values = digits.map_while(|&b| char::from(b).to_digit(16));
    Some(values.fold(0, |sum, digit| sum << 4 | digit as u8))
}

impl Tokenizer {
    /// The bytes that `ids` stand for. Unknown ids stand for nothing.
    ///
    /// The space that tokenizing put in front of the text is taken off again.
    pub fn detokenize_bytes(&self, ids: &[u32], options: DetokenizeOptions) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at_start = self.prefixes_space();
        for &id in ids {
            let piece = self.shown(id, options);
            let rest = piece.strip_prefix(b" ").filter(|_| at_start).unwrap_or(piece);
            at_start &= self.vocab().is(id, attr::CONTROL);
            out.extend_from_slice(rest);
        }
        if options.clean_spaces { clean_spaces(&out) } else { out }
    }

    /// The text that `ids` stand for; bytes that are no UTF-8 become U+FFFD.
    pub fn detokenize(&self, ids: &[u32], options: DetokenizeOptions) -> String {
        let bytes = self.detokenize_bytes(ids, options);
        match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    /// Turns tokens into text one by one, as they are generated after a prompt: every space is
    /// kept, and a character comes out when its last byte is in.
    pub fn stream(&self, options: DetokenizeOptions) -> Detokenizer {
        Detokenizer { tokenizer: self.clone(), options, pending: Vec::new() }
    }

    /// The token's bytes, or none for a control token that is not to be shown.
    fn shown(&self, id: u32, options: DetokenizeOptions) -> &[u8] {
        if !options.special && self.vocab().is(id, attr::CONTROL | attr::UNKNOWN) {
            return &[];
        }
        self.piece(id)
    }

    fn prefixes_space(&self) -> bool {
        match self.algorithm() {
            Algorithm::SentencePiece | Algorithm::Unigram => self.add_space_prefix(),
            _ => false,
        }
    }
}

/// Text from tokens that come one by one. Never gives a part of a character.
///
/// `clean_spaces` has no effect here: it would need the text that is yet to come.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    options: DetokenizeOptions,
    pending: Vec<u8>, // the beginning of a character
}

impl Detokenizer {
    /// The text that token `id` completes, often empty. Bytes that can no longer become a
    /// character come out as U+FFFD.
    pub fn push(&mut self, id: u32) -> String {
        let piece = self.tokenizer.shown(id, self.options);
        self.pending.extend_from_slice(piece);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => error,
            };
            let (valid, invalid) = rest.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            rest = invalid;
            let Some(len) = error.error_len() else { break };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &invalid[len..];
        }
        let kept = rest.len();
        self.pending.drain(..self.pending.len() - kept);
        text
    }

    /// What is left at the end: U+FFFD if a character has begun and not ended.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

/// Takes out the spaces that splitting into words has left before `?!.,` and in contractions, in
/// the three passes of `clean_up_tokenization_spaces` as llama.cpp has them.
fn clean_spaces(text: &[u8]) -> Vec<u8> {
    let before_mark = |text: &[u8], i: usize| {
        i > 0 && text[i - 1] == b' ' && matches!(text[i], b'?' | b'!' | b'.' | b',')
    };
    let mut out = Vec::with_capacity(text.len());
    for i in 0..text.len() {
        if before_mark(text, i) {
            out.pop();
        }
        out.push(text[i]);
    }
    contractions(&lone_apostrophes(&out))
}

/// ` ' ` becomes `'`.
fn lone_apostrophes(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut i, mut after_space) = (0, false);
    while i < text.len() {
        let lone = after_space && text[i] == b'\'' && text.get(i + 1) == Some(&b' ');
        if lone {
            out.pop();
        }
        out.push(text[i]);
        after_space = text[i] == b' ';
        i += if lone { 2 } else { 1 };
    }
    out
}

/// ` 's`, ` 'm`, ` 're`, ` 've` lose their space.
fn contractions(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for i in 0..text.len() {
        let rest = &text[i..];
        let short = [b"'s", b"'m"].iter().any(|s| rest.starts_with(*s));
        let long = [b"'re", b"'ve"].iter().any(|s| rest.starts_with(*s));
        if i > 0 && text[i - 1] == b' ' && (short || long) {
            out.pop();
        }
        out.push(text[i]);
    }
    out
}
