//! The fold of a stream of events: the answer of a request that does not stream.

use crate::{EndReason, Event, Failure, Sampled, ToolCall, Truncation, Usage};
use serde::{Deserialize, Serialize};

/// All that a sequence said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// The answer's text.
    pub text: String,
    /// What was thought before it.
    pub thinking: String,
    /// Calls of tools.
    pub tool_calls: Vec<ToolCall>,
    /// Tokens of text and thinking, in the order they were made.
    pub tokens: Vec<Sampled>,
    /// Tokens of the prompt with their log probabilities, where asked for.
    pub prompt: Vec<Sampled>,
    /// What was left out, in the order it happened.
    pub truncated: Vec<Truncation>,
    /// What it took.
    pub usage: Usage,
    /// Why it ended; `None` while it has not.
    pub end: Option<EndReason>,
}

impl Answer {
    /// Takes one event.
    ///
    /// # Errors
    /// The failure that an [`Event::Error`] carries; what came before it stays in the answer.
    pub fn push(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Text(piece) => {
                self.text.push_str(&piece.text);
                self.tokens.extend(piece.tokens);
            }
            Event::Thinking(piece) => {
                self.thinking.push_str(&piece.text);
                self.tokens.extend(piece.tokens);
            }
            Event::ToolCall(call) => self.tool_calls.push(call),
            Event::Truncated(truncation) => self.truncated.push(truncation),
            Event::Prompt(tokens) => self.prompt.extend(tokens),
            Event::Usage(usage) => self.usage = usage,
            Event::End(reason) => self.end = Some(reason),
            Event::Error(failure) => return Err(failure),
        }
        Ok(())
    }

    /// The answer of a whole stream.
    ///
    /// # Errors
    /// The failure that the stream ended with.
    pub fn fold(events: impl IntoIterator<Item = Event>) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        events.into_iter().try_for_each(|event| answer.push(event))?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, Piece};

    #[test]
    fn an_answer_is_the_fold_of_its_stream() {
        let token = |id| Sampled { id, ..Sampled::default() };
        let answer = Answer::fold([
            Event::thinking("hm"),
            Event::Text(Piece { text: "a".into(), tokens: vec![token(1)] }),
            Event::Text(Piece { text: String::new(), tokens: vec![token(2)] }),
            Event::Text(Piece { text: "é".into(), tokens: vec![token(3)] }),
            Event::ToolCall(ToolCall::new("f", serde_json::json!({}))),
            Event::Usage(Usage { generated_tokens: 4, ..Usage::default() }),
            Event::End(EndReason::EndOfText),
        ])
        .unwrap();
        assert_eq!((answer.text.as_str(), answer.thinking.as_str()), ("aé", "hm"));
        assert_eq!(answer.tokens.iter().map(|t| t.id).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(answer.tool_calls.len(), 1);
        assert_eq!(answer.usage.generated_tokens, 4);
        assert_eq!(answer.end, Some(EndReason::EndOfText));
    }

    #[test]
    fn a_failure_ends_the_fold_and_leaves_what_was_said() {
        let mut answer = Answer::default();
        answer.push(Event::text("half")).unwrap();
        let failure = Failure::new(ErrorKind::Backend, "the engine stopped");
        assert_eq!(answer.push(Event::Error(failure.clone())), Err(failure));
        assert_eq!(answer.text, "half");
    }
}
