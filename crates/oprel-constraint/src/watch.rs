//! Waits for a model to call a tool of its own accord.

use std::sync::{Arc, OnceLock};

use oprel_tokenizer::Tokenizer;

use crate::{Gate, GateOptions, Matcher, Result};

/// The constraint on calls that a model may make: compiled while nobody waits for it.
///
/// `None` inside where there is none to be had.
pub type Prepared = Arc<OnceLock<Option<Matcher>>>;

/// Lets everything pass until a call opens, from where the call must be one: its arguments parse, and
/// fit their schema. What is thought opens none.
#[derive(Clone, Debug)]
pub struct Watch {
    tokenizer: Tokenizer,
    matcher: Prepared,
    think_open: Vec<u8>,
    think_close: Vec<u8>,
    opens: Vec<Vec<u8>>,
    thinking: bool,
    /// The latest tokens, as many as a mark may take.
    recent: Vec<u32>,
    /// Their bytes.
    said: Vec<u8>,
    /// A call was not one that can be kept to.
    over: bool,
}

impl Watch {
    /// Watches for `options.call_opens` with the matcher that will be in `matcher`.
    pub fn new(tokenizer: &Tokenizer, options: &GateOptions, matcher: Prepared) -> Watch {
        let bytes = |text: &Option<String>| text.clone().unwrap_or_default().into_bytes();
        let opens = options.call_opens.iter().filter(|open| !open.is_empty());
        Watch {
            tokenizer: tokenizer.clone(),
            matcher,
            think_open: bytes(&options.think_open),
            think_close: bytes(&options.think_close),
            opens: opens.map(|open| open.clone().into_bytes()).collect(),
            thinking: options.inside && options.think_close.is_some(),
            recent: Vec::new(),
            said: Vec::new(),
            over: false,
        }
    }

    /// Takes a token. Gives the constraint that applies from here on if it opens a call.
    ///
    /// # Errors
    /// Those of [`Matcher::accept`], but for tokens that the constraint does not allow: such a call is
    /// left alone.
    pub fn accept(&mut self, token: u32) -> Result<Option<Gate>> {
        if self.over {
            return Ok(None);
        }
        self.recent.push(token);
        self.said.extend_from_slice(self.tokenizer.piece(token));
        if self.thinking {
            self.leave_thinking();
            return Ok(None);
        }
        if !self.think_close.is_empty() && find(&self.said, &self.think_open).is_some() {
            self.thinking = true;
            self.forget();
            return Ok(None);
        }
        let opened = self.opens.iter().filter_map(|open| find(&self.said, open)).min();
        let Some(at) = opened else {
            self.forget_old();
            return Ok(None);
        };
        self.over = true;
        let Some(matcher) = self.matcher.wait() else { return Ok(None) };
        self.begin(matcher.fork(), at)
    }

    /// The constraint after the tokens from this byte on.
    fn begin(&self, mut matcher: Matcher, at: usize) -> Result<Option<Gate>> {
        let mut before = 0;
        let len = |token: &u32| self.tokenizer.piece(*token).len();
        let from = self.recent.iter().position(|token| {
            let here = before == at && len(token) > 0;
            before += len(token);
            here
        });
        let Some(from) = from else { return Ok(None) };
        for &token in &self.recent[from..] {
            match matcher.accept(token) {
                Ok(()) => {}
                Err(crate::Error::NotAllowed { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Gate::from(matcher)))
    }

    fn leave_thinking(&mut self) {
        if find(&self.said, &self.think_close).is_some() {
            self.thinking = false;
            self.forget();
        } else {
            self.forget_old();
        }
    }

    fn forget(&mut self) {
        self.recent.clear();
        self.said.clear();
    }

    /// Drops tokens that no mark can begin in any more.
    fn forget_old(&mut self) {
        let marks = self.opens.iter().chain([&self.think_open, &self.think_close]);
        let most = marks.map(Vec::len).max().unwrap_or(0);
        let mut old = 0;
        let mut bytes = 0;
        for &token in &self.recent {
            let len = self.tokenizer.piece(token).len();
            if self.said.len() - bytes - len < most {
                break;
            }
            old += 1;
            bytes += len;
        }
        self.recent.drain(..old);
        self.said.drain(..bytes);
    }
}

fn find(text: &[u8], mark: &[u8]) -> Option<usize> {
    if mark.is_empty() {
        return None;
    }
    text.windows(mark.len()).position(|part| part == mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{demo_tokenizer, demo_vocabulary};
    use crate::{CallFormat, tool_call_matcher};
    use oprel_api::{Tool, ToolChoice};
    use serde_json::json;

    fn watch() -> Watch {
        let vocabulary = demo_vocabulary();
        let place = json!({"type": "object", "properties": {"place": {"type": "string"}},
            "required": ["place"], "additionalProperties": false});
        let tools = [Tool::new("weather", "", place)];
        let matcher =
            tool_call_matcher(&vocabulary, &CallFormat::Tagged, &tools, &ToolChoice::Required);
        let options = GateOptions {
            think_open: Some("<think>".into()),
            think_close: Some("</think>".into()),
            inside: false,
            call_opens: vec!["<tool_call>".into()],
            ..GateOptions::default()
        };
        Watch::new(&demo_tokenizer(), &options, Arc::new(OnceLock::from(matcher.unwrap())))
    }

    /// The constraint after a text, and what of it was left.
    fn after(text: &str) -> (Option<Gate>, Vec<u32>) {
        let mut watch = watch();
        let tokens = demo_vocabulary().tokenize(text);
        for (i, &token) in tokens.iter().enumerate() {
            if let Some(gate) = watch.accept(token).unwrap() {
                return (Some(gate), tokens[i + 1..].to_vec());
            }
        }
        (None, Vec::new())
    }

    #[test]
    fn a_call_is_held_from_where_it_opens() {
        let (gate, rest) = after("I look.\n<tool_call>\n{\"name\": \"weather\", \"arg");
        let mut gate = gate.unwrap();
        assert!(!rest.is_empty());
        rest.into_iter().for_each(|token| gate.accept(token).unwrap());
        assert!(!gate.may_end().unwrap() && gate.is_holding());
        let (gate, _) = after("<think>no</think>so <tool_call>");
        let mut gate = gate.unwrap();
        let wrong = gate.matcher().vocabulary().tokenize(" weather");
        assert!(gate.accept(wrong[0]).is_err());
    }

    #[test]
    fn what_is_thought_or_said_opens_none() {
        assert!(after("It is <tool and <tool_cal l>").0.is_none());
        assert!(after("<think>I <tool_call> it").0.is_none());
    }
}
