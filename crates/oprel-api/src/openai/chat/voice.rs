//! Says what the sequences of a chat say.

use serde_json::{Map, Value, json};

use crate::dialect::{Moment, Voice, total};
use crate::openai::{finish_reason, late_error, logprobs, more, seconds, usage_json};
use crate::{Answer, EndReason, Event, Piece, Sampled, ToolCall, Truncation, Usage, sse};

/// The voice of `/v1/chat/completions`.
pub(super) struct ChatVoice {
    answers: Vec<Said>,
    include_usage: bool,
    logprobs: bool,
    /// No answer calls more than one tool.
    one_call: bool,
    /// Calls that were said, over all answers: ids without a model's are made of it.
    calls: usize,
    /// What is in every chunk, from the moment the stream began.
    head: Map<String, Value>,
    over: bool,
}

/// How far an answer is.
#[derive(Clone, Default)]
struct Said {
    calls: usize,
    truncated: Vec<Truncation>,
    usage: Usage,
    ended: bool,
}

impl ChatVoice {
    pub(super) fn new(n: u32, include_usage: bool, logprobs: bool, one_call: bool) -> ChatVoice {
        ChatVoice {
            answers: vec![Said::default(); n as usize],
            include_usage,
            logprobs,
            one_call,
            calls: 0,
            head: Map::new(),
            over: false,
        }
    }

    fn head(moment: &Moment, object: &str) -> Map<String, Value> {
        let mut head = Map::new();
        head.insert("id".into(), json!(format!("chatcmpl-{}", moment.id)));
        head.insert("object".into(), json!(object));
        head.insert("created".into(), json!(seconds(moment)));
        head.insert("model".into(), json!(moment.model));
        head.insert("system_fingerprint".into(), json!("fp_oprel"));
        head
    }

    fn chunk(&self, rest: Value) -> Vec<u8> {
        sse::data(&with(&self.head, rest))
    }

    /// A chunk in which one answer goes on.
    fn delta(&self, index: usize, delta: Value, tokens: &[Sampled]) -> Vec<u8> {
        let mut choice = json!({"index": index, "delta": delta});
        if self.logprobs && !tokens.is_empty() {
            choice["logprobs"] = logprobs::of_chat(tokens);
        }
        choice["finish_reason"] = Value::Null;
        self.chunk(json!({"choices": [choice]}))
    }

    fn piece(&self, index: usize, piece: &Piece, delta: Value) -> Vec<u8> {
        // Tokens without text are said only to those who count them.
        let heard = !piece.text.is_empty() || (self.logprobs && !piece.tokens.is_empty());
        if heard { self.delta(index, delta, &piece.tokens) } else { Vec::new() }
    }

    fn call(&mut self, moment: &Moment, index: usize, call: ToolCall) -> Vec<u8> {
        let Some(said) = self.answers.get_mut(index) else { return Vec::new() };
        if self.one_call && said.calls > 0 {
            return Vec::new();
        }
        let mut json = json!({"index": said.calls});
        said.calls += 1;
        fill(&mut json, call_json(moment, self.calls, &call));
        self.calls += 1;
        self.delta(index, json!({"tool_calls": [json]}), &[])
    }

    fn end(&mut self, index: usize, end: &EndReason) -> Vec<u8> {
        let Some(said) = self.answers.get_mut(index) else { return Vec::new() };
        said.ended = true;
        let reason = finish_reason(Some(end), said.calls > 0);
        let choice = json!({"index": index, "delta": {}, "finish_reason": reason});
        let mut rest = json!({"choices": [choice]});
        if let Some(more) = more(&said.truncated, Some(end)) {
            rest["oprel"] = more;
        }
        let mut bytes = self.chunk(rest);
        if self.answers.iter().all(|said| said.ended) {
            self.over = true;
            if self.include_usage {
                let usage = usage_json(&total(self.answers.iter().map(|said| &said.usage)));
                bytes.extend(self.chunk(json!({"choices": [], "usage": usage})));
            }
            bytes.extend_from_slice(b"data: [DONE]\n\n");
        }
        bytes
    }

    fn choice(&mut self, moment: &Moment, index: usize, answer: &Answer) -> Value {
        let most = if self.one_call { 1 } else { usize::MAX };
        let calls = answer.tool_calls.iter().take(most).map(|call| {
            self.calls += 1;
            call_json(moment, self.calls - 1, call)
        });
        let calls: Vec<Value> = calls.collect();
        let content = match answer.text.as_str() {
            "" if !calls.is_empty() => Value::Null,
            text => json!(text),
        };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !answer.thinking.is_empty() {
            fill(&mut message, thinking(&answer.thinking));
        }
        let reason = finish_reason(answer.end.as_ref(), !calls.is_empty());
        if !calls.is_empty() {
            message["tool_calls"] = json!(calls);
        }
        let logprobs = match self.logprobs {
            true => logprobs::of_chat(&answer.tokens),
            false => Value::Null,
        };
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason})
    }
}

impl Voice for ChatVoice {
    fn stream_type(&self) -> &'static str {
        sse::TYPE
    }

    fn begin(&mut self, moment: &Moment) -> Vec<u8> {
        self.head = ChatVoice::head(moment, "chat.completion.chunk");
        let first = json!({"role": "assistant", "content": ""});
        (0..self.answers.len()).flat_map(|index| self.delta(index, first.clone(), &[])).collect()
    }

    fn say(&mut self, moment: &Moment, answer: usize, event: Event) -> Vec<u8> {
        if self.over || self.answers.get(answer).is_none_or(|said| said.ended) {
            return Vec::new();
        }
        match event {
            Event::Text(piece) => self.piece(answer, &piece, json!({"content": piece.text})),
            Event::Thinking(piece) => self.piece(answer, &piece, thinking(&piece.text)),
            Event::ToolCall(call) => self.call(moment, answer, call),
            Event::Truncated(cut) => {
                self.answers[answer].truncated.push(cut);
                Vec::new()
            }
            Event::Prompt(_) => Vec::new(),
            Event::Usage(usage) => {
                self.answers[answer].usage = usage;
                Vec::new()
            }
            Event::End(end) => self.end(answer, &end),
            Event::Error(failure) => {
                self.over = true;
                sse::data(&late_error(&failure))
            }
        }
    }

    fn whole(&mut self, moment: &Moment, answers: Vec<Answer>) -> Value {
        let usage = usage_json(&total(answers.iter().map(|answer| &answer.usage)));
        let choices: Vec<Value> = answers
            .iter()
            .enumerate()
            .map(|(index, answer)| self.choice(moment, index, answer))
            .collect();
        let mut rest = json!({"choices": choices, "usage": usage});
        let mores = answers.iter().map(|answer| more(&answer.truncated, answer.end.as_ref()));
        if let Some(more) = mores.flatten().next() {
            rest["oprel"] = more;
        }
        with(&ChatVoice::head(moment, "chat.completion"), rest)
    }
}

/// Thinking, by both names that clients know.
fn thinking(text: &str) -> Value {
    json!({"reasoning": text, "reasoning_content": text})
}

/// A call, whole. Its arguments are a text; without an id of the model's it gets one.
fn call_json(moment: &Moment, nth: usize, call: &ToolCall) -> Value {
    let id = call.id.clone().unwrap_or_else(|| format!("call_{}{nth}", moment.id));
    let function = json!({"name": call.name, "arguments": call.arguments_text()});
    json!({"id": id, "type": "function", "function": function})
}

fn fill(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

fn with(head: &Map<String, Value>, rest: Value) -> Value {
    let mut all = Value::Object(head.clone());
    fill(&mut all, rest);
    all
}
