//! The patterns that cut a text into words, each written out by hand.
//!
//! Each function gives the end of the match at a position. The patterns are llama.cpp's (the
//! expression stands above each function), and so is what they mean: `\p{..}` by Unicode 15.1,
//! `\s` is White_Space, upper and lower case are told apart among ASCII letters alone.

use super::text::{Ch, Text, contraction, spaces, spaces_in_line};
use crate::unicode::class::{L, M, N, P, S, SPACE};

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
#[inline]
pub(super) fn gpt2(text: Text<'_>, i: usize) -> Option<usize> {
    if let Some(end) = contraction(text, i, false) {
        return Some(end);
    }
    let start = text.at(i);
    let first = if start.c == ' ' { text.at(i + 1) } else { start };
    let from = if start.c == ' ' { i + 1 } else { i };
    if first.is(L) {
        Some(text.run(from, |ch| ch.is(L)))
    } else if first.is(N) {
        Some(text.run(from, |ch| ch.is(N)))
    } else if first.is_other_than(SPACE | L | N) {
        Some(text.run(from, |ch| ch.is_other_than(SPACE | L | N)))
    } else {
        spaces_in_line(text, i)
    }
}

/// The ways in which the descendants of cl100k's pattern differ.
#[derive(Clone, Copy)]
pub(crate) struct Words {
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)` first.
    pub(super) contractions: bool,
    /// The classes of a word's characters: `\p{L}`, perhaps with `\p{M}`.
    pub(super) letters: u8,
    /// The most digits in one piece.
    pub(super) digits: usize,
    /// What may follow punctuation.
    pub(super) tail: Tail,
    /// Long white space is cut at powers of two.
    pub(super) halving_spaces: bool,
    /// `(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`: words joined by single spaces are one piece.
    pub(super) joined: bool,
}

/// What may follow ` ?[^\s\p{L}\p{N}]+`.
#[derive(Clone, Copy)]
pub(crate) enum Tail {
    /// Nothing.
    None,
    /// `[\r\n]*`
    Newlines,
    /// `[\r\n/]*`
    NewlinesAndSlashes,
    /// `[\r\n/]?`
    OneNewlineOrSlash,
}

/// Llama 3's pattern.
pub(super) const LLAMA3: Words = Words {
    contractions: true,
    letters: L,
    digits: 3,
    tail: Tail::Newlines,
    halving_spaces: false,
    joined: false,
};

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
#[inline]
pub(super) fn words(text: Text<'_>, i: usize, how: &Words) -> Option<usize> {
    if how.contractions
        && let Some(end) = contraction(text, i, true)
    {
        return Some(end);
    }
    let first = text.at(i);
    if first.is(N) {
        return Some(text.run_of(i, how.digits, |ch| ch.is(N)));
    }
    if !first.is_newline()
        && let Some(end) = letters(text, i, first, how)
    {
        return Some(end);
    }
    let not_punctuation = SPACE | L | N | how.letters;
    punctuation(text, i, not_punctuation, how.tail)
        .or_else(|| if how.halving_spaces { spaces_halving(text, i) } else { spaces(text, i) })
}

#[inline]
fn letters(text: Text<'_>, i: usize, first: Ch, how: &Words) -> Option<usize> {
    let after = i + first.len;
    if how.joined {
        let from = if first.is(L) { i } else { after };
        return text.at(from).is(L).then(|| joined_words(text, from));
    }
    (first.is(how.letters) || text.at(after).is(how.letters))
        .then(|| text.run(after, |ch| ch.is(how.letters)))
}

/// `(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`
fn joined_words(text: Text<'_>, mut i: usize) -> usize {
    loop {
        i = text.run(i + text.at(i).len, |ch| ch.is(M));
        let next = text.at(i);
        if next.c == ' ' && text.at(i + 1).is(L) {
            i += 1;
        } else if !next.is(L) {
            return i;
        }
    }
}

/// ` ?[^...]+` and its tail, where `...` are the classes of `not`.
#[inline]
fn punctuation(text: Text<'_>, i: usize, not: u8, tail: Tail) -> Option<usize> {
    let from = if text.at(i).c == ' ' { i + 1 } else { i };
    if !text.at(from).is_other_than(not) {
        return None;
    }
    let end = text.run(from, |ch| ch.is_other_than(not));
    let newline_or_slash = |ch: Ch| ch.is_newline() || ch.c == '/';
    Some(match tail {
        Tail::None => end,
        Tail::Newlines => text.run(end, Ch::is_newline),
        Tail::NewlinesAndSlashes => text.run(end, newline_or_slash),
        Tail::OneNewlineOrSlash => text.run_of(end, 1, newline_or_slash),
    })
}

/// `\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|...|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}`
fn spaces_halving(text: Text<'_>, i: usize) -> Option<usize> {
    let space = |ch: Ch| ch.is(SPACE);
    let run = text.run(i, space);
    if let Some(end) = spaces(text, i).filter(|&end| text.0[i..end].ends_with(['\r', '\n'])) {
        return Some(end);
    }
    for n in [512, 256, 128, 64, 32, 16, 8, 4, 2, 1] {
        let end = text.run_of(i, n, space);
        let whole = text.0[i..end].chars().count() == n;
        if whole && (end < run || end == text.0.len()) {
            return Some(end);
        }
    }
    (run > i).then(|| i + text.at(i).len)
}

/// The ways in which the descendants of o200k's pattern differ.
#[derive(Clone, Copy)]
pub(crate) struct Cased {
    /// Marks belong to words.
    pub(super) marks: bool,
    /// `aB` are two words.
    pub(super) split_case: bool,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)?` ends a word.
    pub(super) contractions: bool,
    /// The most digits in one piece.
    pub(super) digits: usize,
}

/// `[^\r\n\p{L}\p{N}]?U*V+c?|[^\r\n\p{L}\p{N}]?U+V*c?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
/// where U is a letter but `[a-z]`, V a letter but `[A-Z]`, c a contraction.
#[inline]
pub(super) fn cased(text: Text<'_>, i: usize, how: &Cased) -> Option<usize> {
    let first = text.at(i);
    let after = (!first.is(L | N) && !first.is_newline()).then_some(i + first.len);
    let word = None
        .or_else(|| upper_then_lower(text, after?, how))
        .or_else(|| upper_then_lower(text, i, how))
        .or_else(|| upper(text, after?, how))
        .or_else(|| upper(text, i, how));
    match word {
        Some(end) if how.contractions => Some(contraction(text, end, true).unwrap_or(end)),
        Some(end) => Some(end),
        None if first.is(N) => Some(text.run_of(i, how.digits, |ch| ch.is(N))),
        None => punctuation(text, i, SPACE | L | N, Tail::NewlinesAndSlashes)
            .or_else(|| spaces(text, i)),
    }
}

impl Cased {
    #[inline]
    fn letter(&self, ch: Ch) -> bool {
        ch.is(if self.marks { L | M } else { L })
    }

    #[inline]
    fn is_upper(&self, ch: Ch) -> bool {
        self.letter(ch) && !(self.split_case && ch.c.is_ascii_lowercase())
    }

    #[inline]
    fn is_lower(&self, ch: Ch) -> bool {
        self.letter(ch) && !(self.split_case && ch.c.is_ascii_uppercase())
    }
}

/// `U*V+`: as many U as leave a V; letters that are both may serve as either.
#[inline]
fn upper_then_lower(text: Text<'_>, i: usize, how: &Cased) -> Option<usize> {
    let uppers = text.run(i, |ch| how.is_upper(ch));
    let lowers = text.run(uppers, |ch| how.is_lower(ch));
    if lowers > uppers {
        return Some(lowers);
    }
    let run = text.0.get(i..uppers)?;
    let (at, c) = run.char_indices().rfind(|&(at, _)| how.is_lower(text.at(i + at)))?;
    Some(i + at + c.len_utf8())
}

/// `U+V*` where `U*V+` has failed: no V follows.
#[inline]
fn upper(text: Text<'_>, i: usize, how: &Cased) -> Option<usize> {
    let end = text.run(i, |ch| how.is_upper(ch));
    (end > i).then_some(end)
}

/// Where DeepSeek 3's pattern has `[\r\n]*` after punctuation and `\s*[\r\n]+`, Spark's has
/// nothing and `[\r\n]`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Lines {
    Together,
    Single,
}

/// `[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
#[inline]
pub(super) fn deepseek3(text: Text<'_>, i: usize, lines: Lines) -> Option<usize> {
    let first = text.at(i);
    let after = i + first.len;
    if first.is_ascii_punctuation() && text.at(after).c.is_ascii_alphabetic() {
        return Some(text.run(after, |ch| ch.c.is_ascii_alphabetic()));
    }
    let may_precede = !first.is_newline() && !first.is(L | P | S);
    if first.is(L | M) || may_precede && text.at(after).is(L | M) {
        return Some(text.run(after, |ch| ch.is(L | M)));
    }
    let from = if first.c == ' ' { after } else { i };
    if text.at(from).is(P | S) {
        let end = text.run(from, |ch| ch.is(P | S));
        return Some(match lines {
            Lines::Together => text.run(end, Ch::is_newline),
            Lines::Single => end,
        });
    }
    match lines {
        Lines::Together => spaces(text, i),
        Lines::Single if first.is_newline() => Some(after),
        Lines::Single => spaces_in_line(text, i),
    }
}

/// Kimi K2's pattern: `\p{Han}+`, then o200k's without case, Han or marks, and without slashes.
#[inline]
pub(super) fn kimi(text: Text<'_>, i: usize) -> Option<usize> {
    let first = text.at(i);
    if is_han(first.c) {
        return Some(text.run(i, |ch| is_han(ch.c)));
    }
    let letter = |ch: Ch| ch.is(L) && !is_han(ch.c);
    let may_precede = !first.is_newline() && !first.is(L | N);
    if letter(first) || may_precede && letter(text.at(i + first.len)) {
        let end = text.run(i + first.len, letter);
        return Some(contraction(text, end, true).unwrap_or(end));
    }
    if first.is(N) {
        return Some(text.run_of(i, 3, |ch| ch.is(N)));
    }
    punctuation(text, i, SPACE | L | N, Tail::Newlines).or_else(|| spaces(text, i))
}

fn is_han(c: char) -> bool {
    matches!(
        c,
        '\u{4E00}'..='\u{9FFF}'
            | '\u{3400}'..='\u{4DBF}'
            | '\u{20000}'..='\u{2A6DF}'
            | '\u{2A700}'..='\u{2EBEF}'
            | '\u{F900}'..='\u{FAFF}'
            | '\u{2F800}'..='\u{2FA1F}'
    )
}
