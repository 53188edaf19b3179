//! From a request to the tokens that the model continues.

use oprel_api::{Chat, Input, InputOverflow, Message, Prompt, Request, Role, ToolChoice};
use oprel_api::{OutputOverflow, Truncation};
use oprel_chat::{ChatTemplate, LocalTime, RenderInput, message_json, tool_json};
use oprel_tokenizer::TokenizeOptions;
use serde_json::{Map, Value};

use crate::facts::special_tokens;
use crate::{Error, Facts, Result};

/// A prompt, tokenized.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tokens {
    pub(crate) tokens: Vec<u32>,
    /// What was left out so that it fits.
    pub(crate) truncated: Option<Truncation>,
    /// The text before the answer, where a template made it: thinking may be open in it.
    pub(crate) rendered: Option<String>,
}

/// Refuses, by name, what this backend does not do.
pub(crate) fn check(request: &Request) -> Result<()> {
    request.validate()?;
    let chat = match &request.input {
        Input::Messages(chat) => Some(chat),
        _ => None,
    };
    let prompt = match &request.input {
        Input::Prompt(prompt) => Some(prompt),
        _ => None,
    };
    let forced = |c: &Chat| !matches!(c.tool_choice, ToolChoice::Auto | ToolChoice::None);
    let refused = [
        ("constraint", request.constraint.is_some()),
        ("n", request.n != 1),
        ("adapters", !request.adapters.is_empty()),
        ("priority", request.priority != 0),
        ("max_thinking_tokens", request.limits.max_thinking_tokens.is_some()),
        ("output_overflow", request.limits.output_overflow != OutputOverflow::Stop),
        ("tool_choice", chat.is_some_and(forced)),
        ("images", chat.is_some_and(|c| c.messages.iter().any(|m| m.content.has_media()))),
        ("images", prompt.is_some_and(|p| !p.media.is_empty())),
        ("suffix", prompt.is_some_and(|p| p.suffix.is_some())),
    ];
    match refused.into_iter().find(|(_, asked)| *asked) {
        Some((field, _)) => Err(Error::Unsupported { field }),
        None => Ok(()),
    }
}

/// The prompt of a request, at most `room` tokens long where the request lets it be cut.
pub(crate) fn tokens(
    facts: &Facts,
    request: &Request,
    room: u32,
    now: LocalTime,
) -> Result<Tokens> {
    let cut = request.limits.input_overflow == InputOverflow::DropOldest;
    match &request.input {
        Input::Tokens(tokens) => Ok(fitted(tokens.clone(), cut.then_some(room))),
        Input::Prompt(prompt) if prompt.raw || !chats(facts, prompt) => {
            let mut tokens = prompt.context.clone();
            let options = TokenizeOptions {
                add_special: tokens.is_empty(),
                parse_special: prompt.parse_special,
            };
            tokens.extend(facts.tokenizer.tokenize(&prompt.text, options));
            Ok(fitted(tokens, cut.then_some(room)))
        }
        Input::Prompt(prompt) => rendered(facts, &as_chat(prompt), &prompt.context, cut, room, now),
        Input::Messages(chat) => rendered(facts, chat, &[], cut, room, now),
    }
}

/// A prompt for a file without template is continued as it is, unless the request brings one.
fn chats(facts: &Facts, prompt: &Prompt) -> bool {
    facts.has_template || prompt.template.is_some() || prompt.system.is_some()
}

fn as_chat(prompt: &Prompt) -> Chat {
    let mut messages = Vec::new();
    messages.extend(prompt.system.as_ref().map(|text| Message::new(Role::System, text.as_str())));
    messages.push(Message::user(prompt.text.as_str()));
    let (think, template) = (prompt.think, prompt.template.clone());
    Chat { messages, think, template, ..Chat::default() }
}

fn rendered(
    facts: &Facts,
    chat: &Chat,
    before: &[u32],
    cut: bool,
    room: u32,
    now: LocalTime,
) -> Result<Tokens> {
    let mut messages: Vec<&Message> = chat.messages.iter().collect();
    let mut dropped = 0;
    let mut first_len = None;
    loop {
        let text = render(facts, chat, &messages, now)?;
        let mut tokens = before.to_vec();
        tokens.extend(tokenize_rendered(facts, &text, before.is_empty()));
        let full = *first_len.get_or_insert(tokens.len());
        let oldest = messages.iter().position(|m| m.role != Role::System);
        let last = messages.len() - 1;
        match oldest {
            Some(i) if cut && tokens.len() > room as usize && i < last => {
                messages.remove(i);
                dropped += 1;
            }
            _ => {
                let truncated = (dropped > 0).then(|| Truncation {
                    dropped_messages: dropped,
                    dropped_tokens: (full - tokens.len()) as u32,
                    kept_tokens: tokens.len() as u32,
                    during_answer: false,
                });
                return Ok(Tokens { tokens, truncated, rendered: Some(text) });
            }
        }
    }
}

fn render(facts: &Facts, chat: &Chat, messages: &[&Message], now: LocalTime) -> Result<String> {
    let messages: Vec<Value> = messages.iter().map(|m| message_json(m)).collect();
    let tools: Vec<Value> = match chat.tool_choice {
        ToolChoice::None => Vec::new(),
        _ => chat.tools.iter().map(tool_json).collect(),
    };
    let kwargs = kwargs(chat);
    let input = RenderInput {
        tools: (!tools.is_empty()).then_some(&tools[..]),
        add_generation_prompt: !chat.continue_last,
        continue_last: chat.continue_last,
        kwargs: Some(&kwargs),
        ..RenderInput::new(&messages, now)
    };
    let own = chat
        .template
        .as_deref()
        .map(|source| ChatTemplate::compile(source, special_tokens(&facts.tokenizer)));
    let template = own.transpose()?;
    Ok(template.as_ref().unwrap_or(facts.template(!tools.is_empty())).render(&input)?)
}

/// Template variables: those of the request, and what it says of thinking under the names that
/// templates read.
fn kwargs(chat: &Chat) -> Map<String, Value> {
    let mut all = Map::new();
    if let Some(think) = chat.think {
        all.insert("enable_thinking".into(), Value::Bool(think.is_on()));
        all.insert("thinking".into(), Value::Bool(think.is_on()));
        if let Some(effort) = think.effort() {
            all.insert("reasoning_effort".into(), Value::from(effort));
        }
    }
    all.extend(chat.template_kwargs.clone());
    all
}

/// Templates write BOS as text; a second one is not added.
fn tokenize_rendered(facts: &Facts, text: &str, at_start: bool) -> Vec<u32> {
    let tokenizer = &facts.tokenizer;
    let bos = tokenizer.bos().and_then(|id| tokenizer.raw_piece(id)).unwrap_or_default();
    let add_special = at_start && (bos.is_empty() || !text.starts_with(bos));
    tokenizer.tokenize(text, TokenizeOptions { add_special, parse_special: true })
}

/// Cuts the middle out of tokens that are more than the room.
fn fitted(tokens: Vec<u32>, room: Option<u32>) -> Tokens {
    let room = room.map_or(usize::MAX, |r| r as usize);
    if tokens.len() <= room {
        return Tokens { tokens, truncated: None, rendered: None };
    }
    let head = room / 2;
    let tail = tokens.len() - (room - head);
    let kept = [&tokens[..head], &tokens[tail..]].concat();
    let truncated = Truncation {
        dropped_messages: 0,
        dropped_tokens: (tail - head) as u32,
        kept_tokens: kept.len() as u32,
        during_answer: false,
    };
    Tokens { tokens: kept, truncated: Some(truncated), rendered: None }
}
