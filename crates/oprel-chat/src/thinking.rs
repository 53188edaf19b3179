//! Splits what a model writes into thinking and answer.

/// The tags around thinking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinkTags {
    /// Begins it.
    pub open: String,
    /// Ends it.
    pub close: String,
    /// Channels of harmony, where there are more than thinking and answer.
    channels: Option<Channels>,
}

/// What harmony writes where it does not go from thinking to the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Channels {
    /// Begins an answer without thinking; is not part of it.
    answer: &'static str,
    /// Ends thinking with a call of a tool, and is part of it.
    call: &'static str,
}

/// The channels of gpt-oss: it thinks in one message and answers in the next.
const HARMONY: (&str, &str, Channels) = (
    "<|channel|>analysis<|message|>",
    "<|end|><|start|>assistant<|channel|>final<|message|>",
    Channels {
        answer: "<|channel|>final<|message|>",
        call: "<|end|><|start|>assistant<|channel|>commentary",
    },
);

/// Pairs that models were trained on. A template that has both of a pair uses it.
const KNOWN: &[(&str, &str)] = &[
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<thinking>", "</thinking>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
];

/// A piece of what a model writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Text of thinking.
    Thinking(String),
    /// Text of the answer.
    Answer(String),
}

impl ThinkTags {
    /// A pair of tags.
    pub fn new(open: impl Into<String>, close: impl Into<String>) -> ThinkTags {
        ThinkTags { open: open.into(), close: close.into(), channels: None }
    }

    /// The tags that a template mentions, `None` if it mentions none that are known.
    pub fn of(template: &str) -> Option<ThinkTags> {
        let written = template.replace("\\n", "\n");
        let (open, close, channels) = HARMONY;
        if written.contains(open) && written.contains(channels.answer) {
            let channels = Some(channels);
            return Some(ThinkTags { channels, ..ThinkTags::new(open, close) });
        }
        let pair = KNOWN.iter().find(|(_, close)| written.contains(close))?;
        Some(ThinkTags::new(pair.0, pair.1))
    }

    /// Where a text closes thinking, and where the answer begins.
    fn closed(&self, text: &str) -> Option<(usize, usize)> {
        let plain = text.find(&self.close).map(|at| (at, at + self.close.len()));
        let call = self.channels.and_then(|c| text.find(c.call)).map(|at| (at, at));
        [plain, call].into_iter().flatten().min()
    }

    /// How many bytes at the end of a text may be the beginning of what closes thinking.
    fn closing(&self, text: &str) -> usize {
        let call = self.channels.map_or(0, |c| begun_at_end(text, c.call));
        begun_at_end(text, &self.close).max(call)
    }

    /// Whether a rendered prompt leaves thinking open, so that the model goes on inside of it.
    pub fn left_open_by(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open.trim_end())
    }
}

/// Where the text is that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Nothing but space so far.
    Start,
    /// Right behind the opening tag: space is dropped.
    Opened,
    Thinking,
    /// Right behind the closing tag: space is dropped.
    Closed,
    Answer,
}

/// Splits a stream of text into thinking and answer. Tags may be cut anywhere between pieces.
///
/// Thinking is looked for at the start only: an answer that mentions the tags is an answer. Space
/// around tags belongs to neither. A tag that never comes costs nothing: text is held back only
/// as long as it may be the beginning of one.
#[derive(Clone, Debug)]
pub struct ThinkSplitter {
    tags: ThinkTags,
    at: At,
    held: String,
}

impl ThinkSplitter {
    /// A splitter for text that begins outside of thinking, or inside if the prompt left it open.
    pub fn new(tags: ThinkTags, inside: bool) -> ThinkSplitter {
        ThinkSplitter { tags, at: if inside { At::Opened } else { At::Start }, held: String::new() }
    }

    /// Takes a piece of text, gives what is certain.
    pub fn push(&mut self, text: &str) -> Vec<Said> {
        self.held.push_str(text);
        let mut said = Vec::new();
        while self.step(&mut said) {}
        said
    }

    /// Gives what is left when nothing more comes.
    pub fn finish(mut self) -> Vec<Said> {
        let rest = std::mem::take(&mut self.held);
        match self.at {
            _ if rest.is_empty() => Vec::new(),
            At::Start | At::Answer => vec![Said::Answer(rest)],
            At::Thinking => vec![Said::Thinking(rest)],
            At::Opened | At::Closed => Vec::new(),
        }
    }

    /// Whether what is being written is thinking.
    pub fn is_thinking(&self) -> bool {
        matches!(self.at, At::Opened | At::Thinking)
    }

    /// Whether the last of what was written may be the beginning of the closing tag.
    pub fn may_close(&self) -> bool {
        self.is_thinking() && self.tags.closing(&self.held) > 0
    }

    /// Goes one step on; false if it needs more text.
    fn step(&mut self, said: &mut Vec<Said>) -> bool {
        match self.at {
            At::Start => self.look_for_open(),
            At::Opened | At::Closed => {
                self.held.drain(..self.held.len() - self.held.trim_start().len());
                if self.held.is_empty() {
                    return false;
                }
                self.at = if self.at == At::Opened { At::Thinking } else { At::Answer };
                true
            }
            At::Thinking => self.look_for_close(said),
            At::Answer => {
                if !self.held.is_empty() {
                    said.push(Said::Answer(std::mem::take(&mut self.held)));
                }
                false
            }
        }
    }

    fn look_for_open(&mut self) -> bool {
        let begun = self.held.trim_start();
        if let Some(rest) = begun.strip_prefix(self.tags.open.as_str()) {
            self.held = rest.to_owned();
            self.at = At::Opened;
            return true;
        }
        if let Some(rest) = self.tags.channels.and_then(|c| begun.strip_prefix(c.answer)) {
            self.held = rest.to_owned();
            self.at = At::Closed;
            return true;
        }
        let answers = self.tags.channels.is_some_and(|c| c.answer.starts_with(begun));
        if answers || self.tags.open.starts_with(begun) {
            return false;
        }
        self.at = At::Answer;
        true
    }

    fn look_for_close(&mut self, said: &mut Vec<Said>) -> bool {
        let (thought, found) = match self.tags.closed(&self.held) {
            Some((at, end)) => (self.held[..at].trim_end().len(), Some(end)),
            None => {
                let kept = self.held.len() - self.tags.closing(&self.held);
                (self.held[..kept].trim_end().len(), None)
            }
        };
        if thought > 0 {
            said.push(Said::Thinking(self.held[..thought].to_owned()));
        }
        match found {
            Some(end) => {
                self.held.drain(..end);
                self.at = At::Closed;
                true
            }
            None => {
                self.held.drain(..thought);
                false
            }
        }
    }
}

/// How many bytes at the end of a text may be the beginning of a tag.
pub(crate) fn begun_at_end(text: &str, tag: &str) -> usize {
    (1..=tag.len().min(text.len()))
        .rev()
        .filter(|&n| tag.is_char_boundary(n) && text.is_char_boundary(text.len() - n))
        .find(|&n| text.ends_with(&tag[..n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thinking and answer of a text that comes in pieces of so many characters.
    fn split(text: &str, inside: bool, size: usize) -> (String, String) {
        let mut splitter = ThinkSplitter::new(ThinkTags::new("<think>", "</think>"), inside);
        let chars: Vec<char> = text.chars().collect();
        let mut said = Vec::new();
        for piece in chars.chunks(size) {
            said.extend(splitter.push(&piece.iter().collect::<String>()));
        }
        said.extend(splitter.finish());
        let (mut thinking, mut answer) = (String::new(), String::new());
        for piece in said {
            match piece {
                Said::Thinking(text) => thinking += &text,
                Said::Answer(text) => answer += &text,
            }
        }
        (thinking, answer)
    }

    fn check(text: &str, inside: bool, thinking: &str, answer: &str) {
        for size in 1..=text.chars().count().max(1) {
            let split = split(text, inside, size);
            assert_eq!(split, (thinking.into(), answer.into()), "{text:?} by {size}");
        }
    }

    #[test]
    fn tags_are_found_wherever_the_text_is_cut() {
        check("<think>\nhm, a < b\n\nso</think>\n\nYes.\n", false, "hm, a < b\n\nso", "Yes.\n");
        check("\n <think>é</think>ü", false, "é", "ü");
        check("hm</think> Yes", true, "hm", "Yes");
    }

    #[test]
    fn an_answer_without_thinking_comes_as_it_is() {
        check("Yes, <think> is a tag.", false, "", "Yes, <think> is a tag.");
        check("<thin air>", false, "", "<thin air>");
        check("  <thi", false, "", "  <thi");
        check("", false, "", "");
    }

    #[test]
    fn thinking_that_never_ends_is_thinking() {
        check("<think>for ever </thin", false, "for ever </thin", "");
        check("<think></think>", false, "", "");
    }

    #[test]
    fn an_answer_is_not_held_back() {
        let mut splitter = ThinkSplitter::new(ThinkTags::new("<think>", "</think>"), false);
        assert_eq!(splitter.push("Y"), [Said::Answer("Y".into())]);
        assert_eq!(splitter.push(" <"), [Said::Answer(" <".into())]);
    }

    #[test]
    fn harmony_thinks_in_one_message_and_answers_in_the_next() {
        let tags = ThinkTags::of("<|channel|>analysis<|message|> <|channel|>final<|message|>");
        let tags = tags.unwrap();
        let (open, close) = (tags.open.clone(), tags.close.clone());
        let call = "<|end|><|start|>assistant<|channel|>commentary to=f<|message|>{}";
        let said = |text: &str| {
            let mut all = Vec::new();
            for size in 1..text.len() {
                let mut splitter = ThinkSplitter::new(tags.clone(), false);
                let mut said = [String::new(), String::new()];
                let pieces = text.as_bytes().chunks(size).map(|p| str::from_utf8(p).unwrap());
                let mut out: Vec<Said> = pieces.flat_map(|p| splitter.push(p)).collect();
                out.extend(splitter.finish());
                for piece in out {
                    match piece {
                        Said::Thinking(text) => said[0] += &text,
                        Said::Answer(text) => said[1] += &text,
                    }
                }
                all.push(said);
            }
            all.dedup();
            assert_eq!(all.len(), 1, "{all:?}");
            all.remove(0)
        };
        assert_eq!(said(&format!("{open}hm{close}Yes.")), ["hm", "Yes."]);
        assert_eq!(said("<|channel|>final<|message|>Yes."), ["", "Yes."]);
        assert_eq!(said(&format!("{open}hm{call}")), ["hm", call]);
        assert_eq!(said("Yes."), ["", "Yes."]);
    }

    #[test]
    fn tags_come_from_the_template() {
        assert_eq!(ThinkTags::of("{{ '<think>\\n\\n</think>' }}").unwrap().open, "<think>");
        assert_eq!(ThinkTags::of("x[/THINK]").unwrap().open, "[THINK]");
        assert_eq!(ThinkTags::of("plain"), None);
        let tags = ThinkTags::new("<think>", "</think>");
        assert!(tags.left_open_by("<|im_start|>assistant\n<think>\n"));
        assert!(!tags.left_open_by("<think>\n\n</think>\n\n"));
    }
}
