//! Says what a sequence says, in items.

use serde_json::{Map, Value, json};

use super::output::{Growing, Kind, call_item, entries};
use super::tools::Space;
use crate::dialect::{Moment, Voice, total};
use crate::openai::{more, seconds};
use crate::{
    Answer, Cause, EndReason, ErrorKind, Event, Failure, Piece, Sampled, ToolCall, Truncation,
    Usage, sse,
};

/// The voice of `/v1/responses`.
pub(super) struct ResponseVoice {
    /// What the answer repeats of the request.
    echo: Value,
    spaces: Vec<Space>,
    logprobs: bool,
    /// No answer calls more than one tool.
    one_call: bool,
    since: u64,
    /// Events that were said.
    said: u64,
    /// Items that are done.
    items: Vec<Value>,
    /// The item that goes on; its index is the number of those that are done.
    open: Option<Growing>,
    /// Tokens before the first text of an item.
    held: Vec<Sampled>,
    calls: usize,
    truncated: Vec<Truncation>,
    usage: Usage,
    over: bool,
}

impl ResponseVoice {
    pub(super) fn new(
        echo: Value,
        spaces: Vec<Space>,
        logprobs: bool,
        one_call: bool,
    ) -> ResponseVoice {
        ResponseVoice {
            echo,
            spaces,
            logprobs,
            one_call,
            since: 0,
            said: 0,
            items: Vec::new(),
            open: None,
            held: Vec::new(),
            calls: 0,
            truncated: Vec::new(),
            usage: Usage::default(),
            over: false,
        }
    }

    /// An event with its number in the stream.
    fn event(&mut self, kind: &str, rest: Value) -> Vec<u8> {
        let mut event = Map::new();
        event.insert("type".into(), json!(kind));
        event.insert("sequence_number".into(), json!(self.said));
        self.said += 1;
        if let Value::Object(rest) = rest {
            event.extend(rest);
        }
        sse::typed(&Value::Object(event))
    }

    /// An event about the part of the item that goes on.
    fn of_part(&mut self, kind: &str, item: &Growing, rest: Value) -> Vec<u8> {
        let mut all = json!({"item_id": item.id, "output_index": self.items.len()});
        let index = match item.kind {
            Kind::Message => "content_index",
            Kind::Reasoning => "summary_index",
        };
        all[index] = json!(0);
        if let (Value::Object(all), Value::Object(rest)) = (&mut all, rest) {
            all.extend(rest);
        }
        self.event(kind, all)
    }

    /// Text of a kind, in an item of that kind.
    fn text(&mut self, moment: &Moment, kind: Kind, piece: Piece) -> Vec<u8> {
        let counted = self.logprobs && kind == Kind::Message;
        let mut tokens = if counted { piece.tokens } else { Vec::new() };
        let open = self.open.as_ref().is_some_and(|open| open.kind == kind);
        if piece.text.is_empty() && (tokens.is_empty() || !open) {
            // Tokens without text go with the text that they begin.
            self.held.extend(tokens);
            return Vec::new();
        }
        if counted {
            tokens.splice(..0, self.held.drain(..));
        }
        let mut bytes = Vec::new();
        let mut item = match self.open.take_if(|open| open.kind == kind) {
            Some(item) => item,
            None => {
                bytes = self.close("completed");
                let item = Growing::new(kind, moment, self.items.len());
                bytes.extend(self.add(&item));
                item
            }
        };
        let mut rest = json!({"delta": piece.text});
        if kind == Kind::Message {
            rest["logprobs"] = entries(&tokens);
        }
        bytes.extend(self.of_part(delta_of(kind), &item, rest));
        item.text.push_str(&piece.text);
        item.tokens.extend(tokens);
        self.open = Some(item);
        bytes
    }

    fn add(&mut self, item: &Growing) -> Vec<u8> {
        let added = json!({"output_index": self.items.len(), "item": item.begun()});
        let mut bytes = self.event("response.output_item.added", added);
        let kind = match item.kind {
            Kind::Message => "response.content_part.added",
            Kind::Reasoning => "response.reasoning_summary_part.added",
        };
        bytes.extend(self.of_part(kind, item, json!({"part": item.part()})));
        bytes
    }

    /// Ends the item that goes on, if one does.
    fn close(&mut self, status: &str) -> Vec<u8> {
        let Some(item) = self.open.take() else { return Vec::new() };
        let mut text = json!({"text": item.text});
        let (of_text, of_part) = match item.kind {
            Kind::Message => ("response.output_text.done", "response.content_part.done"),
            Kind::Reasoning => {
                ("response.reasoning_summary_text.done", "response.reasoning_summary_part.done")
            }
        };
        if item.kind == Kind::Message {
            text["logprobs"] = entries(&item.tokens);
        }
        let mut bytes = self.of_part(of_text, &item, text);
        bytes.extend(self.of_part(of_part, &item, json!({"part": item.part()})));
        bytes.extend(self.done(item.done(status)));
        bytes
    }

    /// An item is done.
    fn done(&mut self, item: Value) -> Vec<u8> {
        let done = json!({"output_index": self.items.len(), "item": item});
        let bytes = self.event("response.output_item.done", done);
        self.items.push(item);
        bytes
    }

    fn call(&mut self, moment: &Moment, call: &ToolCall) -> Vec<u8> {
        if self.one_call && self.calls > 0 {
            return Vec::new();
        }
        self.calls += 1;
        let mut bytes = self.close("completed");
        let index = self.items.len();
        let item = call_item(moment, index, call, &self.spaces);
        let mut begun = item.clone();
        begun["status"] = json!("in_progress");
        begun["arguments"] = json!("");
        let added = json!({"output_index": index, "item": begun});
        bytes.extend(self.event("response.output_item.added", added));
        let place = json!({"item_id": item["id"], "output_index": index});
        let mut delta = place.clone();
        delta["delta"] = item["arguments"].clone();
        bytes.extend(self.event("response.function_call_arguments.delta", delta));
        let mut all = place;
        all["name"] = item["name"].clone();
        all["arguments"] = item["arguments"].clone();
        bytes.extend(self.event("response.function_call_arguments.done", all));
        bytes.extend(self.done(item));
        bytes
    }

    fn end(&mut self, moment: &Moment, end: &EndReason) -> Vec<u8> {
        self.over = true;
        let status = if end.is_natural() { "completed" } else { "incomplete" };
        let mut bytes = self.close(status);
        let mut response = self.response(moment, status);
        if let Some(more) = more(&self.truncated, Some(end)) {
            response["oprel"] = more;
        }
        let last = json!({"response": response});
        bytes.extend(self.event(&format!("response.{status}"), last));
        bytes
    }

    fn fail(&mut self, moment: &Moment, failure: &Failure) -> Vec<u8> {
        self.over = true;
        let mut bytes = self.close("incomplete");
        let mut response = self.response(moment, "failed");
        let code = match (&failure.cause, failure.kind) {
            (Some(Cause::ContextLength { .. }), _) => "context_length_exceeded",
            (_, ErrorKind::Validation) => "invalid_prompt",
            _ => "server_error",
        };
        response["error"] = json!({"code": code, "message": failure.message});
        bytes.extend(self.event("response.failed", json!({"response": response})));
        bytes
    }

    /// The answer as it is now.
    fn response(&self, moment: &Moment, status: &str) -> Value {
        let completed = (status == "completed").then(|| seconds(moment));
        let details = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
        let mut response = json!({
            "id": format!("resp_{}", moment.id),
            "object": "response",
            "created_at": self.since,
            "completed_at": completed,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": details,
            "model": moment.model,
            "output": self.items,
        });
        if let (Value::Object(all), Value::Object(echo)) = (&mut response, &self.echo) {
            all.extend(echo.clone());
        }
        response["usage"] = match status {
            "in_progress" => Value::Null,
            _ => usage_json(&self.usage),
        };
        response
    }
}

impl Voice for ResponseVoice {
    fn stream_type(&self) -> &'static str {
        sse::TYPE
    }

    fn begin(&mut self, moment: &Moment) -> Vec<u8> {
        self.since = seconds(moment);
        let response = json!({"response": self.response(moment, "in_progress")});
        let mut bytes = self.event("response.created", response.clone());
        bytes.extend(self.event("response.in_progress", response));
        bytes
    }

    fn say(&mut self, moment: &Moment, answer: usize, event: Event) -> Vec<u8> {
        if self.over || answer > 0 {
            return Vec::new();
        }
        match event {
            Event::Text(piece) => self.text(moment, Kind::Message, piece),
            Event::Thinking(piece) => self.text(moment, Kind::Reasoning, piece),
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
            Event::End(end) => self.end(moment, &end),
            Event::Error(failure) => self.fail(moment, &failure),
        }
    }

    /// The same items as in a stream; log probabilities are those of all tokens.
    fn whole(&mut self, moment: &Moment, answers: Vec<Answer>) -> Value {
        self.since = seconds(moment);
        self.usage = total(answers.iter().map(|answer| &answer.usage));
        let answer = answers.into_iter().next().unwrap_or_default();
        let end = answer.end.unwrap_or(EndReason::EndOfText);
        self.text(moment, Kind::Reasoning, Piece::from(answer.thinking));
        let tokens: Vec<Sampled> = answer.tokens;
        self.text(moment, Kind::Message, Piece { text: answer.text, tokens });
        for call in &answer.tool_calls {
            self.call(moment, call);
        }
        let status = if end.is_natural() { "completed" } else { "incomplete" };
        self.close(status);
        let mut response = self.response(moment, status);
        if let Some(more) = more(&answer.truncated, Some(&end)) {
            response["oprel"] = more;
        }
        response
    }
}

fn delta_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Message => "response.output_text.delta",
        Kind::Reasoning => "response.reasoning_summary_text.delta",
    }
}

fn usage_json(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.thinking_tokens},
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
    })
}

#[cfg(test)]
mod tests;
