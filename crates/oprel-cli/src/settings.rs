//! How answers are made: what the command line says, and a chat changes.

use std::path::Path;

use anyhow::Context;
use oprel::{
    Chat, Constraint, GrammarSyntax, Input, Message, Model, OprelError, OutputOverflow, Prompt,
    Request, SamplingPatch, Think,
};
use serde::{Deserialize, Serialize};

use crate::args::{Ask, ThinkArg};

/// How answers are made. A chat that is saved has them with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    pub(crate) system: Option<String>,
    /// Over what the model's makers suggest.
    pub(crate) sampling: SamplingPatch,
    pub(crate) stop: Vec<String>,
    pub(crate) num_predict: Option<u32>,
    pub(crate) num_ctx: Option<u32>,
    pub(crate) max_thinking: Option<u32>,
    pub(crate) think: Option<Think>,
    pub(crate) constraint: Option<Constraint>,
    pub(crate) shift: Option<u32>,
}

impl Settings {
    /// What a command line says.
    ///
    /// # Errors
    /// If a file with a schema or a grammar cannot be read.
    pub(crate) fn of(args: &Ask) -> anyhow::Result<Settings> {
        Ok(Settings {
            system: args.system.clone(),
            sampling: args.sampling.patch(),
            stop: args.stop.clone(),
            num_predict: args.num_predict,
            num_ctx: args.load.size.ctx_size,
            max_thinking: args.max_thinking,
            think: args.think.map(think),
            constraint: constraint(args)?,
            shift: args.shift,
        })
    }

    /// A request for one answer of a model.
    pub(crate) fn request(&self, model: &Model, input: Input) -> Request {
        let mut request = Request::new(input);
        request.sampling = self.sampling.over(model.sampling());
        request.constraint.clone_from(&self.constraint);
        request.stop.clone_from(&self.stop);
        request.limits.context = self.num_ctx;
        request.limits.max_tokens = self.num_predict;
        request.limits.max_thinking_tokens = self.max_thinking;
        if let Some(keep) = self.shift {
            request.limits.output_overflow = OutputOverflow::Shift { keep };
        }
        request
    }

    /// One question.
    pub(crate) fn prompt(&self, text: String, raw: bool) -> Input {
        Input::Prompt(Prompt {
            text,
            system: self.system.clone(),
            think: self.think,
            raw,
            parse_special: raw,
            ..Prompt::default()
        })
    }

    /// A conversation.
    pub(crate) fn chat(&self, messages: &[Message]) -> Input {
        let system = self.system.as_deref().map(Message::system);
        let messages = system.into_iter().chain(messages.iter().cloned()).collect();
        Input::Messages(Chat { messages, think: self.think, ..Chat::default() })
    }
}

fn think(level: ThinkArg) -> Think {
    match level {
        ThinkArg::True => Think::On,
        ThinkArg::False => Think::Off,
        ThinkArg::Low => Think::Low,
        ThinkArg::Medium => Think::Medium,
        ThinkArg::High => Think::High,
    }
}

/// What the command line says that the answer must be.
fn constraint(args: &Ask) -> anyhow::Result<Option<Constraint>> {
    if let Some(regex) = &args.regex {
        return Ok(Some(Constraint::Regex(regex.clone())));
    }
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read '{}'", path.display()))
    };
    if let Some(path) = &args.grammar {
        let is_lark = path.extension().is_some_and(|e| e == "lark");
        let syntax = if is_lark { GrammarSyntax::Lark } else { GrammarSyntax::Gbnf };
        return Ok(Some(Constraint::Grammar { syntax, text: read(path)? }));
    }
    match &args.format {
        None => Ok(None),
        Some(word) if word.as_os_str() == "json" => Ok(Some(Constraint::JsonObject)),
        Some(path) => {
            let wrong = |e| OprelError::validation(format!("'{}': {e}", path.display()));
            let schema = serde_json::from_str(&read(path)?).map_err(wrong)?;
            Ok(Some(Constraint::JsonSchema(schema)))
        }
    }
}
