//! `/v1/responses`, as far as it needs no memory of earlier requests.

mod input;
mod output;
mod tools;
mod voice;

use serde_json::{Map, Value, json};

use super::chat::think;
use super::{base, check, client, effort_word, model_of};
use crate::body::{Fields, unsupported, wrong};
use crate::dialect::Call;
use crate::extension::{self, schema_in};
use crate::{Chat, Constraint, Failure, Input, InputOverflow, Request};
use input::conversation;
use tools::{Tools, tools};
use voice::ResponseVoice;

/// Fields that ask for what earlier requests left, or for a prompt that is kept elsewhere.
const REFUSED: &[&str] = &["previous_response_id", "conversation", "background", "prompt"];

/// Reads a request.
///
/// # Errors
/// A `Validation` that names the field.
pub fn responses(body: &[u8]) -> Result<Call, Failure> {
    let mut fields = Fields::parse(body)?;
    let model = model_of(&mut fields)?;
    for name in REFUSED {
        fields.refuse(name)?;
    }
    let mut request = Request::chat(Vec::new());
    let mut ignored = Vec::new();
    let (wish, stay) = extension::read(&mut fields, &mut request, &mut ignored)?;
    let most = extension::most(&mut fields, "max_output_tokens")?;
    request.limits.max_tokens = most.or(request.limits.max_tokens);
    request.stop = extension::stop(&mut fields, "stop")?;
    request.client = client(&mut fields)?;
    truncation(&mut fields, &mut request)?;
    request.logprobs = logprobs(&mut fields, &mut ignored)?;
    let instructions: Option<String> = fields.take("instructions")?;
    let parallel = fields.take("parallel_tool_calls")?.unwrap_or(true);
    let think = think(&mut fields, &mut request, &mut ignored)?;
    let (format, kwargs) = text(&mut fields, &mut request, &mut ignored)?;
    let Tools { tools, choice, spaces, as_sent } = tools(&mut fields, &mut ignored)?;
    let messages = conversation(&mut fields, instructions.as_deref(), &mut ignored)?;
    let metadata: Map<String, Value> = fields.take("metadata")?.unwrap_or_default();
    // What the answer repeats, in the order of the API's reference.
    let echo = json!({
        "instructions": instructions,
        "max_output_tokens": request.limits.max_tokens,
        "metadata": metadata,
        "parallel_tool_calls": parallel,
        "previous_response_id": null,
        "reasoning": {"effort": think.map(effort_word), "summary": null},
        "service_tier": "default",
        "store": false,
        "temperature": number(wish.temperature),
        "text": {"format": format},
        "tool_choice": as_sent.choice,
        "tools": as_sent.tools,
        "top_logprobs": request.logprobs.unwrap_or(0),
        "top_p": number(wish.top_p),
        "truncation": truncation_word(&request),
    });
    request.input = Input::Messages(Chat {
        messages,
        tools,
        tool_choice: choice,
        think,
        template_kwargs: kwargs,
        ..Chat::default()
    });
    check(&request, &wish)?;
    let stream = fields.take("stream")?.unwrap_or(false);
    if !metadata.is_empty() {
        ignored.push("metadata".into());
    }
    ignored.extend(fields.left());
    let voice = ResponseVoice::new(echo, spaces, request.logprobs.is_some(), !parallel);
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

/// As it was written, not as it is stored; what was not said is the model's to say.
fn number(said: Option<f32>) -> Value {
    said.and_then(|number| serde_json::from_str(&number.to_string()).ok()).unwrap_or(Value::Null)
}

fn truncation(fields: &mut Fields, request: &mut Request) -> Result<(), Failure> {
    match fields.take::<String>("truncation")?.as_deref() {
        None | Some("disabled") => {}
        Some("auto") => request.limits.input_overflow = InputOverflow::DropOldest,
        Some(other) => {
            let known = "truncation must be \"auto\" or \"disabled\"";
            return Err(wrong(format!("{known}, not {other:?}")));
        }
    }
    Ok(())
}

fn truncation_word(request: &Request) -> &'static str {
    match request.limits.input_overflow {
        InputOverflow::DropOldest => "auto",
        InputOverflow::Refuse => "disabled",
    }
}

/// Asked for by a count of alternatives, or by name in `include`, whose other names are ignored.
fn logprobs(fields: &mut Fields, ignored: &mut Vec<String>) -> Result<Option<u32>, Failure> {
    let top: Option<u32> = fields.take("top_logprobs")?;
    if top.is_some_and(|top| top > 20) {
        return Err(wrong("top_logprobs must be between 0 and 20"));
    }
    let mut asked = top.is_some_and(|top| top > 0);
    let include: Vec<String> = fields.take("include")?.unwrap_or_default();
    for name in include {
        match name.as_str() {
            "message.output_text.logprobs" => asked = true,
            other => ignored.push(format!("include.{other}")),
        }
    }
    Ok(asked.then_some(top.unwrap_or(0)))
}

/// `text`: what the answer must look like, as it is repeated; and what templates are told.
fn text(
    fields: &mut Fields,
    request: &mut Request,
    ignored: &mut Vec<String>,
) -> Result<(Value, Map<String, Value>), Failure> {
    let mut kwargs = Map::new();
    request.constraint = extension::constraint(fields)?;
    let plain = json!({"type": "text"});
    let Some(mut text) = fields.object("text")? else { return Ok((plain, kwargs)) };
    if let Some(verbosity) = text.value("verbosity") {
        ignored.push("text.verbosity".into());
        kwargs.insert("verbosity".into(), verbosity);
    }
    let format = text.value("format").unwrap_or(plain);
    ignored.extend(text.left());
    let constraint = format_in(format.clone())?;
    if constraint.is_some() && request.constraint.is_some() {
        return Err(wrong("text.format cannot be combined with another constraint"));
    }
    request.constraint = constraint.or(request.constraint.take());
    Ok((format, kwargs))
}

fn format_in(format: Value) -> Result<Option<Constraint>, Failure> {
    let mut format = Fields::within(format, "text.format")?;
    let kind: String = format.need("type")?;
    match kind.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Constraint::JsonObject)),
        "json_schema" => {
            let schema = schema_in(format.need("schema")?, "text.format.schema")?;
            Ok(Some(Constraint::JsonSchema(schema)))
        }
        other => Err(unsupported(&format!("text.format.type {other:?}"))),
    }
}

#[cfg(test)]
mod tests;
