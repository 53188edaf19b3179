//! The objects of a stream, field by field in the order of the dialect.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::dialect::Moment;
use crate::{EndReason, Sampled, ToolCall, TopToken, Truncation, Usage};

use super::time::Timestamp;
use super::voice::Route;

/// A log probability that JSON can hold, for a token that was forbidden.
const NEVER: f32 = -9999.0;

/// What one object says.
#[derive(Default)]
pub(super) struct Said<'a> {
    pub(super) text: &'a str,
    pub(super) thinking: &'a str,
    pub(super) calls: Vec<Call>,
    pub(super) logprobs: Vec<Logprob>,
    pub(super) end: Option<Ending>,
}

/// What only the last object says.
#[derive(Default)]
pub(super) struct Ending {
    pub(super) done_reason: Option<&'static str>,
    pub(super) context: Option<Vec<u32>>,
    pub(super) metrics: Option<Metrics>,
    pub(super) oprel: Option<Value>,
}

pub(super) fn said<'a>(route: Route, moment: &'a Moment, said: Said<'a>) -> Object<'a> {
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
pub(super) enum Object<'a> {
    Generate(Generated<'a>),
    Chat(Chatted<'a>),
}

#[derive(Serialize)]
pub(super) struct Generated<'a> {
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
pub(super) struct Chatted<'a> {
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
pub(super) struct Call {
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
    pub(super) fn of(moment: &Moment, index: usize, call: ToolCall) -> Call {
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
pub(super) fn call_id(id: &str, index: usize) -> String {
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
pub(super) struct Logprob {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top_logprobs: Vec<Logprob>,
}

impl Logprob {
    /// A token that had to follow was certain.
    pub(super) fn of(token: &Sampled) -> Logprob {
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

/// What the dialect has no word for: all that was left out, in one object, and an end that is no length.
pub(super) fn more(truncated: &[Truncation], end: Option<&EndReason>) -> Option<Value> {
    let mut more = Map::new();
    more.extend(sum(truncated).map(|sum| ("truncated".to_string(), json!(sum))));
    let end = end.filter(|end| end.is_told_besides() && **end != EndReason::Cancelled);
    more.extend(end.map(|end| ("end".to_string(), json!(end))));
    (!more.is_empty()).then_some(Value::Object(more))
}

fn sum(all: &[Truncation]) -> Option<Truncation> {
    let last = all.last()?;
    Some(Truncation {
        dropped_messages: all.iter().map(|t| t.dropped_messages).sum(),
        dropped_tokens: all.iter().fold(0, |sum: u32, t| sum.saturating_add(t.dropped_tokens)),
        kept_tokens: last.kept_tokens,
        during_answer: all.iter().any(|t| t.during_answer),
    })
}
