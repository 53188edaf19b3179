//! Says what a sequence says, in blocks.

use serde_json::{Value, json};

use super::{counted, late_error, stop_reason, usage_json};
use crate::dialect::{Moment, Voice, total};
use crate::openai::more;
use crate::{Answer, EndReason, Event, ToolCall, Truncation, Usage, sse};

/// Stands where a signature of thinking must not be empty. It proves nothing.
const SIGNATURE: &str = "b3ByZWw=";

/// The voice of `/v1/messages`.
pub(super) struct MessageVoice {
    /// The client's stop texts.
    stops: Vec<String>,
    /// No answer calls more than one tool.
    one_call: bool,
    open: Option<Open>,
    /// Blocks that were opened.
    blocks: usize,
    calls: usize,
    truncated: Vec<Truncation>,
    usage: Usage,
    over: bool,
}

/// The kind of block that goes on.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    Text,
    Thinking,
}

impl MessageVoice {
    pub(super) fn new(stops: Vec<String>, one_call: bool) -> MessageVoice {
        MessageVoice {
            stops,
            one_call,
            open: None,
            blocks: 0,
            calls: 0,
            truncated: Vec::new(),
            usage: Usage::default(),
            over: false,
        }
    }

    fn start(&mut self, block: Value) -> Vec<u8> {
        self.blocks += 1;
        let index = self.blocks - 1;
        sse::typed(&json!({"type": "content_block_start", "index": index, "content_block": block}))
    }

    fn delta(&self, delta: Value) -> Vec<u8> {
        let index = self.blocks - 1;
        sse::typed(&json!({"type": "content_block_delta", "index": index, "delta": delta}))
    }

    fn stop(&self) -> Vec<u8> {
        sse::typed(&json!({"type": "content_block_stop", "index": self.blocks - 1}))
    }

    /// Closes the block that goes on, if one does.
    fn close(&mut self) -> Vec<u8> {
        match self.open.take() {
            None => Vec::new(),
            Some(Open::Text) => self.stop(),
            Some(Open::Thinking) => {
                let signed = json!({"type": "signature_delta", "signature": SIGNATURE});
                [self.delta(signed), self.stop()].concat()
            }
        }
    }

    /// Text of a kind, in a block of that kind.
    fn text(&mut self, kind: Open, text: &str) -> Vec<u8> {
        if text.is_empty() {
            return Vec::new();
        }
        let mut bytes = Vec::new();
        if self.open != Some(kind) {
            bytes = self.close();
            bytes.extend(match kind {
                Open::Text => self.start(json!({"type": "text", "text": ""})),
                Open::Thinking => {
                    self.start(json!({"type": "thinking", "thinking": "", "signature": ""}))
                }
            });
            self.open = Some(kind);
        }
        bytes.extend(self.delta(match kind {
            Open::Text => json!({"type": "text_delta", "text": text}),
            Open::Thinking => json!({"type": "thinking_delta", "thinking": text}),
        }));
        bytes
    }

    fn call(&mut self, moment: &Moment, call: &ToolCall) -> Vec<u8> {
        if self.one_call && self.calls > 0 {
            return Vec::new();
        }
        let mut block = call_block(moment, self.calls, call);
        let input = block["input"].take().to_string();
        block["input"] = json!({});
        self.calls += 1;
        let delta = json!({"type": "input_json_delta", "partial_json": input});
        [self.close(), self.start(block), self.delta(delta), self.stop()].concat()
    }

    fn end(&mut self, end: &EndReason) -> Vec<u8> {
        self.over = true;
        let (reason, stop) = stop_reason(Some(end), self.calls > 0, &self.stops);
        let mut last = json!({
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": stop},
            "usage": usage_json(&self.usage),
        });
        if let Some(more) = more(&self.truncated, Some(end)) {
            last["oprel"] = more;
        }
        let stopped = sse::typed(&json!({"type": "message_stop"}));
        [self.close(), sse::typed(&last), stopped].concat()
    }
}

impl Voice for MessageVoice {
    fn stream_type(&self) -> &'static str {
        sse::TYPE
    }

    fn begin(&mut self, moment: &Moment) -> Vec<u8> {
        let prompt_tokens = moment.prompt_tokens.unwrap_or(0);
        let usage = usage_json(&Usage { prompt_tokens, ..Usage::default() });
        let message = message(moment, Vec::new(), None, None, usage);
        sse::typed(&json!({"type": "message_start", "message": message}))
    }

    fn say(&mut self, moment: &Moment, answer: usize, event: Event) -> Vec<u8> {
        if self.over || answer > 0 {
            return Vec::new();
        }
        match event {
            Event::Text(piece) => self.text(Open::Text, &piece.text),
            Event::Thinking(piece) => self.text(Open::Thinking, &piece.text),
            Event::ToolCall(call) => self.call(moment, &call),
            Event::Truncated(cut) => {
                self.truncated.push(cut);
                Vec::new()
            }
            Event::Prompt(_) => Vec::new(),
            Event::Usage(usage) => {
                self.usage = usage;
                Vec::new()
            }
            Event::End(end) => self.end(&end),
            Event::Error(failure) => {
                self.over = true;
                sse::typed(&late_error(&failure, &moment.id))
            }
        }
    }

    fn whole(&mut self, moment: &Moment, answers: Vec<Answer>) -> Value {
        let usage = usage_json(&total(answers.iter().map(|answer| &answer.usage)));
        let answer = answers.into_iter().next().unwrap_or_default();
        let mut content = Vec::new();
        if !answer.thinking.is_empty() {
            let thinking = &answer.thinking;
            content.push(json!({"type": "thinking", "thinking": thinking, "signature": SIGNATURE}));
        }
        if !answer.text.is_empty() {
            content.push(json!({"type": "text", "text": answer.text}));
        }
        let most = if self.one_call { 1 } else { usize::MAX };
        let calls = answer.tool_calls.iter().take(most).enumerate();
        content.extend(calls.map(|(at, call)| call_block(moment, at, call)));
        let called = !answer.tool_calls.is_empty();
        let (reason, stop) = stop_reason(answer.end.as_ref(), called, &self.stops);
        let mut message = message(moment, content, Some(reason), stop, usage);
        if let Some(more) = more(&answer.truncated, answer.end.as_ref()) {
            message["oprel"] = more;
        }
        message
    }
}

/// The voice of `/v1/messages/count_tokens`: it has one thing to say.
pub(super) struct CountVoice;

impl Voice for CountVoice {
    fn stream_type(&self) -> &'static str {
        sse::TYPE
    }

    fn begin(&mut self, _: &Moment) -> Vec<u8> {
        Vec::new()
    }

    fn say(&mut self, _: &Moment, _: usize, _: Event) -> Vec<u8> {
        Vec::new()
    }

    fn whole(&mut self, moment: &Moment, answers: Vec<Answer>) -> Value {
        let of_answer = answers.first().map(|answer| answer.usage.prompt_tokens);
        counted(moment.prompt_tokens.or(of_answer).unwrap_or(0))
    }
}

fn message(
    moment: &Moment,
    content: Vec<Value>,
    reason: Option<&str>,
    stop: Option<&str>,
    usage: Value,
) -> Value {
    json!({
        "id": format!("msg_{}", moment.id),
        "type": "message",
        "role": "assistant",
        "model": moment.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": stop,
        "usage": usage,
    })
}

/// A call, whole. Its input is an object, whatever the model wrote; without an id of the model's it
/// gets one.
fn call_block(moment: &Moment, nth: usize, call: &ToolCall) -> Value {
    let id = call.id.clone().unwrap_or_else(|| format!("toolu_{}{nth}", moment.id));
    let input = match &call.arguments {
        object @ Value::Object(_) => object.clone(),
        other => json!({"arguments": other}),
    };
    json!({"type": "tool_use", "id": id, "name": call.name, "input": input})
}

#[cfg(test)]
mod tests;
