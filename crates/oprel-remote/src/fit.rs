//! What is done so that a request fits the context of a server.

use oprel_api::{Cause, Failure, Truncation};
use serde_json::{Value, json};

use crate::tokens::Call;

/// How often messages are dropped before it is given up.
const MOST_CUTS: u32 = 8;

/// What may be done so that a request fits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fit {
    /// The call that counts the prompt's tokens, where the bound of an answer is what they leave of the context:
    /// a server would take few tokens for all otherwise.
    pub(crate) count: Option<Call>,
    /// Tokens that the context holds.
    pub(crate) context: u32,
    /// Whether the oldest messages may be dropped.
    pub(crate) drops: bool,
}

/// What was dropped so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cut {
    n: u32,
    messages: u32,
    /// Tokens of the prompt as it was asked for.
    prompt: u32,
}

impl Fit {
    /// Bounds an answer by what a prompt of so many tokens leaves.
    pub(crate) fn bound(&self, body: &mut Value, n_prompt: usize) {
        let prompt = u32::try_from(n_prompt).unwrap_or(u32::MAX);
        // A prompt that is too long is the server's to refuse.
        body["max_tokens"] = json!(self.context.saturating_sub(prompt).max(1));
    }
}

impl Cut {
    /// Drops messages of a request that was refused for its length; `false` if it was not, or nothing can be
    /// dropped.
    pub(crate) fn shorten(&mut self, fit: &Fit, failure: &Failure, body: &mut Value) -> bool {
        let Some(Cause::ContextLength { prompt, context }) = failure.cause else { return false };
        if !fit.drops || self.n == MOST_CUTS {
            return false;
        }
        let Some(messages) = body["messages"].as_array_mut() else { return false };
        let dropped = drop_oldest(messages, prompt, context);
        if self.n == 0 {
            self.prompt = prompt;
        }
        self.n += 1;
        self.messages += dropped;
        dropped > 0
    }

    /// What is told of it, once it is known what was kept.
    pub(crate) fn told(self, kept_tokens: u32) -> Option<Truncation> {
        (self.messages > 0).then(|| Truncation {
            dropped_messages: self.messages,
            dropped_tokens: self.prompt.saturating_sub(kept_tokens),
            kept_tokens,
            during_answer: false,
        })
    }
}

/// Drops the oldest messages that are not the system's, never the last, until a fourth of the context is free
/// as far as that can be guessed from their lengths. How many.
fn drop_oldest(messages: &mut Vec<Value>, prompt: u32, context: u32) -> u32 {
    let length = |message: &Value| message.to_string().len() as f64;
    let total: f64 = messages.iter().map(length).sum();
    let per_byte = f64::from(prompt) / total.max(1.0);
    let mut over = f64::from(prompt) - f64::from(context) * 0.75;
    // vLLM stops counting there: it may be any number of tokens.
    if prompt == context.saturating_add(1) {
        over = over.max(f64::from(prompt) * 0.5);
    }
    let is = |message: &Value, role: &str| message["role"] == role;
    let mut dropped = 0;
    while let Some(at) = messages.iter().position(|m| !is(m, "system")) {
        // The result of a call says nothing without the call.
        let is_orphan = dropped > 0 && is(&messages[at], "tool");
        if at + 1 >= messages.len() || (over <= 0.0 && !is_orphan) {
            break;
        }
        over -= length(&messages.remove(at)) * per_byte;
        dropped += 1;
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;
    use oprel_api::ErrorKind;

    fn body() -> Value {
        let say = |role: &str, text: &str| json!({"role": role, "content": text});
        let long = "word ".repeat(100);
        json!({"messages": [say("system", "s"), say("user", &long), say("assistant", "calls"),
            say("tool", "2"), say("user", &long), say("assistant", &long), say("user", "last")]})
    }

    fn too_long(prompt: u32, context: u32) -> Failure {
        let cause = Cause::ContextLength { prompt, context };
        Failure::new(ErrorKind::Validation, "too long").because(cause)
    }

    fn left(body: &Value) -> Vec<String> {
        let all = body["messages"].as_array().unwrap().iter();
        all.map(|m| m["content"].as_str().unwrap().chars().take(5).collect()).collect()
    }

    #[test]
    fn the_oldest_messages_go_and_the_systems_and_the_last_stay() {
        let fit = Fit { drops: true, ..Fit::default() };
        let (mut body, mut cut) = (body(), Cut::default());
        assert!(cut.shorten(&fit, &too_long(330, 320), &mut body));
        assert_eq!(left(&body), ["s", "calls", "2", "word ", "word ", "last"]);
        assert!(cut.shorten(&fit, &too_long(230, 300), &mut body));
        // A result goes with its call.
        assert_eq!(left(&body), ["s", "word ", "word ", "last"]);
        assert!(cut.shorten(&fit, &too_long(220, 10), &mut body));
        assert_eq!(left(&body), ["s", "last"]);
        assert!(!cut.shorten(&fit, &too_long(20, 10), &mut body));
        let told = cut.told(12).unwrap();
        assert_eq!((told.dropped_messages, told.dropped_tokens, told.kept_tokens), (5, 318, 12));
    }

    #[test]
    fn where_counting_stopped_half_goes_at_a_time() {
        let fit = Fit { drops: true, ..Fit::default() };
        let say = |i: u32| json!({"role": "user", "content": format!("{i:04}")});
        let mut body = json!({"messages": (0..200).map(say).collect::<Vec<_>>()});
        let mut cut = Cut::default();
        for most in [100, 50, 25, 13, 7, 4] {
            assert!(cut.shorten(&fit, &too_long(4097, 4096), &mut body));
            assert!(left(&body).len() <= most, "{most}: {}", left(&body).len());
        }
        assert_eq!(left(&body).pop().unwrap(), "0199");
    }

    #[test]
    fn nothing_goes_where_that_is_not_wanted_or_not_the_reason() {
        let (mut body, mut cut) = (body(), Cut::default());
        assert!(!cut.shorten(&Fit::default(), &too_long(330, 300), &mut body));
        let fit = Fit { drops: true, ..Fit::default() };
        assert!(!cut.shorten(&fit, &Failure::new(ErrorKind::Backend, "x"), &mut body));
        assert_eq!((left(&body).len(), cut.told(3)), (7, None));
    }
}
