//! Prompts that ask for a gap in a text to be filled: as the chat template says it, else with the tokens that the
//! vocabulary has for that.

use oprel_api::{Prompt, Think};
use oprel_chat::{ChatTemplate, Gap, LocalTime};
use oprel_tokenizer::{Fim, TokenizeOptions};

use crate::facts::special_tokens;
use crate::prompt::tokenize_rendered;
use crate::{Error, Facts, Result};

const INCAPABLE: Error = Error::Incapable { field: "suffix" };

/// What stands before the text, before its other side, and where the filling begins.
struct Marks {
    prefix: u32,
    suffix: u32,
    middle: u32,
}

impl Marks {
    fn of(fim: Fim) -> Option<Marks> {
        Some(Marks { prefix: fim.prefix?, suffix: fim.suffix?, middle: fim.middle? })
    }
}

/// Whether a vocabulary has the tokens for it.
pub(crate) fn is_in(fim: Fim) -> bool {
    Marks::of(fim).is_some()
}

/// Refuses, by name, what a prompt with a gap cannot have, and a model that fills none.
pub(crate) fn check(facts: &Facts, prompt: &Prompt) -> Result<()> {
    let conflict = |field| Err(oprel_api::Error::Conflict { field, other: "suffix" }.into());
    if prompt.think.is_some_and(Think::is_on) {
        return conflict("think");
    }
    if has_template(facts, prompt)? {
        return Ok(());
    }
    match Marks::of(facts.tokenizer.fim()) {
        None => Err(INCAPABLE),
        Some(_) if prompt.template.is_some() => Err(INCAPABLE),
        Some(_) if prompt.system.is_some() => conflict("system"),
        Some(_) => Ok(()),
    }
}

/// The prompt's tokens.
pub(crate) fn tokens(
    facts: &Facts,
    prompt: &Prompt,
    suffix: &str,
    now: LocalTime,
) -> Result<Vec<u32>> {
    let mut tokens = prompt.context.clone();
    let gap = Gap { system: prompt.system.as_deref(), before: &prompt.text, after: suffix };
    let own = own(facts, prompt)?;
    let template = own.as_ref().map_or_else(|| facts.template(false).ok(), Some);
    if let Some(text) = template.map(|t| t.render_gap(&gap, now)).transpose()?.flatten() {
        tokens.extend(tokenize_rendered(facts, &text, tokens.is_empty()));
        return Ok(tokens);
    }
    let marks = Marks::of(facts.tokenizer.fim()).ok_or(INCAPABLE)?;
    let tokenizer = &facts.tokenizer;
    let plain = TokenizeOptions { add_special: false, parse_special: false };
    tokens.extend(tokenizer.bos().filter(|_| tokenizer.add_bos() && tokens.is_empty()));
    tokens.push(marks.prefix);
    tokens.extend(tokenizer.tokenize(&prompt.text, plain));
    tokens.push(marks.suffix);
    tokens.extend(tokenizer.tokenize(suffix, plain));
    tokens.push(marks.middle);
    Ok(tokens)
}

/// Whether a template says how: the request's own, else the model's.
fn has_template(facts: &Facts, prompt: &Prompt) -> Result<bool> {
    Ok(match own(facts, prompt)? {
        Some(template) => template.fills_gaps(),
        // One that cannot be used is no way to do it.
        None => facts.template(false).is_ok_and(ChatTemplate::fills_gaps),
    })
}

fn own(facts: &Facts, prompt: &Prompt) -> Result<Option<ChatTemplate>> {
    let compile = |source| ChatTemplate::compile(source, special_tokens(&facts.tokenizer));
    Ok(prompt.template.as_deref().map(compile).transpose()?)
}

#[cfg(test)]
mod tests {
    use oprel_api::{Input, Request};
    use oprel_tokenizer::DetokenizeOptions;

    use super::*;
    use crate::ModelSource;
    use crate::load::describe;

    const TEMPLATE: &str =
        "{{ if .Suffix }}<P>{{ .Prompt }}<S>{{ .Suffix }}<M>{{ else }}{{ .Prompt }}{{ end }}";

    fn request(change: impl FnOnce(&mut Prompt)) -> Request {
        let mut prompt =
            Prompt { text: "let x =".into(), suffix: Some(";".into()), ..Prompt::default() };
        change(&mut prompt);
        Request::new(Input::Prompt(prompt))
    }

    fn text(facts: &Facts, request: &Request) -> Result<String> {
        crate::prompt::check(facts, request)?;
        let made = crate::prompt::tokens(facts, request, u32::MAX, LocalTime::utc(0))?;
        Ok(facts.tokenizer.detokenize(&made.tokens, DetokenizeOptions::default()))
    }

    #[test]
    fn a_gap_is_asked_for_as_the_template_says() {
        let (facts, _) = describe(&ModelSource::Demo, Some(TEMPLATE)).unwrap();
        for raw in [false, true] {
            let made = text(&facts, &request(|p| p.raw = raw)).unwrap();
            assert!(made.ends_with("<P>let x =<S>;<M>"), "{made}");
        }
        let (plain, _) = describe(&ModelSource::Demo, None).unwrap();
        let own = text(&plain, &request(|p| p.template = Some(TEMPLATE.into()))).unwrap();
        assert!(own.ends_with("<P>let x =<S>;<M>"), "{own}");
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let (facts, _) = describe(&ModelSource::Demo, None).unwrap();
        let error = text(&facts, &request(|_| {})).unwrap_err();
        assert!(matches!(error, Error::Incapable { field: "suffix" }), "{error}");
        let (facts, _) = describe(&ModelSource::Demo, Some(TEMPLATE)).unwrap();
        let error = text(&facts, &request(|p| p.think = Some(Think::On))).unwrap_err();
        assert!(error.to_string().contains("think"), "{error}");
        let own = request(|p| p.template = Some("{{ .Prompt }}".into()));
        let error = text(&facts, &own).unwrap_err();
        assert!(matches!(error, Error::Incapable { field: "suffix" }), "{error}");
    }
}
