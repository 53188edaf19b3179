//! From a request to the tokens that the model continues.

use std::ops::Range;

use oprel_api::Truncation;
use oprel_api::{Chat, Input, InputOverflow, Message, Prompt, Request, Role, ToolChoice};
use oprel_chat::{ChatTemplate, LocalTime};
use oprel_tokenizer::TokenizeOptions;

use crate::facts::special_tokens;
use crate::{Error, Facts, Result, gap};

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
    ];
    if let Some((field, _)) = refused.into_iter().find(|(_, asked)| *asked) {
        return Err(Error::Unsupported { field });
    }
    if prompt.is_some_and(|p| p.raw && p.think.is_some()) {
        return Err(oprel_api::Error::Conflict { field: "think", other: "raw" }.into());
    }
    match prompt.filter(|p| p.suffix.is_some()) {
        Some(prompt) => gap::check(facts, prompt),
        None => check_template(facts, request),
    }
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
        Input::Prompt(prompt) if prompt.suffix.is_some() => {
            let suffix = prompt.suffix.as_deref().unwrap_or_default();
            // Cut in the middle it would ask for something else.
            Ok(fitted(gap::tokens(facts, prompt, suffix, now)?, None))
        }
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
    let drops = if cut { oldest(&chat.messages) } else { Vec::new() };
    let bare = Chat { messages: Vec::new(), ..chat.clone() };
    let render = |n: usize| -> Result<Tokens> {
        let kept = Chat { messages: without(&chat.messages, &drops[..n]), ..bare.clone() };
        let text = template.render_chat(&kept, now)?;
        let mut tokens = before.to_vec();
        tokens.extend(tokenize_rendered(facts, &text, before.is_empty()));
        Ok(Tokens { tokens, truncated: None, rendered: Some(text) })
    };
    let whole = render(0)?;
    let full = whole.tokens.len();
    if full <= room as usize || drops.is_empty() {
        return Ok(whole);
    }
    let (n, mut made) = fewest(drops.len(), whole, render, |t| t.tokens.len() <= room as usize)?;
    made.truncated = Some(Truncation {
        dropped_messages: drops[..n].iter().map(ExactSizeIterator::len).sum::<usize>() as u32,
        dropped_tokens: full.saturating_sub(made.tokens.len()) as u32,
        kept_tokens: made.tokens.len() as u32,
        during_answer: false,
    });
    Ok(made)
}

/// What may be dropped of a conversation, piece by piece: the oldest message that is not the system's,
/// with the answers to it, since templates want a conversation to begin with the user. The last
/// message stays.
fn oldest(messages: &[Message]) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let Some(last) = messages.len().checked_sub(1) else { return pieces };
    let mut at = 0;
    while let Some(from) = (at..last).find(|&i| messages[i].role != Role::System) {
        at = (from + 1..last).find(|&i| messages[i].role == Role::User).unwrap_or(last);
        pieces.push(from..at);
    }
    pieces
}

/// The messages but some.
fn without(messages: &[Message], dropped: &[Range<usize>]) -> Vec<Message> {
    let mut kept = Vec::new();
    let mut at = 0;
    for piece in dropped {
        kept.extend_from_slice(&messages[at..piece.start]);
        at = piece.end;
    }
    kept.extend_from_slice(&messages[at..]);
    kept
}

/// The fewest drops, and what is made with them, that fit; all of `most` where none do. `none` is what
/// is made without drops, and does not fit. Found by doubling and halving: long conversations are not
/// rendered once for every message.
fn fewest<T>(
    most: usize,
    none: T,
    make: impl Fn(usize) -> Result<T>,
    fits: impl Fn(&T) -> bool,
) -> Result<(usize, T)> {
    let (mut low, mut long) = (0, none);
    let mut found: Option<(usize, Result<T>)> = None;
    loop {
        let n = match &found {
            Some((high, _)) if low + 1 >= *high => break,
            Some((high, _)) => low.midpoint(*high),
            None if low == most => break,
            None => (2 * low).clamp(1, most),
        };
        match make(n) {
            Ok(made) if !fits(&made) => (low, long) = (n, made),
            made => found = Some((n, made)),
        }
    }
    match found {
        Some((n, made)) => Ok((n, made?)),
        None => Ok((low, long)),
    }
}

/// Templates write BOS as text; a second one is not added.
pub(crate) fn tokenize_rendered(facts: &Facts, text: &str, at_start: bool) -> Vec<u32> {
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
