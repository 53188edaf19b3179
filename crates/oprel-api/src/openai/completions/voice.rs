//! Says how a text goes on.

use serde_json::{Value, json};

use crate::dialect::{Moment, Voice, total};
use crate::openai::{finish_reason, late_error, logprobs, more, seconds, usage_json};
use crate::{Answer, Event, Sampled, Truncation, Usage, sse};

/// The voice of `/v1/completions`.
pub(super) struct TextVoice {
    answers: Vec<Said>,
    include_usage: bool,
    logprobs: bool,
    /// The prompt, where the answer is to begin with it.
    echo: Option<String>,
    /// When the stream began: every chunk says the same.
    since: u64,
    over: bool,
}

/// How far an answer is.
#[derive(Clone, Default)]
struct Said {
    /// Characters before the next token.
    offset: usize,
    truncated: Vec<Truncation>,
    usage: Usage,
    ended: bool,
}

impl TextVoice {
    pub(super) fn new(
        n: u32,
        include_usage: bool,
        logprobs: bool,
        echo: Option<String>,
    ) -> TextVoice {
        let answers = vec![Said::default(); n as usize];
        TextVoice { answers, include_usage, logprobs, echo, since: 0, over: false }
    }

    fn body(moment: &Moment, created: u64, choices: Vec<Value>) -> Value {
        json!({
            "id": format!("cmpl-{}", moment.id),
            "object": "text_completion",
            "created": created,
            "model": moment.model,
            "system_fingerprint": "fp_oprel",
            "choices": choices,
        })
    }

    fn piece(&mut self, moment: &Moment, index: usize, text: &str, tokens: &[Sampled]) -> Vec<u8> {
        let counted = self.logprobs && !tokens.is_empty();
        if text.is_empty() && !counted {
            return Vec::new();
        }
        let logprobs = match counted {
            true => logprobs::of_text(tokens, &mut self.answers[index].offset),
            false => Value::Null,
        };
        let choice = choice(index, text, logprobs, None);
        sse::data(&TextVoice::body(moment, self.since, vec![choice]))
    }

    fn end(&mut self, moment: &Moment, index: usize, end: &crate::EndReason) -> Vec<u8> {
        let said = &mut self.answers[index];
        said.ended = true;
        let choice = choice(index, "", Value::Null, Some(finish_reason(Some(end), false)));
        let mut body = TextVoice::body(moment, self.since, vec![choice]);
        if let Some(more) = more(&said.truncated, Some(end)) {
            body["oprel"] = more;
        }
        let mut bytes = sse::data(&body);
        if self.answers.iter().all(|said| said.ended) {
            self.over = true;
            if self.include_usage {
                let mut body = TextVoice::body(moment, self.since, Vec::new());
                body["usage"] = usage_json(&total(self.answers.iter().map(|said| &said.usage)));
                bytes.extend(sse::data(&body));
            }
            bytes.extend_from_slice(b"data: [DONE]\n\n");
        }
        bytes
    }

    fn whole_choice(&self, index: usize, answer: &Answer) -> Value {
        let text = [self.echo.as_deref().unwrap_or(""), &answer.thinking, &answer.text].concat();
        let tokens = [&answer.prompt[..], &answer.tokens].concat();
        let logprobs = match self.logprobs {
            true => logprobs::of_text(&tokens, &mut 0),
            false => Value::Null,
        };
        choice(index, &text, logprobs, Some(finish_reason(answer.end.as_ref(), false)))
    }
}

impl Voice for TextVoice {
    fn stream_type(&self) -> &'static str {
        sse::TYPE
    }

    fn begin(&mut self, moment: &Moment) -> Vec<u8> {
        self.since = seconds(moment);
        let echo = self.echo.clone().unwrap_or_default();
        (0..self.answers.len()).flat_map(|index| self.piece(moment, index, &echo, &[])).collect()
    }

    fn say(&mut self, moment: &Moment, answer: usize, event: Event) -> Vec<u8> {
        if self.over || self.answers.get(answer).is_none_or(|said| said.ended) {
            return Vec::new();
        }
        match event {
            // A raw text has one voice: whatever the model writes is the text.
            Event::Text(piece) | Event::Thinking(piece) => {
                self.piece(moment, answer, &piece.text, &piece.tokens)
            }
            Event::Prompt(tokens) if self.echo.is_some() => self.piece(moment, answer, "", &tokens),
            Event::Truncated(cut) => {
                self.answers[answer].truncated.push(cut);
                Vec::new()
            }
            Event::Usage(usage) => {
                self.answers[answer].usage = usage;
                Vec::new()
            }
            Event::ToolCall(_) | Event::Prompt(_) => Vec::new(),
            Event::End(end) => self.end(moment, answer, &end),
            Event::Error(failure) => {
                self.over = true;
                sse::data(&late_error(&failure))
            }
        }
    }

    fn whole(&mut self, moment: &Moment, answers: Vec<Answer>) -> Value {
        let choices = answers.iter().enumerate().map(|(at, a)| self.whole_choice(at, a)).collect();
        let mut body = TextVoice::body(moment, seconds(moment), choices);
        body["usage"] = usage_json(&total(answers.iter().map(|answer| &answer.usage)));
        let mores = answers.iter().map(|answer| more(&answer.truncated, answer.end.as_ref()));
        if let Some(more) = mores.flatten().next() {
            body["oprel"] = more;
        }
        body
    }
}

fn choice(index: usize, text: &str, logprobs: Value, reason: Option<&str>) -> Value {
    json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason})
}
