//! Reads what follows the mark of a call.

use super::cursor::{Cursor, Read, Stop};
use super::format::ToolFormat;
use super::tags::{self, Tags};
use super::tools::Tools;
use super::{colon, python};
use oprel_api::ToolCall;
use serde_json::Value;

/// Longest text between the mark of a call and its arguments.
const MOST_HEAD: usize = 256;

/// How objects that are calls may begin, where they come without a mark.
const FIRST_KEYS: &[&str] =
    &["\"name\"", "\"type\"", "\"function\"", "\"id\"", "\"parameters\"", "\"arguments\""];

impl ToolFormat {
    /// Whether a call may begin here without a mark, where nothing was said before.
    pub(super) fn may_begin(self, c: char) -> bool {
        match self {
            ToolFormat::Bare => matches!(c, '{' | '['),
            ToolFormat::Pythonic => c == '[',
            ToolFormat::Recipient => true,
            _ => false,
        }
    }

    /// Reads calls behind a mark, or behind none where it is empty.
    pub(super) fn read(
        self,
        mark: &str,
        cursor: &mut Cursor<'_>,
        tools: &Tools,
    ) -> Read<Vec<ToolCall>> {
        match self {
            ToolFormat::Tagged
            | ToolFormat::ToolCallList
            | ToolFormat::ToolCallsList
            | ToolFormat::MarkedList
            | ToolFormat::Functools
            | ToolFormat::Keyed
            | ToolFormat::FunctionCall
            | ToolFormat::Action => json(cursor, tools),
            ToolFormat::Bare => bare(mark, cursor, tools),
            ToolFormat::ActionBlock => {
                cursor.space();
                cursor.has("```json")?;
                json(cursor, tools)
            }
            ToolFormat::Pythonic | ToolFormat::PythonTagged => python_list(mark, cursor, tools),
            ToolFormat::ToolCode => python::lines(cursor, tools, "```"),
            ToolFormat::FunctionCalls => python::lines(cursor, tools, "</function_calls>"),
            ToolFormat::Listed => {
                cursor.space();
                if matches!(cursor.peek()?, '[' | '{') {
                    json(cursor, tools)
                } else {
                    self.named(cursor, tools)
                }
            }
            ToolFormat::Harmony | ToolFormat::FunctionTag | ToolFormat::Recipient => {
                self.named(cursor, tools)
            }
            ToolFormat::DeepSeek | ToolFormat::DeepSeekPlain => {
                self.section(mark, cursor)?;
                self.named(cursor, tools)
            }
            ToolFormat::Kimi | ToolFormat::Fields => {
                self.section(mark, cursor)?;
                self.named(cursor, tools)
            }
            ToolFormat::ParameterTags => {
                marked(&tags::PARAMETERS, mark, "<function=", cursor, tools)
            }
            ToolFormat::Invoke => marked(&tags::INVOKE, mark, "<invoke name=\"", cursor, tools),
            ToolFormat::DeepSeekMarkup => {
                marked(&tags::DSML, mark, "<｜DSML｜invoke name=\"", cursor, tools)
            }
            ToolFormat::ArgumentTags => marked(&tags::ARGUMENTS, mark, "", cursor, tools),
            ToolFormat::FunctionGemma | ToolFormat::Gemma4 => one(colon::call(cursor, tools)),
        }
    }

    /// Goes behind the mark of a section's first call, if `mark` is that of the section.
    fn section(self, mark: &str, cursor: &mut Cursor<'_>) -> Read<()> {
        let [section, call] = self.opens() else { return Ok(()) };
        if mark == *section {
            cursor.space();
            cursor.expect(call)?;
        }
        Ok(())
    }

    /// A name, and arguments in JSON.
    fn named(self, cursor: &mut Cursor<'_>, tools: &Tools) -> Read<Vec<ToolCall>> {
        if self == ToolFormat::Recipient && cursor.has("all\n")? {
            return Ok(Vec::new());
        }
        let Some(brace) = cursor.rest().find('{') else {
            let head = cursor.rest();
            let may = head.len() < MOST_HEAD && self.may_name(head, tools);
            return Err(if may { cursor.more() } else { Stop::No });
        };
        let head = &cursor.rest()[..brace];
        let (name, id) = self.name(head).ok_or(Stop::No)?;
        if brace > MOST_HEAD || !tools.has(name) {
            return Err(Stop::No);
        }
        let (name, id) = (name.to_owned(), id.map(str::to_owned));
        cursor.step(brace);
        let arguments = cursor.object()?;
        one(tools.call(&name, id, arguments).ok_or(Stop::No))
    }

    /// Whether this may be the beginning of what stands before arguments; where the name comes
    /// first, it has to be a tool's.
    fn may_name(self, head: &str, tools: &Tools) -> bool {
        match self {
            ToolFormat::FunctionTag | ToolFormat::Recipient | ToolFormat::Listed => {
                tools.begin_with(head.trim())
            }
            _ => true,
        }
    }

    /// The name, and the id if there is one, of what stands before the arguments.
    fn name(self, head: &str) -> Option<(&str, Option<&str>)> {
        let head = head.trim();
        match self {
            ToolFormat::Listed => {
                let head = head.strip_suffix("[ARGS]").unwrap_or(head);
                let (name, id) =
                    head.split_once("[CALL_ID]").map_or((head, None), |(n, i)| (n, Some(i)));
                Some((name.trim(), id.map(str::trim)))
            }
            ToolFormat::Kimi => {
                let id = head.strip_suffix("<|tool_call_argument_begin|>")?.trim();
                let name = id.strip_prefix("functions.").unwrap_or(id);
                Some((name.rsplit_once(':').map_or(name, |(name, _)| name), Some(id)))
            }
            ToolFormat::DeepSeek | ToolFormat::DeepSeekPlain => {
                let head = head.strip_suffix("```json").unwrap_or(head).trim();
                let head = head.strip_suffix("<｜tool▁sep｜>").unwrap_or(head);
                Some((head.rsplit("<｜tool▁sep｜>").next()?.trim(), None))
            }
            ToolFormat::Fields => {
                let (id, name) = head.split_once("<|tool_call:name|>")?;
                Some((name.strip_suffix("<|tool_call:args|>")?.trim(), Some(id.trim())))
            }
            ToolFormat::Harmony => {
                let end = head.find(|c: char| c.is_whitespace() || c == '<').unwrap_or(head.len());
                let name = &head[..end];
                Some((name.strip_prefix("functions.").unwrap_or(name), None))
            }
            ToolFormat::FunctionTag => Some((head.strip_suffix('>')?.trim(), None)),
            _ => Some((head, None)),
        }
    }
}

fn one(call: Read<ToolCall>) -> Read<Vec<ToolCall>> {
    call.map(|call| vec![call])
}

/// A call, or a list of calls, in JSON.
fn json(cursor: &mut Cursor<'_>, tools: &Tools) -> Read<Vec<ToolCall>> {
    cursor.space();
    let value: Value = cursor.json()?;
    tools.calls(&value).ok_or(Stop::No)
}

/// Calls as in Python, or in JSON.
fn python_list(mark: &str, cursor: &mut Cursor<'_>, tools: &Tools) -> Read<Vec<ToolCall>> {
    cursor.space();
    let mut ahead = cursor.clone();
    ahead.expect("[")?;
    ahead.space();
    match ahead.peek()? {
        '{' => objects(mark, ahead, cursor, tools),
        _ => python::list(cursor, tools),
    }
}

fn bare(mark: &str, cursor: &mut Cursor<'_>, tools: &Tools) -> Read<Vec<ToolCall>> {
    cursor.space();
    match cursor.peek()? {
        '[' => python_list(mark, cursor, tools),
        '{' => objects(mark, cursor.clone(), cursor, tools),
        _ => one(python::call(cursor, tools)),
    }
}

/// Calls in JSON, the first of which begins at `ahead`. Without a mark, what is none is known by its
/// first key, and need not be waited for.
fn objects(
    mark: &str,
    mut ahead: Cursor<'_>,
    cursor: &mut Cursor<'_>,
    tools: &Tools,
) -> Read<Vec<ToolCall>> {
    ahead.expect("{")?;
    ahead.space();
    if mark.is_empty() && !tags::any(&mut ahead, FIRST_KEYS)? {
        return Err(Stop::No);
    }
    json(cursor, tools)
}

/// A call in markup; `own` is the mark that is the beginning of the call itself.
fn marked(
    tags: &Tags,
    mark: &str,
    own: &str,
    cursor: &mut Cursor<'_>,
    tools: &Tools,
) -> Read<Vec<ToolCall>> {
    one(tags.call(cursor, tools, mark == own))
}
