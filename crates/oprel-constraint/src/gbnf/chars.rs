//! Sets of characters.

/// A set of characters: ranges, ascending, apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chars(Vec<(u32, u32)>);

/// The largest character.
const LAST: u32 = 0x10_ffff;

/// No characters: UTF-16 pairs up what stands here.
const SURROGATES: (u32, u32) = (0xd800, 0xdfff);

impl Chars {
    pub(crate) fn one(c: u32) -> Chars {
        Chars(vec![(c, c)])
    }

    pub(crate) fn any() -> Chars {
        Chars(vec![(0, SURROGATES.0 - 1), (SURROGATES.1 + 1, LAST)])
    }

    pub(crate) fn of(mut ranges: Vec<(u32, u32)>) -> Chars {
        ranges.sort_unstable();
        let mut apart: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (from, to) in ranges {
            match apart.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => apart.push((from, to)),
            }
        }
        Chars(apart)
    }

    /// The characters that are not in the set.
    pub(crate) fn others(&self) -> Chars {
        let mut next = 0;
        let mut others = Vec::new();
        for &(from, to) in &self.0 {
            if from > next {
                others.push((next, from - 1));
            }
            next = to.saturating_add(1);
        }
        if next <= LAST {
            others.push((next, LAST));
        }
        Chars(others)
    }

    pub(crate) fn meets(&self, other: &Chars) -> bool {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            if x.1 < y.0 {
                a.next();
            } else if y.1 < x.0 {
                b.next();
            } else {
                return true;
            }
        }
        false
    }

    pub(crate) fn union(&self, other: &Chars) -> Chars {
        Chars::of(self.0.iter().chain(&other.0).copied().collect())
    }

    /// As a class of a regular expression.
    pub(crate) fn expression(&self) -> String {
        if let [(from, to)] = self.0[..]
            && from == to
        {
            return shown(from);
        }
        let (low, high) = SURROGATES;
        let mut out = String::from("[");
        let cut = self.0.iter().flat_map(|&(from, to)| {
            [(from, to.min(low - 1)), (from.max(high + 1), to)].into_iter().filter(|(f, t)| f <= t)
        });
        for (from, to) in cut {
            out += &shown(from);
            if to > from {
                out.push('-');
                out += &shown(to);
            }
        }
        if out.len() == 1 {
            // A class of nothing.
            return r"[^\x{0}-\x{10FFFF}]".into();
        }
        out + "]"
    }
}

fn shown(c: u32) -> String {
    match char::from_u32(c) {
        Some(c) if c.is_ascii_alphanumeric() => c.to_string(),
        _ => format!("\\x{{{c:X}}}"),
    }
}
