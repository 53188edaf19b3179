//! One step of a pre-tokenizer: a pattern, or a way to group digits.

use super::text::{Ch, Text, cut};
use super::words::{Cased, Lines, Words, cased, deepseek3, gpt2, kimi, words};
use crate::unicode::class::{L, N, P, SPACE};

/// One step; the expression that each stands for is beside its function.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    Gpt2,
    Words(Words),
    Cased(Cased),
    DeepSeek3(Lines),
    Kimi,
    /// `\p{N}{1,max}`
    Digits(usize),
    /// `[0-9][0-9][0-9]`
    ThreeDigits,
    /// Digits in threes from the right, their head with what precedes it.
    DigitsFromRight,
    /// `(?=(\d{3})+(?!\d))`
    BeforeThreeDigits,
    /// `[^\n]+|[\n]+`
    Lines,
    /// `[\r\n]`
    LineEnd,
    /// `\S+`
    NotSpace,
    /// `[\p{P}\$\+<=>\^~\|]+`, with the backtick or without
    Punctuation {
        backtick: bool,
    },
    /// `\s?\p{L}+`
    SpacedLetters,
    /// `\s?\p{P}+`
    SpacedPunctuation,
    /// `\s?[A-Za-zµÀ-ÖØ-ö...]+`: the cased letters of some old Unicode
    CasedLetters,
    /// `\s?[!-/:-~！-／：-～‘-‟　-。]+`
    WidePunctuation,
    /// `\s+$`
    TrailingSpaces,
    /// `[一-龥ࠀ-一가-퟿]+`
    Eastern,
    /// `[一-龥぀-ゟ゠-ヿ]+`
    HanAndKana,
    /// `[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+`
    YoutuScripts,
    /// `[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+`
    AsianScripts,
    /// ` ?[^(\s|.,!?…。，、।۔،)]+`
    NotSentenceMark,
    /// `<sentinel:[0-9]+>`
    Sentinel,
    /// `(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z`
    Image,
    /// `([\t\n]|    |  )`
    Indent,
    /// ``[\p{P}!-/:-@\[-`{-~]``
    OnePunctuation,
}

impl Rule {
    /// Cuts `piece` and adds the ends of its pieces.
    pub(crate) fn cut(&self, piece: &str, ends: &mut Vec<usize>) {
        let t = Text(piece);
        match self {
            Rule::Gpt2 => cut(t, ends, |i| gpt2(t, i)),
            Rule::Words(how) => cut(t, ends, |i| words(t, i, how)),
            Rule::Cased(how) => cut(t, ends, |i| cased(t, i, how)),
            Rule::DeepSeek3(lines) => cut(t, ends, |i| deepseek3(t, i, *lines)),
            Rule::Kimi => cut(t, ends, |i| kimi(t, i)),
            Rule::Digits(max) => cut(t, ends, |i| Some(t.run_of(i, *max, |ch| ch.is(N)))),
            Rule::ThreeDigits => cut(t, ends, |i| three_digits(t, i)),
            Rule::DigitsFromRight => digits_from_right(t, ends),
            Rule::BeforeThreeDigits => before_three_digits(t, ends),
            Rule::Lines => cut(t, ends, |i| lines(t, i)),
            Rule::LineEnd => cut(t, ends, |i| Some(t.run_of(i, 1, Ch::is_newline))),
            Rule::NotSpace => cut(t, ends, |i| Some(t.run(i, |ch| !ch.is(SPACE)))),
            Rule::Punctuation { backtick } => {
                cut(t, ends, |i| Some(t.run(i, |ch| punctuation(ch, *backtick))));
            }
            Rule::SpacedLetters => cut(t, ends, |i| spaced(t, i, |ch| ch.is(L))),
            Rule::SpacedPunctuation => cut(t, ends, |i| spaced(t, i, |ch| ch.is(P))),
            Rule::CasedLetters => cut(t, ends, |i| spaced(t, i, |ch| cased_letter(ch.c))),
            Rule::WidePunctuation => cut(t, ends, |i| spaced(t, i, |ch| wide_punctuation(ch.c))),
            Rule::TrailingSpaces => trailing_spaces(t, ends),
            Rule::Eastern => cut(t, ends, |i| Some(t.run(i, |ch| eastern(ch.c)))),
            Rule::HanAndKana => cut(t, ends, |i| Some(t.run(i, |ch| han_or_kana(ch.c)))),
            Rule::YoutuScripts => cut(t, ends, |i| youtu_scripts(t, i)),
            Rule::AsianScripts => cut(t, ends, |i| Some(t.run(i, |ch| asian(ch.c)))),
            Rule::NotSentenceMark => cut(t, ends, |i| not_sentence_mark(t, i)),
            Rule::Sentinel => cut(t, ends, |i| sentinel(t, i)),
            Rule::Image => cut(t, ends, |i| image(t, i)),
            Rule::Indent => cut(t, ends, |i| indent(t, i)),
            Rule::OnePunctuation => {
                cut(t, ends, |i| Some(t.run_of(i, 1, |ch| ch.is(P) || ch.is_ascii_punctuation())));
            }
        }
    }
}

fn three_digits(t: Text<'_>, i: usize) -> Option<usize> {
    let end = t.run_of(i, 3, |ch| ch.c.is_ascii_digit());
    (end == i + 3).then_some(end)
}

fn digits_from_right(t: Text<'_>, ends: &mut Vec<usize>) {
    let (mut i, mut start) = (0, 0);
    while i < t.0.len() {
        let end = t.run(i, |ch| ch.is(N));
        if end == i {
            i += t.at(i).len;
            continue;
        }
        let mut left = t.0[i..end].chars().count();
        while left > 0 {
            let group = (left - 1) % 3 + 1;
            i = t.run_of(i, group, |ch| ch.is(N));
            ends.push(i);
            left -= group;
        }
        start = end;
    }
    if start < i {
        ends.push(i);
    }
}

fn before_three_digits(t: Text<'_>, ends: &mut Vec<usize>) {
    let bytes = t.0.as_bytes();
    let mut digits = 0; // from here to the right
    let first = ends.len();
    for i in (1..bytes.len()).rev() {
        digits = if bytes[i].is_ascii_digit() { digits + 1 } else { 0 };
        if digits > 0 && digits % 3 == 0 {
            ends.push(i);
        }
    }
    ends[first..].reverse();
    if !bytes.is_empty() {
        ends.push(bytes.len());
    }
}

fn lines(t: Text<'_>, i: usize) -> Option<usize> {
    let newline = t.at(i).c == '\n';
    Some(t.run(i, |ch| (ch.c == '\n') == newline))
}

fn punctuation(ch: Ch, backtick: bool) -> bool {
    ch.is(P)
        || matches!(ch.c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|')
        || backtick && ch.c == '`'
}

/// `\s?[...]+`
fn spaced(t: Text<'_>, i: usize, keep: impl Fn(Ch) -> bool) -> Option<usize> {
    let first = t.at(i);
    let from = if first.is(SPACE) { i + first.len } else { i };
    let end = t.run(from, keep);
    (end > from).then_some(end)
}

fn trailing_spaces(t: Text<'_>, ends: &mut Vec<usize>) {
    let kept = t.0.trim_end_matches(crate::unicode::is_space).len();
    if kept > 0 {
        ends.push(kept);
    }
    if kept < t.0.len() {
        ends.push(t.0.len());
    }
}

fn wide_punctuation(c: char) -> bool {
    matches!(
        c,
        '!'..='/' | ':'..='~' | '！'..='／' | '：'..='～' | '‘'..='‟' | '\u{3001}'..='。'
    )
}

fn eastern(c: char) -> bool {
    matches!(c, '\u{800}'..='龥' | '가'..='\u{D7FF}') && !crate::unicode::is_space(c)
}

fn han_or_kana(c: char) -> bool {
    matches!(c, '一'..='龥' | '\u{3040}'..='\u{309F}' | '\u{30A0}'..='\u{30FF}')
}

fn youtu_scripts(t: Text<'_>, i: usize) -> Option<usize> {
    let script = |c: char| match c {
        '가'..='힣' | 'ㄱ'..='ㆎ' => 1,
        '！' | '…' | '“' | '”' | '‘' | '’' | '—' | '：' | '；' | '，' => 2,
        '、'..='\u{303F}' | '\u{FE30}'..='\u{FE4F}' => 2,
        'ㄅ'..='ㄯ' => 3,
        c if han_or_kana(c) => 4,
        _ => 0,
    };
    let first = script(t.at(i).c);
    (first != 0).then(|| t.run(i, |ch| script(ch.c) == first))
}

fn asian(c: char) -> bool {
    matches!(
        c,
        '一'..='\u{9FFF}'
            | '㐀'..='\u{4DBF}'
            | '\u{8C48}'..='\u{FAFF}' // from a look-alike of U+F900: what the reference has
            | '\u{3040}'..='\u{309F}'
            | '\u{30A0}'..='\u{30FF}'
            | '･'..='ﾟ'
            | '⼀'..='\u{2FDF}'
            | 'เ'..='\u{E7F}'
            | '\u{E80}'..='\u{EFF}'
            | 'ក'..='\u{17FF}'
            | 'က'..='႟'
            | 'ᄀ'..='ᇿ'
    )
}

fn not_sentence_mark(t: Text<'_>, i: usize) -> Option<usize> {
    let keep = |ch: Ch| {
        !ch.is(SPACE)
            && !matches!(ch.c, '(' | '|' | '.' | ',' | '!' | '?' | '…' | '。' | '，' | '、')
            && !matches!(ch.c, '।' | '۔' | '،' | ')')
    };
    let from = if t.at(i).c == ' ' { i + 1 } else { i };
    let end = t.run(from, keep);
    (end > from).then_some(end)
}

fn sentinel(t: Text<'_>, i: usize) -> Option<usize> {
    const OPEN: &str = "<sentinel:";
    let from = i + t.0[i..].starts_with(OPEN).then_some(OPEN.len())?;
    let end = t.run(from, |ch| ch.c.is_ascii_digit());
    (end > from && t.at(end).c == '>').then_some(end + 1)
}

fn image(t: Text<'_>, i: usize) -> Option<usize> {
    const OPEN: &str = "IMGIMG";
    let from = i + t.0[i..].starts_with(OPEN).then_some(OPEN.len())?;
    let end = t.run_of(from, 4, |ch| matches!(ch.c, 'A'..='I'));
    (end > from && t.at(end).c == 'Z').then_some(end + 1)
}

fn indent(t: Text<'_>, i: usize) -> Option<usize> {
    match t.at(i).c {
        '\t' | '\n' => Some(i + 1),
        ' ' if t.0[i..].starts_with("    ") => Some(i + 4),
        ' ' if t.0[i..].starts_with("  ") => Some(i + 2),
        _ => None,
    }
}

/// The letters of [`Rule::CasedLetters`], as the pattern lists them.
fn cased_letter(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphabetic();
    }
    let after = CASED_LETTERS.partition_point(|&(start, _)| start <= c);
    after > 0 && c <= CASED_LETTERS[after - 1].1
}

#[rustfmt::skip]
const CASED_LETTERS: [(char, char); 85] = [
    ('\u{B5}', '\u{B5}'), ('\u{C0}', '\u{D6}'), ('\u{D8}', '\u{F6}'), ('\u{F8}', '\u{1BA}'),
    ('\u{1BC}', '\u{1BF}'), ('\u{1C4}', '\u{293}'), ('\u{295}', '\u{2AF}'), ('\u{370}', '\u{373}'),
    ('\u{376}', '\u{376}'), ('\u{377}', '\u{377}'), ('\u{37B}', '\u{37D}'), ('\u{37F}', '\u{37F}'),
    ('\u{386}', '\u{386}'), ('\u{388}', '\u{38A}'), ('\u{38C}', '\u{38C}'), ('\u{38E}', '\u{3A1}'),
    ('\u{3A3}', '\u{3F5}'), ('\u{3F7}', '\u{481}'), ('\u{48A}', '\u{52F}'), ('\u{531}', '\u{556}'),
    ('\u{10A0}', '\u{10C5}'), ('\u{13A0}', '\u{13F5}'), ('\u{13F8}', '\u{13FD}'),
    ('\u{1C90}', '\u{1CBA}'), ('\u{1CBD}', '\u{1CBF}'), ('\u{1D00}', '\u{1D2B}'),
    ('\u{1D6B}', '\u{1D77}'), ('\u{1D79}', '\u{1D9A}'), ('\u{1E00}', '\u{1F15}'),
    ('\u{1F18}', '\u{1F1D}'), ('\u{1F20}', '\u{1F45}'), ('\u{1F48}', '\u{1F4D}'),
    ('\u{1F50}', '\u{1F57}'), ('\u{1F59}', '\u{1F59}'), ('\u{1F5B}', '\u{1F5B}'),
    ('\u{1F5D}', '\u{1F5D}'), ('\u{1F5F}', '\u{1F7D}'), ('\u{1F80}', '\u{1FB4}'),
    ('\u{1FB6}', '\u{1FBC}'), ('\u{1FBE}', '\u{1FBE}'), ('\u{1FC2}', '\u{1FC4}'),
    ('\u{1FC6}', '\u{1FCC}'), ('\u{1FD0}', '\u{1FD3}'), ('\u{1FD6}', '\u{1FDB}'),
    ('\u{1FE0}', '\u{1FEC}'), ('\u{1FF2}', '\u{1FF4}'), ('\u{1FF6}', '\u{1FFC}'),
    ('\u{2102}', '\u{2102}'), ('\u{2107}', '\u{2107}'), ('\u{210A}', '\u{2113}'),
    ('\u{2115}', '\u{2115}'), ('\u{2119}', '\u{211D}'), ('\u{2124}', '\u{2124}'),
    ('\u{2126}', '\u{2126}'), ('\u{2128}', '\u{2128}'), ('\u{212A}', '\u{212D}'),
    ('\u{212F}', '\u{2134}'), ('\u{2139}', '\u{2139}'), ('\u{213C}', '\u{213F}'),
    ('\u{2145}', '\u{2149}'), ('\u{214E}', '\u{214E}'), ('\u{2183}', '\u{2183}'),
    ('\u{2184}', '\u{2184}'), ('\u{2C00}', '\u{2C7B}'), ('\u{2C7E}', '\u{2CE4}'),
    ('\u{2CEB}', '\u{2CEE}'), ('\u{2CF2}', '\u{2CF2}'), ('\u{2CF3}', '\u{2CF3}'),
    ('\u{A640}', '\u{A66D}'), ('\u{A680}', '\u{A69B}'), ('\u{A722}', '\u{A76F}'),
    ('\u{A771}', '\u{A787}'), ('\u{A78B}', '\u{A78E}'), ('\u{AB70}', '\u{ABBF}'),
    ('\u{FB00}', '\u{FB06}'), ('\u{FB13}', '\u{FB17}'), ('\u{FF21}', '\u{FF3A}'),
    ('\u{FF41}', '\u{FF5A}'), ('\u{10400}', '\u{1044F}'), ('\u{104B0}', '\u{104D3}'),
    ('\u{104D8}', '\u{104FB}'), ('\u{10C80}', '\u{10CB2}'), ('\u{10CC0}', '\u{10CF2}'),
    ('\u{118A0}', '\u{118DF}'), ('\u{1E900}', '\u{1E943}'),
];
