//! Where a text in which `▁` stands for the space may be cut without changing its tokens.
//!
//! Models without a pre-tokenizer merge over whole lines. But where no token has `▁` after a given
//! character, nothing ever merges across that place, and the parts can be merged one by one.

/// The space of such vocabularies, U+2581.
pub(crate) const SPACE: char = '▁';

/// The characters after which a token may have `▁`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seams {
    joined: Vec<char>,
}

impl Seams {
    /// From the pairs of neighbours that tokens or merges have.
    pub(crate) fn new(before_space: impl Iterator<Item = char>) -> Seams {
        let mut joined: Vec<char> = before_space.filter(|&c| c != SPACE).collect();
        joined.sort_unstable();
        joined.dedup();
        Seams { joined }
    }

    /// Calls `each` with the parts of `text`.
    pub(crate) fn cut<'t>(&self, text: &'t str, mut each: impl FnMut(&'t str)) {
        let mut start = 0;
        for (i, _) in text.match_indices(SPACE) {
            let Some(before) = text[start..i].chars().next_back() else { continue };
            if before != SPACE && self.joined.binary_search(&before).is_err() {
                each(&text[start..i]);
                start = i;
            }
        }
        if start < text.len() {
            each(&text[start..]);
        }
    }
}

/// The characters that `text` has before a `▁`.
pub(crate) fn before_spaces(text: &str) -> impl Iterator<Item = char> + '_ {
    text.match_indices(SPACE).filter_map(|(i, _)| text[..i].chars().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_before_spaces_but_where_tokens_reach_across() {
        let seams = Seams::new([".▁", "▁▁a"].into_iter().flat_map(before_spaces));
        let mut parts = Vec::new();
        seams.cut("▁a▁▁b.▁c▁", |part| parts.push(part));
        assert_eq!(parts, ["▁a", "▁▁b.▁c", "▁"]);
    }
}
