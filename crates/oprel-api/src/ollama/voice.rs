//! What sequences say, as lines of JSON: one object for each piece, the last with what it took.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::dialect::{Moment, Voice};
use crate::{Answer, EndReason, Event, Failure, Piece, Sampled, Truncation, Usage};

use super::wire::{Call, Ending, Logprob, Metrics, Said, more, said};

/// Content type of a stream.
const STREAM: &str = "application/x-ndjson";

/// What the two routes do differently.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Route {
    /// `/api/generate`: bare text; in the end the tokens of prompt and answer, where they can be
    /// given back.
    Generate { context: bool },
    /// `/api/chat`: messages.
    Chat,
}

/// The voice of both routes.
pub(super) struct NdJson {
    route: Route,
    logprobs: bool,
    /// What came before the end and is told in it.
    usage: Usage,
    truncated: Vec<Truncation>,
    /// Tokens of the prompt, if they were told, and of the answer.
    prompt: Vec<u32>,
    answer: Vec<u32>,
    calls: usize,
    over: bool,
}

impl NdJson {
    pub(super) fn new(route: Route, logprobs: bool) -> NdJson {
        NdJson {
            route,
            logprobs,
            usage: Usage::default(),
            truncated: Vec::new(),
            prompt: Vec::new(),
            answer: Vec::new(),
            calls: 0,
            over: false,
        }
    }

    /// A piece of text or thinking; nothing if there is nothing to say yet.
    fn piece(&mut self, moment: &Moment, piece: Piece, thinks: bool) -> Vec<u8> {
        self.answer.extend(piece.tokens.iter().map(|t| t.id));
        let logprobs = self.logprobs(&piece.tokens);
        if piece.text.is_empty() && logprobs.is_empty() {
            return Vec::new();
        }
        let (text, thinking) = if thinks { ("", &*piece.text) } else { (&*piece.text, "") };
        line(&said(self.route, moment, Said { text, thinking, logprobs, ..Said::default() }))
    }

    fn logprobs(&self, tokens: &[Sampled]) -> Vec<Logprob> {
        if self.logprobs { tokens.iter().map(Logprob::of).collect() } else { Vec::new() }
    }

    fn ending(&self, reason: Option<&EndReason>) -> Ending {
        let gives = self.route == Route::Generate { context: true } && !self.prompt.is_empty();
        Ending {
            // Nobody listens to what was cancelled.
            done_reason: reason.filter(|r| **r != EndReason::Cancelled).map(EndReason::as_str),
            context: gives.then(|| [&self.prompt[..], &self.answer].concat()),
            metrics: Some(Metrics::of(&self.usage)),
            oprel: more(&self.truncated, reason),
        }
    }
}

impl Voice for NdJson {
    fn stream_type(&self) -> &'static str {
        STREAM
    }

    fn begin(&mut self, _moment: &Moment) -> Vec<u8> {
        Vec::new()
    }

    fn say(&mut self, moment: &Moment, _answer: usize, event: Event) -> Vec<u8> {
        if self.over {
            return Vec::new();
        }
        match event {
            Event::Text(piece) => return self.piece(moment, piece, false),
            Event::Thinking(piece) => return self.piece(moment, piece, true),
            Event::ToolCall(call) => {
                let calls = vec![Call::of(moment, self.calls, call)];
                self.calls += 1;
                return line(&said(self.route, moment, Said { calls, ..Said::default() }));
            }
            Event::Truncated(truncation) => self.truncated.push(truncation),
            Event::Prompt(tokens) => self.prompt.extend(tokens.iter().map(|t| t.id)),
            Event::Usage(usage) => self.usage = usage,
            Event::End(reason) => {
                self.over = true;
                let end = Some(self.ending(Some(&reason)));
                return line(&said(self.route, moment, Said { end, ..Said::default() }));
            }
            Event::Error(failure) => {
                self.over = true;
                return line(&complaint(&failure));
            }
        }
        Vec::new()
    }

    fn whole(&mut self, moment: &Moment, answers: Vec<Answer>) -> Value {
        let answer = answers.into_iter().next().unwrap_or_default();
        self.usage = answer.usage;
        self.truncated = answer.truncated;
        self.prompt = answer.prompt.iter().map(|t| t.id).collect();
        self.answer = answer.tokens.iter().map(|t| t.id).collect();
        let calls = answer.tool_calls.into_iter().enumerate();
        let all = Said {
            text: &answer.text,
            thinking: &answer.thinking,
            calls: calls.map(|(at, call)| Call::of(moment, at, call)).collect(),
            logprobs: self.logprobs(&answer.tokens),
            end: Some(self.ending(answer.end.as_ref())),
        };
        value(&said(self.route, moment, all))
    }
}

/// The body of `/api/generate` without a prompt: the model is loaded.
pub(super) fn generate_loaded(moment: &Moment) -> Value {
    idle(Route::Generate { context: false }, moment, "load")
}

/// The body of `/api/generate` without a prompt: the model goes.
pub(super) fn generate_unloaded(moment: &Moment) -> Value {
    idle(Route::Generate { context: false }, moment, "unload")
}

/// The body of `/api/chat` without messages: the model is loaded.
pub(super) fn chat_loaded(moment: &Moment) -> Value {
    idle(Route::Chat, moment, "load")
}

/// The body of `/api/chat` without messages: the model goes.
pub(super) fn chat_unloaded(moment: &Moment) -> Value {
    idle(Route::Chat, moment, "unload")
}

fn idle(route: Route, moment: &Moment, reason: &'static str) -> Value {
    let end = Some(Ending { done_reason: Some(reason), ..Ending::default() });
    value(&said(route, moment, Said { end, ..Said::default() }))
}

/// The body of an error, and the last line of a stream that failed.
pub(super) fn complaint(failure: &Failure) -> Value {
    let mut body = Map::new();
    body.insert("error".into(), json!(failure.message));
    if let Some(hint) = &failure.hint {
        body.insert("hint".into(), json!(hint));
    }
    Value::Object(body)
}

fn line(object: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and lists of them: there is nothing here that JSON cannot hold.
    let mut line = serde_json::to_vec(object).unwrap_or_default();
    line.push(b'\n');
    line
}

fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

#[cfg(test)]
mod tests;
