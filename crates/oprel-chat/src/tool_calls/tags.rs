//! Calls that are written as markup, argument by argument. What an argument is, its tool's schema says.

use super::cursor::{Cursor, Read, Stop};
use super::tools::Tools;
use oprel_api::ToolCall;
use serde_json::{Map, Value};

/// How a call and its arguments are marked.
#[derive(Debug)]
pub(super) struct Tags {
    /// Before the name of a call.
    call: &'static str,
    /// Behind it.
    named: &'static str,
    /// Ends the call; any of these.
    ends: &'static [&'static str],
    /// Before the name of an argument.
    key: &'static str,
    /// Behind it, before its value.
    value: &'static str,
    /// Ends a value.
    value_end: &'static str,
}

/// `<function=f><parameter=a>1</parameter></function>`.
pub(super) const PARAMETERS: Tags = Tags {
    call: "<function=",
    named: ">",
    ends: &["</function>", "</tool_call>", "</seed:tool_call>"],
    key: "<parameter=",
    value: ">",
    value_end: "</parameter>",
};

/// `<invoke name="f"><parameter name="a">1</parameter></invoke>`.
pub(super) const INVOKE: Tags = Tags {
    call: "<invoke name=\"",
    named: "\">",
    ends: &["</invoke>"],
    key: "<parameter name=\"",
    value: ">",
    value_end: "</parameter>",
};

/// The same with a mark in each tag; an argument says whether it is a text.
pub(super) const DSML: Tags = Tags {
    call: "<｜DSML｜invoke name=\"",
    named: "\">",
    ends: &["</｜DSML｜invoke>"],
    key: "<｜DSML｜parameter name=\"",
    value: ">",
    value_end: "</｜DSML｜parameter>",
};

/// `f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>`.
pub(super) const ARGUMENTS: Tags = Tags {
    call: "",
    named: "<",
    ends: &["</tool_call>"],
    key: "<arg_key>",
    value: "</arg_key>",
    value_end: "</arg_value>",
};

impl Tags {
    /// One call; `begun` if the tag before its name was read.
    pub(super) fn call(
        &self,
        cursor: &mut Cursor<'_>,
        tools: &Tools,
        begun: bool,
    ) -> Read<ToolCall> {
        cursor.space();
        if !begun {
            cursor.expect(self.call)?;
        }
        let name = self.name(cursor, tools)?;
        let mut arguments = Map::new();
        loop {
            cursor.space();
            if self.ended(cursor)? {
                return tools.call(&name, None, Value::Object(arguments)).ok_or(Stop::No);
            }
            let (key, value) = self.argument(cursor, tools, &name)?;
            arguments.insert(key, value);
        }
    }

    fn name(&self, cursor: &mut Cursor<'_>, tools: &Tools) -> Read<String> {
        let Some(at) = cursor.rest().find(self.named) else {
            let begun = cursor.rest().trim();
            let may = begun.len() <= tools.longest() + self.named.len() && tools.begin_with(begun);
            return Err(if may { cursor.more() } else { Stop::No });
        };
        let name = cursor.rest()[..at].trim().to_owned();
        // A tag that follows is not part of the name's own.
        cursor.step(if self.named == "<" { at } else { at + self.named.len() });
        if tools.has(&name) { Ok(name) } else { Err(Stop::No) }
    }

    fn ended(&self, cursor: &mut Cursor<'_>) -> Read<bool> {
        any(cursor, self.ends)
    }

    fn argument(
        &self,
        cursor: &mut Cursor<'_>,
        tools: &Tools,
        name: &str,
    ) -> Read<(String, Value)> {
        cursor.expect(self.key)?;
        let head = cursor.until(self.value)?;
        let key = head.split('"').next().unwrap_or(head).trim().to_owned();
        if self.value_end == ARGUMENTS.value_end {
            cursor.space();
            cursor.expect("<arg_value>")?;
        }
        let written = self.value(cursor)?;
        let value = if head.contains("string=\"true\"") {
            Value::String(written.to_owned())
        } else {
            let own_line = self.value_end == PARAMETERS.value_end && self.key == PARAMETERS.key;
            tools.typed(name, &key, if own_line { line(written) } else { written })
        };
        Ok((key, value))
    }

    /// A value ends where another argument, or the end of the call, follows its tag.
    fn value<'a>(&self, cursor: &mut Cursor<'a>) -> Read<&'a str> {
        let text = cursor.rest();
        let mut from = 0;
        loop {
            let found = text[from..].find(self.value_end).ok_or(cursor.more())?;
            let mut behind = cursor.clone();
            behind.step(from + found + self.value_end.len());
            let end = behind.at();
            behind.space();
            let follows = [&[self.key], self.ends].concat();
            if any(&mut behind, &follows)? {
                let value = &text[..from + found];
                cursor.step(end - cursor.at());
                return Ok(value);
            }
            from += found + self.value_end.len();
        }
    }
}

/// Goes over one of these; whether one stands here.
pub(super) fn any(cursor: &mut Cursor<'_>, literals: &[&str]) -> Read<bool> {
    let mut may = false;
    for literal in literals {
        match cursor.has(literal) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(_) => may = true,
        }
    }
    if may { Err(Stop::More) } else { Ok(false) }
}

/// A value without the line breaks that set it on lines of its own.
fn line(written: &str) -> &str {
    let Some(text) = written.strip_prefix('\n') else { return written };
    text.strip_suffix('\n').unwrap_or(text)
}
