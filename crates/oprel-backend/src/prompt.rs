//! From a request to the tokens that the model continues.

use oprel_api::Truncation;
use oprel_api::{Chat, Input, InputOverflow, Message, Prompt, Request, Role, ToolChoice};
use oprel_chat::{ChatTemplate, LocalTime};
use oprel_tokenizer::TokenizeOptions;

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
pub(crate) fn check(facts: &Facts, request: &Request) -> Result<()> {
    request.validate()?;
    let chat = match &request.input {
        Input::Messages(chat) => Some(chat),
        _ => None,
    };
    let prompt = match &request.input {
        Input::Prompt(prompt) => Some(prompt),
        _ => None,
    };
    let refused = [
        ("adapters", !request.adapters.is_empty()),
        ("images", chat.is_some_and(|c| c.messages.iter().any(|m| m.content.has_media()))),
        ("images", prompt.is_some_and(|p| !p.media.is_empty())),
        ("suffix", prompt.is_some_and(|p| p.suffix.is_some())),
    ];
    if let Some((field, _)) = refused.into_iter().find(|(_, asked)| *asked) {
        return Err(Error::Unsupported { field });
    }
    if prompt.is_some_and(|p| p.raw && p.think.is_some()) {
        return Err(oprel_api::Error::Conflict { field: "think", other: "raw" }.into());
    }
    check_template(facts, request)
}

/// Refuses, by name, what the chat template would leave out. What a template of the request's own can
/// say is its author's business.
fn check_template(facts: &Facts, request: &Request) -> Result<()> {
    let (own, think, system, tools) = match &request.input {
        Input::Messages(c) => {
            let system = c.messages.iter().any(|m| m.role == Role::System);
            let tools = !c.tools.is_empty() && c.tool_choice != ToolChoice::None;
            (c.template.is_some(), c.think, system, tools)
        }
        Input::Prompt(p) if !p.raw => (p.template.is_some(), p.think, p.system.is_some(), false),
        _ => return Ok(()),
    };
    if own {
        return Ok(());
    }
    // A template that cannot be used tells itself why.
    facts.template(tools)?;
    let think = think.is_some_and(oprel_api::Think::is_on);
    let asked = [
        ("tools", tools && !facts.can.tools),
        ("think", think && !facts.can.thinking),
        ("system", system && !facts.can.system),
    ];
    match asked.into_iter().find(|(_, lacks)| *lacks) {
        Some((field, _)) => Err(Error::Incapable { field }),
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
    let own = chat
        .template
        .as_deref()
        .map(|source| ChatTemplate::compile(source, special_tokens(&facts.tokenizer)))
        .transpose()?;
    let with_tools = !chat.tools.is_empty() && chat.tool_choice != ToolChoice::None;
    let template = match &own {
        Some(template) => template,
        None => facts.template(with_tools)?,
    };
    let mut chat = chat.clone();
    let mut truncation = Truncation::default();
    let mut full = None;
    loop {
        let text = template.render_chat(&chat, now)?;
        let mut tokens = before.to_vec();
        tokens.extend(tokenize_rendered(facts, &text, before.is_empty()));
        let full = *full.get_or_insert(tokens.len());
        let dropped = match cut && tokens.len() > room as usize {
            true => drop_oldest(&mut chat.messages),
            false => 0,
        };
        if dropped == 0 {
            truncation.dropped_tokens = full.saturating_sub(tokens.len()) as u32;
            truncation.kept_tokens = tokens.len() as u32;
            let truncated = (truncation.dropped_messages > 0).then_some(truncation);
            return Ok(Tokens { tokens, truncated, rendered: Some(text) });
        }
        truncation.dropped_messages += dropped;
    }
}

/// Drops the oldest message that is not the system's, with the answers to it: templates want a
/// conversation to begin with the user. The last message stays. How many were dropped.
fn drop_oldest(messages: &mut Vec<Message>) -> u32 {
    let Some(from) = messages.iter().position(|m| m.role != Role::System) else { return 0 };
    let last = messages.len() - 1;
    let to = (from + 1..last).find(|&i| messages[i].role == Role::User).unwrap_or(last).max(from);
    messages.drain(from..to).count() as u32
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

#[cfg(test)]
mod tests;
