//! SentencePiece's Unigram model: of all ways to spell a text, the one whose scores sum highest.

use crate::charsmap::CharsMap;
use crate::seam::SPACE;
use crate::trie::Trie;
use crate::vocab::{Vocab, attr};

/// How much less than the worst token an unknown character scores.
const UNKNOWN_PENALTY: f32 = 10.0;

/// The tokens by spelling and the normalisation before it.
pub(crate) struct Unigram {
    tokens: Trie,
    user_defined: Trie,
    chars: CharsMap,
    unknown_score: f32,
    pub(crate) add_space_prefix: bool,
    pub(crate) merge_spaces: bool,
}

impl Unigram {
    pub(crate) fn new(
        vocab: &Vocab,
        chars: CharsMap,
        add_space_prefix: bool,
        merge_spaces: bool,
    ) -> Unigram {
        let with = |bits| vocab.texts().zip(0..).filter(move |&(_, id)| vocab.is(id, bits));
        let worst = with(attr::NORMAL).map(|(_, id)| vocab.score(id)).fold(f32::MAX, f32::min);
        Unigram {
            tokens: Trie::new(with(attr::NORMAL | attr::USER_DEFINED | attr::UNUSED)),
            user_defined: Trie::new(with(attr::USER_DEFINED)),
            chars,
            unknown_score: worst - UNKNOWN_PENALTY,
            add_space_prefix,
            merge_spaces,
        }
    }

    /// Adds the tokens of `text`, in which no special token is left.
    pub(crate) fn tokenize(
        &self,
        vocab: &Vocab,
        text: &str,
        unknown: Option<u32>,
        out: &mut Vec<u32>,
    ) {
        let text = self.normalize(text.as_bytes());
        let best = self.best_paths(vocab, &text);
        let (start, mut end, mut after_unknown) = (out.len(), text.len(), false);
        while end > 0 {
            let step = best[end];
            let id = Some(step.id).filter(|&id| id != UNKNOWN).or(unknown);
            let is_unknown = id == unknown;
            out.extend(id.filter(|_| !(is_unknown && after_unknown)));
            after_unknown = is_unknown;
            end = step.from as usize;
        }
        out[start..].reverse();
    }

    /// For each end, the last step of the best way there.
    fn best_paths(&self, vocab: &Vocab, text: &[u8]) -> Vec<Step> {
        let mut best = vec![Step { id: UNKNOWN, from: 0, score: f64::MIN }; text.len() + 1];
        best[0].score = 0.0;
        let mut from = 0;
        while from < text.len() {
            let here = best[from].score;
            let mut reach = |id: u32, end: usize, score: f64| {
                if here + score > best[end].score {
                    best[end] = Step { id, from: from as u32, score: here + score };
                }
            };
            let next = (from + char_len(text[from])).min(text.len());
            let (mut whole_char, mut at) = (false, self.tokens.start(text[from]));
            let mut end = from + 1;
            while let Some(node) = at {
                if let Some(id) = self.tokens.id(node) {
                    whole_char |= end == next;
                    reach(id, end, score(vocab, id));
                }
                at = text.get(end).and_then(|&byte| self.tokens.step(node, byte));
                end += 1;
            }
            if !whole_char {
                reach(UNKNOWN, next, self.unknown_score.into());
            }
            from = next;
        }
        best
    }

    /// The text as the tokens have it: characters replaced, spaces as `▁`.
    fn normalize(&self, text: &[u8]) -> Vec<u8> {
        let mut space = [0; 3];
        let space = SPACE.encode_utf8(&mut space).as_bytes();
        let mut out = Vec::with_capacity(text.len() + text.len() / 2 + space.len());
        let (mut prefix_due, mut in_word) = (self.add_space_prefix, false);
        let mut rest = text;
        while !rest.is_empty() {
            let (normal, taken) = self.normal_prefix(rest);
            rest = &rest[taken..];
            for &byte in normal {
                if byte == b' ' {
                    in_word = false;
                    if !self.merge_spaces {
                        out.extend_from_slice(space);
                    }
                    continue;
                }
                if !in_word && (prefix_due || self.merge_spaces) {
                    out.extend_from_slice(space);
                    prefix_due = false;
                }
                in_word = true;
                out.push(byte);
            }
        }
        out
    }

    /// What the beginning of `text` becomes, and how long it is. Letters that a user-defined token
    /// begins with stay as they are.
    fn normal_prefix<'a>(&'a self, text: &'a [u8]) -> (&'a [u8], usize) {
        let kept = self.user_defined.depth(text);
        if kept > 0 {
            return (&text[..kept], kept);
        }
        if let Some((replacement, len)) = self.chars.longest(text) {
            return (replacement, len);
        }
        let len = text.first().map_or(0, |&b| char_len(b));
        match text.get(..len) {
            Some(c) if std::str::from_utf8(c).is_ok() => (c, len),
            _ => ("\u{FFFD}".as_bytes(), 1), // the rest of a character that was kept in part
        }
    }
}

/// The last step of the best way to some place.
#[derive(Clone, Copy)]
struct Step {
    id: u32,
    from: u32,
    score: f64,
}

/// The id of a step over a character that has no token.
const UNKNOWN: u32 = u32::MAX;

fn score(vocab: &Vocab, id: u32) -> f64 {
    if vocab.is(id, attr::USER_DEFINED) { 0.0 } else { f64::from(vocab.score(id)) }
}

/// The length of the character that begins with `byte`; 1 for a byte that begins none.
fn char_len(byte: u8) -> usize {
    match byte {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xFF => 4,
        _ => 1,
    }
}
