//! Reading a text by characters with their classes, and cutting it where matches begin and end.

use crate::unicode::{class, class_of};

/// A text to match against. A position is a byte offset on a character boundary.
#[derive(Clone, Copy)]
pub(super) struct Text<'a>(pub(super) &'a str);

/// A character of a [`Text`]; past the end `len` and `bits` are 0.
#[derive(Clone, Copy)]
pub(super) struct Ch {
    pub(super) c: char,
    pub(super) bits: u8,
    pub(super) len: usize,
}

impl Ch {
    #[inline]
    pub(super) fn is(self, bits: u8) -> bool {
        self.bits & bits != 0
    }

    /// There is a character and it has none of `bits`.
    #[inline]
    pub(super) fn is_other_than(self, bits: u8) -> bool {
        self.len != 0 && self.bits & bits == 0
    }

    #[inline]
    pub(super) fn is_newline(self) -> bool {
        matches!(self.c, '\r' | '\n')
    }

    /// One of the ASCII characters of categories P and S.
    #[inline]
    pub(super) fn is_ascii_punctuation(self) -> bool {
        self.c.is_ascii_punctuation()
    }
}

impl Text<'_> {
    #[inline]
    pub(super) fn at(self, i: usize) -> Ch {
        match self.0.as_bytes().get(i) {
            Some(&b) if b < 0x80 => {
                let c = char::from(b);
                Ch { c, bits: class_of(c), len: 1 }
            }
            Some(_) => self.wide_at(i),
            None => Ch { c: '\0', bits: 0, len: 0 },
        }
    }

    fn wide_at(self, i: usize) -> Ch {
        let c = self.0.get(i..).and_then(|rest| rest.chars().next()).unwrap_or('\0');
        Ch { c, bits: class_of(c), len: c.len_utf8() }
    }

    /// The end of the longest run from `i` on of characters that `keep`.
    #[inline]
    pub(super) fn run(self, mut i: usize, keep: impl Fn(Ch) -> bool) -> usize {
        loop {
            let ch = self.at(i);
            if ch.len == 0 || !keep(ch) {
                return i;
            }
            i += ch.len;
        }
    }

    /// The end of a run of at most `max` characters.
    #[inline]
    pub(super) fn run_of(self, mut i: usize, max: usize, keep: impl Fn(Ch) -> bool) -> usize {
        for _ in 0..max {
            let ch = self.at(i);
            if ch.len == 0 || !keep(ch) {
                break;
            }
            i += ch.len;
        }
        i
    }
}

/// Cuts `text` at the ends of its matches, from left to right. What lies between two matches is
/// one piece. `end_of` gives the end of the match at a position, `None` or the position itself
/// where there is none.
#[inline]
pub(super) fn cut(text: Text<'_>, out: &mut Vec<usize>, end_of: impl Fn(usize) -> Option<usize>) {
    let (mut i, mut start) = (0, 0);
    while i < text.0.len() {
        match end_of(i) {
            Some(end) if end > i => {
                if start < i {
                    out.push(i);
                }
                out.push(end);
                (i, start) = (end, end);
            }
            _ => i += text.at(i).len.max(1),
        }
    }
    if start < i {
        out.push(i);
    }
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`: white space up to its last line end, or all but its last
/// character, which the next word may want, or all there is.
#[inline]
pub(super) fn spaces(text: Text<'_>, i: usize) -> Option<usize> {
    let run = space_run(text, i);
    if run.line > i { Some(run.line) } else { run.before_word(text, i) }
}

/// `\s+(?!\S)|\s+`
#[inline]
pub(super) fn spaces_in_line(text: Text<'_>, i: usize) -> Option<usize> {
    space_run(text, i).before_word(text, i)
}

/// White space from some position on.
struct SpaceRun {
    end: usize,
    /// Where its last character starts.
    last: usize,
    /// Where its last line end ends; the start of the run if it has none.
    line: usize,
}

impl SpaceRun {
    #[inline]
    fn before_word(&self, text: Text<'_>, start: usize) -> Option<usize> {
        if self.end == start {
            None
        } else if self.last > start && self.end < text.0.len() {
            Some(self.last)
        } else {
            Some(self.end)
        }
    }
}

#[inline]
fn space_run(text: Text<'_>, i: usize) -> SpaceRun {
    let mut run = SpaceRun { end: i, last: i, line: i };
    loop {
        let ch = text.at(run.end);
        if !ch.is(class::SPACE) {
            return run;
        }
        run.last = run.end;
        run.end += ch.len;
        if ch.is_newline() {
            run.line = run.end;
        }
    }
}

/// The end of `'s|'t|'re|'ve|'m|'ll|'d` at `i`, in either case if `any_case`.
#[inline]
pub(super) fn contraction(text: Text<'_>, i: usize, any_case: bool) -> Option<usize> {
    let bytes = text.0.as_bytes();
    if bytes.get(i) != Some(&b'\'') {
        return None;
    }
    let letter = |at: usize| {
        let b = bytes.get(at).copied().unwrap_or(0);
        if any_case { b.to_ascii_lowercase() } else { b }
    };
    match (letter(i + 1), letter(i + 2)) {
        (b's' | b't' | b'm' | b'd', _) => Some(i + 2),
        (b'r' | b'v', b'e') | (b'l', b'l') => Some(i + 3),
        _ => None,
    }
}
