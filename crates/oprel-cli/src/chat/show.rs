//! `/show`: what the model is, and what was set.

use super::command::Show;
use super::{Chat, parameters};
use crate::commands::summary;
use crate::outcome::harmless;

/// What is shown, for a terminal.
pub(super) fn text(chat: &Chat<'_>, what: Show) -> anyhow::Result<String> {
    let or = |text: String, otherwise: &str| match text.trim().is_empty() {
        true => format!("({otherwise})"),
        false => text,
    };
    let text = match what {
        Show::Info => summary(&chat.model.show(false)?),
        Show::Parameters => shown_parameters(chat),
        Show::System => {
            or(chat.settings.system.clone().unwrap_or_default(), "no system prompt was set")
        }
        Show::Template => or(chat.model.show(false)?.template, "the model has no template"),
        Show::License => or(chat.model.show(false)?.license, "the model names no licence"),
        Show::Modelfile => modelfile(chat),
    };
    Ok(harmless(text.trim_end()))
}

fn shown_parameters(chat: &Chat<'_>) -> String {
    let list = |title: &str, lines: Vec<(String, String)>| {
        let mut text = format!("{title}\n");
        if lines.is_empty() {
            text.push_str("  (nothing)\n");
        }
        for (name, value) in lines {
            text.push_str(&format!("  {name:<24}{value}\n"));
        }
        text
    };
    let suggested = parameters::fields_that_are_set(chat.model.suggested());
    list("The model's makers suggest", suggested)
        + &list("What was set", parameters::lines(&chat.settings))
}

/// What makes this model and its settings again, elsewhere too.
fn modelfile(chat: &Chat<'_>) -> String {
    let mut file = format!("FROM {}\n", super::saved::whole(&chat.name));
    for (name, value) in parameters::lines(&chat.settings) {
        file.push_str(&format!("PARAMETER {name} {value}\n"));
    }
    if let Some(system) = &chat.settings.system {
        file.push_str(&format!("SYSTEM \"\"\"{system}\"\"\"\n"));
    }
    file
}
