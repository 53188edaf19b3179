//! Finding special and user-defined tokens in a text, before the rest is tokenized.
//!
//! Longer tokens are looked for first, wherever they are, then the shorter ones in what is left; of
//! equally long ones that with the lower id.

use crate::trie::Trie;
use crate::vocab::{Vocab, attr};

/// The tokens that are looked for.
pub(crate) struct Specials {
    user_defined: Finder,
    all: Finder,
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    Token(u32),
    Text(&'t str),
}

struct Finder {
    trie: Trie,
    /// Ids by place in the order in which they are looked for.
    order: Vec<u32>,
}

impl Specials {
    pub(crate) fn new(vocab: &Vocab) -> Specials {
        let finder = |bits: u8, but: u8| {
            let ids =
                (0..vocab.len() as u32).filter(|&id| vocab.is(id, bits) && !vocab.is(id, but));
            Finder::new(vocab, ids.collect())
        };
        let parsed = attr::CONTROL | attr::UNKNOWN;
        Specials {
            user_defined: finder(attr::USER_DEFINED, parsed),
            all: finder(attr::USER_DEFINED | parsed, 0),
        }
    }

    /// Cuts `text` into tokens and the texts between them, none of them empty. Control tokens are
    /// found only if `parse_special`, user-defined ones always.
    pub(crate) fn cut<'t>(
        &self,
        vocab: &Vocab,
        text: &'t str,
        parse_special: bool,
    ) -> Vec<Part<'t>> {
        let finder = if parse_special { &self.all } else { &self.user_defined };
        let mut parts = Vec::from_iter(Some(Part::Text(text)).filter(|_| !text.is_empty()));
        for place in finder.occurring(text) {
            let id = finder.order[place as usize];
            parts = parts.into_iter().flat_map(|part| cut_at(vocab, part, id)).collect();
        }
        parts
    }
}

impl Finder {
    fn new(vocab: &Vocab, mut ids: Vec<u32>) -> Finder {
        ids.sort_by_key(|&id| std::cmp::Reverse(vocab.text(id).len()));
        let texts = ids.iter().map(|&id| vocab.text(id)).zip(0..);
        Finder { trie: Trie::new(texts.filter(|(text, _)| !text.is_empty())), order: ids }
    }

    /// The places in `order` of the tokens that occur in `text`, ascending.
    fn occurring(&self, text: &str) -> Vec<u32> {
        let bytes = text.as_bytes();
        let mut found = vec![false; self.order.len()];
        if found.is_empty() {
            return Vec::new();
        }
        for (i, &byte) in bytes.iter().enumerate() {
            let (mut at, mut next) = (self.trie.start(byte), i + 1);
            while let Some(node) = at {
                if let Some(place) = self.trie.id(node) {
                    found[place as usize] = true;
                }
                at = bytes.get(next).and_then(|&byte| self.trie.step(node, byte));
                next += 1;
            }
        }
        (0..).zip(found).filter_map(|(place, found)| found.then_some(place)).collect()
    }
}

/// Cuts a text at each occurrence of token `id`, dropping the white space that belongs to it.
fn cut_at<'t>(vocab: &Vocab, part: Part<'t>, id: u32) -> Vec<Part<'t>> {
    let Part::Text(mut rest) = part else { return vec![part] };
    let token = vocab.text(id);
    let mut parts = Vec::new();
    while let Some((mut before, mut after)) = rest.split_once(token) {
        if vocab.is(id, attr::LSTRIP) {
            before = before.trim_end_matches(is_space);
        }
        if vocab.is(id, attr::RSTRIP) {
            after = after.trim_start_matches(is_space);
        }
        parts.extend(Some(Part::Text(before)).filter(|_| !before.is_empty()));
        parts.push(Part::Token(id));
        rest = after;
    }
    parts.extend(Some(Part::Text(rest)).filter(|_| !rest.is_empty()));
    parts
}

/// C's `isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}
