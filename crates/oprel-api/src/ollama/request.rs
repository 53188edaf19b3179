//! Bodies of `/api/generate` and `/api/chat`.

use std::time::Duration;

use serde_json::Value;

use crate::dialect::{Call, KeepAlive, Moment, Stay};
use crate::{
    Chat, Constraint, Content, ErrorKind, Failure, Input, InputOverflow, Limits, Message,
    OutputOverflow, Prompt, Request, Role, Sampling, Think,
};

use super::fields::{Fields, wrong};
use super::options::Options;
use super::voice::{self, NdJson, Route};
use super::{keep_alive, media, messages};

/// Context lengths that an answer without a limit may have: it forgets and goes on, not for ever.
const MOST_CONTEXTS: u32 = 10;

/// What a body of `/api/generate` or `/api/chat` asks for.
#[allow(clippy::large_enum_variant)] // one a request
pub enum Generate {
    /// An answer.
    Call(Call),
    /// That the model is loaded: there is nothing to answer.
    Load(Idle),
    /// That the model goes.
    Unload(Idle),
}

/// A request that makes no text.
pub struct Idle {
    /// The model, as the client named it.
    pub model: String,
    /// How it is to be loaded, and how long it is to stay.
    pub stay: Stay,
    /// Fields that change nothing here.
    pub ignored: Vec<String>,
    /// The body that says that it is done: one object, whether or not the client wants a stream.
    pub done: fn(&Moment) -> Value,
}

/// Reads a body of `/api/generate`.
///
/// # Errors
/// If it is no JSON, a field is wrong, or two exclude each other; by the field's name.
pub fn generate(body: &[u8]) -> Result<Generate, Failure> {
    let mut fields = Fields::of_body(body)?;
    let common = Common::take(&mut fields)?;
    let mut prompt = prompt(&mut fields)?;
    // Nothing thinks in a raw text, so that not to think is no wish.
    prompt.think = common.think.filter(|think| think.is_on() || !prompt.raw);
    if common.model.is_empty() {
        return Err(Failure::new(ErrorKind::ModelNotFound, "model '' not found"));
    }
    if prompt.text.is_empty() {
        return Ok(common.idle("prompt", voice::generate_loaded, voice::generate_unloaded));
    }
    check_raw(&prompt)?;
    // A raw text is cut only where a full context is, too.
    let may_cut = !prompt.raw || common.shift;
    let mut call = common.call(Route::Generate { context: !prompt.raw }, Input::Prompt(prompt));
    if !may_cut {
        call.request.limits.input_overflow = InputOverflow::Refuse;
    }
    call.ignored.extend(fields.ignored());
    Ok(Generate::Call(call))
}

/// Reads a body of `/api/chat`.
///
/// # Errors
/// If it is no JSON, a field is wrong, or two exclude each other; by the field's name.
pub fn chat(body: &[u8]) -> Result<Generate, Failure> {
    let mut fields = Fields::of_body(body)?;
    let mut common = Common::take(&mut fields)?;
    if common.model.is_empty() {
        return Err(wrong("model is required"));
    }
    let messages = messages::messages(fields.list("messages")?)?;
    let tools = messages::tools(fields.list("tools")?, &mut common.ignored)?;
    let tool_choice = messages::tool_choice(fields.take("tool_choice"), &tools)?;
    if messages.is_empty() {
        return Ok(common.idle("messages", voice::chat_loaded, voice::chat_unloaded));
    }
    let chat = Chat {
        continue_last: messages.last().is_some_and(is_begun),
        messages,
        tools,
        tool_choice,
        think: common.think,
        ..Chat::default()
    };
    let mut call = common.call(Route::Chat, Input::Messages(chat));
    call.ignored.extend(fields.ignored());
    Ok(Generate::Call(call))
}

/// Whether a message is the beginning of the answer, which goes on from there: templates of the
/// dialect leave the assistant's last message open.
fn is_begun(last: &Message) -> bool {
    let Content::Text(text) = &last.content else { return false };
    last.role == Role::Assistant && last.tool_calls.is_empty() && !text.trim().is_empty()
}

/// Bounds an answer that has no limit and goes on when the context is full. `context` is the length
/// that the model was given.
pub fn bound(limits: &mut Limits, context: u32) {
    if limits.max_tokens.is_none() && limits.output_overflow != OutputOverflow::Stop {
        let context = limits.context.unwrap_or(context).min(context);
        limits.max_tokens = Some(context.saturating_mul(MOST_CONTEXTS));
    }
}

/// Fields that count where no text is made.
const OF_IDLE: [&str; 4] = ["model", "options", "stream", "keep_alive"];

/// What both routes know.
struct Common {
    /// All fields that say something.
    said: Vec<String>,
    model: String,
    stay: Stay,
    options: Options,
    stream: bool,
    constraint: Option<Constraint>,
    logprobs: Option<u32>,
    think: Option<Think>,
    truncate: bool,
    shift: bool,
    max_thinking_tokens: Option<u32>,
    priority: i32,
    ignored: Vec<String>,
}

impl Common {
    fn take(fields: &mut Fields) -> Result<Common, Failure> {
        let said = fields.said();
        let mut ignored = Vec::new();
        let logprobs = logprobs(fields, &mut ignored)?;
        let model = fields.text("model")?.unwrap_or_default().trim().to_owned();
        let options = Options::take(fields)?;
        let mut stay = options.stay(true);
        stay.keep_alive = fields.take("keep_alive").as_ref().map(keep_alive::read).transpose()?;
        refuse(fields)?;
        Ok(Common {
            said,
            model,
            stay,
            options,
            stream: fields.flag("stream")?.unwrap_or(true),
            constraint: format(fields.take("format"))?,
            logprobs,
            think: think(fields.take("think"))?,
            truncate: fields.flag("truncate")?.unwrap_or(true),
            shift: fields.flag("shift")?.unwrap_or(true),
            max_thinking_tokens: number(fields, "max_thinking_tokens")?,
            priority: number(fields, "priority")?.unwrap_or_default(),
            ignored,
        })
    }

    fn call(mut self, route: Route, input: Input) -> Call {
        let options = self.options;
        let limits = Limits {
            max_tokens: options.max_tokens,
            max_thinking_tokens: self.max_thinking_tokens,
            context: self.stay.context,
            input_overflow: match self.truncate {
                true => InputOverflow::DropOldest,
                false => InputOverflow::Refuse,
            },
            output_overflow: match self.shift && !options.fill {
                true => OutputOverflow::Shift { keep: options.keep() },
                false => OutputOverflow::Stop,
            },
            ..Limits::default()
        };
        self.ignored.extend(options.ignored);
        Call {
            model: self.model,
            request: Request {
                constraint: self.constraint,
                stop: options.stop,
                limits,
                logprobs: self.logprobs,
                priority: self.priority,
                speculate: options.speculate.unwrap_or(true),
                prompt_ids: route == Route::Generate { context: true },
                ..Request::new(input)
            },
            base: Sampling::default(),
            wish: options.wish,
            stream: self.stream,
            stay: self.stay,
            ignored: self.ignored,
            lenient_thinking: false,
            voice: Box::new(NdJson::new(route, self.logprobs.is_some())),
        }
    }

    /// `subject` is what is there and empty.
    fn idle(
        self,
        subject: &str,
        loaded: fn(&Moment) -> Value,
        unloaded: fn(&Moment) -> Value,
    ) -> Generate {
        let counts = |name: &str| OF_IDLE.iter().chain([&subject]).any(|of| name == *of);
        let mut ignored = self.said;
        ignored.retain(|name| !counts(&name.to_ascii_lowercase()));
        ignored.extend(self.options.ignored_without_generation());
        let zero = KeepAlive::For(Duration::ZERO);
        let goes = self.stay.keep_alive == Some(zero);
        let done = if goes { unloaded } else { loaded };
        let idle = Idle { model: self.model, stay: self.stay, ignored, done };
        if goes { Generate::Unload(idle) } else { Generate::Load(idle) }
    }
}

/// What would change the answer and is not done here.
fn refuse(fields: &mut Fields) -> Result<(), Failure> {
    if fields.flag("_debug_render_only")? == Some(true) {
        return Err(wrong("_debug_render_only is not supported"));
    }
    match fields.whole("n")? {
        None | Some(1) => Ok(()),
        Some(n) => Err(wrong(format!("n must be 1 here, not {n}"))),
    }
}

fn prompt(fields: &mut Fields) -> Result<Prompt, Failure> {
    let raw = fields.flag("raw")?.unwrap_or(false);
    let images = fields.texts("images")?.into_iter().enumerate();
    let media = images.map(|(at, text)| media::media(&format!("images[{at}]"), &text));
    Ok(Prompt {
        text: fields.text("prompt")?.unwrap_or_default(),
        suffix: fields.filled("suffix")?,
        system: fields.filled("system")?,
        think: None,
        template: fields.filled("template")?,
        raw,
        parse_special: raw,
        media: media.collect::<Result<_, _>>()?,
        context: tokens(fields)?,
    })
}

fn tokens(fields: &mut Fields) -> Result<Vec<u32>, Failure> {
    let list = fields.list("context")?.into_iter();
    let token = |value: Value| super::fields::whole(&value).and_then(|n| u32::try_from(n).ok());
    list.map(token).collect::<Option<_>>().ok_or_else(|| wrong("context must be a list of tokens"))
}

fn check_raw(prompt: &Prompt) -> Result<(), Failure> {
    let templated =
        prompt.template.is_some() || prompt.system.is_some() || !prompt.context.is_empty();
    if prompt.raw && templated {
        return Err(wrong("raw mode does not support template, system, or context"));
    }
    Ok(())
}

fn think(value: Option<Value>) -> Result<Option<Think>, Failure> {
    let think = match &value {
        None => return Ok(None),
        Some(Value::Bool(true)) => Some(Think::On),
        Some(Value::Bool(false)) => Some(Think::Off),
        Some(Value::String(word)) => match word.as_str() {
            "low" => Some(Think::Low),
            "medium" => Some(Think::Medium),
            "high" => Some(Think::High),
            "max" => Some(Think::Max),
            _ => None,
        },
        Some(_) => None,
    };
    let must = "(must be \"high\", \"medium\", \"low\", \"max\", true, or false)";
    let given = value.unwrap_or_default();
    think.map(Some).ok_or_else(|| wrong(format!("invalid think value: {given} {must}")))
}

fn format(value: Option<Value>) -> Result<Option<Constraint>, Failure> {
    match value {
        None => Ok(None),
        Some(Value::String(word)) if word.is_empty() => Ok(None),
        Some(Value::String(word)) if word == "json" => Ok(Some(Constraint::JsonObject)),
        Some(schema @ Value::Object(_)) => Ok(Some(Constraint::JsonSchema(schema))),
        Some(other) => {
            let given = Value::String(other.to_string());
            Err(wrong(format!(
                "invalid format: {given}; expected \"json\" or a valid JSON Schema object"
            )))
        }
    }
}

/// Whether log probabilities are wanted, with how many alternatives.
fn logprobs(fields: &mut Fields, ignored: &mut Vec<String>) -> Result<Option<u32>, Failure> {
    let top = fields.whole("top_logprobs")?;
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let many = u32::try_from(top.unwrap_or_default()).ok().filter(|&n| n <= 20);
    let many = many.ok_or_else(|| wrong("top_logprobs must be between 0 and 20"))?;
    if !wanted && many > 0 {
        ignored.push("top_logprobs".into());
    }
    Ok(wanted.then_some(many))
}

fn number<T: TryFrom<i64>>(fields: &mut Fields, key: &str) -> Result<Option<T>, Failure> {
    let Some(n) = fields.whole(key)? else { return Ok(None) };
    T::try_from(n).map(Some).map_err(|_| wrong(format!("{key} is out of range: {n}")))
}

#[cfg(test)]
mod tests;
