//! Messages on channels, as gpt-oss writes them: `<|channel|>analysis<|message|>..<|end|>` is
//! thinking, what has a recipient is a call, the rest is the answer.

use super::{Said, begun_at_end};

const MESSAGE: &str = "<|message|>";
const START: &str = "<|start|>";
const CALL: &str = "<|call|>";

/// End a message.
const ENDS: &[&str] = &["<|end|>", "<|return|>", CALL, START, "<|channel|>"];

/// What the beginning of a message may begin with.
const HEADS: &[&str] = &[START, "<|channel|>", "to=", "<|constrain|>", MESSAGE];

/// All marks, which are tokens of their own.
pub(super) const MARKS: &[&str] =
    &[START, "<|channel|>", MESSAGE, "<|constrain|>", "<|end|>", "<|return|>", CALL];

/// Longest text between the beginning of a message and what it says.
const MOST_HEAD: usize = 512;

/// Splits messages on channels.
///
/// A call goes on with the answer as `<|start|>assistant to=functions.f<|channel|>commentary
/// json<|message|>{..}<|call|>`, however the model orders its head.
#[derive(Clone, Debug)]
pub(super) struct Channels {
    at: At,
    held: String,
    /// Whether thinking, or an answer, was said before.
    said: [bool; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before what a message says.
    Head,
    Body {
        kind: Kind,
        begun: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Thinking,
    Answer,
    Call,
}

impl Channels {
    /// For what follows this prompt.
    pub(super) fn behind(prompt: &str) -> Channels {
        let begun = prompt.rfind(START).map_or("", |at| &prompt[at..]);
        let at = match begun.split_once(MESSAGE) {
            Some((head, body)) if !ENDS.iter().any(|end| body.contains(end)) => {
                At::Body { kind: kind(head), begun: !body.trim().is_empty() }
            }
            _ => At::Head,
        };
        Channels { at, held: String::new(), said: [false; 2] }
    }

    /// Text of which more has to come.
    pub(super) fn held(&self) -> &str {
        &self.held
    }

    pub(super) fn is_thinking(&self) -> bool {
        matches!(self.at, At::Body { kind: Kind::Thinking, .. })
    }

    pub(super) fn push(&mut self, text: &str, said: &mut Vec<Said>) {
        self.held.push_str(text);
        while self.step(said) {}
    }

    pub(super) fn finish(mut self, said: &mut Vec<Said>) {
        let rest = std::mem::take(&mut self.held);
        match self.at {
            At::Head if is_head(&rest) => {}
            At::Head => self.say(Kind::Answer, false, &rest, said),
            At::Body { kind, begun } => self.say(kind, begun, &rest, said),
        }
    }

    fn step(&mut self, said: &mut Vec<Said>) -> bool {
        match self.at {
            At::Head => self.head(said),
            At::Body { kind, begun } => self.body(kind, begun, said),
        }
    }

    fn head(&mut self, said: &mut Vec<Said>) -> bool {
        if let Some(at) = self.held.find(MESSAGE)
            && at < MOST_HEAD
            && is_head(&self.held)
        {
            let head: String = self.held.drain(..at + MESSAGE.len()).collect();
            let kind = kind(&head);
            if let Some(recipient) = recipient(&head).filter(|_| kind == Kind::Call) {
                let head =
                    format!("{START}assistant to={recipient}<|channel|>commentary json{MESSAGE}");
                said.push(Said::Answer(head));
            }
            self.at = At::Body { kind, begun: false };
            return true;
        }
        if self.held.len() < MOST_HEAD && is_head(&self.held) {
            return false;
        }
        // No message, so it is what a message would say.
        self.at = At::Body { kind: Kind::Answer, begun: false };
        let first = self.held.chars().next().map_or(0, char::len_utf8);
        let text: String = self.held.drain(..first).collect();
        self.say(Kind::Answer, false, &text, said);
        true
    }

    fn body(&mut self, kind: Kind, begun: bool, said: &mut Vec<Said>) -> bool {
        let found = ENDS.iter().filter_map(|end| Some((self.held.find(end)?, *end)));
        let Some((at, end)) = found.min() else {
            let unsure = ENDS.iter().map(|end| begun_at_end(&self.held, end)).max();
            let sure = self.held.len() - unsure.unwrap_or(0);
            let text: String = self.held.drain(..sure).collect();
            self.say(kind, begun, &text, said);
            return false;
        };
        let mut text: String = self.held.drain(..at).collect();
        if kind == Kind::Call {
            text.push_str(CALL);
        }
        self.say(kind, begun, &text, said);
        // What begins the next message is part of its head.
        if ![START, "<|channel|>"].contains(&end) {
            self.held.drain(..end.len());
        }
        self.at = At::Head;
        true
    }

    fn say(&mut self, kind: Kind, begun: bool, text: &str, said: &mut Vec<Said>) {
        if text.is_empty() {
            return;
        }
        if let At::Body { begun, .. } = &mut self.at {
            *begun = true;
        }
        let before = match kind {
            Kind::Thinking => std::mem::replace(&mut self.said[0], true),
            Kind::Answer => std::mem::replace(&mut self.said[1], true),
            Kind::Call => false,
        };
        // Messages of a kind are paragraphs.
        let text = if before && !begun { format!("\n\n{text}") } else { text.to_owned() };
        said.push(match kind {
            Kind::Thinking => Said::Thinking(text),
            Kind::Answer | Kind::Call => Said::Answer(text),
        });
    }
}

/// Whether this is, or may become, the head of a message.
fn is_head(text: &str) -> bool {
    let text = text.trim_start();
    HEADS.iter().any(|head| head.starts_with(text) || text.starts_with(head))
}

fn kind(head: &str) -> Kind {
    let channel = head.split_once("<|channel|>").map_or("", |(_, channel)| channel.trim_start());
    if recipient(head).is_some() {
        Kind::Call
    } else if channel.starts_with("analysis") {
        Kind::Thinking
    } else {
        Kind::Answer
    }
}

/// Whom a message is for, if it is not for the user.
fn recipient(head: &str) -> Option<&str> {
    let (_, rest) = head.split_once("to=")?;
    let end = rest.find(|c: char| c.is_whitespace() || c == '<').unwrap_or(rest.len());
    Some(&rest[..end]).filter(|name| !name.is_empty() && *name != "user" && *name != "all")
}

#[cfg(test)]
mod tests;
