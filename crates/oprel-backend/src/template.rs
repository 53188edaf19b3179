//! Chat templates on their own: rendering what a file says, without an engine.

use oprel_chat::{ChatTemplate, LocalTime, RenderInput, SpecialTokens};
use oprel_gguf::Gguf;
use oprel_tokenizer::Tokenizer;
use serde_json::{Map, Value};

use crate::Result;
use crate::facts::{special_tokens, templates};
use crate::native::local_time;

/// A conversation as JSON, with every key that a template may read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawChat {
    /// Messages, oldest first.
    pub messages: Vec<Value>,
    /// Tools, as the template expects them.
    pub tools: Option<Vec<Value>>,
    /// Further variables.
    pub kwargs: Map<String, Value>,
    /// End with the beginning of the assistant's message.
    pub add_generation_prompt: bool,
}

/// The chat template of a file with its special tokens; ChatML if it has none.
///
/// # Errors
/// If vocabulary or template cannot be used.
pub fn template_of(file: &Gguf, with_tools: bool) -> Result<ChatTemplate> {
    let special = special_tokens(&Tokenizer::from_metadata(file.metadata())?);
    Ok(ChatTemplate::compile(templates(file, None)?.choose(with_tools).source, special)?)
}

/// A template from a text.
///
/// # Errors
/// If it is no template.
pub fn compile_template(
    source: &str,
    bos: Option<String>,
    eos: Option<String>,
) -> Result<ChatTemplate> {
    let special = SpecialTokens { bos, eos, ..SpecialTokens::default() };
    Ok(ChatTemplate::compile(source, special)?)
}

/// The prompt that a template makes of a conversation.
///
/// # Errors
/// If the template refuses the conversation.
pub fn render_raw(template: &ChatTemplate, chat: &RawChat) -> Result<String> {
    let now: LocalTime = local_time();
    let input = RenderInput {
        tools: chat.tools.as_deref(),
        add_generation_prompt: chat.add_generation_prompt,
        kwargs: Some(&chat.kwargs),
        ..RenderInput::new(&chat.messages, now)
    };
    Ok(template.render(&input)?)
}
