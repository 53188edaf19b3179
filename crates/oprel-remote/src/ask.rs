//! From a request to what a server is sent, and to what its answer must be.

use std::time::Duration;

use oprel_api::{
    Cause, Chat, Constraint, ErrorKind, Failure, GrammarSyntax, Input, InputOverflow, Prompt,
    Request, Think, ToolChoice,
};
use oprel_constraint::Verifier;
use oprel_tokenizer::TokenizeOptions;
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::Xxh3;

use crate::body;
use crate::fit::Fit;
use crate::knobs::{self, unsupported};
use crate::profile::{Choice, GoesOn, Profile, Thinks};
use crate::tokens;

/// Most answers to one request.
const MOST_ANSWERS: u32 = 64;
/// Bytes and tokens of a prompt that count as how it begins.
const BEGINNING_BYTES: usize = 2048;
const BEGINNING_TOKENS: usize = 256;
/// Most tokens of an answer to a bare text, where nobody says how long the context is.
const USUAL_REST: u32 = 4096;

/// What a server is asked, once for each answer.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The route.
    pub(crate) path: &'static str,
    /// The bodies, one for each answer.
    pub(crate) bodies: Vec<Value>,
    /// What every answer must be.
    pub(crate) expects: Expects,
    /// Stands for how the conversation begins.
    pub(crate) beginning: u64,
    /// Longest time from submission to the last event.
    pub(crate) deadline: Option<Duration>,
    pub(crate) fit: Fit,
}

/// What an answer must be.
#[derive(Clone, Debug)]
pub(crate) struct Expects {
    /// Whether it comes as deltas of a message, and not as bare text.
    pub(crate) is_chat: bool,
    pub(crate) verifier: Option<Verifier>,
    pub(crate) tool_choice: ToolChoice,
    /// What the arguments of calls must be, by tool, where that was promised.
    pub(crate) arguments: Vec<(String, Verifier)>,
    /// Most tokens of it, where it was bounded.
    pub(crate) most_tokens: Option<u32>,
    /// Tokens that the context holds; the largest number where nobody tells.
    pub(crate) context: u32,
}

impl Ask {
    /// Translates a request.
    ///
    /// # Errors
    /// By the name of a field that is wrong, or that this kind of server has no place for.
    pub(crate) fn of(
        profile: &Profile,
        model: &str,
        context: u32,
        request: &Request,
    ) -> Result<Ask, Failure> {
        request.validate()?;
        refuse(profile, request)?;
        let mut body = Map::new();
        body.insert("model".into(), json!(model));
        let mut expects = Expects {
            is_chat: true,
            verifier: verifier(request.constraint.as_ref())?,
            tool_choice: ToolChoice::Auto,
            arguments: Vec::new(),
            most_tokens: None,
            context,
        };
        match &request.input {
            Input::Messages(chat) => {
                write_chat(profile, chat, &mut body)?;
                if !chat.tools.is_empty() {
                    expects.tool_choice = chat.tool_choice.clone();
                    expects.arguments = arguments(chat);
                    if profile.strict_if_said {
                        write_strict(&expects.arguments, &mut body);
                    }
                }
            }
            Input::Prompt(prompt) if !prompt.raw => {
                write_chat(profile, &as_chat(profile, prompt)?, &mut body)?
            }
            Input::Prompt(prompt) => {
                plain(profile, prompt)?;
                body.insert("prompt".into(), json!(prompt.text));
                expects.is_chat = false;
            }
            Input::Tokens(tokens) => {
                if profile.tokens.is_none() {
                    return Err(unsupported(profile, "tokens"));
                }
                body.insert("prompt".into(), json!(tokens));
                expects.is_chat = false;
            }
        }
        knobs::write(profile, request, &mut body)?;
        // A bound that the context keeps anyway is none: some servers refuse it.
        if let Some(most) = request.limits.max_tokens.filter(|&most| most < context) {
            body.insert("max_tokens".into(), json!(most));
            expects.most_tokens = Some(most);
        }
        let fit = fit(profile, model, context, request, &mut body, &mut expects)?;
        write_ends(profile, request, &mut body)?;
        write_logprobs(request, expects.is_chat, &mut body);
        if let Some(constraint) = &request.constraint {
            write_constraint(profile, constraint, &mut body)?;
        }
        body.insert("stream".into(), json!(true));
        body.insert("stream_options".into(), json!({"include_usage": true}));
        let path = if expects.is_chat { "/v1/chat/completions" } else { "/v1/completions" };
        Ok(Ask {
            path,
            bodies: bodies(profile, body, request),
            expects,
            beginning: beginning(request),
            deadline: request.limits.deadline,
            fit,
        })
    }
}

/// What may be done so that a request fits. A bare text that is not bounded is bounded by what it leaves.
fn fit(
    profile: &Profile,
    model: &str,
    context: u32,
    request: &Request,
    body: &mut Map<String, Value>,
    expects: &mut Expects,
) -> Result<Fit, Failure> {
    let drops = request.limits.input_overflow == InputOverflow::DropOldest;
    let fit = Fit { count: None, context, drops: drops && expects.is_chat };
    if expects.is_chat || expects.most_tokens.is_some() || !profile.texts_end_soon {
        return Ok(fit);
    }
    match &request.input {
        Input::Prompt(prompt) if context < u32::MAX && profile.tokens.is_some() => {
            let options = TokenizeOptions { add_special: true, parse_special: true };
            let count = Some(tokens::tokenize(profile, model, &prompt.text, options)?);
            Ok(Fit { count, ..fit })
        }
        Input::Tokens(tokens) if context < u32::MAX => {
            let mut bounded = json!({});
            fit.bound(&mut bounded, tokens.len());
            body.extend(bounded.as_object().cloned().unwrap_or_default());
            Ok(fit)
        }
        _ => {
            body.insert("max_tokens".into(), json!(USUAL_REST));
            expects.most_tokens = Some(USUAL_REST);
            Ok(fit)
        }
    }
}

/// Each answer is asked for on its own, with a seed of its own.
fn bodies(profile: &Profile, body: Map<String, Value>, request: &Request) -> Vec<Value> {
    let body = Value::Object(body);
    let seed = profile.knob("seed").zip(request.sampling.seed);
    let one = |i: u32| {
        let mut body = body.clone();
        if let Some((knob, seed)) = seed {
            body[knob.theirs] = json!(seed.wrapping_add(u64::from(i)));
        }
        body
    };
    (0..request.n).map(one).collect()
}

/// Refuses what no server of others can do.
fn refuse(profile: &Profile, request: &Request) -> Result<(), Failure> {
    let asked = [
        ("adapters", !request.adapters.is_empty()),
        ("prompt_logprobs", request.prompt_logprobs.is_some()),
        ("resume", !request.resume.is_empty()),
        ("n", request.n > MOST_ANSWERS),
    ];
    match asked.into_iter().find(|(_, asked)| *asked) {
        Some((field, _)) => Err(unsupported(profile, field)),
        None => Ok(()),
    }
}

fn verifier(constraint: Option<&Constraint>) -> Result<Option<Verifier>, Failure> {
    let made = constraint.map(Verifier::new).transpose();
    made.map_err(|e| Failure::new(ErrorKind::Validation, e.to_string()))
}

/// What arguments must be: those of a call that is demanded, and of tools that are strict. A schema that cannot
/// be checked is no reason to refuse the tool.
fn arguments(chat: &Chat) -> Vec<(String, Verifier)> {
    let demanded = matches!(chat.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    let promised =
        chat.tools.iter().filter(|tool| demanded || tool.extra.get("strict") == Some(&json!(true)));
    let verifier = |tool: &oprel_api::Tool| {
        let schema = Constraint::JsonSchema(tool.parameters.clone()?);
        Some((tool.name.clone(), Verifier::new(&schema).ok()?))
    };
    promised.filter_map(verifier).collect()
}

/// Says `strict` of the tools whose arguments are checked afterwards: otherwise they may be anything.
fn write_strict(checked: &[(String, Verifier)], body: &mut Map<String, Value>) {
    let tools = body.get_mut("tools").and_then(Value::as_array_mut);
    for tool in tools.into_iter().flatten() {
        if checked.iter().any(|(name, _)| tool["function"]["name"] == name.as_str()) {
            tool["function"]["strict"] = json!(true);
        }
    }
}

/// A prompt for a template: messages of system and user.
fn as_chat(profile: &Profile, prompt: &Prompt) -> Result<Chat, Failure> {
    plain(profile, prompt)?;
    let messages = body::messages_of(prompt);
    let template = prompt.template.clone();
    Ok(Chat { messages, think: prompt.think, template, ..Chat::default() })
}

/// Refuses what can stand beside a text.
fn plain(profile: &Profile, prompt: &Prompt) -> Result<(), Failure> {
    if prompt.suffix.is_some() {
        let failure = unsupported(profile, "suffix");
        return Err(failure.because(Cause::Incapable("suffix".into())));
    }
    match (prompt.media.is_empty(), prompt.context.is_empty()) {
        (false, _) => Err(unsupported(profile, "images")),
        (_, false) => Err(unsupported(profile, "context")),
        _ => Ok(()),
    }
}

fn write_chat(
    profile: &Profile,
    chat: &Chat,
    body: &mut Map<String, Value>,
) -> Result<(), Failure> {
    if chat.template.is_some() {
        return Err(unsupported(profile, "template"));
    }
    body.insert("messages".into(), body::messages(profile, &chat.messages)?);
    if !chat.tools.is_empty() && chat.tool_choice != ToolChoice::None {
        body.insert("tools".into(), body::tools(&chat.tools));
        body.insert("tool_choice".into(), body::tool_choice(&chat.tool_choice));
    }
    let mut kwargs = chat.template_kwargs.clone();
    for name in ["parallel_tool_calls", "verbosity"] {
        body.extend(kwargs.shift_remove(name).map(|value| (name.to_string(), value)));
    }
    if let Some(think) = chat.think {
        write_think(profile, think, &mut kwargs, body);
    }
    if !kwargs.is_empty() {
        if profile.thinks == Thinks::Effort {
            return Err(unsupported(profile, "chat_template_kwargs"));
        }
        body.insert("chat_template_kwargs".into(), Value::Object(kwargs));
    }
    if chat.continue_last {
        if profile.goes_on == GoesOn::Unknown {
            return Err(unsupported(profile, "continue_final_message"));
        }
        body.insert("continue_final_message".into(), json!(true));
        body.insert("add_generation_prompt".into(), json!(false));
    }
    Ok(())
}

fn write_think(
    profile: &Profile,
    think: Think,
    kwargs: &mut Map<String, Value>,
    body: &mut Map<String, Value>,
) {
    match profile.thinks {
        Thinks::Kwargs => {
            // Templates call it either way.
            for name in ["enable_thinking", "thinking"] {
                kwargs.entry(name).or_insert(json!(think.is_on()));
            }
            if let Some(effort) = think.effort() {
                kwargs.entry("reasoning_effort").or_insert(json!(effort));
            }
        }
        Thinks::Effort => {
            let usual = if think.is_on() { "medium" } else { "none" };
            body.insert("reasoning_effort".into(), json!(think.effort().unwrap_or(usual)));
        }
    }
}

/// Texts that end the answer.
fn write_ends(
    profile: &Profile,
    request: &Request,
    body: &mut Map<String, Value>,
) -> Result<(), Failure> {
    if request.stop.len() > profile.most_stops {
        let (most, name) = (profile.most_stops, profile.name);
        let message = format!("stop has {} texts; {name} takes at most {most}", request.stop.len());
        return Err(Failure::new(ErrorKind::Validation, message));
    }
    if !request.stop.is_empty() {
        body.insert("stop".into(), json!(request.stop));
    }
    Ok(())
}

fn write_logprobs(request: &Request, is_chat: bool, body: &mut Map<String, Value>) {
    let Some(top) = request.logprobs else { return };
    if is_chat {
        body.insert("logprobs".into(), json!(true));
        body.insert("top_logprobs".into(), json!(top));
    } else {
        body.insert("logprobs".into(), json!(top));
    }
}

fn write_constraint(
    profile: &Profile,
    constraint: &Constraint,
    body: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let places = &profile.constraints;
    let (place, value) = match constraint {
        Constraint::JsonObject => {
            let form = json!({"type": "json_object"});
            body.insert("response_format".into(), form);
            return Ok(());
        }
        Constraint::JsonSchema(schema) => {
            let named = json!({"name": "answer", "schema": schema, "strict": true});
            let form = json!({"type": "json_schema", "json_schema": named});
            body.insert("response_format".into(), form);
            return Ok(());
        }
        Constraint::Regex(expression) => (places.regex, json!(expression)),
        Constraint::Choice(texts) => match &places.choice {
            Choice::List(place) => (Some(*place), json!(texts)),
            Choice::Regex => (places.regex, json!(body::alternatives(texts))),
            Choice::Gbnf => (places.gbnf, json!(body::rules(texts))),
            Choice::Unknown => (None, Value::Null),
        },
        Constraint::Grammar { syntax: GrammarSyntax::Gbnf, text } => (places.gbnf, json!(text)),
        _ => (None, Value::Null),
    };
    match place {
        Some([field]) => body.insert((*field).into(), value),
        Some([outer, inner]) => body.insert((*outer).into(), json!({ *inner: value })),
        _ => return Err(unsupported(profile, constraint_name(constraint))),
    };
    Ok(())
}

fn constraint_name(constraint: &Constraint) -> &'static str {
    match constraint {
        Constraint::Regex(_) => "regex",
        Constraint::Choice(_) => "choice",
        _ => "grammar",
    }
}

/// Equal for conversations that a server has the same pages of: what stands before the second thing that
/// the user says, tools, and who may share it.
fn beginning(request: &Request) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(request.cache.salt.as_deref().unwrap_or_default().as_bytes());
    match &request.input {
        Input::Messages(chat) => {
            chat.tools.iter().for_each(|tool| hash.update(tool.to_json().to_string().as_bytes()));
            for message in &chat.messages {
                hash.update(message.role.as_str().as_bytes());
                hash.update(message.content.text().as_bytes());
                if message.role == oprel_api::Role::User {
                    break;
                }
            }
        }
        Input::Prompt(prompt) => {
            hash.update(prompt.system.as_deref().unwrap_or_default().as_bytes());
            let bytes = prompt.text.as_bytes();
            hash.update(&bytes[..bytes.len().min(BEGINNING_BYTES)]);
        }
        Input::Tokens(tokens) => {
            tokens
                .iter()
                .take(BEGINNING_TOKENS)
                .for_each(|token| hash.update(&token.to_le_bytes()));
        }
    }
    hash.digest()
}

#[cfg(test)]
mod tests;
