//! Finds calls of tools in what a model writes.

mod colon;
mod cursor;
mod format;
mod python;
mod read;
mod tags;
mod tools;

use crate::thinking::begun_at_end;
use cursor::{Cursor, Stop};
use oprel_api::{Tool, ToolCall};
use tools::Tools;

pub use format::ToolFormat;

/// Longest call that is waited for; more than that is text.
const MOST_BYTES: usize = 1 << 18;

/// A call that is longer is read again only where it may have ended.
const SHORT_BYTES: usize = 1 << 12;

/// A piece of what a model writes.
#[derive(Clone, Debug, PartialEq)]
pub enum Spoken {
    /// Text of the answer.
    Text(String),
    /// A call, whole.
    Call(ToolCall),
}

/// Finds calls in a stream of text, which may be cut anywhere. What looks like a call and is none
/// comes out as text: nothing is lost but marks and space around calls.
#[derive(Clone, Debug)]
pub struct ToolCallParser {
    format: ToolFormat,
    /// A call of another is text.
    tools: Tools,
    held: String,
    /// The space and mark before the call in `held`; `None` outside of calls.
    announced: Option<Announced>,
    /// Whether anything but space and calls was written before.
    begun: bool,
    /// Whether a call is the last that was found.
    behind_call: bool,
    /// Bytes of `held` that are no whole call.
    tried: usize,
}

#[derive(Clone, Debug)]
struct Announced {
    text: String,
    /// The mark, empty where there is none.
    mark: &'static str,
}

/// Whether more can be said of what is held.
#[derive(PartialEq, Eq)]
enum Next {
    Goes,
    Waits,
}

impl ToolCallParser {
    /// A parser for calls of these tools.
    pub fn new(format: ToolFormat, tools: &[Tool]) -> ToolCallParser {
        ToolCallParser {
            format,
            tools: Tools::new(tools),
            held: String::new(),
            announced: None,
            begun: false,
            behind_call: false,
            tried: 0,
        }
    }

    /// Takes a piece of text, gives what is certain.
    pub fn push(&mut self, text: &str) -> Vec<Spoken> {
        self.held.push_str(text);
        let mut out = Vec::new();
        while self.step(false, &mut out) == Next::Goes {}
        out
    }

    /// Gives what is left when nothing more comes.
    pub fn finish(mut self) -> Vec<Spoken> {
        let mut out = Vec::new();
        while self.step(true, &mut out) == Next::Goes {}
        out
    }

    fn text(&mut self, text: String, out: &mut Vec<Spoken>) {
        if text.is_empty() {
            return;
        }
        self.begun |= !text.trim().is_empty();
        self.behind_call = false;
        match out.last_mut() {
            Some(Spoken::Text(last)) => last.push_str(&text),
            _ => out.push(Spoken::Text(text)),
        }
    }

    /// `end` where nothing more comes.
    fn step(&mut self, end: bool, out: &mut Vec<Spoken>) -> Next {
        match self.announced.take() {
            Some(announced) => self.read_call(announced, end, out),
            None if self.behind_call && self.skip_close() => Next::Goes,
            None => self.look_for_call(end, out),
        }
    }

    /// Drops a mark that ends calls, and the space before it.
    fn skip_close(&mut self) -> bool {
        let rest = self.held.trim_start();
        let closes = self.format.marks().closes;
        let Some(close) = closes.iter().find(|close| rest.starts_with(**close)) else {
            return false;
        };
        self.held.drain(..self.held.len() - rest.len() + close.len());
        true
    }

    fn look_for_call(&mut self, end: bool, out: &mut Vec<Spoken>) -> Next {
        let marks = self.format.marks();
        let rest = self.held.trim_start();
        if !self.begun
            && rest.chars().next().is_some_and(|c| self.format.may_begin(c))
            && !marks.opens.iter().any(|open| rest.starts_with(open) || open.starts_with(rest))
        {
            let text = self.held.drain(..self.held.len() - rest.len()).collect();
            self.announce(text, "");
            return Next::Goes;
        }
        let found = marks.opens.iter().filter_map(|open| Some((self.held.find(open)?, *open)));
        if let Some((at, mark)) = found.min_by_key(|(at, _)| *at) {
            let said = self.held[..at].trim_end().len();
            let before = self.held.drain(..said).collect();
            let text = self.held.drain(..at - said + mark.len()).collect();
            self.text(before, out);
            self.announce(text, mark);
            return Next::Goes;
        }
        let rest = self.held.trim_start();
        let may_be_mark = |rest: &str| {
            let closes = if self.behind_call { marks.closes } else { &[] };
            !end && marks.opens.iter().chain(closes).any(|mark| mark.starts_with(rest))
        };
        if rest.is_empty() && end && self.behind_call {
            self.held.clear();
            return Next::Waits;
        }
        if may_be_mark(rest) {
            return Next::Waits;
        }
        let mut sure = self.held.len();
        if !end {
            // Space before a call is nobody's, so it waits for what comes.
            let begun = marks.opens.iter().map(|open| begun_at_end(&self.held, open)).max();
            sure = self.held[..sure - begun.unwrap_or(0)].trim_end().len();
        }
        let text: String = self.held.drain(..sure).collect();
        self.text(text, out);
        Next::Waits
    }

    fn announce(&mut self, text: String, mark: &'static str) {
        self.announced = Some(Announced { text, mark });
        self.tried = 0;
    }

    fn read_call(&mut self, announced: Announced, end: bool, out: &mut Vec<Spoken>) -> Next {
        if !end && !self.may_have_ended() {
            self.announced = Some(announced);
            return Next::Waits;
        }
        let mut cursor = Cursor::new(&self.held, end);
        let found = if self.held.len() > MOST_BYTES {
            Err(Stop::No)
        } else {
            self.format.read(announced.mark, &mut cursor, &self.tools)
        };
        match found {
            Ok(calls) => {
                let used = cursor.at();
                self.begun |= calls.is_empty();
                out.extend(calls.into_iter().map(Spoken::Call));
                self.held.drain(..used);
                self.behind_call = true;
                Next::Goes
            }
            Err(Stop::More) => {
                self.tried = self.held.len();
                self.announced = Some(announced);
                Next::Waits
            }
            Err(Stop::No) => {
                // What announced it is text; what follows may hold another mark.
                self.text(announced.text, out);
                self.begun = true;
                Next::Goes
            }
        }
    }

    /// Whether reading again may help: long calls are not read at every piece.
    fn may_have_ended(&self) -> bool {
        let new = self.held.get(self.tried..).unwrap_or(&self.held);
        self.held.len() < SHORT_BYTES
            || self.held.len() > self.tried + self.tried / 8
            || new.contains(['}', ']', '>', '`', '{'])
    }
}

#[cfg(test)]
mod tests;
