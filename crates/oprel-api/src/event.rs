//! What a sequence says while it runs.

use crate::{Failure, ToolCall};
use serde::{Deserialize, Serialize};

/// What one sequence says while it runs, in order. The last event is [`Event::End`] or
/// [`Event::Error`], exactly once. A request for several answers has one stream for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// Text of the answer.
    Text(Piece),
    /// Text of what is thought before the answer.
    Thinking(Piece),
    /// A call of a tool, whole.
    ToolCall(ToolCall),
    /// Something was left out of what the model sees.
    Truncated(Truncation),
    /// Log probabilities of the prompt's tokens, where asked for.
    Prompt(Vec<Sampled>),
    /// What it took; comes once, before the end.
    Usage(Usage),
    /// It is over.
    End(EndReason),
    /// It failed.
    Error(Failure),
}

/// A piece of text and the tokens that made it.
///
/// Text never splits a UTF-8 character and never holds part of a stop text, so one piece may
/// stand for several tokens, and a piece may have tokens but no text yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// The tokens, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Sampled>,
}

/// A token that was chosen, or stood in the prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// The token.
    pub id: u32,
    /// Its bytes; need not be whole UTF-8 characters.
    #[serde(default)]
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability, where asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprob: Option<f32>,
    /// The likeliest tokens of its position, likeliest first, as many as were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TopToken>,
}

/// A token that could have been chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TopToken {
    /// The token.
    pub id: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// What was left out so that the rest fits the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncation {
    /// Whole messages that were dropped.
    pub dropped_messages: u32,
    /// Tokens that were dropped, with those of the messages.
    pub dropped_tokens: u32,
    /// Tokens that remain.
    pub kept_tokens: u32,
    /// Whether it happened in the middle of the answer (a context shift).
    pub during_answer: bool,
}

/// What a sequence took. Durations are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens of the prompt, with those found in the cache.
    pub prompt_tokens: u32,
    /// Tokens of the prompt found in the cache.
    pub cached_tokens: u32,
    /// Tokens made, with those of thinking and the one that ended it.
    pub generated_tokens: u32,
    /// Tokens of thinking, without the tags around it.
    pub thinking_tokens: u32,
    /// Tokens that speculation proposed.
    pub drafted_tokens: u32,
    /// Tokens that speculation proposed and the model took.
    pub accepted_tokens: u32,
    /// From submission until the model was loaded.
    pub load_ns: u64,
    /// From then until the sequence's first step.
    pub queue_ns: u64,
    /// From the first step to the first token.
    pub prefill_ns: u64,
    /// From the first token to the last.
    pub decode_ns: u64,
    /// From submission to the last token.
    pub total_ns: u64,
}

/// Why a sequence ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// The model ended it.
    EndOfText,
    /// A stop text came up; it is not part of the answer.
    StopText(String),
    /// One of the request's stop tokens came up.
    StopToken(u32),
    /// The constraint allows nothing more.
    Complete,
    /// As many tokens as were allowed.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// Whoever made it allows fewer tokens than were asked for.
    Capped,
    /// The time is over.
    Deadline,
    /// Nobody wants it any more.
    Cancelled,
}

impl EndReason {
    /// Whether the answer is whole, as opposed to cut short.
    pub fn is_natural(&self) -> bool {
        use EndReason::*;
        matches!(self, EndOfText | StopText(_) | StopToken(_) | Complete)
    }

    /// Whether the field has no word of its own for it, and it is told besides: `length` stands for [`EndReason::MaxTokens`].
    pub(crate) fn is_told_besides(&self) -> bool {
        use EndReason::*;
        matches!(self, ContextFull | Capped | Deadline | Cancelled)
    }

    /// The word of the field: `stop` for a whole answer, `length` for one cut by a limit,
    /// `cancelled`.
    pub fn as_str(&self) -> &'static str {
        match self {
            EndReason::Cancelled => "cancelled",
            _ if self.is_natural() => "stop",
            _ => "length",
        }
    }
}

impl Event {
    /// Text of the answer, without tokens.
    pub fn text(text: impl Into<String>) -> Event {
        Event::Text(Piece::from(text.into()))
    }

    /// Text of thinking, without tokens.
    pub fn thinking(text: impl Into<String>) -> Event {
        Event::Thinking(Piece::from(text.into()))
    }

    /// Whether nothing comes after it.
    pub fn is_last(&self) -> bool {
        matches!(self, Event::End(_) | Event::Error(_))
    }
}

impl From<String> for Piece {
    fn from(text: String) -> Piece {
        Piece { text, tokens: Vec::new() }
    }
}

impl Usage {
    /// Tokens of the prompt processed in a second, those from the cache left out; 0 if unknown.
    pub fn prefill_tokens_per_s(&self) -> f64 {
        rate(self.prompt_tokens.saturating_sub(self.cached_tokens), self.prefill_ns)
    }

    /// Tokens made in a second after the first; 0 if unknown.
    pub fn decode_tokens_per_s(&self) -> f64 {
        rate(self.generated_tokens.saturating_sub(1), self.decode_ns)
    }
}

fn rate(tokens: u32, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { f64::from(tokens) * 1e9 / ns as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_answer_stops_and_a_cut_one_has_a_length() {
        assert_eq!(EndReason::StopText("\n".into()).as_str(), "stop");
        assert_eq!(EndReason::Complete.as_str(), "stop");
        assert_eq!(EndReason::MaxTokens.as_str(), "length");
        assert_eq!(EndReason::ContextFull.as_str(), "length");
        assert_eq!(EndReason::Cancelled.as_str(), "cancelled");
    }

    #[test]
    fn rates_leave_out_the_cache_and_survive_no_time() {
        let usage = Usage {
            prompt_tokens: 30,
            cached_tokens: 10,
            generated_tokens: 11,
            prefill_ns: 2_000_000_000,
            decode_ns: 1_000_000_000,
            ..Usage::default()
        };
        assert_eq!(usage.prefill_tokens_per_s(), 10.0);
        assert_eq!(usage.decode_tokens_per_s(), 10.0);
        assert_eq!(Usage::default().decode_tokens_per_s(), 0.0);
    }

    #[test]
    fn events_survive_json() {
        let events = vec![
            Event::text("a"),
            Event::ToolCall(ToolCall::new("f", serde_json::json!({"x": 1.5}))),
            Event::End(EndReason::StopText("x".into())),
        ];
        let json = serde_json::to_string(&events).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Event>>(&json).unwrap(), events);
    }
}
