//! Strings as Python cuts them: by characters, with Python's idea of space and of lines.

/// Whether `str.isspace` counts a character as space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `text.strip()`.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `text.splitlines(keepends)`.
pub(super) fn split_lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| ends_line(*c)) {
        let end = at + if rest[at..].starts_with("\r\n") { 2 } else { c.len_utf8() };
        lines.push(&rest[..if keep_ends { end } else { at }]);
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

fn ends_line(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r'
            | '\x0b'
            | '\x0c'
            | '\x1c'
            | '\x1d'
            | '\x1e'
            | '\u{85}'
            | '\u{2028}'
            | '\u{2029}'
    )
}

/// `text.split(None, most)`: at runs of space, with none at the ends.
pub(super) fn split_space(text: &str, most: Option<usize>) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        if most.is_some_and(|most| parts.len() >= most) {
            parts.push(rest);
            break;
        }
        let end = rest.find(is_space).unwrap_or(rest.len());
        parts.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(is_space);
    }
    parts
}

/// `text.rsplit(None, most)`.
pub(super) fn rsplit_space(text: &str, most: Option<usize>) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        if most.is_some_and(|most| parts.len() >= most) {
            parts.push(rest);
            break;
        }
        let start = rest
            .rfind(is_space)
            .map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
        parts.push(&rest[start..]);
        rest = rest[..start].trim_end_matches(is_space);
    }
    parts.reverse();
    parts
}

/// The byte where the character of this number begins; the end for one past the last.
pub(super) fn byte_of(text: &str, char_idx: usize) -> usize {
    text.char_indices().nth(char_idx).map_or(text.len(), |(at, _)| at)
}

/// How many characters come before this byte.
pub(super) fn char_of(text: &str, byte: usize) -> usize {
    text[..byte].chars().count()
}

/// `text.capitalize()`.
pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => title_char(first) + &chars.as_str().to_lowercase(),
        None => String::new(),
    }
}

/// `text.title()`: each run of cased letters begins with a capital.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.push_str(&title_char(c));
        }
        inside = is_cased(c);
    }
    out
}

/// The title case of a character: as upper case, but only its first letter is a capital.
fn title_char(c: char) -> String {
    if let '\u{1c4}'..='\u{1cc}' | '\u{1f1}'..='\u{1f3}' = c {
        // The digraphs have a title case of their own, in the middle of each three.
        return match c {
            '\u{1c4}'..='\u{1c6}' => 'ǅ',
            '\u{1c7}'..='\u{1c9}' => 'ǈ',
            '\u{1ca}'..='\u{1cc}' => 'ǋ',
            _ => 'ǲ',
        }
        .to_string();
    }
    let mut upper = c.to_uppercase();
    upper.next().into_iter().chain(upper.flat_map(char::to_lowercase)).collect()
}

pub(super) fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase()
}

/// `text.swapcase()`.
pub(super) fn swap_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}

/// `text.expandtabs(size)`.
pub(super) fn expand_tabs(text: &str, size: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' if size > 0 => {
                let n = size - column % size;
                out.push_str(&" ".repeat(n));
                column += n;
            }
            '\t' => {}
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    out
}

/// `text.replace(old, new, most)`; an empty `old` is found around every character.
pub(super) fn replace(text: &str, old: &str, new: &str, most: Option<usize>) -> String {
    match most {
        None => text.replace(old, new),
        Some(most) => text.replacen(old, new, most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_python_ends_them() {
        assert_eq!(split_lines("a\nb\r\nc\x0bd\u{2028}", false), ["a", "b", "c", "d"]);
        assert_eq!(split_lines("a\r\n\nb", true), ["a\r\n", "\n", "b"]);
        assert!(split_lines("", false).is_empty());
    }

    #[test]
    fn splitting_at_space_keeps_the_rest_whole() {
        assert_eq!(split_space("  a  b c ", None), ["a", "b", "c"]);
        assert_eq!(split_space("  a  b c ", Some(1)), ["a", "b c "]);
        assert_eq!(rsplit_space(" a  b c ", Some(1)), [" a  b", "c"]);
        assert!(split_space("  ", None).is_empty());
    }

    #[test]
    fn titles_begin_each_run_of_letters() {
        assert_eq!(title("they're bill's 2nd"), "They'Re Bill'S 2Nd");
        assert_eq!(capitalize("ßA élan"), "Ssa élan");
    }
}
