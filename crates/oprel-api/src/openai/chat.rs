//! `/v1/chat/completions`.

mod voice;

use serde_json::{Map, Value, json};

use super::messages::messages;
use super::tools::tools;
use super::{Said, base, check, effort, said};
use crate::body::{Fields, unsupported, wrong};
use crate::dialect::Call;
use crate::{Chat, Failure, Input, Request, Think};
use voice::ChatVoice;

/// Fields that would change the answer and that nothing here can do.
const REFUSED: &[&str] = &["audio", "functions", "function_call", "web_search_options"];

/// Reads a request.
///
/// # Errors
/// A `Validation` that names the field.
pub fn chat(body: &[u8]) -> Result<Call, Failure> {
    let mut fields = Fields::parse(body)?;
    let mut request = Request::chat(Vec::new());
    let said = said(&mut fields, &mut request)?;
    for name in REFUSED {
        fields.refuse(name)?;
    }
    text_only(&mut fields)?;
    request.logprobs = logprobs(&mut fields)?;
    let parallel = fields.take("parallel_tool_calls")?;
    let Said { model, stream, include_usage, wish, stay, mut ignored } = said;
    let chat = conversation(&mut fields, &mut request, parallel, &mut ignored)?;
    request.input = Input::Messages(chat);
    check(&request, &wish)?;
    ignored.extend(fields.left());
    let voice = ChatVoice::new(
        request.n,
        include_usage,
        request.logprobs.is_some(),
        parallel == Some(false),
    );
    Ok(Call {
        model,
        request,
        base: base(),
        wish,
        stream,
        stay,
        ignored,
        lenient_thinking: false,
        voice: Box::new(voice),
    })
}

fn conversation(
    fields: &mut Fields,
    request: &mut Request,
    parallel: Option<bool>,
    ignored: &mut Vec<String>,
) -> Result<Chat, Failure> {
    let listed: Vec<Value> = fields.need("messages")?;
    if listed.is_empty() {
        return Err(wrong("[] is too short - 'messages'"));
    }
    let (tools, tool_choice) = tools(fields)?;
    let mut kwargs: Map<String, Value> = fields.take("chat_template_kwargs")?.unwrap_or_default();
    if let Some(parallel) = parallel {
        kwargs.entry("parallel_tool_calls").or_insert(json!(parallel));
    }
    // Few templates read it; the others leave it out.
    if let Some(verbosity) = fields.value("verbosity") {
        ignored.push("verbosity".into());
        kwargs.entry("verbosity").or_insert(verbosity);
    }
    let goes_on = fields.take("continue_final_message")?.unwrap_or(false);
    let begins = fields.take("add_generation_prompt")?.unwrap_or(!goes_on);
    if goes_on == begins {
        return Err(wrong("continue_final_message and add_generation_prompt exclude each other"));
    }
    Ok(Chat {
        messages: messages(listed, ignored)?,
        tools,
        tool_choice,
        think: think(fields, request, ignored)?,
        template_kwargs: kwargs,
        template: fields.take("chat_template")?,
        continue_last: goes_on,
    })
}

/// `reasoning_effort`, or `reasoning` with an effort, a switch or a most number of tokens.
pub(super) fn think(
    fields: &mut Fields,
    request: &mut Request,
    ignored: &mut Vec<String>,
) -> Result<Option<Think>, Failure> {
    let word: Option<String> = fields.take("reasoning_effort")?;
    let mut think = word.as_deref().map(effort).transpose()?;
    if let Some(mut reasoning) = fields.object("reasoning")? {
        let word: Option<String> = reasoning.take("effort")?;
        think = think.or(word.as_deref().map(effort).transpose()?);
        let most = reasoning.take("max_tokens")?;
        request.limits.max_thinking_tokens = most.or(request.limits.max_thinking_tokens);
        let on: Option<bool> = reasoning.take("enabled")?;
        let on = on.map(|on| if on { Think::On } else { Think::Off });
        think = think.or(on).or(most.map(|_| Think::On));
        ignored.extend(reasoning.left());
    }
    Ok(think)
}

/// `logprobs` and how many alternatives.
fn logprobs(fields: &mut Fields) -> Result<Option<u32>, Failure> {
    let asked = fields.take("logprobs")?.unwrap_or(false);
    let top: Option<u32> = fields.take("top_logprobs")?;
    match top {
        Some(1..) if !asked => Err(wrong("top_logprobs needs logprobs to be true")),
        Some(21..) => Err(wrong("top_logprobs must be between 0 and 20")),
        _ => Ok(asked.then_some(top.unwrap_or(0))),
    }
}

/// Refuses an answer in anything but text.
fn text_only(fields: &mut Fields) -> Result<(), Failure> {
    let wanted: Vec<String> = fields.take("modalities")?.unwrap_or_default();
    match wanted.iter().find(|&kind| kind != "text") {
        Some(kind) => Err(unsupported(&format!("modalities: {kind:?}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
