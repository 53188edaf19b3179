//! A model's chat template: messages to the text that the model continues.

use crate::jinja::{Limits, Machine, Tree, Value, from_json};
use crate::{Error, LocalTime, Result, go, jinja};
use serde_json::{Map, Value as Json};

/// More than any real template takes for any real conversation.
const LIMITS: Limits = Limits { steps: 5_000_000, output: 1 << 24, depth: 400 };
/// Stands behind the text that is to be continued, until it is found again.
const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// What a template is told about the vocabulary. A token that is `None` is undefined in the
/// template, as `transformers` leaves it; an empty text is defined and writes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<String>,
    /// Ends a text.
    pub eos: Option<String>,
    /// Stands for what the vocabulary lacks.
    pub unk: Option<String>,
    /// Fills up.
    pub pad: Option<String>,
}

/// A compiled chat template. Compile once, render often; it may be shared between threads.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    program: Program,
    special: SpecialTokens,
}

/// A template in the language that it is written in.
#[derive(Debug)]
enum Program {
    Jinja(Tree),
    Go(go::Program),
}

/// What is rendered.
#[derive(Clone, Debug)]
pub struct RenderInput<'a> {
    /// The messages as JSON objects, oldest first, as [`crate::message_json`] writes them. Keys
    /// that the template does not know do no harm.
    pub messages: &'a [Json],
    /// The tools as JSON objects, `None` if there are none to speak of.
    pub tools: Option<&'a [Json]>,
    /// Documents to answer from, for templates that read them.
    pub documents: Option<&'a [Json]>,
    /// End with the beginning of the assistant's message.
    pub add_generation_prompt: bool,
    /// Leave the last message open, to be continued.
    pub continue_last: bool,
    /// Further variables; they win over all that are set here.
    pub kwargs: Option<&'a Map<String, Json>>,
    /// What `strftime_now` shows.
    pub now: LocalTime,
}

/// A text with a gap that is to be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap<'a> {
    /// What the system says, if anything.
    pub system: Option<&'a str>,
    /// What stands before the gap.
    pub before: &'a str,
    /// What stands after it.
    pub after: &'a str,
}

impl<'a> RenderInput<'a> {
    /// Messages without tools, followed by the beginning of the assistant's message.
    pub fn new(messages: &'a [Json], now: LocalTime) -> RenderInput<'a> {
        RenderInput {
            messages,
            tools: None,
            documents: None,
            add_generation_prompt: true,
            continue_last: false,
            kwargs: None,
            now,
        }
    }
}

impl ChatTemplate {
    /// Compiles a template: of Jinja, or of Go's `text/template` as Ollama's models have it.
    ///
    /// # Errors
    /// [`Error::TemplateTooLarge`], [`Error::Syntax`], [`Error::Unsupported`].
    pub fn compile(source: &str, special: SpecialTokens) -> Result<ChatTemplate> {
        let program = match go::is_go(source) {
            true => Program::Go(go::compile(source)?),
            false => Program::Jinja(jinja::compile(source)?),
        };
        Ok(ChatTemplate { source: source.to_owned(), program, special })
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the template reads a variable of this name, or what stands for it in Go's templates.
    pub fn reads(&self, variable: &str) -> bool {
        match &self.program {
            Program::Jinja(tree) => tree.reads(variable),
            Program::Go(program) => program.reads(match variable {
                "enable_thinking" | "thinking" => "Think",
                "reasoning_effort" => "ThinkLevel",
                other => other,
            }),
        }
    }

    /// The text for these messages, byte for byte what `transformers` renders, or Ollama.
    ///
    /// # Errors
    /// [`Error::Raised`] if the template refuses the messages, [`Error::Failed`] if it fails on
    /// them, others where it goes beyond all limits.
    pub fn render(&self, input: &RenderInput<'_>) -> Result<String> {
        if input.continue_last {
            return self.render_open(input);
        }
        self.render_messages(input, input.messages)
    }

    /// Whether the template says how a gap in a text is to be filled, as some of Go's do.
    pub fn fills_gaps(&self) -> bool {
        matches!(&self.program, Program::Go(program) if program.reads("Suffix"))
    }

    /// The text that asks for what stands between `gap`'s two sides; `None` from a template that cannot ask that.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_gap(&self, gap: &Gap<'_>, now: LocalTime) -> Result<Option<String>> {
        match &self.program {
            Program::Go(program) if self.fills_gaps() => {
                go::render_gap(program, gap, now, LIMITS).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn render_messages(&self, input: &RenderInput<'_>, messages: &[Json]) -> Result<String> {
        let tree = match &self.program {
            Program::Jinja(tree) => tree,
            Program::Go(program) => return go::render(program, input, messages, LIMITS),
        };
        let list = |items: &[Json]| -> Result<Value> {
            Ok(Value::list(items.iter().map(from_json).collect::<Result<_>>()?))
        };
        let optional = |items: Option<&[Json]>| items.map_or(Ok(Value::None), list);
        let mut variables = vec![
            ("messages".into(), list(messages)?),
            ("tools".into(), optional(input.tools)?),
            ("documents".into(), optional(input.documents)?),
            ("add_generation_prompt".into(), Value::Bool(input.add_generation_prompt)),
        ];
        for (name, token) in [
            ("bos_token", &self.special.bos),
            ("eos_token", &self.special.eos),
            ("unk_token", &self.special.unk),
            ("pad_token", &self.special.pad),
        ] {
            if let Some(token) = token {
                variables.push((name.into(), Value::str(token.as_str())));
            }
        }
        for (name, value) in input.kwargs.into_iter().flatten() {
            variables.push((name.as_str().into(), from_json(value)?));
        }
        Machine::new(tree, LIMITS, input.now).render(variables)
    }

    /// Marks the end of the last message, and cuts the text there.
    fn render_open(&self, input: &RenderInput<'_>) -> Result<String> {
        let mut messages = input.messages.to_vec();
        let last = messages.last_mut().and_then(|message| message.get_mut("content"));
        let content = match last {
            Some(Json::Array(parts)) => {
                parts.iter_mut().rev().find_map(|part| part.get_mut("text"))
            }
            other => other,
        };
        let Some(Json::String(text)) = content else { return Err(Error::NothingToContinue) };
        let said = text.trim().to_owned();
        text.push_str(MARK);
        let mut rendered = self.render_messages(input, &messages)?;
        let Some(at) = rendered.rfind(MARK.trim()) else { return Err(Error::NothingToContinue) };
        if !rendered.contains(&said) {
            return Err(Error::NothingToContinue);
        }
        let spaces_kept = rendered[at..].starts_with(MARK);
        rendered.truncate(at);
        if !spaces_kept {
            rendered.truncate(rendered.trim_end().len());
        }
        Ok(rendered)
    }
}
