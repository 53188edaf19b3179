//! What is set, for commands: arguments win over it.

use oprel::OprelError;
use oprel_config::{Config, Kind, Origin, SETTINGS};
use serde_json::json;

use crate::args;
use crate::commands::print;
use crate::outcome::{harmless, tell};

/// What is set for this process.
///
/// # Errors
/// If `config.yaml` or a variable cannot be used.
pub(crate) fn get() -> Result<&'static Config, OprelError> {
    oprel_config::current().map_err(|error| {
        let hint = error.hint().map(str::to_owned);
        OprelError::Validation { message: error.to_string(), hint, source: None }
    })
}

/// Every setting, for whoever writes `config.yaml`; this needs none that can be read.
pub(crate) fn what_may_be_set() -> String {
    let mut text = String::from(
        "What may stand in config.yaml, and OPREL_ with the same in capitals may say:\n",
    );
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { "none" } else { setting.default };
        text.push_str(&format!("  {:<20}{} [default: {default}]\n", setting.key, setting.about));
    }
    text.push_str("  aliases             own names of models, only in the file: `mine: hf.co/user/repository:Q4_K_M`");
    text
}

/// Tells of what was left out.
pub(crate) fn warn() -> Result<(), OprelError> {
    for warning in get()?.warnings() {
        tell(&format!("warning: {warning}"));
    }
    Ok(())
}

pub(crate) fn run(command: &args::Config) -> anyhow::Result<()> {
    let args::Config::Show { json, all } = command;
    let config = get()?;
    let rows = SETTINGS.iter().map(|setting| {
        let set = config.get(setting.key);
        let value = match set {
            Some(_) if setting.kind == Kind::Secret => "(secret)",
            Some(set) => set.value.as_str(),
            None => setting.default,
        };
        (setting, value.to_owned(), set.map_or(Origin::Default, |set| set.origin.clone()))
    });
    if *json {
        let rows: Vec<_> = rows
            .map(|(setting, value, origin)| {
                json!({
                    "key": setting.key,
                    "value": value,
                    "origin": origin.to_string(),
                    "variable": setting.variable(),
                    "about": setting.about,
                })
            })
            .collect();
        return print(&serde_json::to_string_pretty(&json!({"settings": rows}))?);
    }
    let file = oprel_config::home().map(|home| home.join(oprel_config::FILE));
    if let Some(file) = file {
        let absent = if file.exists() { "" } else { " (not there)" };
        print(&harmless(&format!("{}{absent}\n", file.display())))?;
    }
    for (setting, value, origin) in rows {
        let value = if value.is_empty() { "none" } else { &value };
        print(&harmless(&format!("{:<22}{:<28}  {value}", setting.key, origin.to_string())))?;
        if *all {
            print(&format!("{:<22}{}; {}", "", setting.about, setting.variable()))?;
        }
    }
    for alias in config.aliases() {
        print(&harmless(&format!("{:<22}{}", format!("alias {}", alias.name), alias.model)))?;
    }
    Ok(())
}
