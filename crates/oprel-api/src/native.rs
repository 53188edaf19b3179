//! Our own dialect: the request and the events as they are, for programs that speak to their own daemon.
//!
//! A body that asks for text is `{"model", "stream"?, "keep_alive_ms"?, "sampling"?, "request"}`: the sampling as far as somebody has
//! an opinion, and a [`Request`] without any. A stream has a line of JSON for each event, with the answer
//! that it belongs to. All other bodies are [`Named`]: `{"model", "keep_alive_ms"?, "request"}`.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dialect::{Call, KeepAlive, Moment, Problem, Stay, Voice};
use crate::{Answer, ErrorKind, Event, Failure, Request, Sampling, SamplingPatch};

/// A body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// The model.
    pub model: String,
    /// Whether the answer streams.
    #[serde(default = "yes")]
    pub stream: bool,
    /// How long the model stays after; negative for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive_ms: Option<i64>,
    /// How tokens are chosen, over what the model's makers suggest.
    #[serde(default)]
    pub sampling: SamplingPatch,
    /// What to do.
    pub request: Request,
}

impl Generate {
    /// A body that asks for a stream, with all numbers of the request's sampling: what the model's makers
    /// suggest does not count.
    pub fn of(model: impl Into<String>, request: Request) -> Generate {
        Generate {
            model: model.into(),
            stream: true,
            keep_alive_ms: None,
            sampling: SamplingPatch::from(request.sampling.clone()),
            request: Request { sampling: Sampling::default(), ..request },
        }
    }
}

/// A body of all other routes: a model, and what is asked of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named<T> {
    /// The model.
    pub model: String,
    /// How long the model stays after; negative for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive_ms: Option<i64>,
    /// What to do.
    pub request: T,
}

impl<T> Named<T> {
    /// What happens to the model besides.
    pub fn stay(&self) -> Stay {
        Stay { keep_alive: self.keep_alive_ms.map(keep_alive), ..Stay::default() }
    }
}

/// Nothing but to load the model; the answer describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {}

/// A text whose token ids are asked for; the answer is a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenize {
    /// The text.
    pub text: String,
    /// Whether the model's BOS and EOS are added.
    pub add_special: bool,
    /// Whether special tokens are found in the text.
    pub parse_special: bool,
}

/// Token ids whose text is asked for; the answer is a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detokenize {
    /// The ids.
    pub tokens: Vec<u32>,
}

/// A line of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Which of the request's answers says it.
    pub answer: usize,
    /// What it says.
    pub event: Event,
}

fn yes() -> bool {
    true
}

/// Reads a body.
///
/// # Errors
/// If it is none.
pub fn generate(body: &[u8]) -> Result<Call, Failure> {
    let read: Generate = serde_json::from_slice(body)
        .map_err(|e| Failure::new(ErrorKind::Validation, e.to_string()))?;
    let keep_alive = read.keep_alive_ms.map(keep_alive);
    let answers = usize::try_from(read.request.n).unwrap_or(usize::MAX);
    Ok(Call {
        model: read.model,
        request: read.request,
        base: Sampling::default(),
        wish: read.sampling,
        stream: read.stream,
        stay: Stay { keep_alive, ..Stay::default() },
        ignored: Vec::new(),
        lenient_thinking: false,
        voice: Box::new(Lines { open: answers }),
    })
}

/// Reads a body of any other route.
///
/// # Errors
/// If it is none.
pub fn named<T: DeserializeOwned>(body: &[u8]) -> Result<Named<T>, Failure> {
    serde_json::from_slice(body).map_err(|e| Failure::new(ErrorKind::Validation, e.to_string()))
}

fn keep_alive(ms: i64) -> KeepAlive {
    u64::try_from(ms).map_or(KeepAlive::Forever, |ms| KeepAlive::For(Duration::from_millis(ms)))
}

/// How the dialect says that a request failed.
pub fn complaint(problem: &Problem) -> Value {
    json!({"error": problem.failure.message, "failure": problem.failure})
}

/// Says events as they are.
struct Lines {
    open: usize,
}

impl Voice for Lines {
    fn stream_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn begin(&mut self, _: &Moment) -> Vec<u8> {
        Vec::new()
    }

    fn say(&mut self, _: &Moment, answer: usize, event: Event) -> Vec<u8> {
        if self.open == 0 {
            return Vec::new();
        }
        match &event {
            Event::Error(_) => self.open = 0,
            event if event.is_last() => self.open -= 1,
            _ => {}
        }
        let mut line = serde_json::to_vec(&Line { answer, event }).unwrap_or_default();
        line.push(b'\n');
        line
    }

    fn whole(&mut self, moment: &Moment, answers: Vec<Answer>) -> Value {
        json!({"model": moment.model, "answers": answers})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EndReason;

    #[test]
    fn what_is_sent_is_what_is_read() {
        let sent = Generate {
            model: "demo".into(),
            stream: true,
            keep_alive_ms: Some(-1),
            sampling: SamplingPatch { top_k: Some(3), ..SamplingPatch::default() },
            request: Request::prompt("hi"),
        };
        let call = generate(&serde_json::to_vec(&sent).unwrap()).unwrap();
        assert_eq!((call.model.as_str(), &call.request), ("demo", &sent.request));
        assert_eq!(call.stay.keep_alive, Some(KeepAlive::Forever));
        assert_eq!(call.wish.top_k, Some(3));
        for bad in ["", "{}", "[]", r#"{"model":"x","request":{},"more":1}"#] {
            assert!(generate(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stream_has_a_line_for_each_event_and_ends_once() {
        let mut request = Request::prompt("hi");
        request.n = 2;
        let body = json!({"model": "m", "request": request});
        let mut voice = generate(body.to_string().as_bytes()).unwrap().voice;
        let mut said = Vec::new();
        let moment = Moment::default();
        for (answer, event) in [
            (1, Event::text("b")),
            (0, Event::End(EndReason::EndOfText)),
            (1, Event::Error(Failure::new(ErrorKind::Backend, "x"))),
            (1, Event::text("late")),
        ] {
            said.extend(voice.say(&moment, answer, event));
        }
        let lines: Vec<Line> = String::from_utf8(said)
            .unwrap()
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], Line { answer: 1, event: Event::text("b") });
    }
}
