//! `/v1/completions`: a text is continued as it is, without a template.

mod voice;

use serde::Deserialize;

use super::{Said, base, check, said};
use crate::body::{Fields, unsupported, wrong};
use crate::dialect::Call;
use crate::{Failure, Input, Prompt, Request};
use voice::TextVoice;

/// What clients send as a prompt.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, a list of tokens, or a list of one of these")]
enum Prompts {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    Lists(Vec<Vec<u32>>),
}

/// Reads a request.
///
/// # Errors
/// A `Validation` that names the field.
pub fn completions(body: &[u8]) -> Result<Call, Failure> {
    let mut fields = Fields::parse(body)?;
    let mut request = Request::raw(String::new());
    let said = said(&mut fields, &mut request)?;
    let Said { model, stream, include_usage, wish, stay, mut ignored } = said;
    request.input = input(fields.need("prompt")?)?;
    let suffix: Option<String> = fields.take("suffix")?;
    let echo = fields.take("echo")?.unwrap_or(false);
    let echoed = match &mut request.input {
        Input::Prompt(prompt) => {
            prompt.suffix = suffix.filter(|text| !text.is_empty());
            echo.then(|| prompt.text.clone())
        }
        _ if suffix.is_some() => return Err(unsupported("suffix with a prompt of tokens")),
        _ if echo => return Err(unsupported("echo with a prompt of tokens")),
        _ => None,
    };
    request.logprobs = logprobs(&mut fields)?;
    request.prompt_logprobs = request.logprobs.filter(|_| echo);
    let best: Option<u32> = fields.take("best_of")?;
    if best.is_some_and(|best| best != request.n) {
        return Err(unsupported("best_of other than n"));
    }
    check(&request, &wish)?;
    ignored.extend(fields.left());
    let voice = TextVoice::new(request.n, include_usage, request.logprobs.is_some(), echoed);
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

fn input(prompts: Prompts) -> Result<Input, Failure> {
    let text = |text| Prompt { text, raw: true, parse_special: true, ..Prompt::default() };
    let one = || wrong("prompt must be one prompt: several in one request are not supported");
    Ok(match prompts {
        Prompts::Text(one) => Input::Prompt(text(one)),
        Prompts::Tokens(tokens) => Input::Tokens(tokens),
        Prompts::Texts(texts) => {
            let [only] = <[String; 1]>::try_from(texts).map_err(|_| one())?;
            Input::Prompt(text(only))
        }
        Prompts::Lists(lists) => {
            let [only] = <[Vec<u32>; 1]>::try_from(lists).map_err(|_| one())?;
            Input::Tokens(only)
        }
    })
}

/// A number of alternatives; some send `true` for none.
fn logprobs(fields: &mut Fields) -> Result<Option<u32>, Failure> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number of alternatives")]
    enum Asked {
        Count(u32),
        Whether(bool),
    }
    Ok(match fields.take("logprobs")? {
        Some(Asked::Count(count)) => Some(count),
        Some(Asked::Whether(true)) => Some(0),
        Some(Asked::Whether(false)) | None => None,
    })
}

#[cfg(test)]
mod tests;
