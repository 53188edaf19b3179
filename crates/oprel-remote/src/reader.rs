//! From the chunks of a server's stream to the events of an answer. Nothing is believed: an answer is whole
//! only if it said why it ended, its stream ended as streams do, and it is what was asked for.

use std::collections::BTreeMap;

use oprel_api::{
    EndReason, ErrorKind, Event, Failure, Piece, Sampled, ToolCall, ToolChoice, TopToken, Usage,
};
use serde_json::Value;

use crate::ask::Expects;
use crate::sse::Said;
use crate::wire::{CallDelta, Choice, Chunk, Logprob, Logprobs};

/// The id of a token that only its text is known of.
const NO_ID: u32 = u32::MAX;
/// Tokens that a full context may lack: servers count what belongs to it differently.
const NEARLY: u32 = 16;
/// Most calls of an answer, and most bytes of it.
const MOST_CALLS: usize = 256;
const MOST_BYTES: usize = 64 << 20;

/// What an answer said so far.
#[derive(Debug)]
pub(crate) struct Reader {
    expects: Expects,
    /// The text, where it is to be checked.
    text: String,
    n_bytes: usize,
    /// Calls by their places; those before `n_called` were told.
    calls: Vec<Call>,
    n_called: usize,
    /// The tools of calls that were told.
    called: Vec<String>,
    finish: Option<String>,
    /// What ended it, where the server says so.
    stopped_by: Option<Value>,
    usage: Usage,
    /// The stream ended as streams do.
    done: bool,
}

#[derive(Debug, Default)]
struct Call {
    id: Option<String>,
    name: String,
    arguments: String,
}

/// How an answer went wrong, and whether the server is to blame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wrong {
    pub(crate) failure: Failure,
    /// Whether it speaks against the server's health.
    pub(crate) is_ill: bool,
}

impl Wrong {
    fn ill(message: impl Into<String>) -> Wrong {
        Wrong { failure: Failure::new(ErrorKind::Backend, message), is_ill: true }
    }

    /// The server works, but what it said is not what was asked for.
    fn said(message: impl Into<String>) -> Wrong {
        Wrong { failure: Failure::new(ErrorKind::Backend, message), is_ill: false }
    }
}

impl Reader {
    pub(crate) fn new(expects: Expects) -> Reader {
        Reader {
            expects,
            text: String::new(),
            n_bytes: 0,
            calls: Vec::new(),
            n_called: 0,
            called: Vec::new(),
            finish: None,
            stopped_by: None,
            usage: Usage::default(),
            done: false,
        }
    }

    /// Whether nothing more is to come.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes an event of the stream; puts what it says into `out`.
    pub(crate) fn take(&mut self, said: &Said, out: &mut Vec<Event>) -> Result<(), Wrong> {
        let data = match said {
            Said::Data(data) => data,
            Said::Error(data) => {
                let value = serde_json::from_str(data).unwrap_or_else(|_| data.as_str().into());
                return Err(in_band(&value));
            }
        };
        if data.trim() == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(data)
            .map_err(|e| Wrong::ill(format!("what it sent cannot be read: {e}")))?;
        if let Some(error) = &chunk.error {
            return Err(in_band(error));
        }
        if let Some(usage) = chunk.usage {
            self.usage.prompt_tokens = usage.prompt_tokens;
            self.usage.generated_tokens = usage.completion_tokens.unwrap_or(0);
            let cached = usage.prompt_tokens_details.and_then(|d| d.cached_tokens);
            self.usage.cached_tokens = cached.unwrap_or(0);
            let thought = usage.completion_tokens_details.and_then(|d| d.reasoning_tokens);
            self.usage.thinking_tokens = thought.unwrap_or(0);
        }
        match chunk.choices.into_iter().next() {
            Some(choice) => self.choice(choice, out),
            None => Ok(()),
        }
    }

    fn choice(&mut self, choice: Choice, out: &mut Vec<Event>) -> Result<(), Wrong> {
        let mut tokens = sampled(choice.logprobs.unwrap_or_default());
        let delta = choice.delta.unwrap_or_default();
        let thought = delta.reasoning_content.filter(|t| !t.is_empty()).or(delta.reasoning);
        if let Some(text) = thought.filter(|t| !t.is_empty()) {
            self.count(text.len())?;
            let tokens = std::mem::take(&mut tokens);
            out.push(Event::Thinking(Piece { text, tokens }));
        }
        let content = if self.expects.is_chat { delta.content } else { choice.text };
        let text = content.or(delta.refusal).unwrap_or_default();
        if !text.is_empty() || !tokens.is_empty() {
            self.count(text.len())?;
            if self.expects.verifier.is_some() {
                self.text.push_str(&text);
            }
            out.push(Event::Text(Piece { text, tokens }));
        }
        for call in delta.tool_calls.into_iter().flatten() {
            self.call(call, out)?;
        }
        if let Some(finish) = choice.finish_reason.filter(|f| !f.is_empty()) {
            self.finish = Some(finish);
            self.stopped_by = choice.stop_reason.or(choice.matched_stop).filter(|s| !s.is_null());
        }
        Ok(())
    }

    fn count(&mut self, n: usize) -> Result<(), Wrong> {
        self.n_bytes += n;
        let fits = self.n_bytes <= MOST_BYTES;
        if fits { Ok(()) } else { Err(Wrong::said("its answer does not end")) }
    }

    fn call(&mut self, delta: CallDelta, out: &mut Vec<Event>) -> Result<(), Wrong> {
        // Without an index, an id begins another call.
        let last = self.calls.len().saturating_sub(1);
        let begins = delta.id.is_some() && self.calls.last().is_some_and(|c| c.id != delta.id);
        let at = delta.index.unwrap_or(if begins { last + 1 } else { last });
        if at >= MOST_CALLS || at < self.n_called {
            return Err(Wrong::said("its calls of tools come in no order"));
        }
        if at >= self.calls.len() {
            self.calls.resize_with(at + 1, Call::default);
        }
        self.tell_calls(at, out)?;
        let function = delta.function.unwrap_or_default();
        let arguments = match function.arguments {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            Some(object) => object.to_string(),
        };
        self.count(arguments.len())?;
        let call = &mut self.calls[at];
        call.id = call.id.take().or(delta.id);
        // Servers say a name whole; some say it with every piece.
        if let Some(name) = function.name.filter(|_| call.name.is_empty()) {
            call.name = name;
        }
        call.arguments.push_str(&arguments);
        Ok(())
    }

    /// Tells the calls before `end`, which are whole.
    fn tell_calls(&mut self, end: usize, out: &mut Vec<Event>) -> Result<(), Wrong> {
        for call in &mut self.calls[self.n_called..end] {
            let Call { id, name, arguments } = std::mem::take(call);
            if name.is_empty() {
                return Err(Wrong::said("it calls a tool without a name"));
            }
            let read = match arguments.trim() {
                "" => Ok(Value::Object(serde_json::Map::new())),
                text => serde_json::from_str(text),
            };
            let Ok(arguments @ Value::Object(_)) = read else {
                let message =
                    format!("the arguments with which it calls {name:?} are no JSON object");
                return Err(Wrong::said(message));
            };
            let mut promised = self.expects.arguments.iter().filter(|(tool, _)| *tool == name);
            if let Some((_, verifier)) = promised.next()
                && let Err(why) = verifier.verify(&arguments.to_string())
            {
                let message =
                    format!("the arguments with which it calls {name:?} break its schema: {why}");
                return Err(Wrong::said(message));
            }
            self.called.push(name.clone());
            out.push(Event::ToolCall(ToolCall { id, name, arguments }));
        }
        self.n_called = self.n_called.max(end);
        Ok(())
    }

    /// The end, once the stream has ended: what is left to tell, and why it ended.
    pub(crate) fn end(&mut self, out: &mut Vec<Event>) -> Result<(Usage, EndReason), Wrong> {
        let Some(finish) = self.finish.take() else {
            return Err(Wrong::ill("its answer broke off: it gave no reason for its end"));
        };
        if !self.done {
            return Err(Wrong::ill("its answer broke off: the stream has no end"));
        }
        let reason = self.reason(&finish)?;
        match reason.is_natural() {
            true => self.tell_calls(self.calls.len(), out)?,
            // A call that was cut short is none.
            false => {
                let whole = self.calls.len().saturating_sub(1);
                self.tell_calls(whole.max(self.n_called), out)?;
            }
        }
        if reason.is_natural() {
            self.verify()?;
        }
        Ok((self.usage, reason))
    }

    fn reason(&self, finish: &str) -> Result<EndReason, Wrong> {
        Ok(match (finish, &self.stopped_by) {
            ("stop" | "eos", Some(Value::String(text))) => EndReason::StopText(text.clone()),
            ("stop" | "eos", Some(Value::Number(token))) => {
                let token = token.as_u64().and_then(|t| u32::try_from(t).ok());
                token.map_or(EndReason::EndOfText, EndReason::StopToken)
            }
            ("stop" | "eos" | "tool_calls" | "function_call", _) => EndReason::EndOfText,
            ("length", _) => self.bound(),
            ("content_filter", _) => return Err(Wrong::said("it withheld the rest of its answer")),
            (other, _) => {
                return Err(Wrong::ill(format!("its answer ended for the reason {other:?}")));
            }
        })
    }

    /// Which bound ended it: servers have bounds of their own, and do not say so.
    fn bound(&self) -> EndReason {
        let Usage { prompt_tokens, generated_tokens: made, .. } = self.usage;
        let context = self.expects.context;
        let is_full = prompt_tokens.saturating_add(made).saturating_add(NEARLY) >= context;
        match self.expects.most_tokens {
            Some(most) if made == 0 || made >= most => EndReason::MaxTokens,
            _ if is_full => EndReason::ContextFull,
            // Where neither the context nor what was made is known, the one is as good a guess as the other.
            None if made == 0 || context == u32::MAX => EndReason::ContextFull,
            _ => EndReason::Capped,
        }
    }

    /// Whether a whole answer is what was asked for.
    fn verify(&self) -> Result<(), Wrong> {
        match &self.expects.tool_choice {
            ToolChoice::Required if self.called.is_empty() => {
                return Err(Wrong::said("it was to call a tool and called none"));
            }
            ToolChoice::Named(name)
                if self.called.is_empty() || self.called.iter().any(|n| n != name) =>
            {
                return Err(Wrong::said(format!("it was to call {name:?} and did not")));
            }
            _ => {}
        }
        let Some(verifier) = self.expects.verifier.as_ref().filter(|_| self.called.is_empty())
        else {
            return Ok(());
        };
        verifier.verify(&self.text).map_err(|why| {
            Wrong::said(format!("its answer breaks the constraint that it was given: {why}"))
        })
    }
}

/// An error in the middle of a stream, whatever follows it.
fn in_band(error: &Value) -> Wrong {
    let text = error["message"].as_str().or(error.as_str());
    let message = text.map_or_else(|| error.to_string(), str::to_string);
    let message: String = message.chars().take(500).collect();
    let code = error["code"].as_u64().unwrap_or(500);
    let failure = Failure::new(ErrorKind::Backend, format!("it failed in its answer: {message}"));
    Wrong { failure, is_ill: code >= 500 }
}

fn sampled(logprobs: Logprobs) -> Vec<Sampled> {
    if let Some(content) = logprobs.content {
        return content.into_iter().map(one).collect();
    }
    let values =
        logprobs.token_logprobs.unwrap_or_default().into_iter().chain(std::iter::repeat(None));
    let tops = logprobs.top_logprobs.unwrap_or_default().into_iter();
    let tops = tops.map(Option::unwrap_or_default).chain(std::iter::repeat_with(BTreeMap::new));
    let token = |((text, logprob), top): ((String, _), _)| Sampled {
        id: NO_ID,
        bytes: text.into_bytes(),
        logprob,
        top: likeliest(top),
    };
    let tokens = logprobs.tokens.unwrap_or_default().into_iter();
    tokens.zip(values).zip(tops).map(token).collect()
}

/// The tokens that might have been there, the likeliest first.
fn likeliest(top: BTreeMap<String, f32>) -> Vec<TopToken> {
    let one =
        |(text, logprob): (String, f32)| TopToken { id: NO_ID, bytes: text.into_bytes(), logprob };
    let mut top: Vec<TopToken> = top.into_iter().map(one).collect();
    top.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
    top
}

fn one(said: Logprob) -> Sampled {
    let bytes = |said: Logprob| said.bytes.unwrap_or_else(|| said.token.into_bytes());
    let Logprob { token, bytes: own, logprob, top_logprobs } = said;
    let top = top_logprobs.into_iter().map(|top| {
        let logprob = top.logprob;
        TopToken { id: NO_ID, bytes: bytes(top), logprob }
    });
    Sampled {
        id: NO_ID,
        top: top.collect(),
        bytes: own.unwrap_or_else(|| token.into_bytes()),
        logprob: Some(logprob),
    }
}

#[cfg(test)]
mod tests;
