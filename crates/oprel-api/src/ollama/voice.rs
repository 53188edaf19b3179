//! What sequences say, as lines of JSON: one object for each piece, the last with what it took.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::dialect::{Moment, Voice};
use crate::{
    Answer, EndReason, Event, Failure, Piece, Sampled, ToolCall, TopToken, Truncation, Usage,
};

use super::time::Timestamp;

/// Content type of a stream.
const STREAM: &str = "application/x-ndjson";
/// A log probability that JSON can hold, for a token that was forbidden.
const NEVER: f32 = -9999.0;

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
            oprel: truncated(&self.truncated),
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

/// What one object says.
#[derive(Default)]
struct Said<'a> {
    text: &'a str,
    thinking: &'a str,
    calls: Vec<Call>,
    logprobs: Vec<Logprob>,
    end: Option<Ending>,
}

/// What only the last object says.
#[derive(Default)]
struct Ending {
    done_reason: Option<&'static str>,
    context: Option<Vec<u32>>,
    metrics: Option<Metrics>,
    oprel: Option<Value>,
}

fn said<'a>(route: Route, moment: &'a Moment, said: Said<'a>) -> Object<'a> {
    let (model, created_at) = (&*moment.model, Timestamp::utc(moment.unix_ns));
    let Said { text, thinking, calls, logprobs, end } = said;
    let done = end.is_some();
    let Ending { done_reason, context, metrics, oprel } = end.unwrap_or_default();
    match route {
        Route::Generate { .. } => Object::Generate(Generated {
            model,
            created_at,
            response: text,
            thinking,
            done,
            done_reason,
            context,
            metrics,
            tool_calls: calls,
            logprobs,
            oprel,
        }),
        Route::Chat => Object::Chat(Chatted {
            model,
            created_at,
            message: Message { role: "assistant", content: text, thinking, tool_calls: calls },
            done,
            done_reason,
            logprobs,
            metrics,
            oprel,
        }),
    }
}

#[derive(Serialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant)] // lives for a line
enum Object<'a> {
    Generate(Generated<'a>),
    Chat(Chatted<'a>),
}

#[derive(Serialize)]
struct Generated<'a> {
    model: &'a str,
    created_at: Timestamp,
    response: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    thinking: &'a str,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Vec<u32>>,
    #[serde(flatten)]
    metrics: Option<Metrics>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logprobs: Vec<Logprob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oprel: Option<Value>,
}

#[derive(Serialize)]
struct Chatted<'a> {
    model: &'a str,
    created_at: Timestamp,
    message: Message<'a>,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logprobs: Vec<Logprob>,
    #[serde(flatten)]
    metrics: Option<Metrics>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oprel: Option<Value>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    thinking: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
}

/// What it took, in nanoseconds; what is zero is left out.
#[derive(Serialize)]
pub(super) struct Metrics {
    #[serde(skip_serializing_if = "is_zero")]
    total_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    load_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    prompt_eval_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    prompt_eval_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    eval_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    eval_duration: u64,
}

impl Metrics {
    pub(super) fn of(usage: &Usage) -> Metrics {
        Metrics {
            total_duration: usage.total_ns,
            load_duration: usage.load_ns,
            prompt_eval_count: usage.prompt_tokens.into(),
            prompt_eval_duration: usage.prefill_ns,
            eval_count: usage.generated_tokens.into(),
            eval_duration: usage.decode_ns,
        }
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A call of a tool.
#[derive(Serialize)]
struct Call {
    id: String,
    function: Function,
}

#[derive(Serialize)]
struct Function {
    index: usize,
    name: String,
    arguments: Value,
}

impl Call {
    /// A call that the model named keeps its name: its template may want it back. Arguments are an
    /// object for every client, whatever the model wrote.
    fn of(moment: &Moment, index: usize, call: ToolCall) -> Call {
        let arguments = match call.arguments {
            object @ Value::Object(_) => object,
            other => json!({ "arguments": other }),
        };
        Call {
            id: call.id.unwrap_or_else(|| call_id(&moment.id, index)),
            function: Function { index, name: call.name, arguments },
        }
    }
}

/// `call_` and eight letters and digits that follow from the unguessable id of the moment.
fn call_id(id: &str, index: usize) -> String {
    // FNV-1a, then the mixing of SplitMix64, so that neighbours have nothing in common.
    let bytes = id.bytes().chain((index as u64).to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    let mut rest = hash ^ hash >> 31;
    let mut name = String::from("call_");
    for _ in 0..8 {
        name.push(char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[(rest % 36) as usize]));
        rest /= 36;
    }
    name
}

/// A token and how likely it was. Bytes that are no whole characters are told as they are.
#[derive(Serialize)]
struct Logprob {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top_logprobs: Vec<Logprob>,
}

impl Logprob {
    /// A token that had to follow was certain.
    fn of(token: &Sampled) -> Logprob {
        let top = token.top.iter().map(|t: &TopToken| Logprob::new(&t.bytes, t.logprob));
        Logprob {
            top_logprobs: top.collect(),
            ..Logprob::new(&token.bytes, token.logprob.unwrap_or_default())
        }
    }

    fn new(bytes: &[u8], logprob: f32) -> Logprob {
        Logprob {
            token: String::from_utf8_lossy(bytes).into_owned(),
            logprob: if logprob.is_finite() { logprob } else { NEVER },
            bytes: bytes.to_vec(),
            top_logprobs: Vec::new(),
        }
    }
}

/// All that was left out, in one object.
fn truncated(all: &[Truncation]) -> Option<Value> {
    let last = all.last()?;
    let sum = Truncation {
        dropped_messages: all.iter().map(|t| t.dropped_messages).sum(),
        dropped_tokens: all.iter().fold(0, |sum: u32, t| sum.saturating_add(t.dropped_tokens)),
        kept_tokens: last.kept_tokens,
        during_answer: all.iter().any(|t| t.during_answer),
    };
    Some(json!({ "truncated": sum }))
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
