//! `/v1/messages` and `/v1/messages/count_tokens`.

use serde_json::Value;

use super::content::conversation;
use super::tools::{Tools, tools};
use super::voice::{CountVoice, MessageVoice};
use crate::body::{Fields, unsupported, wrong};
use crate::dialect::{Call, Voice};
use crate::extension::{self, schema_in};
use crate::openai::{base, effort};
use crate::{Chat, Constraint, Failure, Input, Message, Request, Role, Think};

/// Reads a request for an answer.
///
/// # Errors
/// A `Validation` that names the field.
pub fn messages(body: &[u8]) -> Result<Call, Failure> {
    let mut fields = Fields::parse(body)?;
    let most: Option<i64> = fields.take("max_tokens")?;
    let most = most.and_then(|most| u32::try_from(most).ok()).filter(|&most| most > 0);
    let most = most.ok_or_else(|| wrong("max_tokens is required and must be positive"))?;
    let (mut call, one_call) = read(fields)?;
    call.request.limits.max_tokens = Some(most);
    call.request.validate()?;
    call.voice = Box::new(MessageVoice::new(call.request.stop.clone(), one_call));
    Ok(call)
}

/// Reads a request whose prompt is counted and never answered: what it takes to count it is all in
/// [`Call::request`].
///
/// # Errors
/// A `Validation` that names the field.
pub fn count_tokens(body: &[u8]) -> Result<Call, Failure> {
    let mut fields = Fields::parse(body)?;
    fields.value("max_tokens");
    let (mut call, _) = read(fields)?;
    call.request.validate()?;
    call.stream = false;
    Ok(call)
}

/// The request, and whether at most one tool may be called.
fn read(mut fields: Fields) -> Result<(Call, bool), Failure> {
    let model: Option<String> = fields.take("model")?;
    let model = model.filter(|name| !name.trim().is_empty());
    let model = model.ok_or_else(|| wrong("model is required"))?;
    let mut request = Request::chat(Vec::new());
    let mut ignored = Vec::new();
    let (wish, stay) = extension::read(&mut fields, &mut request, &mut ignored)?;
    for name in ["mcp_servers", "container"] {
        fields.refuse(name)?;
    }
    request.stop = extension::stop(&mut fields, "stop_sequences")?;
    if request.stop.iter().any(String::is_empty) {
        return Err(wrong("stop_sequences must not have an empty text"));
    }
    if let Some(mut metadata) = fields.object("metadata")? {
        request.client = metadata.take("user_id")?.unwrap_or_default();
        ignored.extend(metadata.left());
    }
    let asked = thinking(&mut fields, &mut request, &mut ignored)?;
    let (effort, format) = output(&mut fields, &mut ignored)?;
    let think = if asked == Some(Think::Off) { asked } else { effort.or(asked) };
    request.constraint = match (extension::constraint(&mut fields)?, format) {
        (Some(_), Some(_)) => {
            return Err(wrong("output_config.format cannot be combined with another constraint"));
        }
        (one, other) => one.or(other),
    };
    let Tools { tools, choice, one_call } = tools(&mut fields, &mut ignored)?;
    let messages = conversation(&mut fields, &mut ignored)?;
    // A last turn of the assistant's is the beginning of its answer.
    let begun = |last: &Message| last.role == Role::Assistant && last.tool_calls.is_empty();
    let continue_last = messages.last().is_some_and(begun);
    request.input = Input::Messages(Chat {
        messages,
        tools,
        tool_choice: choice,
        think,
        continue_last,
        ..Chat::default()
    });
    wish.over(base()).validate()?;
    let stream = fields.take("stream")?.unwrap_or(false);
    ignored.extend(fields.left());
    let voice: Box<dyn Voice> = Box::new(CountVoice);
    let call = Call {
        model,
        request,
        base: base(),
        wish,
        stream,
        stay,
        ignored,
        lenient_thinking: true,
        voice,
    };
    Ok((call, one_call))
}

/// Whether to think, and with how many tokens at most.
fn thinking(
    fields: &mut Fields,
    request: &mut Request,
    ignored: &mut Vec<String>,
) -> Result<Option<Think>, Failure> {
    let Some(mut thinking) = fields.object("thinking")? else { return Ok(None) };
    let kind: String = thinking.need("type")?;
    let think = match kind.as_str() {
        "disabled" => Think::Off,
        "adaptive" => Think::On,
        "enabled" => {
            let most = thinking.take("budget_tokens")?;
            request.limits.max_thinking_tokens = most.or(request.limits.max_thinking_tokens);
            Think::On
        }
        other => {
            let known = "thinking.type must be enabled, disabled or adaptive";
            return Err(wrong(format!("{known}, not {other:?}")));
        }
    };
    ignored.extend(thinking.left());
    Ok(Some(think))
}

/// How hard to think, and what the answer must look like.
fn output(
    fields: &mut Fields,
    ignored: &mut Vec<String>,
) -> Result<(Option<Think>, Option<Constraint>), Failure> {
    let mut format = fields.object("output_format")?;
    let mut think = None;
    if let Some(mut config) = fields.object("output_config")? {
        let word: Option<String> = config.take("effort")?;
        think = word.as_deref().map(effort).transpose()?;
        format = config.object("format")?.or(format);
        ignored.extend(config.left());
    }
    let Some(mut format) = format else { return Ok((think, None)) };
    let kind: String = format.need("type")?;
    if kind != "json_schema" {
        return Err(unsupported(&format!("{} {kind:?}", format.path("type"))));
    }
    let schema: Value = format.need("schema")?;
    let schema = schema_in(schema, &format.path("schema"))?;
    Ok((think, Some(Constraint::JsonSchema(schema))))
}

#[cfg(test)]
mod tests;
