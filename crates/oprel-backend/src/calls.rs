//! How the calls of a model's format are held to their tools.

use oprel_chat::ToolFormat;
use oprel_constraint::CallPart::{Arguments, Name, Number, Quoted, Text};
use oprel_constraint::{CallFormat, CallFrame, CallPart};

/// A call as a JSON object, as most formats have it.
const OBJECT: &[CallPart] =
    &[Text("{\"name\": "), Quoted, Text(", \"arguments\": "), Arguments, Text("}")];

const NOTHING: CallFrame =
    CallFrame { may_open: "", open: "", call: OBJECT, between: None, close: "" };

/// What stands around the arguments of a call; formats whose arguments are not JSON have a name only.
pub(crate) fn call_format(format: ToolFormat) -> CallFormat {
    match format {
        ToolFormat::Tagged => CallFormat::Tagged,
        ToolFormat::Bare => CallFormat::Bare,
        ToolFormat::Listed => CallFormat::Listed,
        other => match frame(other) {
            Some(frame) => CallFormat::Framed(frame),
            None => CallFormat::Other(format!("{other:?}")),
        },
    }
}

/// Texts that open a call. One that looks like any JSON opens none.
pub(crate) fn opens(format: ToolFormat) -> Vec<String> {
    let mut opens: Vec<String> = format.opens().iter().map(|open| (*open).to_owned()).collect();
    if format == ToolFormat::Harmony {
        opens.push("<|channel|>commentary to=".into());
    }
    opens
}

/// Texts that open a call wherever they stand: no prose has them. A call in JSON without a mark is not
/// known to be one before its end.
pub(crate) fn certain_opens(format: ToolFormat) -> Vec<String> {
    let is_certain = |open: &String| open.starts_with(['<', '[']) && !open.starts_with("<function");
    let opens = opens(format).into_iter().filter(is_certain);
    if format == ToolFormat::Bare { Vec::new() } else { opens.collect() }
}

fn frame(format: ToolFormat) -> Option<CallFrame> {
    let list = |open, close| Some(CallFrame { open, between: Some(", "), close, ..NOTHING });
    match format {
        ToolFormat::ToolCallList => list("<TOOLCALL>[", "]</TOOLCALL>"),
        ToolFormat::ToolCallsList => list("<tool_calls>[", "]</tool_calls>"),
        ToolFormat::MarkedList => list("<|tool_call|>[", "]"),
        ToolFormat::Functools => list("functools[", "]"),
        ToolFormat::FunctionCall => Some(CallFrame { open: "<|function_call|>", ..NOTHING }),
        ToolFormat::Keyed => Some(CallFrame {
            open: "<|tools_prefix|>[",
            call: &[Text("{"), Quoted, Text(": "), Arguments, Text("}")],
            between: Some(", "),
            close: "]<|tools_suffix|>",
            ..NOTHING
        }),
        ToolFormat::Action | ToolFormat::ActionBlock => Some(action(format)),
        ToolFormat::DeepSeek | ToolFormat::DeepSeekPlain => Some(deepseek(format)),
        ToolFormat::Kimi => Some(CallFrame {
            open: "<|tool_calls_section_begin|>",
            call: &[
                Text("<|tool_call_begin|>functions."),
                Name,
                Text(":"),
                Number,
                Text("<|tool_call_argument_begin|>"),
                Arguments,
                Text("<|tool_call_end|>"),
            ],
            between: Some(""),
            close: "<|tool_calls_section_end|>",
            ..NOTHING
        }),
        ToolFormat::FunctionTag => Some(CallFrame {
            call: &[Text("<function="), Name, Text(">"), Arguments, Text("</function>")],
            between: Some(""),
            ..NOTHING
        }),
        // The prompt has the first mark already.
        ToolFormat::Recipient => Some(CallFrame {
            may_open: ">>>",
            call: &[Name, Text("\n"), Arguments],
            between: Some(">>>"),
            ..NOTHING
        }),
        // What follows the arguments ends the generation.
        ToolFormat::Harmony => Some(CallFrame {
            may_open: "<|start|>assistant",
            call: &[
                Text("<|channel|>commentary to=functions."),
                Name,
                Text(" <|constrain|>json<|message|>"),
                Arguments,
            ],
            ..NOTHING
        }),
        _ => None,
    }
}

fn action(format: ToolFormat) -> CallFrame {
    if format == ToolFormat::Action {
        return CallFrame {
            open: "<|START_ACTION|>[\n    ",
            call: &[
                Text("{\"tool_call_id\": \""),
                Number,
                Text("\", \"tool_name\": "),
                Quoted,
                Text(", \"parameters\": "),
                Arguments,
                Text("}"),
            ],
            between: Some(",\n    "),
            close: "\n]<|END_ACTION|>",
            ..NOTHING
        };
    }
    CallFrame {
        open: "Action:\n```json\n[\n    ",
        call: &[
            Text("{\n        \"tool_name\": "),
            Quoted,
            Text(",\n        \"parameters\": "),
            Arguments,
            Text("\n    }"),
        ],
        between: Some(",\n    "),
        close: "\n]```",
        ..NOTHING
    }
}

fn deepseek(format: ToolFormat) -> CallFrame {
    let (open, close) = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>");
    if format == ToolFormat::DeepSeekPlain {
        return CallFrame {
            open,
            call: &[
                Text("<｜tool▁call▁begin｜>"),
                Name,
                Text("<｜tool▁sep｜>"),
                Arguments,
                Text("<｜tool▁call▁end｜>"),
            ],
            between: Some(""),
            close,
            ..NOTHING
        };
    }
    CallFrame {
        open,
        call: &[
            Text("<｜tool▁call▁begin｜>function<｜tool▁sep｜>"),
            Name,
            Text("\n```json\n"),
            Arguments,
            Text("\n```<｜tool▁call▁end｜>"),
        ],
        between: Some("\n"),
        close,
        ..NOTHING
    }
}

#[cfg(test)]
mod tests;
