//! Splits what a model writes into thinking and answer.

mod channels;

use channels::Channels;

/// The tags around thinking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinkTags {
    /// Begins it.
    pub open: String,
    /// Ends it.
    pub close: String,
}

/// Pairs that models were trained on. A template that has both of a pair uses it.
const KNOWN: &[(&str, &str)] = &[
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<thinking>", "</thinking>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("◁think▷", "◁/think▷"),
    ("<thought>", "</thought>"),
    ("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]"),
];

/// Begins thinking where it is a message on a channel.
const ANALYSIS: &str = "<|channel|>analysis<|message|>";

/// Goes from thinking to the answer there.
const TO_FINAL: &str = "<|end|><|start|>assistant<|channel|>final<|message|>";

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
        ThinkTags { open: open.into(), close: close.into() }
    }

    /// The tags that a template mentions, `None` if it mentions none that are known.
    pub fn of(template: &str) -> Option<ThinkTags> {
        let written = template.replace("\\n", "\n");
        if written.contains("<|channel|>final<|message|>") {
            return Some(ThinkTags::new(ANALYSIS, TO_FINAL));
        }
        let pair = KNOWN.iter().find(|(_, close)| written.contains(close))?;
        Some(ThinkTags::new(pair.0, pair.1))
    }

    /// Whether the tags are channels of messages, which all that a model writes has to be on.
    pub fn are_channels(&self) -> bool {
        self.open == ANALYSIS
    }

    /// All texts around thinking that may be tokens of their own: whoever splits thinking off has to
    /// see their text, though they are never shown.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        let tags = [self.open.as_str(), self.close.as_str()];
        // Of `<|channel>thought` only the first part is a token of its own.
        let parts = tags.into_iter().filter_map(|tag| tag.get(..=tag.find('>')?));
        let channels = if self.are_channels() { channels::MARKS } else { &[] };
        tags.into_iter().chain(parts).chain(channels.iter().copied())
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
    channels: Option<Channels>,
}

impl ThinkSplitter {
    /// A splitter for text that begins outside of thinking, or inside of it.
    pub fn new(tags: ThinkTags, inside: bool) -> ThinkSplitter {
        let prompt = if inside && tags.are_channels() {
            "<|start|>assistant<|channel|>analysis<|message|>"
        } else {
            ""
        };
        let channels = tags.are_channels().then(|| Channels::behind(prompt));
        let at = if inside { At::Opened } else { At::Start };
        ThinkSplitter { tags, at, held: String::new(), channels }
    }

    /// A splitter for what follows a prompt.
    pub fn behind(tags: ThinkTags, prompt: &str) -> ThinkSplitter {
        let inside = tags.left_open_by(prompt);
        let channels = tags.are_channels().then(|| Channels::behind(prompt));
        ThinkSplitter { channels, ..ThinkSplitter::new(tags, inside) }
    }

    /// Takes a piece of text, gives what is certain.
    pub fn push(&mut self, text: &str) -> Vec<Said> {
        let mut said = Vec::new();
        if let Some(channels) = &mut self.channels {
            channels.push(text, &mut said);
            return said;
        }
        self.held.push_str(text);
        while self.step(&mut said) {}
        said
    }

    /// Gives what is left when nothing more comes.
    pub fn finish(mut self) -> Vec<Said> {
        if let Some(channels) = self.channels {
            let mut said = Vec::new();
            channels.finish(&mut said);
            return said;
        }
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
        match &self.channels {
            Some(channels) => channels.is_thinking(),
            None => matches!(self.at, At::Opened | At::Thinking),
        }
    }

    /// Whether the last of what was written may be the beginning of the closing tag.
    pub fn may_close(&self) -> bool {
        let held = self.channels.as_ref().map_or(self.held.as_str(), Channels::held);
        self.is_thinking() && begun_at_end(held, &self.tags.close) > 0
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
        if self.tags.open.starts_with(begun) {
            return false;
        }
        self.at = At::Answer;
        true
    }

    fn look_for_close(&mut self, said: &mut Vec<Said>) -> bool {
        let close = self.tags.close.as_str();
        let (thought, found) = match self.held.find(close) {
            Some(at) => (self.held[..at].trim_end().len(), Some(at + close.len())),
            None => {
                let kept = self.held.len() - begun_at_end(&self.held, close);
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
        let read = "<|start|>assistant to=f<|channel|>commentary json<|message|>{}";
        assert_eq!(said(&format!("{open}hm{call}")), ["hm", read]);
        assert_eq!(said("Yes."), ["", "Yes."]);
    }

    #[test]
    fn tags_come_from_the_template() {
        assert_eq!(ThinkTags::of("{{ '<think>\\n\\n</think>' }}").unwrap().open, "<think>");
        assert_eq!(ThinkTags::of("x[/THINK]").unwrap().open, "[THINK]");
        assert_eq!(ThinkTags::of("plain"), None);
        let channels = ThinkTags::of("<|channel|>final<|message|>").unwrap();
        assert!(channels.are_channels() && channels.tokens().any(|t| t == "<|constrain|>"));
        let tags = ThinkTags::new("<think>", "</think>");
        assert!(tags.left_open_by("<|im_start|>assistant\n<think>\n"));
        assert!(!tags.left_open_by("<think>\n\n</think>\n\n"));
    }
}
