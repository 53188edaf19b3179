//! Byte-pair encoding by a list of merges: GPT-2's, over letters that stand for bytes, and
//! Gemma 4's, over plain UTF-8 with `▁` for the space.

use oprel_gguf::{Metadata, StrArray};

use crate::cache::{PairCache, WordCache};
use crate::error::{Error, Result};
use crate::hash::{Index, hash, pair};
use crate::merge::Merger;
use crate::pre::{Pre, split};
use crate::seam::Seams;
use crate::strings::Strings;
use crate::unicode::{is_space, lower};
use crate::vocab::{MAX_ENTRIES, Vocab};

/// The merges by the pair that they merge; the place in the list is the rank.
pub(crate) struct Merges {
    lines: Strings, // "left right"
    index: Index,
}

impl Merges {
    /// Reads the merges; without them there are none, which only Kimi K2 may have.
    pub(crate) fn read(m: &Metadata, optional: bool) -> Result<Merges> {
        const KEY: &str = "tokenizer.ggml.merges";
        let lines = match m.strs(KEY)? {
            Some(lines) => lines,
            None if optional => &StrArray::default(),
            None => return Err(Error::Missing { key: KEY }),
        };
        let too_long = |found, limit| Error::TooLong { key: KEY, found, limit };
        if lines.len() > MAX_ENTRIES {
            return Err(too_long(lines.len(), MAX_ENTRIES));
        }
        let lines = Strings::new(lines, |_| String::new())
            .ok_or(too_long(usize::MAX, u32::MAX as usize))?;
        let entries: Vec<(u64, u32)> = lines
            .iter()
            .zip(0..)
            .filter_map(|(line, rank)| sides(line).map(|(l, r)| (pair_hash(l, r), rank)))
            .collect();
        let same = |a: u32, b: u32| lines.bytes(a) == lines.bytes(b);
        let index = Index::new(&entries, same, |_, _| false);
        Ok(Merges { lines, index })
    }

    /// How early the pair is merged, 0 first.
    #[inline]
    fn rank(&self, left: &str, right: &str) -> Option<u32> {
        self.index.find(pair_hash(left, right), |rank| {
            let line = self.lines.bytes(rank);
            line.len() == left.len() + 1 + right.len()
                && line[left.len()] == b' '
                && line.starts_with(left.as_bytes())
                && line.ends_with(right.as_bytes())
        })
    }

    fn seams(&self) -> Seams {
        Seams::new(self.lines.iter().filter_map(|line| {
            let (left, right) = sides(line)?;
            left.chars().next_back().zip(right.chars().next())
        }))
    }
}

/// A line is cut at its first space but one in front.
fn sides(line: &str) -> Option<(&str, &str)> {
    let space = line.bytes().skip(1).position(|b| b == b' ')? + 1;
    Some((&line[..space], &line[space + 1..])).filter(|(_, right)| !right.is_empty())
}

#[inline]
fn pair_hash(left: &str, right: &str) -> u64 {
    pair(hash(left.as_bytes()), hash(right.as_bytes()))
}

/// What is done with a text before its words are merged.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reading {
    Plain,
    /// What stands between `<dna>` and `</dna>` is read six letters at a time.
    HybridDna,
    /// White space is dropped, and letters are made small where that is asked for.
    Whitespace {
        lowercase: bool,
    },
}

/// A model of merges with its pre-tokenizer.
pub(crate) struct Bpe {
    merges: Merges,
    pub(crate) pre: Pre,
    pub(crate) reading: Reading,
    seams: Option<Seams>,
    bytes: Vec<Option<u32>>, // for what has no token: by byte of its spelling
}

impl Bpe {
    pub(crate) fn new(vocab: &Vocab, merges: Merges, pre: Pre, reading: Reading) -> Bpe {
        let seams = pre.escape_spaces.then(|| merges.seams());
        let byte = |b: u8| match pre.byte_letters {
            true => b.is_ascii().then(|| vocab.id(char::from(b).encode_utf8(&mut [0; 4])))?,
            false => vocab.byte_named(b),
        };
        Bpe { bytes: (0..=255).map(byte).collect(), merges, pre, reading, seams }
    }

    /// Adds the tokens of `text`, in which no special token is left.
    pub(crate) fn tokenize(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) {
        let mut run = Run {
            bpe: self,
            vocab,
            words: WordCache::for_text(text.len()),
            work: Work { merger: Merger::default(), pairs: PairCache::for_text(text.len()) },
            spelled: String::new(),
        };
        if self.pre.escape_spaces {
            run.read(&text.replace(' ', "▁"), out);
        } else {
            run.read(text, out);
        }
    }
}

/// One call's work: the model and the buffers.
struct Run<'a> {
    bpe: &'a Bpe,
    vocab: &'a Vocab,
    words: WordCache,
    work: Work,
    spelled: String,
}

struct Work {
    merger: Merger,
    pairs: PairCache,
}

impl Run<'_> {
    fn read(&mut self, text: &str, out: &mut Vec<u32>) {
        match self.bpe.reading {
            Reading::Plain => self.text(text, out),
            Reading::HybridDna => self.dna(text, out),
            Reading::Whitespace { lowercase } => {
                for word in text.split(is_space) {
                    if lowercase {
                        self.text(&word.chars().map(lower).collect::<String>(), out);
                    } else {
                        self.text(word, out);
                    }
                }
            }
        }
    }

    fn text(&mut self, text: &str, out: &mut Vec<u32>) {
        let mut ends = Vec::new();
        split(text, self.bpe.pre.rules, &mut ends);
        let mut start = 0;
        for end in ends {
            self.piece(&text[start..end], out);
            start = end;
        }
    }

    fn piece(&mut self, piece: &str, out: &mut Vec<u32>) {
        let Run { bpe, vocab, words, work, spelled } = self;
        if let Some(id) = bpe.lines(vocab, piece) {
            out.push(id);
            return;
        }
        let Some(seams) = &bpe.seams else {
            return words.get_or(piece, out, |out| {
                bpe.word(vocab, work, bpe.spell(piece, spelled), out);
            });
        };
        seams.cut(piece, |word| {
            words.get_or(word, out, |out| bpe.word(vocab, work, word, out));
        });
    }
}

impl Bpe {
    /// The token of a run of line ends, where such a run is one whatever the merges.
    fn lines(&self, vocab: &Vocab, piece: &str) -> Option<u32> {
        let lines = self.pre.gemma4 && piece.bytes().all(|b| b == b'\n');
        if lines { vocab.id(piece) } else { None }
    }

    fn spell<'s>(&self, piece: &'s str, spelled: &'s mut String) -> &'s str {
        if !self.pre.byte_letters {
            return piece;
        }
        spelled.clear();
        spelled.extend(piece.bytes().map(|b| BYTE_LETTERS[usize::from(b)]));
        spelled
    }

    /// Adds the tokens of a word in the spelling of the vocabulary.
    fn word(&self, vocab: &Vocab, work: &mut Work, word: &str, out: &mut Vec<u32>) {
        if self.pre.ignore_merges
            && let Some(id) = vocab.id(word)
        {
            out.push(id);
            return;
        }
        let Work { merger, pairs } = work;
        let rank = |start: usize, middle: usize, end: usize| {
            let (left, right) = (&word[start..middle], &word[middle..end]);
            pairs.get_or(left, right, || self.merges.rank(left, right))
        };
        merger.merge(word, rank, |symbol| match vocab.id(symbol) {
            Some(id) => out.push(id),
            None => out.extend(symbol.bytes().filter_map(|b| self.bytes[usize::from(b)])),
        });
    }
}

/// Marks the tokens of DNA letters, which may be spelled like words.
pub(crate) const DNA_MARK: char = '\u{E000}';

impl Run<'_> {
    fn dna(&mut self, text: &str, out: &mut Vec<u32>) {
        const OPEN: &str = "<dna>";
        const CLOSE: &str = "</dna>";
        let id = |piece| self.vocab.id(piece);
        let (Some(open), Some(close), Some(unknown)) = (id(OPEN), id(CLOSE), id("<oov>")) else {
            return self.text(text, out);
        };
        let mut rest = text;
        while let Some((before, inside)) = rest.split_once(OPEN) {
            self.text(before, out);
            out.push(open);
            let (letters, after) = match inside.split_once(CLOSE) {
                Some((letters, after)) => (letters, Some(after)),
                None => (inside, None),
            };
            self.letters(letters, unknown, out);
            let Some(after) = after else { return };
            out.push(close);
            rest = after;
        }
        self.text(rest, out);
    }

    fn letters(&mut self, letters: &str, unknown: u32, out: &mut Vec<u32>) {
        for six in letters.to_ascii_uppercase().as_bytes().chunks(6) {
            let six = std::str::from_utf8(six).ok().map(|six| format!("{six:A<6}{DNA_MARK}"));
            out.push(six.and_then(|six| self.vocab.id(&six)).unwrap_or(unknown));
        }
    }
}

/// GPT-2's letters for bytes: printable Latin-1 for itself, the others from U+0100 on.
const BYTE_LETTERS: [char; 256] = {
    let mut letters = ['\0'; 256];
    let (mut b, mut next) = (0, 0x100);
    while b < 256 {
        let own = matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if own { b } else { next };
        next += !own as u32;
        letters[b as usize] = match char::from_u32(code) {
            Some(letter) => letter,
            None => '\0',
        };
        b += 1;
    }
    letters
};

/// The byte that `letter` stands for.
pub(crate) fn byte_of_letter(letter: char) -> Option<u8> {
    match letter as u32 {
        own @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(own as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_letter() {
        for b in 0..=255 {
            assert_eq!(byte_of_letter(BYTE_LETTERS[usize::from(b)]), Some(b));
        }
        assert_eq!(BYTE_LETTERS[b' ' as usize], 'Ġ');
        assert_eq!(byte_of_letter('▁'), None);
    }
}
