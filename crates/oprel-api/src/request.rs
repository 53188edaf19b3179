//! One request, whatever dialect it came in.

use crate::{
    CachePolicy, Constraint, Error, Limits, Media, Message, Result, Sampling, Tool, ToolChoice,
    Trace,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Most stop texts of a request.
const MOST_STOPS: usize = 256;
/// Most alternatives that may be asked for a position.
const MOST_TOP_LOGPROBS: u32 = 20;

/// What to generate from, how to choose, and how far to go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// What to generate from.
    pub input: Input,
    /// How the next token is chosen.
    #[serde(default)]
    pub sampling: Sampling,
    /// What the answer must look like.
    #[serde(default)]
    pub constraint: Option<Constraint>,
    /// Texts that end the answer; they are not part of it.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Tokens that end the answer, besides those of the model.
    #[serde(default)]
    pub stop_tokens: Vec<u32>,
    /// Do not end at the model's end-of-text tokens.
    #[serde(default)]
    pub ignore_end: bool,
    /// How far to go.
    #[serde(default)]
    pub limits: Limits,
    /// What may be cached.
    #[serde(default)]
    pub cache: CachePolicy,
    /// Log probabilities of the answer's tokens, with so many alternatives each.
    #[serde(default)]
    pub logprobs: Option<u32>,
    /// Log probabilities of the prompt's tokens, with so many alternatives each.
    #[serde(default)]
    pub prompt_logprobs: Option<u32>,
    /// Tell the prompt's tokens in the answer, as [`Event::Prompt`](crate::Event::Prompt).
    #[serde(default)]
    pub prompt_ids: bool,
    /// How many answers to give. Each is a sequence of its own with its own stream of events.
    #[serde(default = "one")]
    pub n: u32,
    /// Adapters (LoRA) that are laid over the model for this request.
    #[serde(default)]
    pub adapters: Vec<AdapterChoice>,
    /// Before whom it is served: higher first, 0 is usual.
    #[serde(default)]
    pub priority: i32,
    /// Whether tokens may be proposed from what the text repeats and checked several at a time. The
    /// text is the same either way.
    #[serde(default = "yes")]
    pub speculate: bool,
    /// For whom: clients share the engine fairly.
    #[serde(default)]
    pub client: String,
    /// Tokens of the answer that were made before, here or elsewhere: it goes on after them, and they
    /// are not said again.
    #[serde(default)]
    pub resume: Vec<u32>,
    /// What it is a step of.
    #[serde(skip)]
    pub trace: Option<Trace>,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// What to generate from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // one a request; a box would cost more than it saves
pub enum Input {
    /// A conversation, rendered by the model's chat template.
    Messages(Chat),
    /// A text.
    Prompt(Prompt),
    /// Tokens, taken as they are: no BOS is added.
    Tokens(Vec<u32>),
}

/// A conversation and what its template needs to know.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Chat {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Tools that the model may call.
    pub tools: Vec<Tool>,
    /// Whether and which tools it calls.
    pub tool_choice: ToolChoice,
    /// Whether it thinks before it answers; `None` leaves it to the template.
    pub think: Option<Think>,
    /// Further variables of the template.
    pub template_kwargs: Map<String, Value>,
    /// A template to use instead of the model's.
    pub template: Option<String>,
    /// Go on with the last message instead of beginning a new one.
    pub continue_last: bool,
}

/// A text and what goes with it.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Prompt {
    /// The text.
    pub text: String,
    /// The text after the gap, when a gap is to be filled.
    pub suffix: Option<String>,
    /// Replaces the model's system text.
    pub system: Option<String>,
    /// Whether it thinks before it answers; `None` leaves it to the template.
    pub think: Option<Think>,
    /// A template to use instead of the model's.
    pub template: Option<String>,
    /// Give the text to the model as it is, without a template.
    pub raw: bool,
    /// Find special tokens in the text (raw only; a template's own are always found).
    pub parse_special: bool,
    /// Images and sounds, in the order of their places in the text.
    pub media: Vec<Media>,
    /// Tokens that come before the text: an earlier answer's context.
    pub context: Vec<u32>,
}

/// Whether, and how hard, a model thinks before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Think {
    /// Not at all.
    Off,
    /// As much as it likes.
    On,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// As much as it can.
    Max,
}

impl Think {
    /// Whether it thinks at all.
    pub fn is_on(self) -> bool {
        self != Think::Off
    }

    /// The word for the effort that templates know, `None` for plain on and off.
    pub fn effort(self) -> Option<&'static str> {
        match self {
            Think::Off | Think::On => None,
            Think::Low => Some("low"),
            Think::Medium => Some("medium"),
            Think::High => Some("high"),
            Think::Max => Some("max"),
        }
    }
}

/// An adapter and how strongly it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterChoice {
    /// The adapter's name, as it was loaded.
    pub name: String,
    /// Factor of its difference to the model; 1 is as it was trained.
    pub scale: f32,
}

impl Request {
    /// A request with default sampling, no constraint and no limits.
    pub fn new(input: Input) -> Request {
        Request {
            input,
            sampling: Sampling::default(),
            constraint: None,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            ignore_end: false,
            limits: Limits::default(),
            cache: CachePolicy::default(),
            logprobs: None,
            prompt_logprobs: None,
            prompt_ids: false,
            n: 1,
            adapters: Vec::new(),
            priority: 0,
            speculate: true,
            client: String::new(),
            resume: Vec::new(),
            trace: None,
        }
    }

    /// A conversation without tools.
    pub fn chat(messages: Vec<Message>) -> Request {
        Request::new(Input::Messages(Chat { messages, ..Chat::default() }))
    }

    /// A text for the model's template: one message of the user.
    pub fn prompt(text: impl Into<String>) -> Request {
        Request::new(Input::Prompt(Prompt { text: text.into(), ..Prompt::default() }))
    }

    /// A text that the model continues as it is.
    pub fn raw(text: impl Into<String>) -> Request {
        let prompt =
            Prompt { text: text.into(), raw: true, parse_special: true, ..Prompt::default() };
        Request::new(Input::Prompt(prompt))
    }

    /// Tokens that the model continues.
    pub fn tokens(tokens: Vec<u32>) -> Request {
        Request::new(Input::Tokens(tokens))
    }

    /// Checks everything that can be checked without a model.
    ///
    /// # Errors
    /// [`Error`] with the name of the first field that is wrong.
    pub fn validate(&self) -> Result<()> {
        self.sampling.validate()?;
        self.limits.validate()?;
        self.input.validate()?;
        if self.n == 0 {
            return Err(range("n", "1 or more", 0));
        }
        if self.stop.len() > MOST_STOPS {
            let given = self.stop.len();
            return Err(Error::TooMany { field: "stop", given, most: MOST_STOPS });
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Empty { field: "stop" });
        }
        for (field, count) in
            [("logprobs", self.logprobs), ("prompt_logprobs", self.prompt_logprobs)]
        {
            if let Some(count) = count.filter(|&n| n > MOST_TOP_LOGPROBS) {
                return Err(range(field, "between 0 and 20", count));
            }
        }
        if self.adapters.iter().any(|a| !a.scale.is_finite()) {
            return Err(range("adapters", "finite in every scale", "NaN or infinite"));
        }
        Ok(())
    }
}

impl Input {
    /// Whether it is wished that nothing is thought.
    pub fn thinks_not(&self) -> bool {
        let think = match self {
            Input::Messages(chat) => chat.think,
            Input::Prompt(prompt) => prompt.think,
            Input::Tokens(_) => None,
        };
        think == Some(Think::Off)
    }

    fn validate(&self) -> Result<()> {
        match self {
            Input::Messages(chat) if chat.messages.is_empty() => {
                Err(Error::Empty { field: "messages" })
            }
            Input::Tokens(tokens) if tokens.is_empty() => Err(Error::Empty { field: "tokens" }),
            Input::Prompt(prompt) if prompt.raw => prompt.validate_raw(),
            _ => Ok(()),
        }
    }
}

impl Prompt {
    /// A raw text goes around the template, so nothing that only a template reads may be set.
    fn validate_raw(&self) -> Result<()> {
        let conflict = |field| Err(Error::Conflict { field, other: "raw" });
        if self.template.is_some() {
            return conflict("template");
        }
        if self.system.is_some() {
            return conflict("system");
        }
        if !self.context.is_empty() {
            return conflict("context");
        }
        Ok(())
    }
}

fn range(field: &'static str, expected: &'static str, value: impl std::fmt::Display) -> Error {
    Error::OutOfRange { field, expected, value: value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_conversation_is_refused() {
        assert_eq!(Request::chat(vec![]).validate(), Err(Error::Empty { field: "messages" }));
        assert_eq!(Request::tokens(vec![]).validate(), Err(Error::Empty { field: "tokens" }));
        assert_eq!(Request::prompt("hi").validate(), Ok(()));
    }

    #[test]
    fn raw_excludes_what_only_a_template_reads() {
        let mut request = Request::raw("hi");
        assert_eq!(request.validate(), Ok(()));
        let Input::Prompt(prompt) = &mut request.input else { unreachable!() };
        prompt.system = Some("be brief".into());
        let error = request.validate().unwrap_err();
        assert_eq!(error.to_string(), "system cannot be combined with raw");
    }

    #[test]
    fn an_empty_stop_text_is_refused() {
        let mut request = Request::prompt("hi");
        request.stop = vec!["\n".into(), String::new()];
        assert_eq!(request.validate().unwrap_err().field(), "stop");
    }

    #[test]
    fn no_answer_and_too_many_alternatives_are_refused() {
        let none = Request { n: 0, ..Request::prompt("hi") };
        assert_eq!(none.validate().unwrap_err().field(), "n");
        let many = Request { logprobs: Some(21), ..Request::prompt("hi") };
        assert_eq!(many.validate().unwrap_err().field(), "logprobs");
    }

    #[test]
    fn a_request_survives_json() {
        let mut request = Request::chat(vec![Message::user("hi")]);
        request.constraint = Some(Constraint::JsonSchema(serde_json::json!({"type": "object"})));
        request.limits.output_overflow = crate::OutputOverflow::Shift { keep: 4 };
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&json).unwrap(), request);
    }
}
