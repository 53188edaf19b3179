//! Pre-tokenizers: how a text is cut into the words that byte-pair encoding never joins.
//!
//! A file names its pre-tokenizer; the name decides the rules and a few defaults. Rules are
//! applied one after the other, each to the pieces that the one before has left. No regular
//! expression is compiled or run: every pattern is written out in [`words`] and [`rules`].

mod names;
mod rules;
mod text;
mod words;

pub(crate) use names::{DEFAULT, Pre, named};
pub(crate) use rules::Rule;

/// Cuts `text` by all `rules` and gives the end of each piece.
pub(crate) fn split(text: &str, rules: &[Rule], ends: &mut Vec<usize>) {
    ends.clear();
    let Some((first, rest)) = rules.split_first() else {
        ends.push(text.len());
        return;
    };
    first.cut(text, ends);
    let (mut before, mut piece) = (Vec::new(), Vec::new());
    for rule in rest {
        std::mem::swap(ends, &mut before);
        ends.clear();
        let mut start = 0;
        for &end in &before {
            piece.clear();
            rule.cut(&text[start..end], &mut piece);
            ends.extend(piece.iter().map(|e| start + e));
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        let pre = named(name).expect("a known name");
        let mut ends = Vec::new();
        split(text, pre.rules, &mut ends);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts.zip(&ends).map(|(start, &end)| &text[start..end]).collect()
    }

    #[test]
    fn contractions_end_words() {
        assert_eq!(pieces("gpt-2", "we'll WE'LL"), ["we", "'ll", " WE", "'", "LL"]);
        assert_eq!(pieces("llama3", "we'll WE'LL"), ["we", "'ll", " WE", "'LL"]);
        assert_eq!(pieces("gpt-4o", "we'll WE'LL"), ["we'll", " WE'LL"]);
        assert_eq!(pieces("ufakzeka", "Ankara'da"), ["Ankara", "'da"]);
    }

    #[test]
    fn a_letter_that_is_both_cases_may_end_a_word() {
        assert_eq!(pieces("tekken", "aBcDÉFg ÉABC"), ["a", "Bc", "DÉFg", " É", "ABC"]);
    }

    #[test]
    fn digits_are_grouped_by_the_name_s_rule() {
        assert_eq!(pieces("qwen2", "1234"), ["1", "2", "3", "4"]);
        assert_eq!(pieces("llama3", "1234"), ["123", "4"]);
        assert_eq!(pieces("superbpe", "1234"), ["1", "234"]);
        assert_eq!(pieces("tiny_aya", "12345"), ["12", "345"]);
        assert_eq!(pieces("falcon", "12345"), ["123", "45"]);
    }

    #[test]
    fn the_last_space_goes_with_the_next_word() {
        assert_eq!(
            pieces("llama3", "a   b \n\n  c  "),
            ["a", "  ", " b", " \n\n", " ", " c", "  "]
        );
    }

    #[test]
    fn long_white_space_is_halved() {
        let text = format!("{}x", " ".repeat(1000));
        let lens: Vec<usize> = pieces("jais-2", &text).iter().map(|p| p.len()).collect();
        assert_eq!(lens, [512, 256, 128, 64, 32, 4, 2, 1, 2]);
    }

    #[test]
    fn no_piece_is_lost_whatever_the_name() {
        let text = "It's 1,234.5€ naïve\u{301}\u{1} \t\r\n\u{3000}東京ｶﾞ한국어 <sentinel:12>IMGIMGABZ\n\n👩‍👩‍👧 \u{E0100}x'LL/\n/ ";
        for name in names::ALL {
            assert_eq!(pieces(name, text).concat(), text, "{name}");
            assert!(pieces(name, "").concat().is_empty());
        }
    }
}
