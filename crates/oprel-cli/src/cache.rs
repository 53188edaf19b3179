//! `oprel cache`: how much of the disk the store takes, and giving some of it back.

use std::time::Duration;

use oprel::OprelError;
use oprel_hub::{Access, Collected, Grace};
use serde_json::json;

use crate::args;
use crate::columns::{bytes, table};
use crate::commands::print;
use crate::outcome::harmless;
use crate::store::open;

pub(crate) fn run(command: &args::Cache) -> anyhow::Result<()> {
    match command {
        args::Cache::List { json } => list(*json),
        args::Cache::Delete { models } => crate::store::remove_here(models),
        args::Cache::Clear { json } => clear(*json),
        args::Cache::Verify(args) => crate::store::verify(args),
    }
}

fn list(json: bool) -> anyhow::Result<()> {
    let store = open(Access::Read)?;
    let usage = store.usage().map_err(OprelError::from)?;
    if json {
        let models = usage.models.iter().map(|model| {
            json!({"name": model.name.to_string(), "alone": model.alone, "shared": model.shared})
        });
        let all = json!({
            "path": store.root(), "models": models.collect::<Vec<_>>(), "named": usage.named,
            "unneeded": usage.unnamed, "begun": usage.partial,
        });
        return print(&all.to_string());
    }
    print(&harmless(&store.root().display().to_string()))?;
    let rows = usage
        .models
        .iter()
        .map(|model| [model.name.to_string(), bytes(model.alone), bytes(model.shared)]);
    let heads = ["NAME", "ALONE", "SHARED"].map(String::from);
    table(std::iter::once(heads).chain(rows).collect())?;
    print(&format!(
        "\nmodels {}, needed by none {}, downloads that were begun {}",
        bytes(usage.named),
        bytes(usage.unnamed),
        bytes(usage.partial)
    ))
}

/// What was asked for in so many words need not be old.
fn clear(json: bool) -> anyhow::Result<()> {
    let now = Grace { blobs: Duration::ZERO, partials: Duration::ZERO };
    match open(Access::Write)?.collect(now).map_err(OprelError::from)? {
        Collected::Done(freed) if json => {
            print(&json!({"removed": freed.files, "bytes": freed.bytes}).to_string())
        }
        Collected::Done(freed) => {
            print(&format!("removed {} files, {}", freed.files, bytes(freed.bytes)))
        }
        Collected::TurnedOff => Err(OprelError::Validation {
            message: "the setting noprune is on: nothing is removed".into(),
            hint: Some("`oprel config show` tells where it is set".into()),
            source: None,
        }
        .into()),
        Collected::Unreadable(paths) => {
            let first = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
            Err(OprelError::Validation {
                message: format!(
                    "nothing was removed: '{first}' cannot be read, and may need any file"
                ),
                hint: Some("`oprel verify` tells what is wrong with it".into()),
                source: None,
            }
            .into())
        }
    }
}
