//! PLaMo 2's tokenizer: the cheapest spelling, found from the end of the text through a table of
//! suffixes (an Aho-Corasick automaton read backwards, in rows).

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::vocab::{Vocab, attr};

/// The score of a piece that only occurs within others.
const INVALID: i32 = -20_000_000;
/// The score of a character without a token; ends the rows of a suffix.
const UNKNOWN: i32 = -10_000_000;

/// The table of a token grows with the square of its length, the time to make it with the cube:
/// vocabularies whose cubes sum to more than this are refused.
const MAX_WORK: u64 = 1 << 34;
/// So are those that need more rows than this; the real one needs some millions.
const MAX_ROWS: u64 = 1 << 24;

/// Rows of pieces that a suffix of the text may begin with, and the way between suffixes.
pub(crate) struct Plamo2 {
    rows: Vec<Row>,
    /// From a character and the suffix after it to the suffix that both make.
    longer: HashMap<(char, u32), u32>,
    bytes: [u32; 256],
}

/// A piece at the beginning of a suffix. The rows of a suffix begin with the longest piece.
struct Row {
    chars: u32,
    id: Option<u32>,
    score: i32,
    /// The row where the piece's own suffix begins.
    suffix: u32,
}

const END: Row = Row { chars: 1, id: None, score: UNKNOWN, suffix: 0 };

impl Plamo2 {
    pub(crate) fn new(vocab: &Vocab) -> Result<Plamo2> {
        let bytes = byte_tokens(vocab)?;
        let cubes = vocab.texts().map(|text| (text.len() as u64).pow(3));
        let work = cubes.fold(0, u64::saturating_add);
        check(work, MAX_WORK)?;
        let scores = suffix_scores(vocab);
        let mut suffixes: Vec<&str> = scores.keys().copied().chain([""]).collect();
        suffixes.sort_unstable_by(|a, b| a.bytes().rev().cmp(b.bytes().rev()));
        suffixes.dedup();
        let (mut first_row, mut longer, mut next) = (HashMap::new(), HashMap::new(), 0u32);
        for &suffix in &suffixes {
            first_row.insert(suffix, next);
            if let Some(c) = suffix.chars().next() {
                let rest = first_row.get(&suffix[c.len_utf8()..]).copied().unwrap_or(0);
                longer.insert((c, rest), next);
            }
            let pieces = prefixes(suffix).filter(|(piece, _)| scores.contains_key(piece));
            next += pieces.count() as u32 + 1;
            check(next.into(), MAX_ROWS)?;
        }
        let mut rows = Vec::with_capacity(next as usize);
        for suffix in suffixes {
            rows.extend(prefixes(suffix).filter_map(|(piece, chars)| {
                let &score = scores.get(piece)?;
                let suffix = first_row.get(piece).copied().unwrap_or(0);
                Some(Row { chars, id: vocab.id(piece), score: fixed(score), suffix })
            }));
            rows.push(END);
        }
        Ok(Plamo2 { rows, longer, bytes })
    }

    /// Adds the tokens of `text`, in which no special token is left.
    pub(crate) fn tokenize(&self, text: &str, out: &mut Vec<u32>) {
        let chars: Vec<char> = text.strip_prefix('\u{FEFF}').unwrap_or(text).chars().collect();
        let steps = self.cheapest(&chars);
        let mut i = 0;
        while let (Some(step), Some(c)) = (steps.get(i), chars.get(i)) {
            match step.id {
                Some(id) => out.push(id),
                None => {
                    let utf8 = c.encode_utf8(&mut [0; 4]).as_bytes().to_vec();
                    out.extend(utf8.iter().map(|&b| self.bytes[usize::from(b)]));
                }
            }
            i += step.chars as usize;
        }
    }

    /// For each place, the first step of the cheapest way from there to the end.
    fn cheapest(&self, chars: &[char]) -> Vec<Step> {
        let mut steps = vec![Step { cost: 1 << 60, chars: 1, id: None }; chars.len() + 1];
        if let Some(last) = steps.last_mut() {
            last.cost = 0;
        }
        let mut suffix = 0;
        for (i, &c) in chars.iter().enumerate().rev() {
            let extended = self.rows[suffix..].iter().find_map(|row| {
                let found = self.longer.get(&(c, row.suffix)).copied().unwrap_or(0);
                (found > 0 || row.score == UNKNOWN).then_some(found)
            });
            suffix = extended.unwrap_or(0) as usize;
            for row in &self.rows[suffix..] {
                if row.score > INVALID
                    && let Some(after) = steps.get(i + row.chars as usize)
                {
                    let cost = after.cost - i64::from(row.score);
                    if cost < steps[i].cost {
                        steps[i] = Step { cost, chars: row.chars, id: row.id };
                    }
                }
                if row.score == UNKNOWN {
                    break;
                }
            }
        }
        steps
    }
}

#[derive(Clone, Copy)]
struct Step {
    cost: i64,
    chars: u32,
    id: Option<u32>,
}

/// The beginnings of `text`, longest first, with their lengths in characters.
fn prefixes(text: &str) -> impl Iterator<Item = (&str, u32)> {
    let ends = text.char_indices().map(|(i, c)| i + c.len_utf8());
    let ends: Vec<usize> = ends.collect();
    (0..ends.len()).rev().map(move |i| (&text[..ends[i]], i as u32 + 1))
}

/// Scores of all tokens but bytes and of all their endings; NaN for an ending that is no token.
fn suffix_scores(vocab: &Vocab) -> HashMap<&str, f32> {
    let mut scores = HashMap::new();
    for (text, id) in vocab.texts().zip(0..) {
        if vocab.is(id, attr::BYTE) {
            continue;
        }
        scores.insert(text, vocab.score(id));
        for (i, _) in text.char_indices().skip(1) {
            scores.entry(&text[i..]).or_insert(f32::NAN);
        }
    }
    scores
}

/// Scores are compared as whole numbers of ten-thousandths.
fn fixed(score: f32) -> i32 {
    if score.is_finite() { (f64::from(score) * 1e4).round() as i32 } else { INVALID }
}

fn byte_tokens(vocab: &Vocab) -> Result<[u32; 256]> {
    let mut bytes = [0; 256];
    for (text, id) in vocab.texts().zip(0..).filter(|&(_, id)| vocab.is(id, attr::BYTE)) {
        if let Some(byte) = byte_of(text) {
            bytes[usize::from(byte)] = id;
        }
    }
    match bytes.iter().position(|&id| id == 0) {
        Some(byte) => Err(Error::MissingByte { byte: byte as u8 }),
        None => Ok(bytes),
    }
}

/// The byte that `<0xXX>` names.
pub(crate) fn byte_of(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        u8::from_str_radix(hex, 16).ok()
    } else {
        None
    }
}

fn check(found: u64, limit: u64) -> Result<()> {
    let too_long = Error::TooLong {
        key: "tokenizer.ggml.tokens",
        found: found.try_into().unwrap_or(usize::MAX),
        limit: limit.try_into().unwrap_or(usize::MAX),
    };
    if found > limit { Err(too_long) } else { Ok(()) }
}
